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
    let tier = candidates.tier;
    let mut best = round_robin::pick(candidates, rotation, random)?;
    let mut least = tier.load(best);
    // The weights of those that share the least load; 0 while it is that of the turn.
    let mut tied = 0;
    for (place, member) in tier.members.iter().enumerate() {
        let weight = u64::from(member.weight);
        let load = tier.load(place);
        match load.compare(&least) {
            Ordering::Less if candidates.allows(place) => {
                (best, least, tied) = (place, load, weight);
            }
            Ordering::Equal if tied > 0 && candidates.allows(place) => {
                tied += weight;
                if random.below(tied) < weight {
                    (best, least) = (place, load);
                }
            }
            _ => {}
        }
    }
    Some(best)
}
