//! Host names as TLS clients ask for them, and the patterns that match them.

use std::fmt;
use std::sync::Arc;

/// Bytes of a host name without its trailing dot (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 253;

/// Bytes between two dots.
const LABEL_BYTES_MAX: usize = 63;

/// A pattern of host names; text in lower case, without a trailing dot.
///
/// Of several that match a name, the exact one wins, then the longest suffix, then `*.` before `**.`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NamePattern {
    /// This name alone.
    Exact(Arc<str>),
    /// `*.` and this suffix: exactly one label more.
    OneLabel(Arc<str>),
    /// `**.` and this suffix: any number of labels more, at least one.
    AnyDepth(Arc<str>),
}

impl NamePattern {
    /// Reads `name`, `*.name` or `**.name`, in any case, with or without a trailing dot.
    ///
    /// `None`: not a host name (letters, digits, `-` and `_` in labels of 1 to 63 bytes, 253 in all).
    /// International names are given in their ASCII form (`xn--…`).
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(suffix) = text.strip_prefix("**.") {
            return host_name(suffix).map(Self::AnyDepth);
        }
        if let Some(suffix) = text.strip_prefix("*.") {
            return host_name(suffix).map(Self::OneLabel);
        }
        host_name(text).map(Self::Exact)
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::OneLabel(suffix) => write!(f, "*.{suffix}"),
            Self::AnyDepth(suffix) => write!(f, "**.{suffix}"),
        }
    }
}

/// A host name in lower case without its trailing dot; `None` if it is not one.
pub fn host_name(text: &str) -> Option<Arc<str>> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=LABEL_BYTES_MAX).contains(&label.len()) && label.bytes().all(known)
    };
    let fits = text.len() <= NAME_BYTES_MAX && text.split('.').all(label);
    fits.then(|| Arc::from(text.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_in_any_case_and_written_in_one() {
        for (text, written) in [
            ("A.Example", "a.example"),
            ("a.example.", "a.example"),
            ("*.Example.com", "*.example.com"),
            ("**.x_y.com.", "**.x_y.com"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(NamePattern::parse(text).unwrap().to_string(), written);
        }
    }

    #[test]
    fn what_is_no_host_name_is_refused() {
        let long = "a".repeat(64);
        let longer = ["a"; 128].join(".");
        for text in [
            "",
            ".",
            "a..b",
            "*",
            "*.",
            "a.*.b",
            "*a.b",
            "***.a",
            "a b",
            "a\0.b",
            "b\u{fc}cher.example",
            &long,
            &longer,
        ] {
            assert_eq!(NamePattern::parse(text), None, "{text:?}");
        }
    }
}
