//! What it costs a session to be given a backend and counted on it.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ringlane::backend::{Backend, BackendId, Lease};
use ringlane::balance::{Ask, Balancer, Member, Rotation};
use ringlane::base::address::Endpoint;
use ringlane::base::clock::Instant;
use ringlane::base::random::Random;
use ringlane::config::model::Balance;

use super::{Case, place_below, seeded};

const BALANCERS: [(&str, Balance); 6] = [
    ("round_robin", Balance::RoundRobin),
    ("least_connections", Balance::LeastConnections),
    ("random_two", Balance::RandomTwo),
    ("source_hash", Balance::SourceHash { ipv6_prefix: 128 }),
    ("peak_ewma", Balance::PeakEwma),
    ("first", Balance::First),
];

/// The balancers whose choice goes another way when the weights differ.
const BY_WEIGHT: [(&str, Balance); 3] = [
    ("round_robin", Balance::RoundRobin),
    ("least_connections", Balance::LeastConnections),
    ("random_two", Balance::RandomTwo),
];

const SIZES: [usize; 3] = [3, 100, 10_000];

/// How heavy the members are.
#[derive(Clone, Copy)]
enum Weights {
    /// All 1, the default.
    Even,
    /// 1 to 4, drawn.
    Mixed,
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (word, balance) in BALANCERS {
        for size in SIZES {
            cases.push(Case::new(format!("balance/{word}/{size}"), move || {
                session(balance, Weights::Even, size)
            }));
        }
    }
    for (word, balance) in BY_WEIGHT {
        for size in SIZES {
            let name = format!("balance_weighted/{word}/{size}");
            cases.push(Case::new(name, move || {
                session(balance, Weights::Mixed, size)
            }));
        }
    }
    cases
}

/// One session comes, another leaves: a choice, a lease on what was chosen, and the end of one of
/// the leases held.
fn session(balance: Balance, weights: Weights, size: usize) -> impl FnMut() {
    let mut random = seeded();
    let members = members(size, weights, &mut random);
    let mut leases = leases(&members, &mut random);
    let balancer = Balancer::new(balance, members);
    let rotation = Rotation::new();
    let now = Instant::from_millis(1_000_000);
    move || {
        let leaving = place_below(&mut random, leases.len());
        let ask = Ask {
            source: Some(client(&mut random)),
            now,
            seed: random.next_u64(),
        };
        let backend = black_box(&balancer)
            .walk(&rotation, black_box(ask))
            .next()
            .expect("no backend has failed");
        leases[leaving] = backend.lease();
    }
}

fn members(size: usize, weights: Weights, random: &mut Random) -> Vec<Member> {
    let pool: Arc<str> = "web".into();
    let member = |place: usize| {
        let [.., high, low] = place.to_be_bytes();
        let id = BackendId {
            pool: Arc::clone(&pool),
            name: format!("backend-{place}").into(),
            endpoint: Endpoint::Inet(SocketAddr::from(([10, 1, high, low], 8080))),
        };
        let weight = match weights {
            Weights::Even => 1,
            Weights::Mixed => 1 + random.below(4),
        };
        Member {
            backend: Arc::new(Backend::new(id)),
            weight: u16::try_from(weight).expect("at most 4"),
            tier: 0,
        }
    };
    (0..size).map(member).collect()
}

/// The sessions that are open: 4 for each weight, and one more on half of the members. This is how
/// least connections share them out unless their number happens to be a multiple of the members'.
fn leases(members: &[Member], random: &mut Random) -> Vec<Lease> {
    let mut leases = Vec::new();
    for member in members {
        let one_more = random.below(2);
        let count = u64::from(member.weight) * 4 + one_more;
        leases.extend((0..count).map(|_| member.backend.lease()));
    }
    leases
}

fn client(random: &mut Random) -> IpAddr {
    let [a, b, c, d, ..] = random.next_u64().to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}
