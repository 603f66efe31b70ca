//! What there is to tell of ejections.

use std::time::Duration;

use super::BackendId;

/// Why a backend was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EjectionCause {
    /// So many connects failed in a row.
    ConnectFailures,
    /// So large a share of the sessions of late failed as they began.
    FailureRate,
}

/// Why an ejection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// A connect succeeded.
    Connected,
    /// A health check that began after the ejection succeeded.
    Probed,
    /// Its time was over.
    Elapsed,
    /// Another one had to be ejected, and no more might be at a time.
    Replaced,
    /// A reload wants fewer backends ejected.
    Reloaded,
}

/// What became of a backend, for the log.
#[derive(Clone, Debug)]
pub enum Notice {
    /// It gets no clients from now on.
    Ejected {
        /// Which.
        backend: BackendId,
        /// Why.
        cause: EjectionCause,
        /// How many failed: in a row, or of `all`.
        failed: u64,
        /// Of how many sessions; 0 where they failed in a row.
        all: u64,
        /// For how long, unless it ends early.
        time: Duration,
    },
    /// It gets clients again.
    Returned {
        /// Which.
        backend: BackendId,
        /// Why.
        why: Return,
    },
}
