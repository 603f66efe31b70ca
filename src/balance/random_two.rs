//! `random_two`: the better of two drawn at random by weight.
//!
//! It comes close to `least_connections` without looking at every member, and workers or whole
//! processes that choose in the same moment do not all rush to the same one.

use std::cmp::Ordering;

use super::tier::Candidates;
use crate::base::random::Random;

/// Of two equally loaded ones the first drawn is taken, so that equal load follows the weights.
pub(super) fn pick(candidates: &Candidates<'_>, random: &mut Random) -> Option<usize> {
    let tier = candidates.tier;
    let load = |place: usize| candidates.load(place);
    let draw = |random: &mut Random| tier.wheel.place_at(random.below(tier.wheel.total()));
    let first = candidates.settle(random, draw, |place| candidates.allows(place))?;
    let second = candidates.settle(random, draw, |place| {
        place != first && candidates.allows(place)
    });
    match second {
        Some(second) if load(second).compare(&load(first)) == Ordering::Less => Some(second),
        _ => Some(first),
    }
}
