//! Why a probe found a backend bad.

use std::fmt;

/// Why a probe did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens.
    Refused,
    /// It was not over in time.
    Timeout,
    /// There is no way to it.
    Unreachable,
    /// The connection was reset.
    Reset,
    /// The connection ended before the answer was whole.
    Closed,
    /// The answer has this status.
    Status(u16),
    /// The answer is no HTTP.
    NotHttp,
    /// The answer is not what was expected.
    Unexpected,
    /// The handshake failed.
    Tls(String),
    /// Anything else that says something of the backend.
    Other(String),
    /// Our side lacks something, which says nothing of the backend.
    Ours(String),
}

impl Failure {
    /// Whether it says something of the backend.
    pub const fn counts(&self) -> bool {
        !matches!(self, Self::Ours(_))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Timeout => f.write_str("timeout"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Reset => f.write_str("reset"),
            Self::Closed => f.write_str("closed before the answer was whole"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::NotHttp => f.write_str("answer is not HTTP"),
            Self::Unexpected => f.write_str("unexpected answer"),
            Self::Tls(why) => write!(f, "tls: {why}"),
            Self::Other(why) | Self::Ours(why) => f.write_str(why),
        }
    }
}
