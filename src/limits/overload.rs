//! Whether the process has more to do than it can: measurements in, a verdict out.
//!
//! Overload begins at a threshold and ends below a part of it, and either lasts for a second at least, so
//! that accepting does not flutter.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use crate::base::clock::Instant;
use crate::config::model::{OverloadAction, OverloadReady};
use crate::io::wheel::SLOT;

/// How often there are measurements.
pub const INTERVAL: Duration = Duration::from_millis(250);

/// How long a state lasts at least.
const LEAST: Duration = Duration::from_secs(1);

/// The time that the average lag is of, at least.
const WINDOW: Duration = Duration::from_secs(1);

/// What made it too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Memory.
    Memory,
    /// Workers that are late.
    LoopLag,
}

/// What is measured, or bounds that; `None`: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Memory, bytes.
    pub memory: Option<u64>,
    /// How late the slowest worker is.
    pub lag: Option<Duration>,
}

/// From which load on it is too much, and below which it is not any more.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// Too much.
    pub limit: Load,
    /// Percent of it.
    pub resume: u8,
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is too much now.
    Begun(Cause),
    /// It is not any more, after so long.
    Ended(Duration),
}

/// The present verdict.
#[derive(Debug, Default)]
pub struct Overload {
    cause: Option<Cause>,
    /// When this state began; `None`: it was always so.
    since: Option<Instant>,
}

/// What one worker says of its ticks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ticks {
    /// The sum of what [`weighed`] gives for each that has come.
    pub weighed: u64,
    /// How late the next one is by now.
    pub overdue: Duration,
}

/// How late workers were during the last second.
#[derive(Debug, Default)]
pub struct Lags {
    /// When there was a look, and what each worker had summed up by then.
    seen: VecDeque<(Instant, Vec<u64>)>,
}

/// What becomes of a new client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stance {
    /// It is let in.
    Accept,
    /// It stays in the kernel's queue.
    Pause,
    /// It is reset.
    Reject,
}

/// What everybody else sees of it. The control thread writes; workers read the stance, the control thread
/// all for the metrics. Each value stands for itself, and one that is a moment old does no harm: relaxed.
#[derive(Debug, Default)]
pub struct Signal {
    stance: AtomicU8,
    is_unready: AtomicBool,
    begun: [AtomicU64; 2],
    memory: Measured,
    memory_limit: Measured,
    /// Nanoseconds.
    lag: Measured,
}

/// A number that is not always measured.
#[derive(Debug)]
struct Measured(AtomicU64);

impl Overload {
    /// Takes in what was measured.
    pub fn see(&mut self, load: Load, thresholds: &Thresholds, now: Instant) -> Option<Change> {
        let lasted = self.since.map_or(Duration::MAX, |since| now - since);
        if lasted < LEAST {
            return None;
        }
        let change = match self.cause {
            None => Change::Begun(thresholds.passed(load, 100)?),
            Some(_) if thresholds.passed(load, thresholds.resume).is_some() => return None,
            Some(_) => Change::Ended(lasted),
        };
        self.cause = match change {
            Change::Begun(cause) => Some(cause),
            Change::Ended(_) => None,
        };
        self.since = Some(now);
        Some(change)
    }

    /// Why it is too much now; `None`: it is not.
    pub const fn cause(&self) -> Option<Cause> {
        self.cause
    }
}

impl Thresholds {
    /// What is at or above `percent` of its threshold. What cannot be measured is not.
    fn passed(&self, load: Load, percent: u8) -> Option<Cause> {
        let reaches = |value: u128, limit: u128| value * 100 >= limit * u128::from(percent);
        let memory = load.memory.zip(self.limit.memory);
        let lag = load.lag.zip(self.limit.lag);
        if memory.is_some_and(|(value, limit)| reaches(value.into(), limit.into())) {
            Some(Cause::Memory)
        } else if lag.is_some_and(|(value, limit)| reaches(value.as_nanos(), limit.as_nanos())) {
            Some(Cause::LoopLag)
        } else {
            None
        }
    }
}

/// What a tick that is so late after its `length` adds to the sum: its delay by all the time that it took, since so
/// many clients meet it. In square microseconds.
pub fn weighed(late: Duration, length: Duration) -> u64 {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    // No more of it lies within the window.
    micros(late).saturating_mul(micros((late + length).min(WINDOW)))
}

impl Lags {
    /// The lag of the slowest of these workers that a client met on average over the last second, the tick that
    /// is due included; `None`: there was no look so long ago.
    pub fn see(&mut self, workers: &[Ticks], now: Instant) -> Option<Duration> {
        let sums = workers.iter().map(|ticks| ticks.weighed).collect();
        self.seen.push_back((now, sums));
        let is_old = |(at, _): &(Instant, _)| now - *at >= WINDOW;
        while self.seen.get(1).is_some_and(is_old) {
            self.seen.pop_front();
        }
        let (from, before) = self.seen.front().filter(|first| is_old(first))?;
        let micros = u64::try_from((now - *from).as_micros()).unwrap_or(u64::MAX);
        let lags = before.iter().zip(workers).map(|(before, ticks)| {
            let sum = ticks.weighed.wrapping_sub(*before);
            let sum = sum.saturating_add(weighed(ticks.overdue, SLOT));
            Duration::from_micros(sum / micros.max(1))
        });
        lags.max()
    }
}

impl Cause {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Memory, Self::LoopLag];

    /// The word in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::LoopLag => "loop_lag",
        }
    }
}

impl Signal {
    /// What becomes of a new client.
    pub fn stance(&self) -> Stance {
        match self.stance.load(Ordering::Relaxed) {
            0 => Stance::Accept,
            1 => Stance::Pause,
            _ => Stance::Reject,
        }
    }

    /// Whether it is too much.
    pub fn is_overloaded(&self) -> bool {
        self.stance() != Stance::Accept
    }

    /// Whether readiness fails for that.
    pub fn is_unready(&self) -> bool {
        self.is_unready.load(Ordering::Relaxed)
    }

    /// How often it has begun for this cause.
    pub fn begun(&self, cause: Cause) -> u64 {
        self.begun[cause as usize].load(Ordering::Relaxed)
    }

    /// What was measured last.
    pub fn load(&self) -> Load {
        Load {
            memory: self.memory.get(),
            lag: self.lag.get().map(Duration::from_nanos),
        }
    }

    /// The memory from which on it is too much, bytes.
    pub fn memory_limit(&self) -> Option<u64> {
        self.memory_limit.get()
    }

    /// Counts that it has begun.
    pub fn count(&self, cause: Cause) {
        self.begun[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Shows what was measured, against which bound.
    pub fn show(&self, load: Load, limit: Load) {
        self.memory.set(load.memory);
        self.memory_limit.set(limit.memory);
        let nanos = |lag: Duration| u64::try_from(lag.as_nanos()).unwrap_or(u64::MAX - 1);
        self.lag.set(load.lag.map(nanos));
    }

    /// It is too much: this is what to do.
    pub fn raise(&self, action: OverloadAction, ready: OverloadReady) {
        let stance = match action {
            OverloadAction::Pause => Stance::Pause,
            OverloadAction::Reject => Stance::Reject,
        };
        self.stance.store(stance as u8, Ordering::Relaxed);
        let is_unready = ready == OverloadReady::Fail;
        self.is_unready.store(is_unready, Ordering::Relaxed);
    }

    /// It is not too much any more.
    pub fn lower(&self) {
        self.stance.store(Stance::Accept as u8, Ordering::Relaxed);
        self.is_unready.store(false, Ordering::Relaxed);
    }
}

impl Measured {
    fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&value| value != u64::MAX)
    }

    fn set(&self, value: Option<u64>) {
        self.0.store(value.unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Default for Measured {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds {
        limit: Load {
            memory: Some(1000),
            lag: Some(Duration::from_millis(100)),
        },
        resume: 80,
    };

    fn memory(bytes: u64) -> Load {
        Load {
            memory: Some(bytes),
            lag: Some(Duration::ZERO),
        }
    }

    fn lag(millis: u64) -> Load {
        Load {
            memory: Some(0),
            lag: Some(Duration::from_millis(millis)),
        }
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(10_000 + millis)
    }

    #[test]
    fn it_begins_at_a_threshold_and_ends_below_a_part_of_it() {
        let mut overload = Overload::default();
        assert_eq!(overload.see(memory(999), &THRESHOLDS, at(0)), None);
        let begun = overload.see(memory(1000), &THRESHOLDS, at(250));
        assert_eq!(begun, Some(Change::Begun(Cause::Memory)));
        for (millis, bytes) in [(1500, 999), (2500, 900), (9000, 800)] {
            assert_eq!(overload.see(memory(bytes), &THRESHOLDS, at(millis)), None);
        }
        let ended = overload.see(memory(799), &THRESHOLDS, at(10_250));
        assert_eq!(ended, Some(Change::Ended(Duration::from_secs(10))));
        assert_eq!(overload.cause(), None);
    }

    #[test]
    fn either_state_lasts_for_a_second() {
        let mut overload = Overload::default();
        assert!(overload.see(lag(100), &THRESHOLDS, at(0)).is_some());
        for millis in [1, 250, 999] {
            assert_eq!(overload.see(lag(0), &THRESHOLDS, at(millis)), None);
        }
        let ended = overload.see(lag(0), &THRESHOLDS, at(1000));
        assert_eq!(ended, Some(Change::Ended(Duration::from_secs(1))));
        for millis in [1250, 1999] {
            assert_eq!(overload.see(lag(500), &THRESHOLDS, at(millis)), None);
        }
        let begun = overload.see(lag(500), &THRESHOLDS, at(2000));
        assert_eq!(begun, Some(Change::Begun(Cause::LoopLag)));
    }

    /// A load that goes up and down around the threshold all the time changes nothing.
    #[test]
    fn a_load_around_the_threshold_does_not_make_it_flutter() {
        let mut overload = Overload::default();
        let mut changes = 0;
        for step in 0..400 {
            let load = memory(if step % 2 == 0 { 1010 } else { 850 });
            let seen = overload.see(load, &THRESHOLDS, at(step * 250));
            changes += u32::from(seen.is_some());
        }
        assert_eq!(changes, 1);
    }

    #[test]
    fn it_ends_only_when_nothing_is_too_much() {
        let mut overload = Overload::default();
        assert!(overload.see(memory(2000), &THRESHOLDS, at(0)).is_some());
        assert_eq!(overload.see(lag(90), &THRESHOLDS, at(2000)), None);
        assert_eq!(overload.cause(), Some(Cause::Memory));
        assert!(overload.see(lag(79), &THRESHOLDS, at(4000)).is_some());
    }

    #[test]
    fn what_is_not_measured_is_not_too_much() {
        let mut overload = Overload::default();
        assert!(overload.see(memory(2000), &THRESHOLDS, at(0)).is_some());
        let off = Thresholds {
            limit: Load::default(),
            ..THRESHOLDS
        };
        assert!(overload.see(memory(2000), &off, at(1000)).is_some());
        assert!(
            overload
                .see(Load::default(), &THRESHOLDS, at(5000))
                .is_none()
        );
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Looks four times a second at workers whose ticks are all so late; the lag after `looks`.
    fn steady(late: &[u64], looks: u64) -> Option<Duration> {
        let mut lags = Lags::default();
        let mut lag = None;
        for look in 0..looks {
            let workers: Vec<_> = late
                .iter()
                .map(|&late| {
                    let ticks = 250 * look / (25 + late);
                    Ticks {
                        weighed: weighed(millis(late), SLOT) * ticks,
                        overdue: Duration::ZERO,
                    }
                })
                .collect();
            lag = lags.see(&workers, at(250 * look));
        }
        lag
    }

    #[test]
    fn the_lag_is_the_slowest_worker_s_over_a_second() {
        assert_eq!(steady(&[5, 75], 4), None);
        assert_eq!(steady(&[5, 75], 5), Some(millis(75)));
        assert_eq!(steady(&[0, 0], 40), Some(Duration::ZERO));
        assert_eq!(steady(&[225, 0], 41), Some(millis(225)));
    }

    #[test]
    fn one_long_tick_counts_as_long_as_clients_met_it() {
        let mut lags = Lags::default();
        let mut see = |look: u64, weighed| {
            let ticks = Ticks {
                weighed,
                overdue: Duration::ZERO,
            };
            lags.see(&[ticks], at(250 * look))
        };
        (0..4).for_each(|look| assert_eq!(see(look, 0), None));
        // 400 ms of a second, 375 ms late.
        let late = weighed(millis(375), SLOT);
        assert_eq!(see(4, late), Some(millis(150)));
        assert_eq!(see(7, late), Some(millis(150)));
        // The second in which it was is over.
        assert_eq!(see(8, late), Some(Duration::ZERO));
    }

    /// A tick whose work is taken in turns: clients wait for one of them, not for all.
    #[test]
    fn turns_count_for_themselves() {
        let mut lags = Lags::default();
        let turn = weighed(Duration::from_micros(1_500), millis(1));
        for look in 0..8 {
            let ticks = Ticks {
                weighed: turn * 100 * look,
                overdue: Duration::ZERO,
            };
            let lag = lags.see(&[ticks], at(250 * look));
            assert_eq!(lag, (look >= 4).then_some(Duration::from_micros(1_500)));
        }
    }

    #[test]
    fn a_worker_that_stands_still_is_later_with_every_look() {
        let mut lags = Lags::default();
        let mut see = |look: u64, overdue| {
            let ticks = Ticks {
                weighed: 0,
                overdue: millis(overdue),
            };
            lags.see(&[ticks], at(250 * look))
        };
        (0..8).for_each(|look| assert!(see(look, 0).unwrap_or_default().is_zero()));
        let stuck: Vec<_> = (1..=8)
            .map(|look| see(7 + look, 250 * look - 25).unwrap())
            .collect();
        assert!(stuck.is_sorted());
        assert!(stuck[3] >= millis(900), "{stuck:?}");
        assert!(stuck[7] >= millis(1_900), "{stuck:?}");
    }

    /// A process that was stopped looks late itself, and finds its workers late by as much.
    #[test]
    fn a_look_that_is_late_finds_the_workers_late() {
        let mut lags = Lags::default();
        for look in 0..5 {
            let lag = lags.see(&[Ticks::default()], at(250 * look));
            assert!(lag.unwrap_or_default().is_zero());
        }
        let stopped = Ticks {
            weighed: 0,
            overdue: millis(775),
        };
        let lag = lags.see(&[stopped], at(1_000 + 800)).unwrap();
        assert!(lag >= millis(500), "{lag:?}");
    }

    #[test]
    fn the_signal_says_what_to_do() {
        let signal = Signal::default();
        assert_eq!(
            (signal.stance(), signal.is_unready()),
            (Stance::Accept, false)
        );
        assert_eq!(
            (signal.load(), signal.memory_limit()),
            (Load::default(), None)
        );
        signal.raise(OverloadAction::Reject, OverloadReady::Fail);
        assert_eq!(
            (signal.stance(), signal.is_unready()),
            (Stance::Reject, true)
        );
        signal.raise(OverloadAction::Pause, OverloadReady::Keep);
        assert_eq!(
            (signal.stance(), signal.is_unready()),
            (Stance::Pause, false)
        );
        signal.show(memory(5), THRESHOLDS.limit);
        assert_eq!(
            (signal.load(), signal.memory_limit()),
            (memory(5), Some(1000))
        );
        signal.lower();
        assert!(!signal.is_overloaded());
        signal.count(Cause::LoopLag);
        assert_eq!(Cause::ALL.map(|cause| signal.begun(cause)), [0, 1]);
    }
}
