//! Weights laid end to end on a circle of positions, and an even order to visit them in.

/// The longest period that is written out turn by turn, in entries.
const PERIOD_LISTED_MAX: u64 = 256;

/// The weights of one tier, reduced by their common divisor, as stretches of positions.
#[derive(Debug)]
pub(super) struct Wheel {
    /// Where each place's stretch ends; the last end is the number of positions.
    ends: Box<[u64]>,
    turns: Turns,
}

/// Which place has which turn. Either way each place has as many turns in a period as its reduced
/// weight, exactly.
#[derive(Debug)]
enum Turns {
    /// The places of one whole period.
    Listed(Box<[usize]>),
    /// The nth turn is the position n times this, around the circle. It shares no divisor with the
    /// number of positions, so a period visits each once.
    Strided(u64),
}

impl Wheel {
    /// `weights` holds at least one, none is 0.
    pub(super) fn new(weights: &[u16]) -> Self {
        let divisor = weights
            .iter()
            .fold(0, |divisor, &weight| gcd(divisor, u64::from(weight)));
        let reduced: Vec<u64> = weights.iter().map(|&w| u64::from(w) / divisor).collect();
        let ends: Box<[u64]> = reduced
            .iter()
            .scan(0, |end, &weight| {
                *end += weight;
                Some(*end)
            })
            .collect();
        let total = ends[ends.len() - 1];
        let turns = if reduced.iter().all(|&weight| weight == 1) {
            Turns::Strided(1)
        } else if total <= PERIOD_LISTED_MAX {
            Turns::Listed(smooth_period(&reduced, total))
        } else {
            Turns::Strided(golden_stride(total))
        };
        Self { ends, turns }
    }

    /// The number of positions.
    pub(super) fn total(&self) -> u64 {
        self.ends[self.ends.len() - 1]
    }

    /// The place whose stretch covers `position`, which is below the total.
    pub(super) fn place_at(&self, position: u64) -> usize {
        self.ends.partition_point(|&end| end <= position)
    }

    /// The place that has the nth turn.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a remainder is below its divisor: a length in memory, or a total of 64 bits"
    )]
    pub(super) fn place_of_turn(&self, turn: u64) -> usize {
        match &self.turns {
            Turns::Listed(period) => period[(turn % period.len() as u64) as usize],
            Turns::Strided(stride) => {
                let total = u128::from(self.total());
                let position = u128::from(turn) * u128::from(*stride) % total;
                self.place_at(position as u64)
            }
        }
    }
}

/// The smoothest period: every turn each place gains its weight, and the one that has gained most
/// takes the turn and pays the total.
fn smooth_period(weights: &[u64], total: u64) -> Box<[usize]> {
    let mut lead = vec![0_i64; weights.len()];
    (0..total)
        .map(|_| {
            let mut best = 0;
            for place in 0..weights.len() {
                lead[place] += weights[place].cast_signed();
                if lead[place] > lead[best] {
                    best = place;
                }
            }
            lead[best] -= total.cast_signed();
            best
        })
        .collect()
}

/// The number without a common divisor with `total` that is nearest to the golden section of it:
/// its multiples leave gaps of at most three sizes after any number of turns (three-distance
/// theorem), and none much larger than the others.
fn golden_stride(total: u64) -> u64 {
    let section = golden_section(total);
    (0..total)
        .flat_map(|distance| [section.saturating_sub(distance), section + distance])
        .find(|&stride| gcd(stride, total) == 1)
        .unwrap_or(1)
}

/// `total` × 0.618..., to the last bit: with a short fraction such as 5/8 in its place, every eighth
/// turn would fall beside the first.
const fn golden_section(total: u64) -> u64 {
    ((total as u128 * 0x9e37_79b9_7f4a_7c15) >> 64) as u64
}

const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn turns(weights: &[u16], count: u64) -> Vec<usize> {
        let wheel = Wheel::new(weights);
        (0..count).map(|turn| wheel.place_of_turn(turn)).collect()
    }

    #[test]
    fn equal_weights_go_in_the_files_order() {
        assert_eq!(turns(&[7, 7, 7], 5), [0, 1, 2, 0, 1]);
    }

    #[test]
    fn heavy_place_does_not_get_its_turns_in_a_row() {
        assert_eq!(turns(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(turns(&[3, 2, 1], 6), [0, 1, 0, 2, 1, 0]);
    }

    #[test]
    fn long_period_is_even_too() {
        // 1,000 places of weight 1 and one that should have every second turn.
        let mut weights = vec![1; 1_000];
        weights.push(1_000);
        let turns = turns(&weights, 2_000);
        for window in turns.windows(100) {
            let heavy = window.iter().filter(|&&place| place == 1_000).count();
            assert!((47..=53).contains(&heavy), "{heavy} of 100");
        }
    }

    #[test]
    fn few_turns_of_a_long_period_already_reach_every_place() {
        let weights: Vec<u16> = (0..1_000).map(|place| 1_000 + place % 2).collect();
        let mut counts = vec![0; weights.len()];
        for place in turns(&weights, 10_000) {
            counts[place] += 1;
        }
        assert!(counts.iter().all(|n| (8..=12).contains(n)), "{counts:?}");
    }

    #[test]
    fn largest_weights_do_not_overflow() {
        let mut weights = vec![u16::MAX; 10_000];
        weights[0] = u16::MAX - 1;
        let wheel = Wheel::new(&weights);
        assert!(wheel.place_of_turn(u64::MAX) < weights.len());
    }

    proptest! {
        #[test]
        fn period_gives_every_place_exactly_its_weight(
            weights in prop::collection::vec(1_u16..400, 1..12),
        ) {
            let wheel = Wheel::new(&weights);
            let mut counts = vec![0_u64; weights.len()];
            for turn in 0..wheel.total() {
                counts[wheel.place_of_turn(turn)] += 1;
            }
            let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
            for (count, weight) in counts.iter().zip(&weights) {
                prop_assert_eq!(count * (sum / wheel.total()), u64::from(*weight));
            }
        }

        #[test]
        fn stride_shares_no_divisor_with_the_total(total in 1_u64..1 << 40) {
            let stride = golden_stride(total);
            prop_assert_eq!(gcd(stride, total), 1);
            prop_assert!(stride <= total);
            prop_assert!(stride.abs_diff(golden_section(total)) < 100);
        }
    }
}
