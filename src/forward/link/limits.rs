//! How long a session may do what, as its user says it and as every session keeps it.

use std::time::Duration;

use crate::base::clock::Instant;
use crate::config::model::Keepalive;

/// How long a session may do what.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Silence in both directions.
    pub idle: Duration,
    /// Silence after one side has finished.
    pub half_closed: Duration,
    /// From the backend's connection to its first byte.
    pub first_byte: Option<Duration>,
    /// When the session must be over.
    pub lifetime_end: Option<Instant>,
    /// How the kernel probes a backend that is silent for long.
    pub keepalive: Option<Keepalive>,
}

/// The same in 40 bytes instead of 104: every idle session has one.
pub(super) struct Packed {
    idle: u64,
    half_closed: u64,
    /// `u64::MAX`: none.
    first_byte: u64,
    /// `u64::MAX`: none.
    lifetime_end: u64,
    /// Whole seconds, as the kernel takes them; the count is 0 without keepalive.
    keepalive_idle: u16,
    keepalive_interval: u16,
    keepalive_count: u8,
}

impl Packed {
    pub(super) fn new(limits: &Limits) -> Self {
        let keepalive = limits.keepalive;
        let seconds = |time: fn(Keepalive) -> Duration| {
            let time = keepalive.map_or(Duration::ZERO, time);
            u16::try_from(time.as_secs()).unwrap_or(u16::MAX)
        };
        let count = keepalive.map_or(0, |keepalive| keepalive.count);
        Self {
            idle: nanos(limits.idle),
            half_closed: nanos(limits.half_closed),
            first_byte: limits.first_byte.map_or(u64::MAX, nanos),
            lifetime_end: limits.lifetime_end.map_or(u64::MAX, Instant::as_nanos),
            keepalive_idle: seconds(|keepalive| keepalive.idle),
            keepalive_interval: seconds(|keepalive| keepalive.interval),
            keepalive_count: u8::try_from(count).unwrap_or(u8::MAX),
        }
    }

    pub(super) const fn idle(&self) -> Duration {
        Duration::from_nanos(self.idle)
    }

    pub(super) const fn half_closed(&self) -> Duration {
        Duration::from_nanos(self.half_closed)
    }

    pub(super) fn first_byte(&self) -> Option<Duration> {
        some(self.first_byte).map(Duration::from_nanos)
    }

    pub(super) fn lifetime_end(&self) -> Option<Instant> {
        some(self.lifetime_end).map(Instant::from_nanos)
    }

    pub(super) fn keepalive(&self) -> Option<Keepalive> {
        (self.keepalive_count > 0).then(|| Keepalive {
            idle: Duration::from_secs(self.keepalive_idle.into()),
            interval: Duration::from_secs(self.keepalive_interval.into()),
            count: self.keepalive_count.into(),
        })
    }
}

/// What is longer than 584 years is as long as that.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX - 1)
}

fn some(nanos: u64) -> Option<u64> {
    (nanos != u64::MAX).then_some(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_come_out_as_they_went_in() {
        let limits = Limits {
            idle: Duration::from_nanos(3_600_000_000_001),
            half_closed: Duration::from_millis(1),
            first_byte: Some(Duration::from_secs(30)),
            lifetime_end: Some(Instant::from_nanos(7)),
            keepalive: Some(Keepalive {
                idle: Duration::from_secs(32_767),
                interval: Duration::from_secs(1),
                count: 127,
            }),
        };
        let packed = Packed::new(&limits);
        assert_eq!(packed.idle(), limits.idle);
        assert_eq!(packed.half_closed(), limits.half_closed);
        assert_eq!(packed.first_byte(), limits.first_byte);
        assert_eq!(packed.lifetime_end(), limits.lifetime_end);
        assert_eq!(packed.keepalive(), limits.keepalive);
        let none = Packed::new(&Limits {
            first_byte: None,
            lifetime_end: None,
            keepalive: None,
            ..limits
        });
        assert_eq!((none.first_byte(), none.lifetime_end()), (None, None));
        assert_eq!(none.keepalive(), None);
        assert_eq!(size_of::<Packed>(), 40);
    }
}
