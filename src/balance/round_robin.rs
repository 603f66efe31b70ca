//! `round_robin`: in turn by weight, evenly, one turn counter for all workers.

use super::Rotation;
use super::tier::Candidates;
use crate::base::random::Random;

/// Exact over a period while every member can be used: each turn is taken once, by whichever worker
/// comes next. A member that cannot be used loses its turns to the following ones in the rotation.
pub(super) fn pick(
    candidates: &Candidates<'_>,
    rotation: &Rotation,
    random: &mut Random,
) -> Option<usize> {
    let wheel = &candidates.tier.wheel;
    candidates.settle(
        random,
        |_| wheel.place_of_turn(rotation.take_turn()),
        |place| candidates.allows(place),
    )
}
