//! The kinds of text that say what a probe sends and expects.

use std::fmt::Write;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::{Expected, Text, is_number};
use crate::config::model::BytesPattern;
use crate::config::table::Value;

/// What a probe may send or expect, bytes.
const BYTES_MAX: usize = 4 * 1024;

const BYTES_EXPECTED: &str = r#"at most 4096 bytes, with \r, \n, \t, \0, \\ and \xHH as escapes"#;

/// Bytes, with escapes.
pub(crate) static BYTES: Text = Text {
    expected: BYTES_EXPECTED,
    words: &[],
    pattern: r"^[\s\S]*$",
    parse: bytes,
};

/// Bytes, with escapes; at least one.
pub(crate) static EXPECTED_BYTES: Text = Text {
    expected: BYTES_EXPECTED,
    words: &[],
    pattern: r"^[\s\S]+$",
    parse: |text| {
        if text.is_empty() {
            return Err("at least one byte".into());
        }
        bytes(text)
    },
};

/// A regular expression over bytes.
pub(crate) static REGEX: Text = Text {
    expected: "a regular expression of 1 to 4096 bytes",
    words: &[],
    pattern: r"^[\s\S]{1,4096}$",
    parse: |text| {
        if !(1..=BYTES_MAX).contains(&text.len()) {
            return Err(REGEX.expected.into());
        }
        match BytesPattern::new(text) {
            Ok(pattern) => Ok(Value::Regex(pattern)),
            Err(why) => Err(format!("a regular expression ({why})").into()),
        }
    },
};

/// The method of a request.
pub(crate) static METHOD: Text = Text {
    expected: "a method in capitals, such as \"GET\" or \"HEAD\"",
    words: &["GET", "HEAD", "OPTIONS"],
    pattern: r"^[A-Z]{1,32}$",
    parse: |text| {
        let is_method = (1..=32).contains(&text.len());
        if !is_method || !text.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(METHOD.expected.into());
        }
        Ok(Value::Text(Arc::from(text)))
    },
};

/// The path of a request, with its query.
pub(crate) static PATH: Text = Text {
    expected: "a path that begins with \"/\", in printable ASCII without spaces, at most 2048 bytes",
    words: &[],
    pattern: r"^/[!-~]{0,2047}$",
    parse: |text| {
        if !text.starts_with('/') || !is_printable(text, 2_048) {
            return Err(PATH.expected.into());
        }
        Ok(Value::Text(Arc::from(text)))
    },
};

/// The host of a request.
pub(crate) static HOST: Text = Text {
    expected: "a host with or without a port, such as \"www.internal:8080\"",
    words: &[],
    pattern: r"^[!-~]{1,255}$",
    parse: |text| {
        if text.is_empty() || !is_printable(text, 255) {
            return Err(HOST.expected.into());
        }
        Ok(Value::Text(Arc::from(text)))
    },
};

/// One status, or a range of them.
pub(crate) static STATUS: Text = Text {
    expected: "a status from \"100\" to \"599\", or a range such as \"200-399\"",
    words: &[],
    pattern: r"^[1-5]\d\d(-[1-5]\d\d)?$",
    parse: |text| match status(text) {
        Some(range) => Ok(Value::Status(range)),
        None => Err(STATUS.expected.into()),
    },
};

/// The text that reads as the same statuses.
pub(crate) fn status_text(range: &RangeInclusive<u16>) -> String {
    if range.start() == range.end() {
        return range.start().to_string();
    }
    format!("{}-{}", range.start(), range.end())
}

/// The text that reads as the same bytes.
pub(crate) fn bytes_text(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'\r' => text.push_str("\\r"),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(*byte)),
            other => {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\x{other:02x}");
            }
        }
    }
    text
}

fn bytes(text: &str) -> Result<Value, Expected> {
    let bytes = unescaped(text)?;
    if bytes.len() > BYTES_MAX {
        let got = bytes.len();
        return Err(format!("at most {BYTES_MAX} bytes (these are {got})").into());
    }
    Ok(Value::Bytes(bytes.into()))
}

fn unescaped(text: &str) -> Result<Vec<u8>, Expected> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let Some((escape, after)) = rest.split_first() else {
            return Err("something after the last backslash; \\\\ is a backslash".into());
        };
        rest = after;
        bytes.push(match escape {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b'0' => 0,
            b'\\' => b'\\',
            b'x' => {
                let Some((digits, after)) = rest.split_at_checked(2) else {
                    return Err("two hexadecimal digits after \\x".into());
                };
                rest = after;
                hexadecimal(digits).ok_or("two hexadecimal digits after \\x")?
            }
            _ => return Err(BYTES_EXPECTED.into()),
        });
    }
    Ok(bytes)
}

fn hexadecimal(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok()?;
    // The parser would take a sign, too.
    let is_digits = digits.iter().all(u8::is_ascii_hexdigit);
    u8::from_str_radix(text, 16).ok().filter(|_| is_digits)
}

fn is_printable(text: &str, bytes_max: usize) -> bool {
    text.len() <= bytes_max && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn status(text: &str) -> Option<RangeInclusive<u16>> {
    let one = |text: &str| -> Option<u16> {
        let status = text.parse().ok().filter(|_| is_number(text))?;
        (100..=599).contains(&status).then_some(status)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = one(first)?..=one(last)?;
    (!range.is_empty()).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(text: &str) -> Result<Vec<u8>, String> {
        match (BYTES.parse)(text) {
            Ok(Value::Bytes(bytes)) => Ok(bytes.to_vec()),
            Ok(other) => unreachable!("{other:?}"),
            Err(expected) => Err(expected.into_owned()),
        }
    }

    #[test]
    fn escapes_stand_for_their_bytes() {
        assert_eq!(bytes_of(r"PING\r\n").unwrap(), b"PING\r\n");
        assert_eq!(bytes_of(r"\x00\xFf\0\t\\x").unwrap(), b"\x00\xff\0\t\\x");
        assert_eq!(bytes_of("é").unwrap(), "é".as_bytes());
        assert_eq!(bytes_of("").unwrap(), b"");
        for wrong in [r"\", r"\x", r"\x1", r"\xg0", r"\x+1", r"\q", "\\é", "\\xé"] {
            assert!(bytes_of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_byte_survives_being_printed() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(bytes_of(&bytes_text(&all)).unwrap(), all);
    }

    #[test]
    fn bytes_end_at_their_limit() {
        assert!(bytes_of(&"x".repeat(4_096)).is_ok());
        assert!(bytes_of(&r"\x00".repeat(4_096)).is_ok());
        assert!(bytes_of(&"x".repeat(4_097)).unwrap_err().contains("4097"));
        assert!((EXPECTED_BYTES.parse)("").is_err());
        assert!((REGEX.parse)(&"x".repeat(4_096)).is_ok());
        assert!((REGEX.parse)(&"x".repeat(4_097)).is_err());
        assert!((REGEX.parse)("").is_err() && (REGEX.parse)("a(").is_err());
    }

    #[test]
    fn patterns_match_bytes_that_are_no_text() {
        let pattern = BytesPattern::new(r"^\xff.\x00").unwrap();
        assert!(pattern.is_in(b"\xff\xfe\x00"));
        assert!(!pattern.is_in(b"\xfe\xfe\x00"));
    }

    #[test]
    fn statuses_are_numbers_or_ranges() {
        assert_eq!(status("200"), Some(200..=200));
        assert_eq!(status("200-399"), Some(200..=399));
        assert_eq!(status_text(&(204..=204)), "204");
        assert_eq!(status_text(&(200..=399)), "200-399");
        for wrong in [
            "",
            "99",
            "600",
            "200-",
            "-200",
            "399-200",
            "2xx",
            "+200",
            "200-300-400",
        ] {
            assert_eq!(status(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn requests_cannot_be_broken_by_their_parts() {
        for wrong in ["", "health", "/a b", "/\r\nX: y", "/é"] {
            assert!((PATH.parse)(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "a b", "a\r\n"] {
            assert!((HOST.parse)(wrong).is_err(), "{wrong}");
        }
        assert!((METHOD.parse)("get").is_err() && (METHOD.parse)("G T").is_err());
    }
}
