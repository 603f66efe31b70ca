//! Chooses the backends that a session should try, best first.
//!
//! A [`Balancer`] is the immutable part, built with a snapshot; a [`Rotation`] and the facts in
//! [`crate::backend`] are the live part. A [`Walk`] over both yields candidates one by one, so that
//! later ones see what happened while earlier ones were tried. It reads no clock, takes no lock and
//! allocates nothing.
//!
//! What a choice costs among n members of a tier, lease included, measured on one core: 35-45 ns up
//! to 1,000 members for `round_robin` and `random_two` (O(log n)) and for `source_hash` (O(1), one
//! hash of 4 or 16 bytes); 1 ns for each member on top of that for `least_connections` (O(n)); 26 ns
//! for `first`. All look at every member once most of the tier were tried or have failed.

mod first;
mod least_connections;
mod maglev;
mod peak_ewma;
mod random_two;
mod round_robin;
mod source_hash;
mod tier;
mod trickle;
mod walk;
mod wheel;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::backend::Backend;
use crate::base::clock::Instant;
use crate::config::model::{AllDown, Balance};

use tier::Tier;
use trickle::Trickle;
pub use walk::Walk;

/// A backend as one pool uses it.
#[derive(Clone, Debug)]
pub struct Member {
    /// Where to connect to, and its live facts.
    pub backend: Arc<Backend>,
    /// Its share among its tier; 0 is never chosen.
    pub weight: u16,
    /// Tried only when every backend of the lower tiers was, or has failed lately.
    pub tier: u8,
}

/// How far a pool's rotation has come; kept over reloads and shared by all workers.
#[derive(Debug, Default)]
pub struct Rotation {
    /// Turns taken. Every worker takes turns by adding one, and an addition never gives two of
    /// them the same number, whatever the ordering; no other memory hangs on it.
    turns: AtomicU64,
    /// Who is let through while all backends are down.
    trickle: Trickle,
}

impl Rotation {
    /// A rotation at its start.
    pub const fn new() -> Self {
        Self {
            turns: AtomicU64::new(0),
            trickle: Trickle::new(),
        }
    }

    fn take_turn(&self) -> u64 {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }
}

/// What one session brings to the choice.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// The client's address; `None` for a client on a unix socket, which `source_hash` serves in
    /// rotation.
    pub source: Option<IpAddr>,
    /// The time, for which failures are recent; a coarse one will do.
    pub now: Instant,
    /// A new random number for each session.
    pub seed: u64,
}

/// The tables of one pool; immutable, one per snapshot, shared by all workers.
#[derive(Debug)]
pub struct Balancer {
    balance: Balance,
    members: Vec<Member>,
    /// Members of weight above 0 by tier, lowest first; no tier is empty.
    tiers: Vec<Tier>,
    /// What happens once no member of any tier is usable.
    all_down: AllDown,
    slow_start: Option<Duration>,
}

impl Balancer {
    /// Builds the tables for `members`, which stand in the file's order and have distinct ids.
    ///
    /// For `source_hash` each tier takes 128 KiB (256 KiB above 65,536 members) and some time: up to
    /// 5 ms for 1,000 members, 9 ms for 10,000. The others take next to nothing.
    pub fn new(balance: Balance, members: Vec<Member>) -> Self {
        let mut by_tier = BTreeMap::<u8, Vec<Member>>::new();
        for member in members.iter().filter(|member| member.weight > 0) {
            by_tier.entry(member.tier).or_default().push(member.clone());
        }
        let tiers = by_tier
            .into_values()
            .map(|members| Tier::new(balance, members))
            .collect();
        Self {
            balance,
            members,
            tiers,
            all_down: AllDown::default(),
            slow_start: None,
        }
    }

    /// The same, but for what happens once no member of any tier is usable.
    #[must_use]
    pub fn with_all_down(mut self, all_down: AllDown) -> Self {
        self.all_down = all_down;
        self
    }

    /// The same with so long a slow start; `first` has no shares to begin with.
    #[must_use]
    pub fn starting_slowly(self, slow_start: Option<Duration>) -> Self {
        Self { slow_start, ..self }
    }

    /// Whether it goes by how far away backends [feel](Backend::feel_connect).
    pub fn feels(&self) -> bool {
        self.balance == Balance::PeakEwma
    }

    /// What happens while no backend is usable.
    pub const fn all_down(&self) -> AllDown {
        self.all_down
    }

    /// Whether any backend is [usable](Backend::is_usable), be there room or not.
    pub fn is_usable(&self, now: Instant) -> bool {
        let mut members = self.tiers.iter().flat_map(|tier| &tier.members);
        members.any(|member| member.backend.is_usable(now))
    }

    /// All members in the file's order, those of weight 0 too.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The backends that a session should try, best first.
    pub fn walk<'a>(&'a self, rotation: &'a Rotation, ask: Ask) -> Walk<'a> {
        Walk::new(self, rotation, ask)
    }
}

#[cfg(test)]
mod tests;
