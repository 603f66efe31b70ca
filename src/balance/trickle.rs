//! One client a second for a pool whose backends are all down: enough to notice that probes are wrong.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::base::clock::Instant;

/// Between two clients.
const INTERVAL: Duration = Duration::from_secs(1);

/// Who was let through; kept over reloads and shared by all workers.
#[derive(Debug, Default)]
pub(super) struct Trickle {
    /// When the next client may pass, nanoseconds. Whichever worker's client moves it on, by a
    /// compare-and-swap, is the one that passes; nothing else hangs on it.
    next_at: AtomicU64,
    /// Clients that have passed.
    passed: AtomicU64,
}

impl Trickle {
    pub(super) const fn new() -> Self {
        Self {
            next_at: AtomicU64::new(0),
            passed: AtomicU64::new(0),
        }
    }

    /// How many have passed before this one; `None`: it may not.
    pub(super) fn pass(&self, now: Instant) -> Option<u64> {
        let next_at = self.next_at.load(Ordering::Relaxed);
        if now.as_nanos() < next_at {
            return None;
        }
        let after = (now + INTERVAL).as_nanos();
        let moved =
            self.next_at
                .compare_exchange(next_at, after, Ordering::Relaxed, Ordering::Relaxed);
        moved.ok()?;
        Some(self.passed.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_a_second_passes_whatever_their_rate() {
        for (per_second, expected) in [(1, 9..=11), (3, 9..=11), (7, 8..=11), (100, 9..=11)] {
            let trickle = Trickle::new();
            let times =
                (0..10 * per_second).map(|n| Instant::from_millis(5_000 + n * 1_000 / per_second));
            let passed: Vec<u64> = times.filter_map(|now| trickle.pass(now)).collect();
            assert!(
                expected.contains(&passed.len()),
                "{per_second}/s: {passed:?}"
            );
            let turns: Vec<u64> = (0..passed.len() as u64).collect();
            assert_eq!(passed, turns);
        }
    }

    #[test]
    fn of_many_workers_in_one_moment_one_passes() {
        let trickle = Trickle::new();
        let passed = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for second in 0..1_000 {
                        if trickle.pass(Instant::from_millis(second * 1_000)).is_some() {
                            passed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let passed = passed.into_inner();
        assert!((1..=1_000).contains(&passed), "{passed}");
        assert_eq!(trickle.passed.into_inner(), passed);
    }
}
