//! Bounds how many connects may be retries, so that a failing pool is not finished off by them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::base::clock::Instant;

/// The seconds that count: the running one and the nine before it.
const WINDOW_SECONDS: u32 = 10;

/// Retries in a window that are allowed however few connects there are: 3 a second.
const RETRIES_ALWAYS: u64 = 30;

/// More than the window needs, so that a worker whose clock is a tick behind meets no bucket that
/// another has already reused.
const BUCKETS: usize = 16;

/// How many connects and retries a pool has had in the last 10 s; one per pool, kept over reloads
/// and shared by all workers. The permitted percentage is an argument because a reload may change
/// it while these counts go on.
#[derive(Debug, Default)]
pub struct RetryBudget {
    connects: Window,
    retries: Window,
}

impl RetryBudget {
    /// A budget without history.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a session's first attempt to connect.
    pub fn note_connect(&self, now: Instant) {
        self.connects.add(now);
    }

    /// Whether a session may try another backend; if so, that retry is counted.
    ///
    /// Allowed while the retries of the last 10 s are fewer than `percent` % of the connects of the
    /// last 10 s, or than 3 a second. The check and the count are two steps: workers that ask in
    /// the same moment may together exceed the budget by one less than their number.
    pub fn try_retry(&self, now: Instant, percent: u8) -> bool {
        let retries = self.retries.sum(now);
        let share = u64::from(percent) * self.connects.sum(now);
        let allowed = retries < RETRIES_ALWAYS || retries * 100 < share;
        if allowed {
            self.retries.add(now);
        }
        allowed
    }
}

/// Events of the last 10 s in buckets of one second.
///
/// Each bucket is one word, the second in its upper half and the count in its lower, so a bucket
/// is reused and counted in one step. All workers read and write them; `Relaxed` is enough because
/// a word is complete in itself and announces no other memory.
#[derive(Debug, Default)]
struct Window {
    buckets: [AtomicU64; BUCKETS],
}

impl Window {
    fn add(&self, now: Instant) {
        let second = second_of(now);
        let counted = |word| {
            let (stamp, count) = unpack(word);
            if stamp == second {
                Some(pack(second, count.saturating_add(1)))
            } else if stamp < second {
                Some(pack(second, 1))
            } else {
                // This clock is a whole ring behind: its second is no longer of interest.
                None
            }
        };
        let bucket = &self.buckets[second as usize % BUCKETS];
        // The error is the case above, and nothing has to be done about it.
        let _ = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted);
    }

    fn sum(&self, now: Instant) -> u64 {
        let second = second_of(now);
        self.buckets
            .iter()
            .map(|bucket| unpack(bucket.load(Ordering::Relaxed)))
            .filter(|&(stamp, _)| stamp > second.saturating_sub(WINDOW_SECONDS))
            .map(|(_, count)| u64::from(count))
            .sum()
    }
}

/// Whole seconds since boot, from 1 upwards, as an untouched bucket is stamped 0.
fn second_of(now: Instant) -> u32 {
    let seconds = now.since(Instant::ZERO) + Duration::from_secs(1);
    u32::try_from(seconds.as_secs()).unwrap_or(u32::MAX)
}

fn pack(second: u32, count: u32) -> u64 {
    u64::from(second) << 32 | u64::from(count)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "takes the two halves of a word apart"
)]
const fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retries(budget: &RetryBudget, now: Instant, percent: u8) -> usize {
        (0..100_000)
            .take_while(|_| budget.try_retry(now, percent))
            .count()
    }

    fn connects(budget: &RetryBudget, now: Instant, count: usize) {
        for _ in 0..count {
            budget.note_connect(now);
        }
    }

    #[test]
    fn three_retries_a_second_are_always_allowed() {
        for now in [Instant::ZERO, Instant::from_millis(3_600_000)] {
            assert_eq!(retries(&RetryBudget::new(), now, 20), 30);
            assert_eq!(retries(&RetryBudget::new(), now, 0), 30);
        }
    }

    #[test]
    fn retries_are_a_share_of_the_connects() {
        let budget = RetryBudget::new();
        let now = Instant::from_millis(50_000);
        connects(&budget, now, 1_000);
        assert_eq!(retries(&budget, now, 20), 200);
        assert_eq!(retries(&budget, now, 50), 300, "a reload raised it");
        assert_eq!(retries(&budget, now, 10), 0, "a reload lowered it");
    }

    #[test]
    fn connects_older_than_the_window_no_longer_count() {
        for (later, allowed) in [(59_999, 200), (60_000, 30)] {
            let budget = RetryBudget::new();
            connects(&budget, Instant::from_millis(50_000), 1_000);
            assert_eq!(retries(&budget, Instant::from_millis(later), 20), allowed);
        }
    }

    #[test]
    fn spent_retries_come_back_after_the_window() {
        let budget = RetryBudget::new();
        assert_eq!(retries(&budget, Instant::from_millis(50_000), 20), 30);
        assert_eq!(retries(&budget, Instant::from_millis(59_999), 20), 0);
        assert_eq!(retries(&budget, Instant::from_millis(60_000), 20), 30);
    }

    #[test]
    fn steady_load_keeps_to_the_share() {
        let budget = RetryBudget::new();
        let mut allowed = 0;
        // 100 s of 100 connects a second, each of which fails and asks once.
        for tick in 0..10_000 {
            let now = Instant::from_millis(tick * 10);
            budget.note_connect(now);
            allowed += u32::from(budget.try_retry(now, 20));
        }
        assert!((1_900..=2_100).contains(&allowed), "{allowed}");
    }

    #[test]
    fn connects_of_many_threads_are_all_counted() {
        let budget = RetryBudget::new();
        let now = Instant::from_millis(50_000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| connects(&budget, now, 10_000));
            }
        });
        assert_eq!(budget.connects.sum(now), 40_000);
    }

    #[test]
    fn clock_far_behind_changes_nothing() {
        let budget = RetryBudget::new();
        let now = Instant::from_millis(50_000);
        connects(&budget, now, 10);
        connects(&budget, Instant::from_millis(34_000), 5);
        assert_eq!(budget.connects.sum(now), 10);
    }
}
