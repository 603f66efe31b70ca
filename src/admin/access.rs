//! Who may change something: the token, the peer, and what a web page must never be able to do.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue, ORIGIN};

use crate::sys::file::open_without_waiting;

/// Where a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over the unix socket, whose mode already says who may connect.
    Unix,
    /// Over TCP from this machine.
    Loopback,
    /// Over TCP from elsewhere.
    Remote,
}

/// Why a request may not change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It was sent by a web page.
    Origin,
    /// It was addressed to a name, which may be an attacker's (DNS rebinding).
    Host,
    /// A token is wanted and was not presented, or a wrong one was.
    Token,
    /// Without a token only this machine may change anything.
    Remote,
}

/// Whether a request with `headers` from `peer` may change something, where `token` is configured.
pub fn may_change(headers: &HeaderMap, peer: Peer, token: Option<&str>) -> Result<(), Refusal> {
    // Browsers send Origin with every request that is not a plain GET, and no other client needs it.
    if headers.contains_key(ORIGIN) {
        return Err(Refusal::Origin);
    }
    if peer != Peer::Unix && !headers.get_all(HOST).iter().all(is_literal_host) {
        return Err(Refusal::Host);
    }
    match token {
        Some(token) if presents(headers, token) => Ok(()),
        Some(_) => Err(Refusal::Token),
        None if peer == Peer::Remote => Err(Refusal::Remote),
        None => Ok(()),
    }
}

impl Peer {
    /// The kind of a TCP peer.
    pub fn of(address: SocketAddr) -> Self {
        if address.ip().to_canonical().is_loopback() {
            Self::Loopback
        } else {
            Self::Remote
        }
    }
}

impl Refusal {
    /// What the client is told.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Origin => "requests from web pages may not change anything",
            Self::Host => "address the admin listener by IP address or as localhost",
            Self::Token => "a valid bearer token is needed (admin.token_file)",
            Self::Remote => {
                "without admin.token_file only loopback and unix peers may change anything"
            }
        }
    }
}

/// Reads a token file: its text without the space around it, which must not be empty.
pub fn read_token(path: &Path) -> io::Result<String> {
    const TOKEN_BYTES_MAX: u64 = 4096;
    let mut text = String::new();
    let bytes = open_without_waiting(path)?
        .take(TOKEN_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    let token = text.trim();
    let fault = if token.is_empty() {
        "the token file is empty"
    } else if bytes as u64 > TOKEN_BYTES_MAX {
        "the token file is longer than 4096 bytes"
    } else if token.bytes().any(|byte| !byte.is_ascii_graphic()) {
        // Nothing else can stand in an Authorization header (RFC 6750 §2.1).
        "the token file holds more than one line of visible ASCII characters"
    } else {
        return Ok(token.to_owned());
    };
    Err(io::Error::new(io::ErrorKind::InvalidData, fault))
}

/// Whether a Host header names an IP address or localhost, with or without a port.
fn is_literal_host(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else {
        return false;
    };
    let host = match text.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => text,
    };
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    match host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(inner) => matches!(inner.parse(), Ok(IpAddr::V6(_))),
        None => matches!(host.parse(), Ok(IpAddr::V4(_))),
    }
}

fn presents(headers: &HeaderMap, token: &str) -> bool {
    let Some(value) = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    // The scheme's name is case-insensitive (RFC 9110 §11.1).
    match value.split_once(' ') {
        Some((scheme, given)) if scheme.eq_ignore_ascii_case("bearer") => {
            equal_in_constant_time(given.trim().as_bytes(), token.as_bytes())
        }
        _ => false,
    }
}

/// Compares without stopping at the first difference, so that the time taken tells nothing about the
/// token but its length.
fn equal_in_constant_time(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let difference = left.iter().zip(right).fold(0, |difference, (left, right)| {
        std::hint::black_box(difference | (left ^ right))
    });
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn without_a_token_only_this_machine_may_change_anything() {
        let plain = headers(&[("host", "127.0.0.1:9900")]);
        assert_eq!(may_change(&plain, Peer::Loopback, None), Ok(()));
        assert_eq!(may_change(&plain, Peer::Unix, None), Ok(()));
        assert_eq!(may_change(&plain, Peer::Remote, None), Err(Refusal::Remote));
    }

    #[test]
    fn a_configured_token_is_needed_from_everywhere() {
        let cases = [
            (&[][..], Err(Refusal::Token)),
            (&[("authorization", "Bearer secret")][..], Ok(())),
            (&[("authorization", "bearer  secret")][..], Ok(())),
            (
                &[("authorization", "Bearer secreT")][..],
                Err(Refusal::Token),
            ),
            (
                &[("authorization", "Bearer secret2")][..],
                Err(Refusal::Token),
            ),
            (&[("authorization", "Bearer ")][..], Err(Refusal::Token)),
            (
                &[("authorization", "Basic secret")][..],
                Err(Refusal::Token),
            ),
            (&[("authorization", "secret")][..], Err(Refusal::Token)),
        ];
        for (pairs, wanted) in cases {
            for peer in [Peer::Loopback, Peer::Unix, Peer::Remote] {
                let got = may_change(&headers(pairs), peer, Some("secret"));
                assert_eq!(got, wanted, "{pairs:?} from {peer:?}");
            }
        }
    }

    #[test]
    fn a_web_page_may_change_nothing() {
        let page = headers(&[
            ("authorization", "Bearer secret"),
            ("host", "127.0.0.1:9900"),
            ("origin", "http://127.0.0.1:9900"),
        ]);
        for peer in [Peer::Loopback, Peer::Unix, Peer::Remote] {
            let got = may_change(&page, peer, Some("secret"));
            assert_eq!(got, Err(Refusal::Origin));
        }
    }

    #[test]
    fn only_addresses_and_localhost_are_accepted_as_host() {
        let good = [
            "127.0.0.1",
            "127.0.0.1:9900",
            "10.1.2.3:80",
            "[::1]",
            "[::1]:9900",
            "localhost",
            "LocalHost:9900",
        ];
        let bad = [
            "evil.example",
            "evil.example:9900",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            ":9900",
            "::1",
            "[::1",
            "[127.0.0.1]",
            "127.0.0.1:9900:evil",
            "evil:127.0.0.1",
        ];
        for host in good {
            let got = may_change(&headers(&[("host", host)]), Peer::Loopback, None);
            assert_eq!(got, Ok(()), "{host:?}");
        }
        for host in bad {
            let got = may_change(&headers(&[("host", host)]), Peer::Loopback, None);
            assert_eq!(got, Err(Refusal::Host), "{host:?}");
            let over_unix = may_change(&headers(&[("host", host)]), Peer::Unix, None);
            assert_eq!(over_unix, Ok(()), "{host:?}");
        }
        let two = headers(&[("host", "localhost"), ("host", "evil.example")]);
        assert_eq!(may_change(&two, Peer::Loopback, None), Err(Refusal::Host));
    }

    #[test]
    fn mapped_loopback_addresses_are_loopback() {
        let peer = |text: &str| Peer::of(text.parse().unwrap());
        assert_eq!(peer("127.9.9.9:1"), Peer::Loopback);
        assert_eq!(peer("[::1]:1"), Peer::Loopback);
        assert_eq!(peer("[::ffff:127.0.0.1]:1"), Peer::Loopback);
        assert_eq!(peer("[::ffff:10.0.0.1]:1"), Peer::Remote);
        assert_eq!(peer("192.0.2.1:1"), Peer::Remote);
    }

    #[test]
    fn a_token_file_holds_one_visible_line() {
        let directory = std::env::temp_dir().join(format!("ringlane-token-{}", std::process::id()));
        let read = |text: &str| {
            std::fs::write(&directory, text).unwrap();
            read_token(&directory)
        };
        assert_eq!(read(" s3cret\n").unwrap(), "s3cret");
        assert!(read("\n").is_err());
        assert!(read("two\nlines").is_err());
        assert!(read(&"x".repeat(5000)).is_err());
        std::fs::remove_file(&directory).unwrap();
        assert!(read_token(&directory).is_err());
    }
}
