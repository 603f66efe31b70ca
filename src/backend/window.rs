//! Events of the time just past, counted without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::base::clock::Instant;

/// Slices that count: the running one and the nine before it.
const SLICES: u32 = 10;

/// More than the window needs, so that a worker whose clock is a tick behind meets no bucket that
/// another has already reused.
const BUCKETS: usize = 16;

/// A bucket of a slice farther ahead was counted by another length of slices.
const AHEAD_MAX: u32 = 32;

/// Events of a time, in buckets of a tenth of it.
///
/// Each bucket is one word, the number of the slice in its upper half and the count in its lower, so a bucket
/// is reused and counted in one step. All workers read and write them; `Relaxed` is enough because
/// a word is complete in itself and announces no other memory.
#[derive(Debug)]
pub(super) struct Window {
    /// Nanoseconds. Written as a configuration comes into force; what was counted by another length is
    /// forgotten bit by bit.
    slice: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Window {
    /// Counts over so long a time, which is at least 10 ms.
    pub(super) fn new(time: Duration) -> Self {
        let window = Self {
            slice: AtomicU64::new(0),
            buckets: Default::default(),
        };
        window.set_time(time);
        window
    }

    pub(super) fn set_time(&self, time: Duration) {
        let slice = (time / SLICES).max(Duration::from_millis(1));
        let nanos = u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX);
        self.slice.store(nanos, Ordering::Relaxed);
    }

    pub(super) fn add(&self, now: Instant) {
        let slice = self.slice_of(now);
        let counted = |word| {
            let (stamp, count) = unpack(word);
            if stamp == slice {
                Some(pack(slice, count.saturating_add(1)))
            } else if stamp < slice || stamp > slice.saturating_add(AHEAD_MAX) {
                Some(pack(slice, 1))
            } else {
                // This clock is a whole ring behind: its slice is no longer of interest.
                None
            }
        };
        let bucket = &self.buckets[slice as usize % BUCKETS];
        // The error is the case above, and nothing has to be done about it.
        let _ = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted);
    }

    pub(super) fn sum(&self, now: Instant) -> u64 {
        let slice = self.slice_of(now);
        let counts = |stamp| {
            // Another worker's clock may be ahead of this one.
            stamp > slice.saturating_sub(SLICES) && stamp <= slice.saturating_add(1)
        };
        self.buckets
            .iter()
            .map(|bucket| unpack(bucket.load(Ordering::Relaxed)))
            .filter(|&(stamp, _)| counts(stamp))
            .map(|(_, count)| u64::from(count))
            .sum()
    }

    /// Forgets all; what another worker counts in the same moment may stay.
    pub(super) fn clear(&self) {
        for bucket in &self.buckets {
            bucket.store(0, Ordering::Relaxed);
        }
    }

    /// Whole slices since boot, from 1 upwards, as an untouched bucket is stamped 0.
    fn slice_of(&self, now: Instant) -> u32 {
        let slices = now.as_nanos() / self.slice.load(Ordering::Relaxed).max(1);
        u32::try_from(slices.saturating_add(1)).unwrap_or(u32::MAX)
    }
}

fn pack(slice: u32, count: u32) -> u64 {
    u64::from(slice) << 32 | u64::from(count)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "takes the two halves of a word apart"
)]
const fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

/// How many of the things of late have failed.
#[derive(Debug)]
pub(super) struct Rate {
    all: Window,
    failed: Window,
}

impl Rate {
    pub(super) fn new(time: Duration) -> Self {
        Self {
            all: Window::new(time),
            failed: Window::new(time),
        }
    }

    pub(super) fn set_time(&self, time: Duration) {
        self.all.set_time(time);
        self.failed.set_time(time);
    }

    pub(super) fn note_good(&self, now: Instant) {
        self.all.add(now);
    }

    pub(super) fn note_failed(&self, now: Instant) {
        self.all.add(now);
        self.failed.add(now);
    }

    /// How many failed, and of how many, if that is `percent` % or more of at least `least`.
    pub(super) fn reaches(&self, now: Instant, percent: u8, least: u32) -> Option<(u64, u64)> {
        let (failed, all) = (self.failed.sum(now), self.all.sum(now));
        let reached = all >= u64::from(least) && failed * 100 >= u64::from(percent) * all;
        (reached && failed > 0).then_some((failed, all))
    }

    pub(super) fn clear(&self) {
        self.all.clear();
        self.failed.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(30);

    fn at(millis: u64) -> Instant {
        Instant::from_millis(1_000_000 + millis)
    }

    #[test]
    fn what_is_older_than_the_window_no_longer_counts() {
        let window = Window::new(TIME);
        for millis in (0..300_000).step_by(100) {
            window.add(at(millis));
            let sum = window.sum(at(millis));
            let most = (millis / 100 + 1).min(300);
            let least = (millis / 100 + 1).min(270);
            assert!((least..=most).contains(&sum), "{millis} ms: {sum}");
        }
        assert_eq!(window.sum(at(300_000 + 30_000)), 0);
    }

    #[test]
    fn another_length_forgets_what_was_counted_by_the_one_before() {
        for (before, after) in [(1, 60), (60, 1)] {
            let window = Window::new(Duration::from_secs(before));
            (0..1_000).for_each(|n| window.add(at(n * 100)));
            window.set_time(Duration::from_secs(after));
            for n in 0..100 {
                window.add(at(200_000 + n));
            }
            assert_eq!(window.sum(at(200_100)), 100, "{before} s to {after} s");
        }
    }

    #[test]
    fn a_rate_needs_its_share_of_enough() {
        let rate = Rate::new(TIME);
        let reaches = |percent, least| rate.reaches(at(0), percent, least);
        assert_eq!(reaches(1, 0), None, "nothing is no failure");
        (0..9).for_each(|_| rate.note_failed(at(0)));
        assert_eq!(reaches(50, 20), None);
        (0..10).for_each(|_| rate.note_good(at(0)));
        assert_eq!(reaches(50, 19), None, "9 of 19");
        rate.note_failed(at(0));
        assert_eq!(reaches(50, 20), Some((10, 20)));
        assert_eq!(reaches(51, 20), None);
        assert_eq!(reaches(50, 21), None);
        rate.clear();
        assert_eq!(reaches(1, 1), None);
    }
}
