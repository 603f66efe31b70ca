//! `peak_ewma`: the better of two drawn at random by weight, by how far away they feel.
//!
//! A backend that has become slow, or is behind a bad network, answers connects late. That counts at once,
//! before its connections pile up.

use super::tier::Candidates;
use crate::backend::WARM;
use crate::base::random::Random;

/// Of two alike the first drawn is taken, so that equal backends follow the weights.
pub(super) fn pick(candidates: &Candidates<'_>, random: &mut Random) -> Option<usize> {
    let wheel = &candidates.tier.wheel;
    let draw = |random: &mut Random| wheel.place_at(random.below(wheel.total()));
    let first = candidates.settle(random, draw, |place| candidates.allows(place))?;
    let second = candidates.settle(random, draw, |place| {
        place != first && candidates.allows(place)
    });
    match second {
        Some(second) if is_better(candidates, second, first) => Some(second),
        _ => Some(first),
    }
}

/// Compares time × (connections / weight + 1) without dividing. The weights are taken as multiples of the
/// tier's least, so that idle backends differ by their time alone: their weights had their say in the draw.
fn is_better(candidates: &Candidates<'_>, one: usize, other: usize) -> bool {
    let unit = candidates.slow_start.map_or(1, |_| WARM);
    let least = u128::from(candidates.tier.least_weight) * u128::from(unit);
    let weight = |place: usize| u128::from(candidates.weight_of(place));
    let cost = |place: usize| {
        let backend = &candidates.tier.members[place].backend;
        // 32 bits times 59, times a weight of 26: it fits.
        let connections = u128::from(backend.active()) * least + weight(place);
        u128::from(backend.connect_time(candidates.now)) * connections
    };
    cost(one) * weight(other) < cost(other) * weight(one)
}
