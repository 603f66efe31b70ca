//! From a pool that has enough, or fails, to a client that is told so.

use super::dial::Dialler;
use crate::backend::Refusal;
use crate::base::clock::Instant;
use crate::base::reason::Reason;

impl Dialler<'_> {
    /// Whether the pool's breaker lets one more connect through. What an attempt before has come to
    /// remains the fault.
    pub(super) fn enter(&mut self, time: Instant) -> bool {
        let pool = self.call.pool;
        let Some(settings) = &pool.breaker else {
            return true;
        };
        let breaker = &pool.live.breaker;
        if self.slot.is_none() {
            self.slot = breaker.try_slot(settings);
        }
        let permit = match self.slot {
            Some(_) => breaker.enter(settings, time),
            None => Err(Refusal::Full),
        };
        let refusal = match permit {
            Ok(permit) => {
                self.permit = Some(permit);
                return true;
            }
            Err(refusal) => refusal,
        };
        if self.fault.attempts == 0 {
            self.fault.reason = match refusal {
                Refusal::Full => Reason::PoolFull,
                Refusal::Open => Reason::BreakerOpen,
            };
        }
        false
    }
}
