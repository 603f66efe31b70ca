//! What probes have found out about a backend.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::{Backend, Era};

/// Whether a backend may be used, as far as probes can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// It may; so may one that nobody probes.
    Up,
    /// It may not.
    Down,
    /// It may not yet: its first probe decides.
    Unchecked,
}

const STATE_BITS: u32 = 2;
const STATE: u32 = (1 << STATE_BITS) - 1;

/// What came of the probes of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probed {
    /// Probes that found it good.
    pub passed: u64,
    /// Probes that did not.
    pub failed: u64,
    /// How long the last one took.
    pub took: Duration,
}

/// Each is written by the control thread alone, which has one prober for the process; only a backend
/// that is new to the configuration, or again, is given its first state by the main thread. No turn is lost by
/// that, and workers see each one as soon as their core does, without a message.
#[derive(Debug)]
pub(super) struct Facts {
    /// A [`State`] in the lowest two bits, above it an [`Era`]; read by balancers for every candidate.
    state: AtomicU32,
    passed: AtomicU64,
    failed: AtomicU64,
    /// Nanoseconds.
    took: AtomicU64,
}

impl Facts {
    pub(super) const fn new() -> Self {
        Self {
            state: AtomicU32::new(State::Up as u32),
            passed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            took: AtomicU64::new(0),
        }
    }

    fn keep_time(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.took.store(nanos, Ordering::Relaxed);
    }
}

impl Backend {
    /// What probes have made of it.
    pub fn state(&self) -> State {
        self.state_and_era().0
    }

    pub(super) fn state_and_era(&self) -> (State, Era) {
        let word = self.health.state.load(Ordering::Relaxed);
        let state = match word & STATE {
            up if up == State::Up as u32 => State::Up,
            down if down == State::Down as u32 => State::Down,
            _ => State::Unchecked,
        };
        (state, Era(word >> STATE_BITS))
    }

    /// How often it has gone down or come back.
    pub fn era(&self) -> Era {
        self.state_and_era().1
    }

    /// Whether probes have nothing against it.
    pub fn is_up(&self) -> bool {
        self.health.state.load(Ordering::Relaxed) & STATE == State::Up as u32
    }

    /// Lets every worker know, for its next choice. Its sessions are another matter: see
    /// [`Backend::reconsider`].
    pub fn set_state(&self, state: State) {
        let turned = |word: u32| {
            let turns = (word & STATE == State::Down as u32) != (state == State::Down);
            let era = (word >> STATE_BITS).wrapping_add(u32::from(turns));
            Some(era << STATE_BITS | state as u32)
        };
        let word = &self.health.state;
        // Never an error: there is always another word.
        let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, turned);
    }

    /// Counts a probe that found it good.
    pub fn probe_passed(&self, took: Duration) {
        self.health.passed.fetch_add(1, Ordering::Relaxed);
        self.health.keep_time(took);
    }

    /// Counts a probe that did not.
    pub fn probe_failed(&self, took: Duration) {
        self.health.failed.fetch_add(1, Ordering::Relaxed);
        self.health.keep_time(took);
    }

    /// What came of its probes so far.
    pub fn probed(&self) -> Probed {
        Probed {
            passed: self.health.passed.load(Ordering::Relaxed),
            failed: self.health.failed.load(Ordering::Relaxed),
            took: Duration::from_nanos(self.health.took.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::BackendId;
    use crate::base::address::Endpoint;

    #[test]
    fn states_and_counts_are_what_was_said_last() {
        let backend = Backend::new(BackendId {
            pool: "p".into(),
            name: "a".into(),
            endpoint: Endpoint::Unix("/run/p".into()),
        });
        assert!(backend.is_up() && backend.probed() == Probed::default());
        for state in [State::Down, State::Unchecked, State::Up] {
            backend.set_state(state);
            assert_eq!(backend.state(), state);
            assert_eq!(backend.is_up(), state == State::Up);
        }
        backend.probe_passed(Duration::from_millis(3));
        backend.probe_failed(Duration::from_millis(5));
        let expected = Probed {
            passed: 1,
            failed: 1,
            took: Duration::from_millis(5),
        };
        assert_eq!(backend.probed(), expected);
    }
}
