//! Why a TLS session ends before its time: whose fault it is, for the log and the metrics.

use std::fmt;

use rustls::{AlertDescription, CertificateError, Error};

/// Why a session cannot go on.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionFault {
    /// The peer sent a fatal alert.
    Alert(AlertDescription),
    /// The peer's certificate is not good.
    Certificate(CertificateError),
    /// There is no certificate for the name that the client asks for, and no default.
    UnknownName,
    /// The peer showed no certificate where one is needed.
    NoCertificate,
    /// The two sides have no version, cipher, group or application protocol in common.
    Incompatible(Error),
    /// What the peer sent is not TLS, or breaks its rules.
    Protocol(Error),
    /// The peer's stream ended without a `close_notify`, perhaps cut off by somebody on the way.
    Truncated,
    /// The handshake was not over in time.
    TimedOut,
    /// So many records were sent that the keys wear out, and the version cannot change them.
    KeysWornOut,
    /// Our side: settings, time or random numbers.
    Ours(Error),
}

impl From<Error> for SessionFault {
    fn from(error: Error) -> Self {
        match error {
            Error::AlertReceived(alert) => Self::Alert(alert),
            Error::InvalidCertificate(error) => Self::Certificate(error),
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Self::Incompatible(error),
            Error::General(_)
            | Error::FailedToGetCurrentTime
            | Error::FailedToGetRandomBytes
            | Error::EncryptError
            | Error::HandshakeNotComplete
            | Error::BadMaxFragmentSize
            | Error::InconsistentKeys(_) => Self::Ours(error),
            error => Self::Protocol(error),
        }
    }
}

impl std::error::Error for SessionFault {}

impl fmt::Display for SessionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alert(alert) => write!(f, "peer sent alert {alert:?}"),
            Self::Certificate(error) => write!(f, "peer's certificate: {error}"),
            Self::UnknownName => {
                f.write_str("no certificate for the name that the client asks for")
            }
            Self::NoCertificate => f.write_str("peer showed no certificate"),
            Self::Incompatible(error) | Self::Protocol(error) | Self::Ours(error) => error.fmt(f),
            Self::Truncated => f.write_str("stream ended without close_notify"),
            Self::TimedOut => f.write_str("the handshake was not over in time"),
            Self::KeysWornOut => f.write_str("keys worn out by the number of records"),
        }
    }
}
