//! The text of one configuration file, and how a byte offset in it becomes a line and a column.

/// A range of bytes in one of the files of a configuration; ordered as an operator reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Index into the files, the main file first.
    pub(crate) file: usize,
    /// The first byte.
    pub(crate) start: usize,
    /// One past the last byte.
    pub(crate) end: usize,
}

/// One file.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The name that reports use.
    pub(crate) name: String,
    /// The content, without a byte order mark.
    pub(crate) text: String,
    /// Where each line begins.
    lines: Vec<usize>,
}

/// The line of a place as a report shows it.
pub(crate) struct Picture<'s> {
    /// The line, or the part of a very long one around the place.
    pub(crate) text: &'s str,
    /// The marked bytes of `text`; a place that goes over several lines is marked in its first.
    pub(crate) marked: std::ops::Range<usize>,
}

/// Bytes of a line that a picture shows; more would only be cut again by the terminal.
const PICTURE_BYTES: usize = 600;

impl Source {
    /// Indexes the lines of `text`.
    pub(crate) fn new(name: String, text: &str) -> Self {
        // A byte order mark is no part of the first line: columns would be off by one.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        let ends = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
        let lines = std::iter::once(0)
            .chain(ends.map(|(at, _)| at + 1))
            .collect();
        Self { name, text, lines }
    }

    /// Line and column of the byte at `offset`, both from 1; columns count characters.
    pub(crate) fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.line_of(offset);
        let column = self.text[self.start_of(line)..offset].chars().count() + 1;
        (line, column)
    }

    /// What to show for `place`.
    pub(crate) fn picture(&self, place: Place) -> Picture<'_> {
        let at = self.text.floor_char_boundary(place.start);
        let line = self.line_of(at);
        let start = self.start_of(line);
        let end = self
            .lines
            .get(line)
            .map_or(self.text.len(), |next| next - 1);
        let (start, end) = if end - start > PICTURE_BYTES {
            let start = start.max(at.saturating_sub(PICTURE_BYTES / 2));
            (start, end.min(start + PICTURE_BYTES))
        } else {
            (start, end)
        };
        let start = self.text.floor_char_boundary(start);
        let end = self.text.floor_char_boundary(end).max(start);
        let text = self.text[start..end].trim_end_matches('\r');
        let from = (at - start).min(text.len());
        let to = (self.text.ceil_char_boundary(place.end).max(at) - start).min(text.len());
        Picture {
            text,
            marked: from..to.max(from),
        }
    }

    fn line_of(&self, offset: usize) -> usize {
        self.lines.partition_point(|&start| start <= offset)
    }

    fn start_of(&self, line: usize) -> usize {
        self.lines
            .get(line.saturating_sub(1))
            .copied()
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_from_one() {
        let source = Source::new("x".to_owned(), "\u{feff}é = 1\r\n\tß\n");
        assert_eq!(source.line_and_column(0), (1, 1));
        assert_eq!(source.line_and_column(5), (1, 5));
        assert_eq!(source.line_and_column(9), (2, 2));
        assert_eq!(source.line_and_column(usize::MAX), (3, 1));
    }

    #[test]
    fn picture_of_a_long_line_is_cut_around_the_place() {
        let text = format!("{}X{}", "ä".repeat(5000), "ö".repeat(5000));
        let source = Source::new("x".to_owned(), &text);
        let picture = source.picture(Place {
            file: 0,
            start: 10_000,
            end: 10_001,
        });
        assert!(picture.text.len() <= PICTURE_BYTES + 4);
        assert_eq!(&picture.text[picture.marked], "X");
    }

    #[test]
    fn picture_marks_only_the_first_line_of_a_place() {
        let source = Source::new("x".to_owned(), "a = [\r\n1]\n");
        let picture = source.picture(Place {
            file: 0,
            start: 4,
            end: 9,
        });
        assert_eq!((picture.text, picture.marked), ("a = [", 4..5));
    }
}
