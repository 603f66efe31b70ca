//! What keeps clients away, on the metrics page.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Scrape, number};
use crate::metrics::exposition::Page;
use crate::metrics::names::{self, OTHER, VALUES_MAX};

/// What a metrics page shows of what one listener asks of its clients.
#[derive(Clone, Debug)]
pub struct GuardFacts {
    /// The listener's name.
    pub listener: Arc<str>,
    /// Networks in its lists.
    pub prefixes: u64,
    /// Sources that it counts now.
    pub sources: u64,
    /// Clients that it let in uncounted.
    pub uncounted: u64,
}

/// What a metrics page shows of overload.
#[derive(Clone, Debug, Default)]
pub struct OverloadFacts {
    /// Whether it is too much now.
    pub is_overloaded: bool,
    /// How often it began, by cause.
    pub begun: [(&'static str, u64); 2],
    /// Memory taken, bytes; `None`: it is not measured.
    pub memory: Option<u64>,
    /// From which on that is too much.
    pub memory_limit: Option<u64>,
    /// How late the slowest worker is; `None`: it is not measured.
    pub lag: Option<Duration>,
}

pub(super) fn guards(page: &Page, scrape: &Scrape) {
    let reloads = [
        ("applied", scrape.lists_applied),
        ("rejected", scrape.lists_rejected),
    ];
    for (result, count) in reloads {
        page.counter(&names::LIST_RELOADS, &[("result", result)], count);
    }
    let mut sums = BTreeMap::<&str, [u64; 3]>::new();
    for facts in &scrape.guards {
        let name = &*facts.listener;
        let place = if sums.len() < VALUES_MAX { name } else { OTHER };
        let sum = sums.entry(place).or_default();
        sum[0] += facts.prefixes;
        sum[1] += facts.sources;
        sum[2] += facts.uncounted;
    }
    for (listener, [prefixes, sources, uncounted]) in sums {
        let labels = [("listener", listener)];
        page.gauge(&names::ACCESS_PREFIXES, &labels, number(prefixes));
        page.gauge(&names::LIMIT_SOURCES, &labels, number(sources));
        page.counter(&names::LIMIT_UNCOUNTED, &labels, uncounted);
    }
}

pub(super) fn overload(page: &Page, facts: &OverloadFacts) {
    let is_overloaded = f64::from(u8::from(facts.is_overloaded));
    page.gauge(&names::OVERLOADED, &[], is_overloaded);
    for (cause, count) in facts.begun {
        page.counter(&names::OVERLOADS, &[("cause", cause)], count);
    }
    let bytes = [
        (&names::OVERLOAD_MEMORY, facts.memory),
        (&names::OVERLOAD_MEMORY_THRESHOLD, facts.memory_limit),
    ];
    for (metric, bytes) in bytes {
        if let Some(bytes) = bytes {
            page.gauge(metric, &[], number(bytes));
        }
    }
    if let Some(lag) = facts.lag {
        page.gauge(&names::OVERLOAD_LAG, &[], lag.as_secs_f64());
    }
}
