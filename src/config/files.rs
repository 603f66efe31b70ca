//! From the main file to one table: reads it, what it includes, and joins them.

use std::collections::HashSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys::ROOT;
use super::read::{Reader, TABLES_MAX};
use super::report::{Finding, Findings};
use super::source::{Place, Source};
use super::syntax;
use super::table::{Origin, Table, Value};
use crate::sys::file::{is_readable_within, open_without_waiting};

/// What all files together say, with what they look like.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// The files, the main one first.
    pub(crate) sources: Vec<Source>,
    /// What they say; `None`: a part of it cannot be read.
    pub(crate) root: Option<Table>,
    /// What is wrong with them.
    pub(crate) faults: Findings,
    bytes: usize,
    tables_left: usize,
}

/// Bytes of all files together.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// Included files.
const INCLUDES_MAX: usize = 1000;

/// Reads the file at `path` and all that it includes.
pub(crate) fn gather(path: &Path) -> Gathered {
    let mut gathered = Gathered::new();
    match read(path, BYTES_MAX) {
        Ok(bytes) => gathered.root = gathered.add(path.display().to_string(), &bytes),
        Err(error) => {
            let message = format!("{}: cannot be read: {}", path.display(), reason(&error));
            gathered.faults.push(Finding::of_file(message));
        }
    }
    let Some(mut root) = gathered.root.take() else {
        return gathered;
    };
    let directory = path.parent().unwrap_or_else(|| Path::new(""));
    let mut is_whole = true;
    for (included, from) in gathered.included(&root, directory, path) {
        match read(&included, BYTES_MAX - gathered.bytes) {
            Ok(bytes) => match gathered.add(included.display().to_string(), &bytes) {
                Some(table) => gathered.join(&mut root, table),
                None => is_whole = false,
            },
            Err(error) => {
                let reason = reason(&error);
                let message = format!(
                    "included file {} cannot be read: {reason}",
                    included.display()
                );
                gathered.faults.push(Finding::at(from, message));
                is_whole = false;
            }
        }
    }
    // Without a part of what should be there, any pool might seem to be missing.
    gathered.root = Some(root).filter(|_| is_whole);
    gathered
}

/// Reads `text` alone.
pub(crate) fn single(name: &str, text: &str) -> Gathered {
    let mut gathered = Gathered::new();
    if text.len() > BYTES_MAX {
        let message = format!("{name}: larger than {BYTES_MAX} bytes");
        gathered.faults.push(Finding::of_file(message));
        return gathered;
    }
    gathered.root = gathered.add(name.to_owned(), text.as_bytes());
    if let Some(root) = &gathered.root
        && let Some((place, _)) = root.list("include").first()
    {
        let message = "`include` works only in a file that is read from disk";
        gathered.faults.push(Finding::at(*place, message));
    }
    gathered
}

impl Gathered {
    fn new() -> Self {
        let tables_left = TABLES_MAX + 1;
        let faults = Findings::default();
        Self {
            sources: Vec::new(),
            root: None,
            faults,
            bytes: 0,
            tables_left,
        }
    }

    /// Adds a file to the sources and reads it.
    fn add(&mut self, name: String, bytes: &[u8]) -> Option<Table> {
        self.bytes += bytes.len();
        let text = String::from_utf8_lossy(bytes);
        let source = Source::new(name, &text);
        let file = self.sources.len();
        let table = match std::str::from_utf8(bytes) {
            Ok(_) => self.read(file, &source),
            Err(error) => {
                // Up to here the lossy text has the same bytes, but for the mark that was cut off.
                let mark = text.len() - source.text.len();
                let start = error.valid_up_to().saturating_sub(mark);
                let place = Place {
                    file,
                    start,
                    end: start + char::REPLACEMENT_CHARACTER.len_utf8(),
                };
                let got = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
                let message = format!("not UTF-8, got byte 0x{got:02x}, expected text in UTF-8");
                self.faults.push(Finding::at(place, message));
                None
            }
        };
        self.sources.push(source);
        table
    }

    fn read(&mut self, file: usize, source: &Source) -> Option<Table> {
        let raw = syntax::parse(file, &source.text, &mut self.faults)?;
        let start = Place {
            file,
            start: 0,
            end: 0,
        };
        Some(
            Reader {
                file,
                tables_left: &mut self.tables_left,
                faults: &mut self.faults,
            }
            .table(&ROOT, start, &raw),
        )
    }

    fn join(&mut self, root: &mut Table, mut included: Table) {
        if let Some(entry) = included
            .remove("include")
            .filter(|entry| entry.origin != Origin::Default)
        {
            let message = "`include` in an included file, expected it only in the main file";
            self.faults.push(Finding::at(entry.key, message));
        }
        root.merge(included, &mut self.faults);
    }

    /// The files that the patterns match, each once, with the pattern's place.
    fn included(&mut self, root: &Table, directory: &Path, main: &Path) -> Vec<(PathBuf, Place)> {
        // A pattern such as `*.toml` also matches the file that it stands in.
        let mut seen: HashSet<PathBuf> = main.canonicalize().into_iter().collect();
        let mut files = Vec::new();
        for (place, value) in root.list("include") {
            let Value::Text(pattern) = value else {
                continue;
            };
            let matches = match matching(directory, pattern) {
                Ok(matches) => matches,
                Err(message) => {
                    self.faults.push(Finding::at(*place, message));
                    continue;
                }
            };
            for path in matches {
                let identity = path.canonicalize().unwrap_or_else(|_| path.clone());
                if !seen.insert(identity) {
                    continue;
                }
                if files.len() == INCLUDES_MAX {
                    let message =
                        format!("too many included files, expected at most {INCLUDES_MAX}");
                    self.faults.push(Finding::at(*place, message));
                    return files;
                }
                files.push((path, *place));
            }
        }
        files
    }
}

/// The files that `pattern` matches below `directory`, in name order.
fn matching(directory: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    if !pattern.contains(['*', '?', '[']) {
        return Ok(vec![directory.join(pattern)]);
    }
    let directory = glob::Pattern::escape(&directory.to_string_lossy());
    let whole = Path::new(&directory).join(pattern);
    let paths = glob::glob(&whole.to_string_lossy()).map_err(|error| {
        format!(
            "bad pattern in `include`, got \"{pattern}\", expected a pattern: {}",
            error.msg
        )
    })?;
    // One more than may be used shows that there are too many. A path that cannot be looked at
    // stays in the list, so that reading it tells why.
    let paths = paths.map(|path| path.unwrap_or_else(|error| error.path().to_owned()));
    let mut paths: Vec<_> = paths.take(INCLUDES_MAX + 2).collect();
    paths.sort();
    Ok(paths)
}

fn read(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let file = open_without_waiting(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    let mut limited = (&file).take(limit.saturating_add(1));
    // What was read before an error stays in `bytes`.
    while let Err(error) = limited.read_to_end(&mut bytes) {
        if error.kind() != io::ErrorKind::WouldBlock || !is_readable_within(&file, PIPE_PATIENCE) {
            return Err(error);
        }
    }
    if bytes.len() > bytes_max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// How long the writer of a pipe may take: a reload must come to an end.
const PIPE_PATIENCE: Duration = Duration::from_secs(5);

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::WouldBlock => "it is a pipe into which nobody writes".to_owned(),
        io::ErrorKind::FileTooLarge => {
            format!(
                "all files together are larger than {} MiB",
                BYTES_MAX / 1024 / 1024
            )
        }
        _ => error.to_string(),
    }
}
