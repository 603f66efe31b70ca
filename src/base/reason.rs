//! Why a session ended: a closed set that the log, the metrics and the manual share.

/// The end of a session, as one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Both sides finished.
    Eof,
    /// The client's connection was reset or broke.
    ClientReset,
    /// The backend's connection was reset or broke.
    BackendReset,
    /// Silent in both directions for `idle`.
    Idle,
    /// One side had finished and the other was silent for `half_closed`.
    HalfClosed,
    /// The backend sent nothing within `first_byte`.
    FirstByte,
    /// Older than `max_lifetime`.
    Lifetime,
    /// The client did not say in time what it wants.
    SniffTimeout,
    /// A TLS handshake was refused, by us or by the peer, left, or not over in time.
    TlsError,
    /// No route takes the client.
    NoRoute,
    /// Refused by the configuration.
    Denied,
    /// More TLS handshakes than the listener allows.
    LimitHandshakes,
    /// More connections from one source than the listener allows.
    LimitSource,
    /// New connections from one source more often than the listener allows.
    LimitRate,
    /// More connections than the listener allows.
    LimitListener,
    /// More connections than the route allows.
    LimitRoute,
    /// More connections than the process allows.
    LimitGlobal,
    /// The process has more to do than it can.
    Overload,
    /// The pool has no backend that may be tried.
    NoBackend,
    /// Every backend that may be tried has as many connections as it may, and nobody more may wait; or the
    /// pool itself has.
    PoolFull,
    /// No backend had room for one more connection within `queue_timeout`.
    QueueTimeout,
    /// Too many connects of the pool failed: its breaker is open.
    BreakerOpen,
    /// The last backend tried refused the connection.
    ConnectRefused,
    /// The last backend tried did not answer in time.
    ConnectTimeout,
    /// The last backend tried cannot be reached.
    ConnectUnreachable,
    /// A TLS stream ended without a close_notify.
    TlsTruncated,
    /// A TLS stream broke the rules, or its peer ended it with an alert.
    TlsFault,
    /// The drain time of a stop ran out, or that of a backend whose weight is 0.
    Drain,
    /// Health checks have taken the backend down, and the pool's `on_down` ended the session.
    BackendDown,
    /// The configuration has the backend no longer, and the pool's `on_remove` ended the session.
    BackendRemoved,
    /// A fault of ringlane itself.
    Internal,
}

/// Who ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The client.
    Client,
    /// The backend.
    Backend,
    /// Ringlane: a timeout, a limit, a stop.
    Us,
}

impl Reason {
    /// Every reason, in the order of the manual.
    pub const ALL: [Self; 31] = [
        Self::Eof,
        Self::ClientReset,
        Self::BackendReset,
        Self::Idle,
        Self::HalfClosed,
        Self::FirstByte,
        Self::Lifetime,
        Self::SniffTimeout,
        Self::TlsError,
        Self::NoRoute,
        Self::Denied,
        Self::LimitHandshakes,
        Self::LimitSource,
        Self::LimitRate,
        Self::LimitListener,
        Self::LimitRoute,
        Self::LimitGlobal,
        Self::Overload,
        Self::NoBackend,
        Self::PoolFull,
        Self::QueueTimeout,
        Self::BreakerOpen,
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::ConnectUnreachable,
        Self::TlsTruncated,
        Self::TlsFault,
        Self::Drain,
        Self::BackendDown,
        Self::BackendRemoved,
        Self::Internal,
    ];

    /// The word in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Eof => "eof",
            Self::ClientReset => "client_reset",
            Self::BackendReset => "backend_reset",
            Self::Idle => "idle",
            Self::HalfClosed => "half_closed",
            Self::FirstByte => "first_byte",
            Self::Lifetime => "lifetime",
            Self::SniffTimeout => "sniff_timeout",
            Self::TlsError => "tls_error",
            Self::NoRoute => "no_route",
            Self::Denied => "denied",
            Self::LimitHandshakes => "limit_handshakes",
            Self::LimitSource => "limit_source",
            Self::LimitRate => "limit_rate",
            Self::LimitListener => "limit_listener",
            Self::LimitRoute => "limit_route",
            Self::LimitGlobal => "limit_global",
            Self::Overload => "overload",
            Self::NoBackend => "no_backend",
            Self::PoolFull => "pool_full",
            Self::QueueTimeout => "queue_timeout",
            Self::BreakerOpen => "breaker_open",
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::ConnectUnreachable => "connect_unreachable",
            Self::TlsTruncated => "tls_truncated",
            Self::TlsFault => "tls_fault",
            Self::Drain => "drain",
            Self::BackendDown => "backend_down",
            Self::BackendRemoved => "backend_removed",
            Self::Internal => "internal",
        }
    }

    /// Whether the session ended before a backend could serve it.
    pub const fn is_rejection(self) -> bool {
        matches!(
            self,
            Self::SniffTimeout
                | Self::TlsError
                | Self::NoRoute
                | Self::Denied
                | Self::LimitHandshakes
                | Self::LimitSource
                | Self::LimitRate
                | Self::LimitListener
                | Self::LimitRoute
                | Self::LimitGlobal
                | Self::Overload
                | Self::NoBackend
                | Self::PoolFull
                | Self::QueueTimeout
                | Self::BreakerOpen
                | Self::ConnectRefused
                | Self::ConnectTimeout
                | Self::ConnectUnreachable
        )
    }

    /// The place in [`Reason::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl Side {
    /// The word in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
            Self::Us => "us",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_at_its_index() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
        }
    }
}
