//! Why a ClientHello is refused, and the alert that says so to the client.

use std::fmt;

/// What makes bytes that began as TLS unacceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The ClientHello with its record headers is longer than the limit.
    TooLong,
    /// A record without a byte of the handshake.
    EmptyRecord,
    /// A record of more than 2^14 bytes.
    RecordTooLong,
    /// A record of another type or protocol before the ClientHello was complete.
    ForeignRecord,
    /// Another message of the handshake in its place.
    ForeignMessage,
    /// Lengths that contradict each other, or a list that is empty, odd or cut off.
    Malformed(Field),
    /// The same extension twice.
    RepeatedExtension,
    /// A server name that is no host name.
    ServerName,
    /// Two host names in the extension server_name.
    RepeatedName,
}

/// The part of a ClientHello in which a fault lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// What stands before the extensions, or after them.
    Message,
    /// The frame of the extensions.
    Extensions,
    /// Extension 0.
    ServerName,
    /// Extension 13.
    SignatureAlgorithms,
    /// Extension 16.
    Alpn,
    /// Extension 43.
    SupportedVersions,
}

impl Fault {
    /// What a TLS server answers to it.
    pub const fn alert(self) -> Alert {
        match self {
            // RFC 8446 §5.1 forbids the first, §5 and §4 name the alert for what does not belong there.
            Self::EmptyRecord | Self::ForeignRecord | Self::ForeignMessage => {
                Alert::UnexpectedMessage
            }
            Self::RecordTooLong => Alert::RecordOverflow,
            Self::Malformed(_) => Alert::DecodeError,
            Self::TooLong | Self::RepeatedExtension | Self::ServerName | Self::RepeatedName => {
                Alert::IllegalParameter
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "client hello: longer than the limit",
            Self::EmptyRecord => "client hello: an empty record",
            Self::RecordTooLong => "client hello: a record of more than 16384 bytes",
            Self::ForeignRecord => "client hello: another record instead of it or within it",
            Self::ForeignMessage => "client hello: another message instead of it",
            Self::Malformed(Field::Message) => "client hello: malformed",
            Self::Malformed(Field::Extensions) => "client hello: malformed extensions",
            Self::Malformed(Field::ServerName) => "client hello: malformed server_name",
            Self::Malformed(Field::SignatureAlgorithms) => {
                "client hello: malformed signature_algorithms"
            }
            Self::Malformed(Field::Alpn) => "client hello: malformed ALPN",
            Self::Malformed(Field::SupportedVersions) => {
                "client hello: malformed supported_versions"
            }
            Self::RepeatedExtension => "client hello: the same extension twice",
            Self::ServerName => "client hello: a server name that is no host name",
            Self::RepeatedName => "client hello: two server names",
        })
    }
}

impl std::error::Error for Fault {}

/// A fatal alert (RFC 8446 §6.2), by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Alert {
    /// A message or record that may not come here.
    UnexpectedMessage = 10,
    /// A record that is too long.
    RecordOverflow = 22,
    /// A value that is forbidden.
    IllegalParameter = 47,
    /// A message that cannot be read.
    DecodeError = 50,
    /// A version that nobody should speak any more.
    ProtocolVersion = 70,
    /// No route for the server name (RFC 6066 §3).
    UnrecognizedName = 112,
}

impl Alert {
    /// The whole record to send to a client that has had no answer yet.
    ///
    /// Its version is that of TLS 1.0, which every client takes as long as none is agreed on.
    pub const fn record(self) -> [u8; 7] {
        const ALERT: u8 = 21;
        const FATAL: u8 = 2;
        [ALERT, 3, 1, 0, 2, FATAL, self as u8]
    }
}
