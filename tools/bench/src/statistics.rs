//! Medians, spreads and the interval of a paired comparison.

use serde::{Deserialize, Serialize};

/// What the rounds of one figure amount to.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// A quarter lies below.
    pub lower_quartile: f64,
    /// Half lie below.
    pub median: f64,
    /// Three quarters lie below.
    pub upper_quartile: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// None without values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            min: *sorted.first()?,
            lower_quartile: quantile(&sorted, 0.25)?,
            median: quantile(&sorted, 0.5)?,
            upper_quartile: quantile(&sorted, 0.75)?,
            max: *sorted.last()?,
        })
    }
}

/// The median of an unsorted list; none without values.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    Spread::of(values).map(|spread| spread.median)
}

/// Between two values the quantile lies on the line that joins them.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = share * last as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a list's length, never negative, far below 2^52"
    )]
    let below = place.floor() as usize;
    let low = *sorted.get(below)?;
    let high = *sorted.get((below + 1).min(last))?;
    Some(low + (high - low) * (place - below as f64))
}

/// A median with an interval that would hold the true one in 95 of 100 repetitions.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Interval {
    /// The median of the values.
    pub median: f64,
    /// Its lower bound.
    pub low: f64,
    /// Its upper bound.
    pub high: f64,
    /// What the resampling was seeded with.
    pub seed: u64,
}

const RESAMPLES: usize = 10_000;

/// The percentile bootstrap of the median; none without values.
pub fn bootstrap(values: &[f64], seed: u64) -> Option<Interval> {
    let mut state = seed;
    let mut medians: Vec<f64> = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        let sample: Vec<f64> = values
            .iter()
            .filter_map(|_| values.get(below(&mut state, values.len())).copied())
            .collect();
        medians.push(median(sample)?);
    }
    medians.sort_by(f64::total_cmp);
    Some(Interval {
        median: median(values.iter().copied())?,
        low: quantile(&medians, 0.025)?,
        high: quantile(&medians, 0.975)?,
        seed,
    })
}

/// A number below `limit` from splitmix64; the bias of the remainder is under one in 2^56.
fn below(state: &mut u64, limit: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    usize::try_from(mixed % limit.max(1) as u64).expect("below a usize")
}

#[cfg(test)]
mod tests {
    use super::{Spread, bootstrap, median};

    #[test]
    fn spread_of_an_odd_and_an_even_number() {
        let odd = Spread::of([5.0, 1.0, 3.0, 2.0, 4.0]).unwrap();
        assert_eq!(
            odd,
            Spread {
                min: 1.0,
                lower_quartile: 2.0,
                median: 3.0,
                upper_quartile: 4.0,
                max: 5.0
            }
        );
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([7.0]), Some(7.0));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn bootstrap_is_repeatable_and_holds_the_median() {
        let values = [0.97, 0.98, 0.99, 1.0, 0.96, 0.98, 0.985, 0.975, 0.99];
        let once = bootstrap(&values, 7).unwrap();
        assert_eq!(bootstrap(&values, 7), Some(once));
        assert!(
            once.low < once.median && once.median < once.high,
            "{once:?}"
        );
        assert!(once.low >= 0.96 && once.high <= 1.0, "{once:?}");
        assert_eq!(bootstrap(&[], 7), None);
    }

    #[test]
    fn bootstrap_of_equal_values_has_no_width() {
        let interval = bootstrap(&[1.5; 9], 1).unwrap();
        assert_eq!((interval.low, interval.high), (1.5, 1.5));
    }
}
