//! Of backends and pools that fail their clients.

use metrics::Unit;

use super::{Metric, counter, gauge};

/// `{pool,backend}`
pub const BACKEND_EJECTED: Metric = gauge(
    "ringlane_backend_ejected",
    Unit::Count,
    "1 while the backend is ejected because of its failures, else 0; under other, how many are.",
);

/// `{pool,backend,reason}`
pub const EJECTIONS: Metric = counter(
    "ringlane_ejections_total",
    Unit::Count,
    "Ejections of the backend, by what it was ejected for.",
);

/// `{pool}`
pub const BREAKER_STATE: Metric = gauge(
    "ringlane_breaker_state",
    Unit::Count,
    "The pool's breaker: 0 closed, 1 half open, 2 open; under other, the sum.",
);

/// `{pool,to}`
pub const BREAKER_TURNS: Metric = counter(
    "ringlane_breaker_turns_total",
    Unit::Count,
    "Times that the pool's breaker became closed, half open or open.",
);

/// `{pool}`
pub const BREAKER_CONNECTIONS: Metric = gauge(
    "ringlane_breaker_connections",
    Unit::Count,
    "Connections of the pool that count for the maximum of its breaker.",
);

/// `{pool}`
pub const BREAKER_PENDING: Metric = gauge(
    "ringlane_breaker_pending",
    Unit::Count,
    "Connects of the pool under way that count for the maximum of its breaker.",
);
