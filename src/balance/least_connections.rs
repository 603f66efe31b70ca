//! `least_connections`: the fewest active connections for the weight, ties in weighted rotation.

use std::cmp::Ordering;

use super::tier::Candidates;
use super::{Rotation, round_robin};
use crate::base::random::Random;

/// Looks at every member, starting from the one whose turn it is: that one wins its ties, so that
/// equal load follows the weights exactly. Where it is beaten, the ties among those that beat it
/// are drawn by weight; taking the first would give it the turns of every busier one before it.
pub(super) fn pick(
    candidates: &Candidates<'_>,
    rotation: &Rotation,
    random: &mut Random,
) -> Option<usize> {
    let members = &candidates.tier.members;
    let turn = round_robin::pick(candidates, rotation, random)?;
    let least = candidates.load(turn);
    let (mut best, mut least) = (None, least);
    // The weights of those that share the least load.
    let mut tied = 0;
    for place in 0..members.len() {
        let load = candidates.load(place);
        match load.compare(&least) {
            Ordering::Less if candidates.allows(place) => {
                (best, least, tied) = (Some(place), load, candidates.weight_of(place));
            }
            Ordering::Equal if best.is_some() && candidates.allows(place) => {
                tied += candidates.weight_of(place);
            }
            _ => {}
        }
    }
    let Some(first) = best else {
        return Some(turn);
    };
    // One draw for all of them, and a second look: a draw for each cost twice as much.
    let mut drawn = random.below(tied);
    for place in first..members.len() {
        if candidates.load(place).compare(&least) == Ordering::Equal && candidates.allows(place) {
            match drawn.checked_sub(candidates.weight_of(place)) {
                Some(rest) => drawn = rest,
                None => return Some(place),
            }
        }
    }
    // Another worker's session has come or gone meanwhile.
    Some(first)
}
