//! Whether a worker lacks descriptors: clients without backends must not use up the last ones.

use std::cell::Cell;
use std::time::Duration;

use crate::base::clock::{Instant, now};

/// How long a worker is careful after it has lacked a descriptor.
const CAREFUL: Duration = Duration::from_secs(10);

/// The sessions of one worker that have no descriptor for their backend.
#[derive(Debug, Default)]
pub struct Shortage {
    waiting: Cell<u32>,
    last: Cell<Option<Instant>>,
}

/// Counts one session that waits, for as long as it lives.
pub struct Waiting<'a>(&'a Shortage);

impl Shortage {
    /// Counts one session more that waits.
    pub fn wait(&self, now: Instant) -> Waiting<'_> {
        self.waiting.set(self.waiting.get() + 1);
        self.note(now);
        Waiting(self)
    }

    /// Notes that a descriptor was lacking.
    pub fn note(&self, now: Instant) {
        self.last.set(Some(now));
    }

    /// Whether a session waits: no client is admitted meanwhile.
    pub const fn is_acute(&self) -> bool {
        self.waiting.get() > 0
    }

    /// Whether one was lacking lately: a client is admitted only together with the descriptor that its
    /// backend will need. At all other times that would cost two system calls each for nothing.
    pub fn is_recent(&self) -> bool {
        let recent = self.last.get().is_some_and(|last| now() - last < CAREFUL);
        if !recent {
            self.last.set(None);
        }
        recent
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}
