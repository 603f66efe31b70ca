//! What the balancers promise, each as a fact about walks: the pool that they are asked in.

mod down;
mod peak_ewma;
mod shares;
mod source_hash;
mod walk;

use std::net::Ipv4Addr;

use super::*;
use crate::backend::{BackendId, Lease};
use crate::base::address::Endpoint;
use crate::base::random::Random;

const NOW: Instant = Instant::from_millis(10_000);

const SOURCE_HASH: Balance = Balance::SourceHash { ipv6_prefix: 128 };

const ALL: [Balance; 6] = [
    Balance::RoundRobin,
    Balance::LeastConnections,
    Balance::RandomTwo,
    SOURCE_HASH,
    Balance::PeakEwma,
    Balance::First,
];

fn id(number: usize) -> BackendId {
    let address = Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(number).unwrap());
    BackendId {
        pool: "p".into(),
        name: format!("b{number}").into(),
        endpoint: Endpoint::Inet((address, 80).into()),
    }
}

fn member(number: usize, weight: u16, tier: u8) -> Member {
    Member {
        backend: Arc::new(Backend::new(id(number))),
        weight,
        tier,
    }
}

/// Members 0, 1, 2... of these weights, all of tier 0.
fn members(weights: &[u16]) -> Vec<Member> {
    (0..)
        .zip(weights)
        .map(|(number, &weight)| member(number, weight, 0))
        .collect()
}

/// A pool with its live part and a client for every choice.
struct Pool {
    balancer: Balancer,
    rotation: Rotation,
    random: Random,
}

impl Pool {
    fn new(balance: Balance, members: Vec<Member>) -> Self {
        Self {
            balancer: Balancer::new(balance, members),
            rotation: Rotation::new(),
            random: Random::new(1),
        }
    }

    fn backend(&self, index: usize) -> &Arc<Backend> {
        &self.balancer.members()[index].backend
    }

    /// A client from anywhere.
    fn ask(&mut self) -> Ask {
        let bits = u32::try_from(self.random.below(1 << 32)).unwrap();
        Ask {
            source: Some(Ipv4Addr::from_bits(bits).into()),
            now: NOW,
            seed: self.random.next_u64(),
        }
    }

    fn first(&mut self) -> Option<Arc<Backend>> {
        let ask = self.ask();
        self.balancer.walk(&self.rotation, ask).next().cloned()
    }

    fn walk(&mut self) -> Vec<usize> {
        let ask = self.ask();
        self.walk_of(ask)
    }

    /// The walk as indices into the members.
    fn walk_of(&self, ask: Ask) -> Vec<usize> {
        self.balancer
            .walk(&self.rotation, ask)
            .map(|backend| self.index_of(backend))
            .collect()
    }

    fn index_of(&self, backend: &Arc<Backend>) -> usize {
        self.balancer
            .members()
            .iter()
            .position(|member| Arc::ptr_eq(&member.backend, backend))
            .unwrap()
    }

    /// How many of `clients` each member is the first choice of, when sessions end at once.
    fn shares(&mut self, clients: usize) -> Vec<usize> {
        let mut shares = vec![0; self.balancer.members().len()];
        for _ in 0..clients {
            let backend = self.first().unwrap();
            shares[self.index_of(&backend)] += 1;
        }
        shares
    }

    /// Opens `clients` sessions that stay.
    fn hold(&mut self, clients: usize) -> Vec<Lease> {
        (0..clients)
            .map(|_| self.first().unwrap().lease())
            .collect()
    }

    fn active(&self) -> Vec<u32> {
        let members = self.balancer.members().iter();
        members.map(|member| member.backend.active()).collect()
    }
}

/// One client that always comes from the same place.
fn client(number: u32) -> Ask {
    Ask {
        source: Some(Ipv4Addr::from_bits(number).into()),
        now: NOW,
        seed: number.into(),
    }
}
