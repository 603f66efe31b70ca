//! How long a backend is ejected: longer each time, until it has done well for a while.

use std::time::Duration;

use super::notice::EjectionCause;
use crate::base::clock::Instant;
use crate::config::model::Outliers;

/// The last ejection; only touched under the pool's lock.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Past {
    pub(super) cause: Option<EjectionCause>,
    /// When it began.
    pub(super) since: Instant,
    /// When it ended, or is to end.
    pub(super) back: Instant,
    /// It ended because another backend had to be ejected.
    pub(super) was_replaced: bool,
    /// How long it was meant to be.
    pub(super) time: Duration,
    /// How often its time was doubled.
    pub(super) level: u32,
}

impl Past {
    /// A backend that has done well for as long as it was out begins anew.
    pub(super) fn forget_if_well(&mut self, now: Instant) {
        if now.since(self.back) >= self.time {
            self.level = 0;
        }
    }

    /// Begins another one; returns how long it is to be.
    pub(super) fn begin(
        &mut self,
        cause: EjectionCause,
        settings: &Outliers,
        now: Instant,
    ) -> Duration {
        let doubled = 2_u32.checked_pow(self.level);
        let time = doubled.map_or(Duration::MAX, |times| settings.eject.saturating_mul(times));
        let time = time.min(settings.eject_most);
        *self = Self {
            cause: Some(cause),
            since: now,
            back: now + time,
            was_replaced: false,
            time,
            level: self.level.saturating_add(1),
        };
        time
    }
}
