//! The members of one tier with their tables, and which of them one walk may still choose.

use std::cmp::Ordering;
use std::time::Duration;

use super::Member;
use super::maglev::Maglev;
use super::wheel::Wheel;
use crate::backend::WARM;
use crate::base::clock::Instant;
use crate::base::limits::CONNECT_ATTEMPTS_MAX;
use crate::base::random::Random;
use crate::config::model::Balance;

/// Draws before the whole tier is looked at: with half of a tier gone, one choice in 256 gets there.
const DRAWS_MAX: usize = 8;

/// Members of one tier, all of weight above 0, in the file's order; never empty. An index into them
/// is called a place.
#[derive(Debug)]
pub(super) struct Tier {
    pub(super) members: Box<[Member]>,
    pub(super) wheel: Wheel,
    pub(super) least_weight: u16,
    /// Only for `source_hash`, and only where there is a choice.
    pub(super) maglev: Option<Maglev>,
}

impl Tier {
    pub(super) fn new(balance: Balance, members: Vec<Member>) -> Self {
        let weights: Vec<u16> = members.iter().map(|member| member.weight).collect();
        let hashes = matches!(balance, Balance::SourceHash { .. }) && members.len() > 1;
        Self {
            wheel: Wheel::new(&weights),
            least_weight: weights.iter().copied().min().unwrap_or(1),
            maglev: hashes.then(|| Maglev::new(&members)),
            members: members.into_boxed_slice(),
        }
    }
}

/// Which members a walk looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// Those that have not failed lately.
    Fresh,
    /// Those whose last connect did not fail, however long ago: what a session tries once its first
    /// attempt has failed. A session is at most one probe.
    Sound,
    /// Those that are left. It does not ask for a failure, which may have been forgotten since the
    /// first pass: nobody may fall between the two.
    Any,
}

/// Whom a walk may choose, by what probes and failures say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// Members that are usable.
    Usable,
    /// All, since none is usable.
    All,
}

/// The places that a walk has yielded, each with the index of its tier; small, since every session
/// holds one while it dials.
#[derive(Debug, Default)]
pub(super) struct Tried {
    places: [(u8, u32); CONNECT_ATTEMPTS_MAX],
    len: u8,
}

impl Tried {
    /// How many of this tier.
    pub(super) fn count(&self, tier: usize) -> usize {
        let tried = self.places().iter();
        tried.filter(|(of, _)| usize::from(*of) == tier).count()
    }

    /// The walk ends after [`CONNECT_ATTEMPTS_MAX`] pushes.
    pub(super) fn push(&mut self, tier: usize, place: usize) {
        self.places[usize::from(self.len)] = packed(tier, place);
        self.len += 1;
    }

    /// Whether nothing was yielded yet.
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn contains(&self, tier: usize, place: usize) -> bool {
        self.places().contains(&packed(tier, place))
    }

    fn places(&self) -> &[(u8, u32)] {
        &self.places[..usize::from(self.len)]
    }
}

fn packed(tier: usize, place: usize) -> (u8, u32) {
    let tier = u8::try_from(tier).expect("a tier is numbered with 8 bits in the configuration");
    let place = u32::try_from(place).expect("fewer backends than addresses of IPv4");
    (tier, place)
}

/// What an algorithm may choose from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidates<'a> {
    pub(super) tier: &'a Tier,
    /// Of `tier` among all tiers.
    pub(super) index: usize,
    pub(super) tried: &'a Tried,
    pub(super) pass: Pass,
    pub(super) whom: Whom,
    pub(super) now: Instant,
    /// How long a backend that comes beside others takes to get its whole share.
    pub(super) slow_start: Option<Duration>,
}

impl Candidates<'_> {
    pub(super) fn allows(&self, place: usize) -> bool {
        let backend = &self.tier.members[place].backend;
        !self.tried.contains(self.index, place)
            && (self.whom == Whom::All || backend.is_usable(self.now))
            && !backend.is_full()
            && match self.pass {
                Pass::Fresh => !backend.recently_failed(self.now),
                Pass::Sound => !backend.has_failed(),
                Pass::Any => true,
            }
    }

    /// The weight of a place as of now; in smaller units where there is a slow start.
    pub(super) fn weight_of(&self, place: usize) -> u64 {
        let member = &self.tier.members[place];
        let weight = u64::from(member.weight);
        match self.slow_start {
            None => weight,
            Some(time) => weight * member.backend.warmth(self.now, time),
        }
    }

    /// The connections that a place has now, for its weight.
    pub(super) fn load(&self, place: usize) -> Load {
        Load {
            active: u64::from(self.tier.members[place].backend.active()),
            weight: self.weight_of(place),
        }
    }

    /// Whether a place keeps what was drawn for it by its whole weight.
    fn keeps(&self, place: usize, random: &mut Random) -> bool {
        let Some(time) = self.slow_start else {
            return true;
        };
        let warmth = self.tier.members[place].backend.warmth(self.now, time);
        warmth == WARM || random.below(WARM) < warmth
    }

    /// The first of a few draws that suits, else any that does, by weight; `None` if none does.
    ///
    /// Drawing again spreads the share of a member that does not suit over all others; taking its
    /// neighbour would double the neighbour's.
    pub(super) fn settle(
        &self,
        random: &mut Random,
        mut draw: impl FnMut(&mut Random) -> usize,
        suits: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        for _ in 0..DRAWS_MAX {
            let place = draw(random);
            if suits(place) && self.keeps(place, random) {
                return Some(place);
            }
        }
        self.sample(random, suits)
    }

    /// One of those that suit, each as likely as its weight, in one look at every member.
    pub(super) fn sample(
        &self,
        random: &mut Random,
        suits: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut weights = 0;
        let mut chosen = None;
        for place in 0..self.tier.members.len() {
            if suits(place) {
                let weight = self.weight_of(place);
                weights += weight;
                if random.below(weights) < weight {
                    chosen = Some(place);
                }
            }
        }
        chosen
    }
}

/// Connections for the weight; the least is the best.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    active: u64,
    weight: u64,
}

impl Load {
    /// Compares the quotients without dividing; 32 bits times 26 cannot overflow.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        (self.active * other.weight).cmp(&(other.active * self.weight))
    }
}
