//! What lists and limits cost each client that comes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use ringlane::base::clock::Instant;
use ringlane::base::random::Random;
use ringlane::config::model::{Enforcement, Rate};
use ringlane::limits::bytes::{BytePace, Meter};
use ringlane::limits::networks::{Networks, Others};
use ringlane::limits::sources::{Pace, Sources};

use super::{Case, place_below, seeded};

/// As many as one file may have.
const NETWORKS: usize = 100_000;

const CLIENTS: usize = 1 << 16;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("limits/networks_v4/100000", || networks(v4)),
        Case::new("limits/networks_v6/100000", || networks(v6)),
        Case::new("limits/sources/10000", || sources(10_000)),
        Case::new("limits/sources/1000000", || sources(1_000_000)),
        Case::new("limits/bytes/10000", || bytes(10_000)),
    ]
}

/// The verdict on a client that may come from anywhere.
fn networks(draw: fn(&mut Random) -> (IpAddr, u8)) -> impl FnMut() -> bool {
    let mut random = seeded();
    let deny: Vec<IpNet> = (0..NETWORKS)
        .filter_map(|_| {
            let (address, length) = draw(&mut random);
            IpNet::new(address, length).ok()
        })
        .collect();
    let networks = Networks::new(&[], &deny, Others::Admit);
    let clients: Vec<_> = (0..CLIENTS).map(|_| draw(&mut random).0).collect();
    let mut next = 0;
    move || {
        next = (next + 1) % clients.len();
        networks.admit(clients[next])
    }
}

fn v4(random: &mut Random) -> (IpAddr, u8) {
    let bits = u32::try_from(random.next_u64() >> 32).unwrap_or(0);
    (Ipv4Addr::from_bits(bits).into(), 24)
}

fn v6(random: &mut Random) -> (IpAddr, u8) {
    let bits = u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
    (Ipv6Addr::from_bits(bits).into(), 48)
}

/// A connection of a known source: counted, measured against its rate, and ended.
fn sources(count: u32) -> impl FnMut() -> bool {
    let sources = Arc::new(Sources::new((1, 2), (32, 64)));
    let now = Instant::from_millis(1_000);
    let per = Duration::from_secs(1);
    let pace = Pace::new(Rate { count: 100, per }, 100);
    let client = |number: u32| IpAddr::from(Ipv4Addr::from_bits(number));
    let held: Vec<_> = (0..count)
        .filter_map(|number| sources.begin(client(number), now))
        .collect();
    let mut random = seeded();
    move || {
        let number = place_below(&mut random, held.len());
        let number = u32::try_from(number).unwrap_or(0);
        let begun = sources.begin(client(number), now);
        begun.is_some_and(|(permit, before)| permit.is_within(pace, now) && before < 100)
    }
}

/// A read of a session whose source is limited in bytes: what it may read is taken, and half of it given back.
fn bytes(count: u32) -> impl FnMut() -> usize {
    const READ: usize = 32 << 10;
    let sources = Arc::new(Sources::new((1, 2), (32, 64)));
    let mut now = Instant::from_millis(1_000);
    let client = |number: u32| IpAddr::from(Ipv4Addr::from_bits(number));
    let meters: Vec<_> = (0..count)
        .filter_map(|number| sources.begin(client(number), now))
        .map(|(permit, _)| Meter::new(permit, BytePace::new(1 << 30), Enforcement::Reject))
        .collect();
    let mut random = seeded();
    move || {
        now = now + Duration::from_micros(1);
        let meter = &meters[place_below(&mut random, meters.len())];
        let taken = meter.take(READ, now).unwrap_or(0);
        meter.give_back(taken / 2);
        taken
    }
}
