//! What a client's first bytes say of the answer that it may get.

use rustls::AlertDescription;

use crate::sni::{ClientHello, Sniff, sniff};

/// The longest ClientHello that is looked at, bytes; longer ones are refused or cut before.
const HELLO_BYTES_MAX: usize = 64 * 1024;

const TLS12: u16 = 0x0303;
const TLS13: u16 = 0x0304;

/// Says that a client speaks newer versions, but could not with this server (RFC 7507 §2).
const FALLBACK: u16 = 0x5600;

const SUPPORTED_GROUPS: u16 = 10;
const SIGNATURE_ALGORITHMS: u16 = 13;
const KEY_SHARE: u16 = 51;
const RENEGOTIATION_INFO: u16 = 0xff01;

/// How the peer's stream began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// It has not.
    Awaited,
    /// As others do, as far as can be told.
    Usual,
    /// With a ClientHello of a version that nobody should speak any more.
    Old,
    /// With one of TLS 1.3 that lacks an extension which that must have (RFC 8446 §9.2).
    Lacking,
    /// With one of TLS 1.2 whose sender could do better.
    Fallback,
    /// With one of TLS 1.2 which says that it goes on with a session.
    Renegotiating,
}

impl Beginning {
    /// By the first bytes of a stream, which mostly are a whole ClientHello. Of one that is cut, its
    /// version is known if that is there.
    pub(super) fn of(first: &[u8]) -> Self {
        match sniff(first, HELLO_BYTES_MAX) {
            Sniff::Hello(hello) => Self::of_hello(&hello),
            _ if is_old_hello(first) => Self::Old,
            _ => Self::Usual,
        }
    }

    fn of_hello(hello: &ClientHello<'_>) -> Self {
        let version = hello.version();
        if version < TLS12 {
            return Self::Old;
        }
        if hello.supported_versions().any(|offered| offered == TLS13) {
            let has = |kind| hello.extensions().any(|present| present == kind);
            let whole = [SIGNATURE_ALGORITHMS, SUPPORTED_GROUPS, KEY_SHARE];
            return match whole.into_iter().all(has) {
                true => Self::Usual,
                false => Self::Lacking,
            };
        }
        let renegotiated = hello.extension(RENEGOTIATION_INFO);
        if renegotiated.is_some_and(|body| body != [0]) {
            return Self::Renegotiating;
        }
        match hello.cipher_suites().any(|suite| suite == FALLBACK) {
            true => Self::Fallback,
            false => Self::Usual,
        }
    }

    /// The alert for a client that is not to be answered further, and why.
    pub(super) fn refusal(self, newest: Newest) -> Option<(AlertDescription, &'static str)> {
        match self {
            // RFC 7507 §3.
            Self::Fallback if newest == Newest::Tls13 => Some((
                AlertDescription::InappropriateFallback,
                "an older version than both sides speak",
            )),
            // RFC 5746 §3.6.
            Self::Renegotiating if newest != Newest::Unknown => Some((
                AlertDescription::HandshakeFailure,
                "a renegotiation without a session",
            )),
            _ => None,
        }
    }
}

/// The newest version that our side of a session speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Newest {
    /// Nobody asked: we are the client, say.
    Unknown,
    Tls12,
    Tls13,
}

/// Whether `first` begins a ClientHello of TLS 1.1 or older, by the version in its own field.
fn is_old_hello(first: &[u8]) -> bool {
    // The record's header, the handshake message's, and the version.
    matches!(
        first,
        [22, 3, _, _, _, 1, _, _, _, 0..=2, _, ..] | [22, 3, _, _, _, 1, _, _, _, 3, 0..=2, ..]
    )
}
