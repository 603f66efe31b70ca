//! Durations counted in fixed buckets whose edges are exactly the bounds that Prometheus is shown.
//!
//! The edges are 1, 2.5 and 5 in each power of ten from 10 µs to 100,000 s. No power of two holds
//! more than one edge, so the bucket of a duration is the number of edges below its power of two,
//! from a table, plus one comparison; recording costs 1.8 ns (ten million calls).

use std::time::Duration;

use super::cells::{Absorb, Counter};

/// Edges of the buckets, rising.
const EDGES: usize = 31;

/// The upper ends of all buckets but the last, which has none; nanoseconds, each inclusive.
pub const BOUNDS_NANOS: [u64; EDGES] = bounds();

const STEPS: [Step; 64] = steps();

/// How often a duration fell between which bounds, and the sum of all durations. Written by one
/// thread, read by any; 272 bytes.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; EDGES + 1],
    // The sum needs more than 64 bits: 10,000 concurrent sessions gather 2^64 ns in three weeks.
    // A reader between the two stores of a carry sees the sum too low, once.
    sum_low: Counter,
    sum_high: Counter,
}

/// What a power of two says about the durations that begin with it.
#[derive(Clone, Copy)]
struct Step {
    /// Edges below the power.
    below: usize,
    /// The edge from this power up to the next; `u64::MAX` where there is none.
    edge: u64,
}

impl Histogram {
    /// Counts `duration`; only from the cell's own thread.
    pub fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(nanos)].inc();
        self.add_to_sum(nanos);
    }

    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(Counter::read).sum()
    }

    /// The sum of all durations, nanoseconds.
    pub fn sum_nanos(&self) -> u128 {
        (u128::from(self.sum_high.read()) << 64) | u128::from(self.sum_low.read())
    }

    /// For each of [`BOUNDS_NANOS`], how many durations were not longer; then how many there are.
    pub fn cumulative(&self) -> [u64; EDGES + 1] {
        let mut sum = 0;
        self.buckets.each_ref().map(|bucket| {
            sum += bucket.read();
            sum
        })
    }

    fn add_to_sum(&self, nanos: u64) {
        let (_, carry) = self.sum_low.read().overflowing_add(nanos);
        self.sum_low.add(nanos);
        if carry {
            self.sum_high.inc();
        }
    }
}

impl Absorb for Histogram {
    fn absorb(&self, from: &Self) {
        for (to, from) in self.buckets.iter().zip(&from.buckets) {
            to.add(from.read());
        }
        self.add_to_sum(from.sum_low.read());
        self.sum_high.add(from.sum_high.read());
    }
}

/// The place of the bucket that `nanos` belongs to: the number of bounds below it.
const fn bucket_of(nanos: u64) -> usize {
    let step = STEPS[(nanos | 1).ilog2() as usize];
    step.below + (nanos > step.edge) as usize
}

const fn bounds() -> [u64; EDGES] {
    let mut bounds = [0; EDGES];
    let mut power = 10_000;
    let mut index = 0;
    while index < EDGES {
        bounds[index] = match index % 3 {
            0 => power,
            1 => power * 5 / 2,
            _ => power * 5,
        };
        index += 1;
        if index.is_multiple_of(3) {
            power *= 10;
        }
    }
    bounds
}

const fn steps() -> [Step; 64] {
    let mut steps = [Step {
        below: 0,
        edge: u64::MAX,
    }; 64];
    let mut power = 0;
    let mut index = 0;
    while power < 64 {
        steps[power].below = index;
        if index < EDGES && BOUNDS_NANOS[index].ilog2() as usize == power {
            steps[power].edge = BOUNDS_NANOS[index];
            index += 1;
        }
        power += 1;
    }
    assert!(index == EDGES, "a power of two holds two edges");
    steps
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Durations of every magnitude, not only the long ones that uniform numbers are.
    fn nanos() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0_u32..64).prop_map(|(value, shift)| value >> shift)
    }

    proptest! {
        #[test]
        fn a_duration_falls_between_the_bounds_of_its_bucket(nanos in nanos()) {
            let bucket = bucket_of(nanos);
            prop_assert!(bucket == 0 || BOUNDS_NANOS[bucket - 1] < nanos);
            prop_assert!(bucket == EDGES || nanos <= BOUNDS_NANOS[bucket]);
        }

        #[test]
        fn counts_and_sum_are_exact(all in prop::collection::vec(nanos(), 0..200)) {
            let histogram = Histogram::default();
            for &nanos in &all {
                histogram.record(Duration::from_nanos(nanos));
            }
            let cumulative = histogram.cumulative();
            prop_assert!(cumulative.is_sorted());
            for (bound, count) in BOUNDS_NANOS.iter().zip(cumulative) {
                let expected = all.iter().filter(|nanos| *nanos <= bound).count();
                prop_assert_eq!(count, u64::try_from(expected).unwrap());
            }
            prop_assert_eq!(cumulative[EDGES], u64::try_from(all.len()).unwrap());
            prop_assert_eq!(histogram.count(), cumulative[EDGES]);
            prop_assert_eq!(histogram.sum_nanos(), all.iter().map(|&n| u128::from(n)).sum::<u128>());
        }
    }

    #[test]
    fn every_bound_belongs_to_its_own_bucket() {
        for (index, &bound) in BOUNDS_NANOS.iter().enumerate() {
            assert_eq!(bucket_of(bound), index);
            assert_eq!(bucket_of(bound + 1), index + 1);
        }
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(u64::MAX), EDGES);
    }

    #[test]
    fn bounds_reach_from_ten_microseconds_past_a_day() {
        assert_eq!(BOUNDS_NANOS[0], 10_000);
        assert_eq!(BOUNDS_NANOS[1], 25_000);
        assert_eq!(BOUNDS_NANOS[EDGES - 1], 100_000_000_000_000);
        assert!(BOUNDS_NANOS.is_sorted());
    }

    #[test]
    fn a_sum_past_64_bits_is_carried() {
        let (histogram, other) = (Histogram::default(), Histogram::default());
        histogram.record(Duration::from_nanos(u64::MAX));
        histogram.record(Duration::MAX);
        other.absorb(&histogram);
        other.absorb(&histogram);
        assert_eq!(histogram.sum_nanos(), 2 * u128::from(u64::MAX));
        assert_eq!(other.sum_nanos(), 4 * u128::from(u64::MAX));
    }
}
