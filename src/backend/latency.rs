//! How far away a backend feels: a moving average of its connect times that jumps up and comes down slowly.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::base::clock::Instant;

/// What is left of a difference after so long is 1/e of it.
const MEMORY: Duration = Duration::from_secs(10);

/// The unit of an average, as a power of two of nanoseconds: 64 ns, up to 274 s.
const UNIT_BITS: u32 = 6;

/// An average and its time in one word, so that both change in one step: the upper half is the average in
/// units, the lower the time in milliseconds; 0: nothing is known.
///
/// Written by the worker whose connect or session ended last, read by balancers. `Relaxed` is enough: the
/// word is complete in itself and announces no other memory.
#[derive(Debug)]
pub(super) struct Latency(AtomicU64);

impl Latency {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Takes in a peak: a longer time counts at once, a shorter one bit by bit.
    pub(super) fn feel_peak(&self, now: Instant, took: Duration) {
        self.update(now, |known, kept| {
            let took = units(took);
            match known {
                Some(known) if took < known * kept => known * kept + took * (1.0 - kept),
                _ => took,
            }
        });
    }

    /// Takes in one of many alike, none of which says much: it moves the average by its share of time.
    pub(super) fn feel(&self, now: Instant, took: Duration) {
        self.update(now, |known, kept| {
            let took = units(took);
            known.map_or(took, |known| known * kept + took * (1.0 - kept))
        });
    }

    /// The average in units of 64 ns as of now. It falls while nothing is heard, so that a backend that
    /// was slow once is tried again.
    pub(super) fn read(&self, now: Instant) -> Option<u64> {
        let word = self.0.load(Ordering::Relaxed);
        (word != 0).then(|| whole(upper(word) * kept_since(word, now)).into())
    }

    /// A time in the units of an average.
    pub(super) fn units(time: Duration) -> u64 {
        whole(units(time)).into()
    }

    fn update(&self, now: Instant, next: impl Fn(Option<f64>, f64) -> f64) {
        let changed = |word| {
            let known = (word != 0).then(|| upper(word));
            let average = whole(next(known, kept_since(word, now))).max(1);
            Some(u64::from(average) << 32 | u64::from(stamp(now)))
        };
        // It never refuses.
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed);
    }
}

/// The part of a difference that is left since the word was written; a clock that is behind it by a tick
/// counts as the same time.
fn kept_since(word: u64, now: Instant) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the lower half of the word"
    )]
    let passed = stamp(now).wrapping_sub(word as u32);
    // Half of the circle of 49 days is ahead.
    let passed = if passed > u32::MAX / 2 { 0 } else { passed };
    (-Duration::from_millis(passed.into()).as_secs_f64() / MEMORY.as_secs_f64()).exp()
}

fn upper(word: u64) -> f64 {
    let units = (word >> 32) as u32;
    units.into()
}

fn units(time: Duration) -> f64 {
    let units = time.as_nanos() >> UNIT_BITS;
    u32::try_from(units).unwrap_or(u32::MAX).into()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an average of numbers of 32 bits"
)]
const fn whole(average: f64) -> u32 {
    average.round() as u32
}

#[expect(clippy::cast_possible_truncation, reason = "goes round after 49 days")]
const fn stamp(now: Instant) -> u32 {
    now.as_millis() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1_000)
    }

    fn millis(latency: &Latency, now: Instant) -> Option<u64> {
        latency
            .read(now)
            .map(|units| (units << UNIT_BITS) / 1_000_000)
    }

    #[test]
    fn peaks_count_at_once_and_are_forgotten_slowly() {
        let latency = Latency::new();
        assert_eq!(millis(&latency, at(1)), None);
        latency.feel_peak(at(1), MS * 2);
        latency.feel_peak(at(1), MS * 100);
        assert_eq!(millis(&latency, at(1)), Some(100));
        latency.feel_peak(at(1), MS * 2);
        assert_eq!(millis(&latency, at(1)), Some(100), "no time has passed");
        latency.feel_peak(at(11), MS * 2);
        // What is left of 98 ms after the memory's length, and the 2.
        assert_eq!(millis(&latency, at(11)), Some(38));
        assert_eq!(millis(&latency, at(111)), Some(0));
    }

    #[test]
    fn one_of_many_moves_the_average_by_its_time() {
        let latency = Latency::new();
        latency.feel(at(1), MS * 10);
        latency.feel(at(1), MS * 1_000);
        assert_eq!(millis(&latency, at(1)), Some(10));
        latency.feel(at(11), MS * 1_000);
        assert_eq!(millis(&latency, at(11)), Some(635));
    }

    #[test]
    fn long_times_and_late_clocks_do_no_harm() {
        let latency = Latency::new();
        latency.feel_peak(at(5_000_000), Duration::from_secs(1 << 40));
        assert_eq!(millis(&latency, at(5_000_000)), Some(274_877));
        let behind = Instant::from_millis(5_000_000_000 - 4);
        assert_eq!(millis(&latency, behind), Some(274_877));
        latency.feel_peak(Instant::ZERO, Duration::ZERO);
        assert!(latency.read(Instant::ZERO).is_some());
    }
}
