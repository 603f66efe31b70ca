//! Keeps a pool from more connections than it can bear, and gives one that fails a rest.
//!
//! Closed, a breaker lets connects through and counts how many of late have failed. Of too many it opens: for
//! a while nobody is let through. Then it is half open: as many connects as there are `probes` show whether the
//! pool is well again; all good ones close it, and one that fails opens it again.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::window::Rate;
use crate::base::clock::Instant;
use crate::config::model;

/// What a breaker does with connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// It lets them through.
    Closed,
    /// It lets a few through.
    HalfOpen,
    /// It lets none through.
    Open,
}

/// Why a connect is not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The pool has as many connections as it may, or as many are being made.
    Full,
    /// The breaker is open.
    Open,
}

/// A breaker that went over to another phase, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What it is in now.
    pub phase: Phase,
    /// Where it opened because of too many: how many connects had failed, and of how many.
    pub failed: Option<(u64, u64)>,
}

/// Turns that may wait to be logged; more in so short a time are only counted.
const TURNS_MAX: usize = 64;

/// Before a configuration has come into force.
const WINDOW: Duration = Duration::from_secs(10);

/// The breaker of one pool; kept over reloads and shared by all workers. A pool without one never touches it.
#[derive(Debug)]
pub struct Breaker {
    /// Slots that are held. Any worker writes it; additions and subtractions never get lost.
    connections: AtomicU32,
    /// Permits whose connects are under way; like `connections`.
    pending: AtomicU32,
    /// A [`Phase`]. Written under the lock; read by every connect and by metrics: one that sees it a moment
    /// late is one of those that were in the moment before.
    phase: AtomicU8,
    /// Phases so far: what comes of a connect counts only in that which let it through. Like `phase`.
    round: AtomicU64,
    rate: Rate,
    state: Mutex<State>,
    /// How often it went into each [`Phase`]; written under the lock, read by metrics.
    turns: [AtomicU64; 3],
}

#[derive(Debug, Default)]
struct State {
    now: Now,
    turns: Vec<Turn>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Now {
    #[default]
    Closed,
    Open {
        until: Instant,
    },
    HalfOpen {
        under_way: u32,
        good: u32,
    },
}

/// One connection counted on a pool, for as long as it lives.
#[derive(Debug)]
pub struct Slot(Arc<Breaker>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connect that is let through. Whoever drops it without saying what came of it gives it back: that speaks
/// neither for the pool nor against it.
#[derive(Debug)]
pub struct Permit {
    breaker: Arc<Breaker>,
    settings: model::Breaker,
    /// The phase that let it through.
    round: u64,
    /// That was a half open one, which counts it.
    is_probe: bool,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            connections: AtomicU32::new(0),
            pending: AtomicU32::new(0),
            phase: AtomicU8::new(Phase::Closed as u8),
            round: AtomicU64::new(0),
            rate: Rate::new(WINDOW),
            state: Mutex::default(),
            turns: Default::default(),
        }
    }
}

impl Breaker {
    /// From now on these settings hold; `None`: the pool has none, which closes it.
    pub fn set(&self, settings: Option<&model::Breaker>) {
        match settings.filter(|settings| settings.failure_rate.is_some()) {
            Some(settings) => self.rate.set_time(settings.window),
            None if self.phase() == Phase::Closed => {}
            None => self.turn(&mut self.state.lock(), Now::Closed, None),
        }
    }

    /// What it does with connects. That the time of an open one is over shows with the next connect.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            closed if closed == Phase::Closed as u8 => Phase::Closed,
            open if open == Phase::Open as u8 => Phase::Open,
            _ => Phase::HalfOpen,
        }
    }

    /// Connections that count on the pool.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Connects under way.
    pub fn pending(&self) -> u32 {
        self.pending.load(Ordering::Relaxed)
    }

    /// How often it went into this phase.
    pub fn turns(&self, phase: Phase) -> u64 {
        self.turns[phase as usize].load(Ordering::Relaxed)
    }

    /// What there is to log since the last time.
    pub fn news(&self) -> Vec<Turn> {
        mem::take(&mut self.state.lock().turns)
    }

    /// Whether nobody is let through at the moment: to be asked before a backend is chosen, which another
    /// client would then not get.
    pub fn is_open(&self, settings: &model::Breaker, now: Instant) -> bool {
        if self.phase() == Phase::Closed || settings.failure_rate.is_none() {
            return false;
        }
        let probes = settings.probes;
        match self.state.lock().now {
            Now::Closed => false,
            Now::Open { until } => now < until,
            Now::HalfOpen { under_way, good } => good < probes && under_way + good >= probes,
        }
    }

    /// Counts one connection of the pool, exactly however many workers ask at once; `None`: it has as many as
    /// it may.
    pub fn try_slot(self: &Arc<Self>, settings: &model::Breaker) -> Option<Slot> {
        count_below(&self.connections, settings.max_connections).then(|| Slot(Arc::clone(self)))
    }

    /// Lets a connect through.
    ///
    /// # Errors
    /// Why it may not be made.
    pub fn enter(
        self: &Arc<Self>,
        settings: &model::Breaker,
        now: Instant,
    ) -> Result<Permit, Refusal> {
        if !count_below(&self.pending, settings.max_pending) {
            return Err(Refusal::Full);
        }
        // From here on the permit counts itself off.
        let mut permit = Permit {
            breaker: Arc::clone(self),
            settings: *settings,
            round: self.round.load(Ordering::Relaxed),
            is_probe: false,
        };
        if self.phase() == Phase::Closed || settings.failure_rate.is_none() {
            return Ok(permit);
        }
        let mut state = self.state.lock();
        match state.now {
            Now::Open { until } if now >= until => {
                let (under_way, good) = (0, 0);
                self.turn(&mut state, Now::HalfOpen { under_way, good }, None);
            }
            // A reload asks for fewer.
            Now::HalfOpen { good, .. } if good >= settings.probes => {
                self.turn(&mut state, Now::Closed, None);
            }
            _ => {}
        }
        permit.round = self.round.load(Ordering::Relaxed);
        let is_let_through = match &mut state.now {
            Now::Closed => true,
            Now::HalfOpen { under_way, good } if *under_way + *good < settings.probes => {
                *under_way += 1;
                permit.is_probe = true;
                true
            }
            _ => false,
        };
        drop(state);
        if is_let_through {
            Ok(permit)
        } else {
            Err(Refusal::Open)
        }
    }

    fn turn(&self, state: &mut State, next: Now, failed: Option<(u64, u64)>) {
        let phase = match next {
            Now::Closed => Phase::Closed,
            Now::Open { .. } => Phase::Open,
            Now::HalfOpen { .. } => Phase::HalfOpen,
        };
        state.now = next;
        self.round.fetch_add(1, Ordering::Relaxed);
        self.rate.clear();
        self.turns[phase as usize].fetch_add(1, Ordering::Relaxed);
        if state.turns.len() < TURNS_MAX {
            state.turns.push(Turn { phase, failed });
        }
        self.phase.store(phase as u8, Ordering::Relaxed);
    }
}

impl Permit {
    /// The connect has succeeded.
    pub fn succeeded(mut self, now: Instant) {
        let was_probe = mem::take(&mut self.is_probe);
        let breaker = &self.breaker;
        if !was_probe {
            if self.settings.failure_rate.is_some() && self.is_of_now() {
                breaker.rate.note_good(now);
            }
            return;
        }
        let mut state = breaker.state.lock();
        if !self.is_of_now() {
            return;
        }
        let Now::HalfOpen { under_way, good } = &mut state.now else {
            return;
        };
        *under_way -= 1;
        *good += 1;
        if *good >= self.settings.probes {
            breaker.turn(&mut state, Now::Closed, None);
        }
    }

    /// The connect has failed.
    pub fn failed(mut self, now: Instant) {
        let was_probe = mem::take(&mut self.is_probe);
        let (breaker, settings) = (&self.breaker, &self.settings);
        let Some(percent) = settings.failure_rate.filter(|_| self.is_of_now()) else {
            return;
        };
        let open = Now::Open {
            until: now + settings.open,
        };
        let reached = || breaker.rate.reaches(now, percent, settings.min_samples);
        if !was_probe {
            breaker.rate.note_failed(now);
            if reached().is_none() {
                return;
            }
        }
        let mut state = breaker.state.lock();
        // Another worker may have turned it since.
        if !self.is_of_now() {
            return;
        }
        match reached() {
            _ if was_probe => breaker.turn(&mut state, open, None),
            Some(failed) => breaker.turn(&mut state, open, Some(failed)),
            None => {}
        }
    }

    /// Whether the breaker is still in the phase that let the connect through.
    fn is_of_now(&self) -> bool {
        self.breaker.round.load(Ordering::Relaxed) == self.round
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.breaker.pending.fetch_sub(1, Ordering::Relaxed);
        if !self.is_probe {
            return;
        }
        let mut state = self.breaker.state.lock();
        if self.is_of_now()
            && let Now::HalfOpen { under_way, .. } = &mut state.now
        {
            *under_way -= 1;
        }
    }
}

/// Adds one unless that would be more than `most`; 0: any number.
fn count_below(count: &AtomicU32, most: u32) -> bool {
    if most == 0 {
        count.fetch_add(1, Ordering::Relaxed);
        return true;
    }
    let one_more = |count| (count < most).then(|| count + 1);
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
        .is_ok()
}

#[cfg(test)]
#[path = "tests/breaker.rs"]
mod tests;
