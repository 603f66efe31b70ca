//! What the metrics page shows of backends and pools that fail their clients.

use std::collections::BTreeMap;
use std::sync::Arc;

use metrics::Unit;

use super::exposition::Page;
use super::names::{Metric, OTHER, VALUES_MAX, counter, gauge};
use super::render::{Scrape, number};

/// `{pool,backend}`
pub(super) const BACKEND_EJECTED: Metric = gauge(
    "ringlane_backend_ejected",
    Unit::Count,
    "1 while the backend is ejected because of its failures, else 0; under other, how many are.",
);

/// `{pool,backend,reason}`
pub(super) const EJECTIONS: Metric = counter(
    "ringlane_ejections_total",
    Unit::Count,
    "Ejections of the backend, by what it was ejected for.",
);

/// `{pool}`
pub(super) const BREAKER_STATE: Metric = gauge(
    "ringlane_breaker_state",
    Unit::Count,
    "The pool's breaker: 0 closed, 1 half open, 2 open; under other, the sum.",
);

/// `{pool,to}`
pub(super) const BREAKER_TURNS: Metric = counter(
    "ringlane_breaker_turns_total",
    Unit::Count,
    "Times that the pool's breaker became closed, half open or open.",
);

/// `{pool}`
pub(super) const BREAKER_CONNECTIONS: Metric = gauge(
    "ringlane_breaker_connections",
    Unit::Count,
    "Connections of the pool that count for the maximum of its breaker.",
);

/// `{pool}`
pub(super) const BREAKER_PENDING: Metric = gauge(
    "ringlane_breaker_pending",
    Unit::Count,
    "Connects of the pool under way that count for the maximum of its breaker.",
);

/// What a metrics page shows of the breaker of one pool.
#[derive(Clone, Debug)]
pub struct BreakerFacts {
    /// The pool's name.
    pub pool: Arc<str>,
    /// 0: closed; 1: half open; 2: open.
    pub state: u64,
    /// How often it became closed, half open and open.
    pub turns: [u64; 3],
    /// Connections that it counts.
    pub connections: u64,
    /// Connects under way that it counts.
    pub pending: u64,
}

/// What a metrics page shows of the ejections of one backend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ejections {
    /// 1 while it is ejected.
    pub now: u64,
    /// How often it was for connects that failed in a row.
    pub connect_failures: u64,
    /// How often it was for sessions that failed as they began.
    pub failure_rate: u64,
}

impl Ejections {
    pub(super) const fn add(&mut self, other: Self) {
        self.now += other.now;
        self.connect_failures += other.connect_failures;
        self.failure_rate += other.failure_rate;
    }
}

pub(super) fn ejections(page: &Page, labels: [(&'static str, &str); 2], of: Ejections) {
    page.gauge(&BACKEND_EJECTED, &labels, number(of.now));
    for (reason, count) in [
        ("connect_failures", of.connect_failures),
        ("failure_rate", of.failure_rate),
    ] {
        let labels = [labels[0], labels[1], ("reason", reason)];
        page.counter(&EJECTIONS, &labels, count);
    }
}

pub(super) fn breakers(page: &Page, scrape: &Scrape) {
    let mut sums = BTreeMap::<&str, [u64; 6]>::new();
    for facts in &scrape.breakers {
        let name = &*facts.pool;
        let place = if sums.len() < VALUES_MAX { name } else { OTHER };
        let [closed, half_open, open] = facts.turns;
        let all = [
            facts.state,
            facts.connections,
            facts.pending,
            closed,
            half_open,
            open,
        ];
        let sum = sums.entry(place).or_default();
        for (sum, count) in sum.iter_mut().zip(all) {
            *sum += count;
        }
    }
    for (pool, [state, connections, pending, turns @ ..]) in sums {
        let pool = ("pool", pool);
        page.gauge(&BREAKER_STATE, &[pool], number(state));
        page.gauge(&BREAKER_CONNECTIONS, &[pool], number(connections));
        page.gauge(&BREAKER_PENDING, &[pool], number(pending));
        for (to, count) in ["closed", "half_open", "open"].into_iter().zip(turns) {
            page.counter(&BREAKER_TURNS, &[pool, ("to", to)], count);
        }
    }
}
