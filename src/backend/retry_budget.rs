//! Bounds how many connects may be retries, so that a failing pool is not finished off by them.

use std::time::Duration;

use super::window::Window;
use crate::base::clock::Instant;

/// How long connects and retries count.
const WINDOW: Duration = Duration::from_secs(10);

/// Retries in a window that are allowed however few connects there are: 3 a second.
const RETRIES_ALWAYS: u64 = 30;

/// How many connects and retries a pool has had in the last 10 s; one per pool, kept over reloads
/// and shared by all workers. The permitted percentage is an argument because a reload may change
/// it while these counts go on.
#[derive(Debug)]
pub struct RetryBudget {
    connects: Window,
    retries: Window,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new()
    }
}

impl RetryBudget {
    /// A budget without history.
    pub fn new() -> Self {
        Self {
            connects: Window::new(WINDOW),
            retries: Window::new(WINDOW),
        }
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
