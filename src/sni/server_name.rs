//! What a client may ask for in the extension server_name (RFC 6066 §3).
//!
//! | sent | taken as |
//! |---|---|
//! | a host name in any case, with or without a trailing dot | that name in lower case, without the dot |
//! | the literal of an IPv4 or IPv6 address | no name: forbidden, but some clients do it, and it is not meant to match |
//! | entries of other types alone or beside it, which none of today's clients send | what the host name is taken as, or no name |
//! | any other byte than letters, digits, `-`, `_` and dots; a NUL above all | [`Fault::ServerName`] |
//! | an empty label, a label over 63 bytes, a name over 253 | [`Fault::ServerName`] |
//! | two host names | [`Fault::RepeatedName`] |
//! | an empty list, an empty name, a wrong length | [`Fault::Malformed`] |
//!
//! There is at most one host name to go by, so the backend goes by the same one or, as OpenSSL does
//! with entries of other types, refuses the message.

use std::net::IpAddr;

use super::fault::{Fault, Field};
use super::reader::{End, Reader, Span};

/// The one type of name that is defined.
const HOST_NAME: u8 = 0;

/// Bytes of a host name without its trailing dot, and of one label (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// The name that a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// None, or an address.
    Absent,
    /// It stands in the message in lower case.
    Sent(Span),
    /// It was sent with upper case letters.
    Lowered(Box<str>),
}

/// Reads the body of the extension.
pub(super) fn read(mut body: Reader<'_>) -> Result<Name, Fault> {
    const MALFORMED: Fault = Fault::Malformed(Field::ServerName);
    let mut list = body.list16().map_err(|End| MALFORMED)?;
    if list.is_empty() || !body.is_empty() {
        return Err(MALFORMED);
    }
    let mut host_name = None;
    while !list.is_empty() {
        let (kind, name) = entry(&mut list).map_err(|End| MALFORMED)?;
        if kind == HOST_NAME && host_name.replace(name).is_some() {
            return Err(Fault::RepeatedName);
        }
    }
    match host_name {
        Some(name) if name.is_empty() => Err(MALFORMED),
        Some(name) => check(name),
        None => Ok(Name::Absent),
    }
}

/// What a client asks for that sends `text` as a host name: in lower case and without a trailing dot;
/// `None`: an address, which is no name.
///
/// # Errors
/// No server goes on with such a name.
pub fn name_asked(text: &str) -> Result<Option<Box<str>>, Fault> {
    Ok(match check(Reader::new(text.as_bytes()))? {
        Name::Absent => None,
        Name::Sent(span) => text.get(span.range()).map(Box::from),
        Name::Lowered(name) => Some(name),
    })
}

/// The next entry: its type and its name. Types to come begin with a length of two bytes, too.
fn entry<'b>(list: &mut Reader<'b>) -> Result<(u8, Reader<'b>), End> {
    let kind = list.byte()?;
    Ok((kind, list.list16()?))
}

fn check(name: Reader<'_>) -> Result<Name, Fault> {
    let (bytes, span) = match name.rest().strip_suffix(b".") {
        Some(bytes) => (bytes, name.span().shortened(1)),
        None => (name.rest(), name.span()),
    };
    match host_name(bytes) {
        Some(Case::Lower) if !ends_in_digit(bytes) => Ok(Name::Sent(span)),
        _ if is_address(bytes) => Ok(Name::Absent),
        Some(Case::Lower) => Ok(Name::Sent(span)),
        Some(Case::Upper) => str::from_utf8(bytes)
            .map(|name| Name::Lowered(name.to_ascii_lowercase().into()))
            .map_err(|_| Fault::ServerName),
        None => Err(Fault::ServerName),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Lower,
    /// At least one letter is in upper case.
    Upper,
}

/// Whether it is a host name as [`crate::base::name::host_name`] has it, without a trailing dot.
///
/// It is that check again, in one walk and without an allocation, since it runs for every connection.
fn host_name(bytes: &[u8]) -> Option<Case> {
    let mut case = Case::Lower;
    let mut label = 0;
    for &byte in bytes {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => label += 1,
            b'.' if label == 0 || label > LABEL_BYTES_MAX => return None,
            b'.' => label = 0,
            b'A'..=b'Z' => {
                label += 1;
                case = Case::Upper;
            }
            _ => return None,
        }
    }
    let fits = (1..=LABEL_BYTES_MAX).contains(&label) && bytes.len() <= NAME_BYTES_MAX;
    fits.then_some(case)
}

/// Every IPv4 address ends so, and no top-level domain does.
fn ends_in_digit(bytes: &[u8]) -> bool {
    bytes.last().is_some_and(u8::is_ascii_digit)
}

fn is_address(bytes: &[u8]) -> bool {
    str::from_utf8(bytes).is_ok_and(|text| text.parse::<IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::name;

    proptest! {
        #[test]
        fn names_are_judged_as_patterns_are(
            text in "([aZ0_.-]{0,9}|[a-c]{60,66}|([ab]{62}\\.){3}[ab]{58,64}|.{0,5})\\.?\\.?"
        ) {
            let sent = check(Reader::new(text.as_bytes()));
            let taken = match &sent {
                Ok(Name::Sent(span)) => Some(&text[span.range()]),
                Ok(Name::Lowered(name)) => Some(&**name),
                Ok(Name::Absent) => {
                    let text = text.strip_suffix('.').unwrap_or(&text);
                    prop_assert!(text.parse::<IpAddr>().is_ok());
                    return Ok(());
                }
                Err(_) => None,
            };
            let expected = name::host_name(&text);
            prop_assert_eq!(taken, expected.as_deref());
        }
    }

    #[test]
    fn names_and_labels_reach_their_limits() {
        let label = "a".repeat(63);
        let longest = [&*label, &label, &label, &"b".repeat(61)].join(".");
        assert_eq!(longest.len(), NAME_BYTES_MAX);
        for (text, fits) in [
            (label.clone(), true),
            (format!("{label}a"), false),
            (longest.clone(), true),
            (format!("{longest}."), true),
            (format!("{longest}b"), false),
        ] {
            let taken = check(Reader::new(text.as_bytes()));
            assert_eq!(taken.is_ok(), fits, "{text}");
        }
    }
}
