//! What the configuration says of backends and pools that fail their clients.

use std::time::Duration;

/// `[pool.NAME.outliers]`; no duration here is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outliers {
    /// Failed connects in a row that eject a backend; 0: any number is borne.
    pub connect_failures: u32,
    /// Sessions that failed as they began, percent, that eject a backend, 1 to 100; `None`: that does not.
    pub failure_rate: Option<u8>,
    /// Which sessions count for that.
    pub window: Duration,
    /// How many it takes at the least; at least 1.
    pub min_samples: u32,
    /// How long the first ejection is; each that follows soon is twice as long.
    pub eject: Duration,
    /// The longest.
    pub eject_most: Duration,
    /// Backends of the pool that may be ejected at a time, percent; one of two or more always may.
    pub max_eject: u8,
}

impl Outliers {
    /// How many of so many backends may be ejected at a time.
    pub fn ejected_max(&self, backends: usize) -> usize {
        match backends {
            0 | 1 => 0,
            _ => (backends * usize::from(self.max_eject) / 100).max(1),
        }
    }
}

impl Default for Outliers {
    fn default() -> Self {
        Self {
            connect_failures: 5,
            failure_rate: None,
            window: Duration::from_secs(30),
            min_samples: 20,
            eject: Duration::from_secs(30),
            eject_most: Duration::from_secs(300),
            max_eject: 50,
        }
    }
}

/// `[pool.NAME.breaker]`; no duration here is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// Connections that the pool may have at a time; 0: any number.
    pub max_connections: u32,
    /// Connects that may be under way at a time; 0: any number.
    pub max_pending: u32,
    /// Failed connects, percent, that open it, 1 to 100; `None`: it never opens.
    pub failure_rate: Option<u8>,
    /// Which connects count for that.
    pub window: Duration,
    /// How many it takes at the least; at least 1.
    pub min_samples: u32,
    /// How long it stays open.
    pub open: Duration,
    /// Connects that must then succeed for it to close; at least 1.
    pub probes: u32,
}
