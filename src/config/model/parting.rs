//! What becomes of the sessions that a backend already has.

use std::time::Duration;

/// `pool.on_down`, `on_remove` and `on_drain`; no duration here is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parting {
    /// They go on.
    #[default]
    Keep,
    /// They may go on for so long; what is left then is reset.
    Drain(Duration),
    /// They are reset one after the other, evenly over so long.
    CloseSpread(Duration),
    /// They are reset at once.
    Reset,
}

/// The same for each way in which a backend can leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Partings {
    /// Health checks have taken it down.
    pub down: Parting,
    /// A reload, or the answers for a host name, no longer have it.
    pub removed: Parting,
    /// A reload has set its weight to 0.
    pub drained: Parting,
}
