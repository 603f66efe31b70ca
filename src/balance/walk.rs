//! The order in which one session tries backends: tier by tier, then those that failed lately.

use std::iter::FusedIterator;
use std::sync::Arc;

use super::tier::{Candidates, Pass, Tier, Tried, Whom};
use super::{
    Ask, Balancer, Rotation, first, least_connections, peak_ewma, random_two, round_robin,
    source_hash,
};
use crate::backend::{AsUp, Backend};
use crate::base::clock::Instant;
use crate::base::limits::CONNECT_ATTEMPTS_MAX;
use crate::base::random::Random;
use crate::config::model::{AllDown, Balance};

/// Yields each usable backend at most once, best first, and at most [`CONNECT_ATTEMPTS_MAX`] of
/// them; a lower tier before the next, and after all tiers those that have
/// [recently failed](Backend::recently_failed), in the same order.
///
/// A backup comes before a primary that is known to fail: otherwise every session would first try
/// all primaries that are down, and spend its attempts and the pool's retries on them.
///
/// A backend that is not [usable](Backend::is_usable) is not yielded at all while any other is, of whatever
/// tier, even if that has no room. Where none is, the pool's `all_down` says what happens: nothing is yielded; or everything as if
/// it were up; or, for one session a second, one backend, each in its turn.
///
/// Each backend is chosen when it is asked for, by the facts of that moment.
#[derive(Debug)]
pub struct Walk<'a> {
    balancer: &'a Balancer,
    rotation: &'a Rotation,
    /// The client's place in the tables of `source_hash`; `None` for other balancers, and for
    /// clients without an address.
    key: Option<u64>,
    now: Instant,
    random: Random,
    tier: usize,
    pass: Pass,
    whom: Whom,
    tried: Tried,
    left: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(balancer: &'a Balancer, rotation: &'a Rotation, ask: Ask) -> Self {
        let key = match (balancer.balance, ask.source) {
            (Balance::SourceHash { ipv6_prefix }, Some(source)) => {
                Some(source_hash::key(source, ipv6_prefix))
            }
            _ => None,
        };
        Self {
            balancer,
            rotation,
            key,
            now: ask.now,
            random: Random::new(ask.seed),
            tier: 0,
            pass: Pass::Fresh,
            whom: Whom::Usable,
            tried: Tried::default(),
            left: CONNECT_ATTEMPTS_MAX,
        }
    }

    /// How the backend that was yielded last was chosen.
    pub fn chose(&self) -> AsUp {
        match self.whom {
            Whom::Usable => AsUp::Yes,
            Whom::All => AsUp::No,
        }
    }

    fn pick(&mut self, tier: &'a Tier) -> Option<usize> {
        let candidates = Candidates {
            tier,
            index: self.tier,
            tried: &self.tried,
            pass: match self.pass {
                Pass::Fresh if !self.tried.is_empty() => Pass::Sound,
                pass => pass,
            },
            whom: self.whom,
            now: self.now,
            slow_start: self.balancer.slow_start,
        };
        let random = &mut self.random;
        match (self.balancer.balance, self.key) {
            (Balance::SourceHash { .. }, Some(key)) => source_hash::pick(&candidates, key),
            (Balance::RoundRobin | Balance::SourceHash { .. }, _) => {
                round_robin::pick(&candidates, self.rotation, random)
            }
            (Balance::LeastConnections, _) => {
                least_connections::pick(&candidates, self.rotation, random)
            }
            (Balance::RandomTwo, _) => random_two::pick(&candidates, random),
            (Balance::PeakEwma, _) => peak_ewma::pick(&candidates, random),
            (Balance::First, _) => first::pick(&candidates),
        }
    }

    fn advance(&mut self) {
        self.tier += 1;
        if self.tier < self.balancer.tiers.len() {
            return;
        }
        let none_was = self.tried.is_empty() && self.whom == Whom::Usable;
        match self.pass {
            Pass::Fresh => (self.pass, self.tier) = (Pass::Any, 0),
            _ if none_was
                && self.balancer.all_down == AllDown::Open
                && !self.balancer.is_usable(self.now) =>
            {
                (self.pass, self.whom, self.tier) = (Pass::Fresh, Whom::All, 0);
            }
            _ => {}
        }
    }

    /// The one backend that a session gets of a pool none of whose backends is usable.
    fn trickle(&mut self) -> Option<&'a Arc<Backend>> {
        self.left = 0;
        let tiers = &self.balancer.tiers;
        let count: usize = tiers.iter().map(|tier| tier.members.len()).sum();
        if count == 0 {
            return None;
        }
        self.whom = Whom::All;
        let turn = self.rotation.trickle.pass(self.now)?;
        let place = usize::try_from(turn % count as u64).ok()?;
        let mut members = tiers.iter().flat_map(|tier| &tier.members);
        members.nth(place).map(|member| &member.backend)
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = &'a Arc<Backend>;

    fn next(&mut self) -> Option<Self::Item> {
        let balancer = self.balancer;
        while self.left > 0
            && let Some(tier) = balancer.tiers.get(self.tier)
        {
            // A tier that is used up costs no draws, so they stay in step with the sessions.
            let untried = self.tried.count(self.tier) < tier.members.len();
            let place = if untried { self.pick(tier) } else { None };
            if let Some(place) = place {
                self.tried.push(self.tier, place);
                self.left -= 1;
                return Some(&tier.members[place].backend);
            }
            self.advance();
        }
        if self.left > 0
            && self.tried.is_empty()
            && balancer.all_down == AllDown::Trickle
            && !balancer.is_usable(self.now)
        {
            return self.trickle();
        }
        None
    }
}

impl FusedIterator for Walk<'_> {}
