//! `first`: the first in the file's order that can be used.

use super::tier::Candidates;

pub(super) fn pick(candidates: &Candidates<'_>) -> Option<usize> {
    (0..candidates.tier.members.len()).find(|&place| candidates.allows(place))
}
