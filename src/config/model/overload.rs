//! When the process takes no more clients.

use std::time::Duration;

/// `[global.overload]` with a threshold at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overload {
    /// Memory from which on it is overloaded; `None`: off.
    pub memory: Option<Memory>,
    /// How late the slowest worker is from which on it is overloaded; `None`: off. Never zero.
    pub loop_lag: Option<Duration>,
    /// Percent of each threshold below which it is not overloaded any more, 1 to 99.
    pub resume: u8,
    /// What happens to new clients meanwhile.
    pub action: OverloadAction,
    /// Whether readiness fails meanwhile.
    pub ready: OverloadReady,
}

/// `global.overload.memory`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Of what the process may have, 1 to 100.
    Percent(u8),
    /// Of the process's own; never zero.
    Bytes(u64),
}

/// `global.overload.action`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverloadAction {
    /// They wait in the kernel's queue.
    Pause,
    /// They are reset.
    Reject,
}

/// `global.overload.ready`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverloadReady {
    /// It stays.
    Keep,
    /// It fails.
    Fail,
}
