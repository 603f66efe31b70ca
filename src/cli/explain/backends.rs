//! The backends that a client would be given, in the balancer's order.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::shown::{BackendShown, Order, PoolShown};
use crate::backend::{Backend, State};
use crate::balance::Ask;
use crate::base::address::Address;
use crate::base::clock::now;
use crate::config::model::{self, Balance, Model};
use crate::config::pool_in_force;
use crate::snapshot::{Answers, Offer, Pool};

/// What stands for the addresses of a host name: nobody can have it.
const STAND_IN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// One address for each host name, in place of those that only a look-up would give.
pub(super) fn stand_ins(model: &Model) -> Answers {
    let mut answers = Answers::new();
    for backend in model.pools.iter().flat_map(|pool| &pool.backends) {
        let host = match &backend.address {
            Address::Endpoint(_) => continue,
            Address::Name(name) => &name.host,
            Address::Service(name) => {
                // One offer stands for all.
                let offer = Offer {
                    priority: 0,
                    host: Arc::clone(name),
                    port: 0,
                    weight: 1,
                };
                answers.services.insert(Arc::clone(name), vec![offer]);
                name
            }
        };
        answers.hosts.insert(Arc::clone(host), vec![STAND_IN]);
    }
    answers
}

/// What a client from `source` meets in `pool`, of which `settings` is the configuration.
pub(super) fn backends(
    (pool, settings): (&Pool, &model::Pool),
    source: Option<IpAddr>,
    notes: &mut Vec<String>,
) -> PoolShown {
    let attempts = usize::from(settings.connect.attempts);
    let (balance, order, note) = order(settings, source);
    let ask = Ask {
        source,
        now: now(),
        seed: 0,
    };
    // Nothing is probed here, and what a probe would say is not the question.
    for member in pool.balancer.members() {
        member.backend.set_state(State::Up);
    }
    let walk = pool.balancer.walk(&pool.live.rotation, ask);
    let candidates: Vec<_> = walk
        .take(attempts)
        .map(|backend| shown(backend, settings))
        .collect();
    notes.extend(note.map(str::to_owned));
    if has_names(settings) {
        notes.push("host names are not looked up: each stands for all of its addresses".to_owned());
    }
    if candidates.is_empty() {
        notes.push(
            "no backend of the pool takes connections: clients are reset, reason no_backend"
                .to_owned(),
        );
    }
    PoolShown {
        name: pool.name.to_string(),
        balance,
        order,
        candidates,
        backends: settings.backends.len(),
        keys: pool_in_force(settings).into_iter().collect(),
        tls: settings.tls.is_some(),
    }
}

/// The word for how a backend is chosen, how far the order holds, and what is to be said of it.
fn order(
    pool: &model::Pool,
    source: Option<IpAddr>,
) -> (&'static str, Order, Option<&'static str>) {
    const FRESH: &str =
        "the order is one of several: it depends on the connections before and beside";
    const DRAWN: &str = "the order is one of several: it is drawn for each client";
    match (pool.balance, source) {
        (Balance::First, _) => ("first", Order::Certain, None),
        (Balance::SourceHash { .. }, Some(_)) if has_names(pool) => (
            "source_hash",
            Order::Unknown,
            Some("the order depends on the addresses of host names: this is not it"),
        ),
        (Balance::SourceHash { .. }, Some(_)) => ("source_hash", Order::Certain, None),
        (Balance::SourceHash { .. }, None) => (
            "source_hash",
            Order::Unknown,
            Some("the order depends on the client's address: give it by --src"),
        ),
        (Balance::LeastConnections, _) => ("least_connections", Order::OneOfSeveral, Some(FRESH)),
        (Balance::RoundRobin, _) => ("round_robin", Order::OneOfSeveral, Some(FRESH)),
        (Balance::RandomTwo, _) => ("random_two", Order::OneOfSeveral, Some(DRAWN)),
        (Balance::PeakEwma, _) => ("peak_ewma", Order::OneOfSeveral, Some(DRAWN)),
    }
}

fn has_names(pool: &model::Pool) -> bool {
    let mut backends = pool.backends.iter();
    backends.any(|backend| !matches!(backend.address, Address::Endpoint(_)))
}

fn shown(backend: &Backend, pool: &model::Pool) -> BackendShown {
    let name = &backend.id().name;
    let stands_for = |one: &&model::Backend| match one.address {
        Address::Endpoint(_) => one.name == *name,
        Address::Name(_) => **name == *format!("{}/{STAND_IN}", one.name),
        Address::Service(ref service) => **name == *format!("{}/{service}:0/{STAND_IN}", one.name),
    };
    // The snapshot was made of this configuration, so one of them is it.
    let settings = pool.backends.iter().find(stands_for);
    BackendShown {
        name: settings.map_or(name, |one| &one.name).to_string(),
        address: settings.map_or_else(String::new, |one| one.address.to_string()),
        tier: settings.map_or(0, |one| one.tier),
        max_connections: settings.map_or(0, |one| one.max_connections),
    }
}
