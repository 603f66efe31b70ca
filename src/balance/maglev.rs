//! The table of `source_hash`: Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software
//! Network Load Balancer", NSDI 2016, §3.4) with weights.
//!
//! Every member has a preference order over the entries that follows from its id alone. They take
//! turns, each taking the entry it likes best among those still free. A member that leaves gives up
//! its entries and disturbs few others.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

use super::Member;
use crate::backend::BackendId;

/// A prime, as the preference orders need; so large that the shares of 100 members differ by less
/// than 1 %, so small that the table stays in a core's second cache.
const ENTRIES: usize = 65_537;

/// The hash's key; fixed, because all processes must build the same table.
const KEY: &[u8; 16] = b"ringlane backend";

/// Which place a key leads to. Members beyond the 65,537th have no entry of their own and are
/// reached only when others fail.
#[derive(Debug)]
pub(super) enum Maglev {
    /// Up to 65,536 members: half the memory, and more of it in the cache.
    Narrow(Box<[u16]>),
    /// Any number of members.
    Wide(Box<[u32]>),
}

impl Maglev {
    /// `members` holds at least one; none has weight 0. Their order makes no difference to which
    /// member has which entry.
    ///
    /// About `ENTRIES` × ln `ENTRIES` steps whatever the number of members.
    pub(super) fn new(members: &[Member]) -> Self {
        let places = places_by_entry(members);
        let narrow: Result<Box<[u16]>, _> =
            places.iter().map(|&place| u16::try_from(place)).collect();
        narrow.map_or_else(|_| Self::Wide(places), Self::Narrow)
    }

    /// The place that a hash leads to.
    pub(super) fn place_of(&self, hash: u64) -> usize {
        let entry = entry_of(hash);
        match self {
            Self::Narrow(places) => usize::from(places[entry]),
            Self::Wide(places) => places[entry] as usize,
        }
    }
}

/// A free entry; no place, as a tier has fewer members.
const FREE: u32 = u32::MAX;

/// Lets the members take turns until no entry is free: at once all have had the first, then each
/// after a time that is inverse to its weight.
fn places_by_entry(members: &[Member]) -> Box<[u32]> {
    let mut takers: Vec<Taker<'_>> = (0_u32..).zip(members).map(Taker::new).collect();
    takers.sort_unstable_by_key(|taker| taker.id);
    let mut turns: BinaryHeap<_> = (0..takers.len()).map(|rank| Reverse((0, rank))).collect();

    let mut places = vec![FREE; ENTRIES].into_boxed_slice();
    for _ in 0..ENTRIES {
        let Some(mut turn) = turns.peek_mut() else {
            break;
        };
        let Reverse((due, rank)) = *turn;
        let taker = &mut takers[rank];
        *turn = Reverse((due + taker.interval, rank));
        places[taker.take(&places)] = taker.place;
    }
    places
}

/// A member while the table is built.
struct Taker<'a> {
    id: &'a BackendId,
    place: u32,
    /// Between two turns, in parts of the time between those of a member of weight 1.
    interval: u64,
    /// The entry to ask for next, and the step to the one after it (the paper's offset and skip).
    entry: usize,
    step: usize,
}

impl<'a> Taker<'a> {
    fn new((place, member): (u32, &'a Member)) -> Self {
        let id = member.backend.id();
        let mut hasher = SipHasher13::new_with_key(KEY);
        for part in [&*id.pool, &*id.name, &id.endpoint.to_string()] {
            hasher.write(part.as_bytes());
            // No text contains this byte, so no two ids give the same bytes.
            hasher.write(&[0xff]);
        }
        let hash = hasher.finish128();
        Self {
            id,
            place,
            interval: (1 << 40) / u64::from(member.weight),
            entry: entry_of(hash.h1),
            step: remainder(hash.h2, ENTRIES - 1) + 1,
        }
    }

    /// The entry liked best among the free ones, of which there is at least one.
    fn take(&mut self, places: &[u32]) -> usize {
        loop {
            let entry = self.entry;
            self.entry = (entry + self.step) % ENTRIES;
            if places[entry] == FREE {
                return entry;
            }
        }
    }
}

fn entry_of(hash: u64) -> usize {
    remainder(hash, ENTRIES)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a remainder is below its divisor, which is a usize"
)]
const fn remainder(hash: u64, divisor: usize) -> usize {
    (hash % divisor as u64) as usize
}
