//! Files of networks: one a line, with comments; read whole, bounded, with faults that name the line.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::config::network;
use crate::sys::file::open_without_waiting;

/// Networks of one file.
pub const PREFIXES_MAX: usize = 100_000;

/// The longest network takes 43 bytes; the rest is for comments.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The most of a bad line that is shown, characters.
const SHOWN_MAX: usize = 64;

/// Why a file cannot be used.
#[derive(Debug)]
pub enum ListFault {
    /// It cannot be read.
    Unreadable(PathBuf, io::Error),
    /// It is larger than 16 MiB.
    Large(PathBuf),
    /// It is not text.
    NotText(PathBuf),
    /// A line that is no network: its number from 1, what it says and what was expected.
    Line(PathBuf, usize, String, String),
    /// It has more than 100,000 networks, from this line on.
    Many(PathBuf, usize),
}

impl fmt::Display for ListFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(file, error) => write!(f, "{}: {error}", file.display()),
            Self::Large(file) => {
                let most = BYTES_MAX >> 20;
                write!(
                    f,
                    "{}: too large, expected at most {most} MiB",
                    file.display()
                )
            }
            Self::NotText(file) => write!(f, "{}: no text, expected UTF-8", file.display()),
            Self::Line(file, line, got, expected) => {
                let file = file.display();
                write!(
                    f,
                    "{file}:{line}: bad network, got {got:?}, expected {expected}"
                )
            }
            Self::Many(file, line) => {
                let file = file.display();
                write!(
                    f,
                    "{file}:{line}: too many networks, expected at most {PREFIXES_MAX}"
                )
            }
        }
    }
}

/// The networks of a file.
///
/// # Errors
/// What is wrong with it, and where.
pub fn read(file: &Path) -> Result<Vec<IpNet>, ListFault> {
    let unreadable = |error| ListFault::Unreadable(file.to_owned(), error);
    let opened = open_without_waiting(file).map_err(unreadable)?;
    // What is no file could give nothing, or something for ever.
    if !opened.metadata().map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::other("not a regular file")));
    }
    let mut bytes = Vec::new();
    let mut limited = opened.take(BYTES_MAX + 1);
    limited.read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(ListFault::Large(file.to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|_| ListFault::NotText(file.to_owned()))?;
    parse(file, &text)
}

/// The networks of `text`, which `file` holds.
fn parse(file: &Path, text: &str) -> Result<Vec<IpNet>, ListFault> {
    let mut networks = Vec::new();
    // Some editors begin a text with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, line) in text.lines().enumerate() {
        let said = line.split('#').next().unwrap_or_default().trim();
        if said.is_empty() {
            continue;
        }
        if networks.len() == PREFIXES_MAX {
            return Err(ListFault::Many(file.to_owned(), number + 1));
        }
        networks.push(network(said).map_err(|expected| {
            let got = said.chars().take(SHOWN_MAX).collect();
            ListFault::Line(file.to_owned(), number + 1, got, expected.into_owned())
        })?);
    }
    Ok(networks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        parse(Path::new("bad.txt"), text).unwrap_err().to_string()
    }

    #[test]
    fn networks_stand_in_lines_with_comments() {
        let text = "\u{feff}# offices\n10.0.0.0/8\r\n\n  192.0.2.1 # the printer\n2001:db8::/32";
        let networks = parse(Path::new("list.txt"), text).unwrap();
        let networks: Vec<_> = networks.iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"]);
    }

    #[test]
    fn faults_name_file_line_and_what_is_right() {
        assert_eq!(
            fault("10.0.0.0/8\n\n10.0.0.7/8\n"),
            "bad.txt:3: bad network, got \"10.0.0.7/8\", expected \"10.0.0.0/8\" or \
             \"10.0.0.7/32\": bits of a host are set"
        );
        assert!(fault("nonsense").starts_with("bad.txt:1: bad network, got \"nonsense\""));
        assert!(fault("10.0.0.0/8, 11.0.0.0/8").contains("bad.txt:1"));
        let long = "x".repeat(10_000);
        assert!(fault(&long).len() < 300);
    }

    #[test]
    fn a_list_ends_at_its_bound() {
        let lines = |count: usize| "192.0.2.1\n".repeat(count);
        let whole = parse(Path::new("list.txt"), &lines(PREFIXES_MAX));
        assert_eq!(whole.unwrap().len(), PREFIXES_MAX);
        assert_eq!(
            fault(&lines(PREFIXES_MAX + 1)),
            "bad.txt:100001: too many networks, expected at most 100000"
        );
        for not_a_file in ["/dev/zero", "/nowhere/list", "/"] {
            assert!(read(Path::new(not_a_file)).is_err(), "{not_a_file}");
        }
        let large = std::env::temp_dir().join(format!("ringlane-large-{}", std::process::id()));
        let file = std::fs::File::create(&large).unwrap();
        file.set_len(BYTES_MAX + 1).unwrap();
        let outcome = read(&large);
        std::fs::remove_file(&large).unwrap();
        assert!(matches!(outcome, Err(ListFault::Large(_))), "{outcome:?}");
    }
}
