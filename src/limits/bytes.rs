//! How many bytes a source may move in a second: a bucket for all its connections on all workers.
//!
//! The bucket holds a second's worth and is full to begin with. As for the rate of connections it is one
//! number: when it will be full again. Who wants to read takes bytes first and gives back what there was not.

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::sources::Permit;
use crate::base::clock::Instant;
use crate::config::model::Enforcement;

/// What the bucket holds, as the time that it takes to fill.
const BURST: u64 = 1_000_000_000;

/// Less is not worth a call: so many bytes as come in this time.
const QUANTUM: u64 = 25_000_000;

/// Bytes in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BytePace {
    per_second: u64,
}

/// One connection's share in what its source may move; keeps the source counted as long as it lives.
#[derive(Debug)]
pub struct Meter {
    permit: Permit,
    pace: BytePace,
    enforcement: Enforcement,
    is_over: Cell<bool>,
    /// Whether what was taken last counts.
    is_charged: Cell<bool>,
}

impl BytePace {
    /// So many bytes in a second; at least 1,024, so that a quantum is a byte at least.
    pub fn new(per_second: u32) -> Self {
        Self {
            per_second: u64::from(per_second.max(1024)),
        }
    }

    /// How long so many bytes take, rounded up: the rate is never passed.
    fn time(self, bytes: usize) -> u64 {
        let nanos = (bytes as u128 * 1_000_000_000).div_ceil(u128::from(self.per_second));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    fn bytes(self, nanos: u64) -> usize {
        let bytes = u128::from(nanos) * u128::from(self.per_second) / 1_000_000_000;
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

impl Meter {
    /// For a connection that is counted by `permit`.
    pub const fn new(permit: Permit, pace: BytePace, enforcement: Enforcement) -> Self {
        Self {
            permit,
            pace,
            enforcement,
            is_over: Cell::new(false),
            is_charged: Cell::new(true),
        }
    }

    /// Takes up to `most` bytes, at least one; the error is how long to wait until there are some.
    pub fn take(&self, most: usize, now: Instant) -> Result<usize, Duration> {
        let (now, mut taken) = (now.as_nanos(), 0);
        let full_at = self.permit.full_at();
        let outcome = full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let begun = full_at.max(now);
            let left = BURST
                .checked_sub(begun - now)
                .filter(|&left| left >= QUANTUM)?;
            taken = self.pace.bytes(left).min(most).max(1);
            Some(begun.saturating_add(self.pace.time(taken)))
        });
        self.is_charged.set(outcome.is_ok());
        match (outcome, self.enforcement) {
            (Ok(_), _) => Ok(taken),
            (Err(_), Enforcement::LogOnly) => {
                self.is_over.set(true);
                Ok(most)
            }
            (Err(full_at), Enforcement::Reject) => {
                let due = full_at.saturating_sub(BURST - QUANTUM);
                Err(Duration::from_nanos(due.saturating_sub(now)))
            }
        }
    }

    /// Gives back bytes that were taken last and not used.
    pub fn give_back(&self, bytes: usize) {
        if bytes == 0 || !self.is_charged.get() {
            return;
        }
        // Rounded up when it was taken with others, so this may be a nanosecond more than its part: no
        // source passes its rate by that.
        let time = self.pace.time(bytes).saturating_sub(1);
        let full_at = self.permit.full_at();
        // It can only be less than that if the clock stood still at zero.
        let _ = full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            Some(full_at.saturating_sub(time))
        });
    }

    /// Takes bytes that have been moved already, whether they are there or not.
    pub fn charge(&self, bytes: usize, now: Instant) {
        let time = self.pace.time(bytes);
        let full_at = self.permit.full_at();
        let _ = full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            Some(full_at.max(now.as_nanos()).saturating_add(time))
        });
    }

    /// Whether it was over its limit and went on because that is only logged.
    pub const fn is_over(&self) -> bool {
        self.is_over.get()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use super::*;
    use crate::base::random::Random;
    use crate::limits::sources::Sources;

    const START: Instant = Instant::from_millis(60_000);

    fn sources() -> Arc<Sources> {
        Arc::new(Sources::new((1, 2), (32, 64)))
    }

    fn meter(sources: &Arc<Sources>, client: &str, rate: u32) -> Meter {
        let client: IpAddr = client.parse().unwrap();
        let (permit, _) = sources.begin(client, START).unwrap();
        Meter::new(permit, BytePace::new(rate), Enforcement::Reject)
    }

    /// What so many connections get that always have more, each woken when it was told to come again.
    fn moved(meters: &[Meter], buffer: usize, from: Instant, lasts: Duration) -> usize {
        let mut random = Random::new(7);
        let mut due: Vec<_> = meters.iter().map(|_| from).collect();
        let mut sum = 0;
        loop {
            let (number, now) = due
                .iter()
                .copied()
                .enumerate()
                .min_by_key(|(_, due)| *due)
                .unwrap();
            if now >= from + lasts {
                return sum;
            }
            due[number] = match meters[number].take(buffer, now) {
                Ok(taken) => {
                    // Some reads find less than they might.
                    let used = match random.below(4) {
                        0 => taken / 3,
                        _ => taken,
                    };
                    meters[number].give_back(taken - used);
                    sum += used;
                    now + Duration::from_micros(20)
                }
                // The wheel is late by up to a slot.
                Err(wait) => now + wait + Duration::from_micros(random.below(25_000)),
            };
        }
    }

    fn assert_near(moved: usize, expected: usize, what: &str) {
        let (moved, expected) = (moved * 1_000, expected * 1_000);
        assert!(
            moved.abs_diff(expected) <= expected / 20,
            "{what}: {moved} of {expected}"
        );
    }

    #[test]
    fn a_source_gets_its_rate_with_any_number_of_connections() {
        for rate in [2_048_u32, 100_000, 10 << 20, 1 << 30] {
            for connections in [1, 8] {
                for buffer in [32 << 10, 1 << 20] {
                    let sources = sources();
                    let meters: Vec<_> = (0..connections)
                        .map(|_| meter(&sources, "192.0.2.1", rate))
                        .collect();
                    let per_second = usize::try_from(rate).unwrap();
                    // The bucket is full to begin with, and a rest fills it again.
                    for begin in [START, START + Duration::from_secs(2)] {
                        let takes = meters.iter().cycle();
                        let takes = takes.map_while(|meter| meter.take(buffer, begin).ok());
                        let at_once: usize = takes.sum();
                        let least = per_second - per_second / 39;
                        assert!((least..=per_second).contains(&at_once), "{at_once}");
                    }
                    let from = START + Duration::from_secs(5);
                    moved(&meters, buffer, from, Duration::from_secs(3));
                    let from = from + Duration::from_secs(3);
                    let all = moved(&meters, buffer, from, Duration::from_secs(10));
                    let what = format!("{rate}/s, {connections} connections, {buffer} bytes");
                    assert_near(all, 10 * per_second, &what);
                }
            }
        }
    }

    #[test]
    fn sources_do_not_share() {
        let sources = sources();
        let (one, other) = (
            meter(&sources, "192.0.2.1", 1 << 20),
            meter(&sources, "192.0.2.2", 1 << 20),
        );
        assert_eq!(one.take(2 << 20, START), Ok(1 << 20));
        assert!(one.take(1, START).is_err());
        assert_eq!(other.take(1 << 20, START), Ok(1 << 20));
    }

    #[test]
    fn who_waits_as_told_gets_a_quantum() {
        let sources = sources();
        let meter = meter(&sources, "192.0.2.1", 1_000_000);
        assert_eq!(meter.take(usize::MAX, START), Ok(1_000_000));
        let wait = meter.take(10, START).unwrap_err();
        assert_eq!(wait, Duration::from_millis(25));
        let early = START + Duration::from_millis(24);
        assert_eq!(meter.take(10, early), Err(Duration::from_millis(1)));
        assert_eq!(meter.take(usize::MAX, START + wait), Ok(25_000));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let sources = sources();
        let meter = meter(&sources, "192.0.2.1", 1_000_000);
        for _ in 0..1_000 {
            let taken = meter.take(32_768, START).unwrap();
            meter.give_back(taken);
        }
        let all = meter.take(usize::MAX, START).unwrap();
        assert!((999_000..=1_000_000).contains(&all), "{all}");
    }

    #[test]
    fn what_was_moved_before_is_owed() {
        let sources = sources();
        let meter = meter(&sources, "192.0.2.1", 10_000);
        meter.charge(30_000, START);
        let wait = meter.take(1, START).unwrap_err();
        assert_eq!(wait, Duration::from_millis(2_025));
    }

    #[test]
    fn log_only_notes_and_does_not_slow() {
        let sources = sources();
        let client = "192.0.2.1".parse().unwrap();
        let (permit, _) = sources.begin(client, START).unwrap();
        let meter = Meter::new(permit, BytePace::new(1024), Enforcement::LogOnly);
        assert_eq!(meter.take(1024, START), Ok(1024));
        assert!(!meter.is_over());
        assert_eq!(meter.take(9_999, START), Ok(9_999));
        assert!(meter.is_over());
        // Nothing was counted, so there is nothing to give back.
        meter.give_back(9_999);
        assert_eq!(meter.take(9_999, START), Ok(9_999));
    }

    #[test]
    fn a_source_in_debt_is_not_forgotten_for_others() {
        let sources = sources();
        let meter = meter(&sources, "192.0.2.1", 10_000);
        meter.charge(30_000, START);
        drop(meter);
        assert_eq!(sources.known(START + Duration::from_millis(2_999)), 1);
        assert_eq!(sources.known(START + Duration::from_secs(3)), 0);
    }

    #[test]
    fn a_million_metered_sources_stay_within_the_bound() {
        let sources = sources();
        let now = START;
        let held: Vec<_> = (0..1_000_000_u32)
            .map(|number| {
                let client = std::net::Ipv4Addr::from_bits(number).into();
                let (permit, before) = sources.begin(client, now).unwrap();
                assert_eq!(before, 0);
                let meter = Meter::new(permit, BytePace::new(1 << 20), Enforcement::Reject);
                assert_eq!(meter.take(usize::MAX, now), Ok(1 << 20), "{number}");
                meter
            })
            .collect();
        assert!(sources.bytes() <= 128 << 20, "{} bytes", sources.bytes());
        assert!(held.iter().all(|meter| meter.take(1, now).is_err()));
    }

    #[test]
    fn connections_on_several_threads_never_pass_the_rate() {
        let sources = sources();
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let meter = meter(&sources, "192.0.2.1", 1 << 20);
                    scope.spawn(move || {
                        let takes = (0..20_000).filter_map(|_| meter.take(777, START).ok());
                        takes.sum::<usize>()
                    })
                })
                .collect();
            threads.into_iter().map(|it| it.join().unwrap()).sum()
        });
        // All but the last quantum, and no more than there was.
        assert!(taken <= 1 << 20, "{taken}");
        assert!(taken >= (1 << 20) - (1 << 20) / 40 - 4 * 777, "{taken}");
    }
}
