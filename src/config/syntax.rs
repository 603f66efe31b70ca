//! TOML itself: what is broken in the text before any key has a meaning.

use toml::de::{DeTable, Error};

use super::report::{Finding, Findings};
use super::source::Place;
use super::wording::quoted;

/// Parses `text`, which is the file of that index.
///
/// Broken syntax is reported alone, by its first fault: what the parser makes of the rest is a
/// guess. After mere duplicates the rest is as it was meant, and worth checking.
pub(crate) fn parse<'t>(file: usize, text: &'t str, faults: &mut Findings) -> Option<DeTable<'t>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let place = |error: &Error| {
        let span = error.span().unwrap_or(0..0);
        Place {
            file,
            start: span.start.min(text.len()),
            end: span.end.min(text.len()),
        }
    };
    let broken = errors.iter().filter(|error| !is_duplicate(error));
    if let Some(error) = broken.min_by_key(|error| place(error)) {
        faults.push(broken_syntax(text, place(error), error.message()));
        return None;
    }
    for error in &errors {
        faults.push_with(|| duplicate(text, place(error)));
    }
    Some(table.into_inner())
}

fn is_duplicate(error: &Error) -> bool {
    error.message() == "duplicate key" || error.message().starts_with("cannot extend value")
}

fn broken_syntax(text: &str, place: Place, message: &str) -> Finding {
    let found = quoted(text.get(place.start..place.end).unwrap_or_default());
    if message.starts_with("string values must be quoted") {
        let got = if found.is_empty() {
            "nothing".to_owned()
        } else {
            format!("`{found}`")
        };
        let expected = "a text in quotes, a number, true, false, a list or a table";
        return Finding::at(
            place,
            format!("bad TOML: no value, got {got}, expected {expected}"),
        );
    }
    Finding::at(place, format!("bad TOML: {message}"))
}

fn duplicate(text: &str, place: Place) -> Finding {
    let key = quoted(text.get(place.start..place.end).unwrap_or_default());
    let message = format!("duplicate key, got `{key}` again, expected it once");
    let finding = Finding::at(place, message);
    match earlier(text, place) {
        Some(first) => finding.also(first, "it is first given here"),
        None => finding,
    }
}

/// The line that gives the same key or header before `place`; `None` where it is not so plain, as
/// in an inline table. The parser knows, but does not tell.
fn earlier(text: &str, place: Place) -> Option<Place> {
    let line_start = text
        .get(..place.start)?
        .rfind('\n')
        .map_or(0, |end| end + 1);
    let line = text.get(line_start..)?.lines().next()?;
    let is_header = line.trim_start().starts_with('[');
    let wanted = subject(line);
    let mut found = None;
    let mut offset = 0;
    for candidate in text.get(..line_start)?.split_inclusive('\n') {
        let trimmed = candidate.trim_start();
        if !is_header && trimmed.starts_with('[') {
            // Keys are unique within their table only.
            found = None;
        } else if found.is_none() && subject(candidate) == wanted {
            let start = offset + candidate.len() - trimmed.len();
            found = Some(Place {
                start,
                end: start + wanted.len(),
                ..place
            });
        }
        offset += candidate.len();
    }
    found
}

/// The header or the key of a line.
fn subject(line: &str) -> &str {
    let line = line.trim();
    let end = if line.starts_with('[') {
        line.rfind(']').map(|end| end + 1)
    } else {
        line.find('=')
    };
    line.get(..end.unwrap_or(line.len()))
        .unwrap_or_default()
        .trim_end()
}
