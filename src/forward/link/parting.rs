//! When a session is to end because its backend has left.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::time::Duration;

use super::Link;
use crate::backend::{Cause, Due, Era, Orders};
use crate::base::clock::Instant;
use crate::base::reason::Reason;
use crate::sys::socket::reset;

/// What a link knows of it: 16 bytes.
#[derive(Default)]
pub(super) struct Parting {
    /// Only with a cause.
    at: Cell<Instant>,
    chosen: Cell<Era>,
    cause: Cell<Option<Cause>>,
    /// The time was over while the backend was being dialled: another one may be tried.
    cut: Cell<bool>,
}

/// Twice what the end of one session takes of a worker's time, so that others have theirs while many end.
const EACH: Duration = Duration::from_micros(50);

/// The least time over which the sessions of a worker with so many end that are told to go together.
pub fn room(sessions: usize) -> Duration {
    EACH * u32::try_from(sessions).unwrap_or(u32::MAX)
}

impl Link {
    /// The session goes to another backend, which it chose in this era of it.
    pub(in crate::forward) fn choose(&self, chosen: Era) {
        self.parting.chosen.set(chosen);
        self.parting.cause.set(None);
        self.parting.cut.set(false);
    }

    /// The era in which the session has chosen its backend.
    pub(in crate::forward) fn chosen(&self) -> Era {
        self.parting.chosen.get()
    }

    /// Takes in the orders of the session's backend; returns when it is to end by them.
    pub fn obey(
        &self,
        orders: &Orders,
        now: Instant,
        room: Duration,
        share: impl FnMut() -> u32,
    ) -> Option<Instant> {
        let before = self.due();
        let due = orders.due((self.parting.chosen.get(), before), now, room, share);
        self.parting.cause.set(due.map(|due| due.cause));
        let at = due.map(|due| due.at)?;
        self.parting.at.set(at);
        Some(at)
    }

    /// Why the attempt to reach the backend was cut short, if it was.
    pub(in crate::forward) fn cut(&self) -> Option<Reason> {
        let cause = self.parting.cause.get().filter(|_| self.parting.cut.get());
        cause.map(Cause::reason)
    }

    pub(super) fn due(&self) -> Option<Due> {
        let at = self.parting.at.get();
        self.parting.cause.get().map(|cause| Due { at, cause })
    }

    /// Ends the attempt to reach the backend, not the session: the backend has got nothing of it yet.
    pub(super) fn cut_attempt(&self) {
        self.parting.cut.set(true);
        let dialling = self.dialling.take();
        if let Some(dialling) = &dialling {
            reset(dialling.as_fd());
        }
        self.dialling.set(dialling);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_pays_sixteen_bytes() {
        assert_eq!(size_of::<Parting>(), 16);
    }
}
