//! Metrics of what keeps clients away: lists, limits, overload.

use metrics::Unit;

use super::{Metric, counter, gauge};

/// `{result}`
pub const LIST_RELOADS: Metric = counter(
    "ringlane_list_reloads_total",
    Unit::Count,
    "Changed lists of networks: applied, or rejected for a fault.",
);

/// `{listener}`
pub const ACCESS_PREFIXES: Metric = gauge(
    "ringlane_access_prefixes",
    Unit::Count,
    "Networks that decide who may connect to the listener.",
);

/// `{listener}`
pub const LIMIT_SOURCES: Metric = gauge(
    "ringlane_limit_sources",
    Unit::Count,
    "Sources that the listener's limits count now: with a connection, or not yet back at their full rate.",
);

/// `{listener}`
pub const LIMIT_UNCOUNTED: Metric = counter(
    "ringlane_limit_uncounted_total",
    Unit::Count,
    "Clients that were let in uncounted because the listener's table of sources was full.",
);

/// `{listener,reason}`
pub const LIMITS_LOGGED: Metric = counter(
    "ringlane_limits_logged_total",
    Unit::Count,
    "Clients over a limit of sources that were served because log_only is set.",
);

/// `{listener}`
pub const SLOWED: Metric = counter(
    "ringlane_slowed_total",
    Unit::Count,
    "Sessions that were slowed because their source was above bytes_per_source.",
);

/// No labels.
pub const OVERLOADED: Metric = gauge(
    "ringlane_overloaded",
    Unit::Count,
    "1 while the process takes no new clients because it is overloaded.",
);

/// `{cause}`
pub const OVERLOADS: Metric = counter(
    "ringlane_overloads_total",
    Unit::Count,
    "Times that an overload began, by cause.",
);

/// No labels.
pub const OVERLOAD_MEMORY: Metric = gauge(
    "ringlane_overload_memory_bytes",
    Unit::Bytes,
    "Memory taken, where overload goes by that.",
);

/// No labels.
pub const OVERLOAD_MEMORY_THRESHOLD: Metric = gauge(
    "ringlane_overload_memory_threshold_bytes",
    Unit::Bytes,
    "Memory from which on the process is overloaded.",
);

/// No labels.
pub const OVERLOAD_LAG: Metric = gauge(
    "ringlane_overload_lag_seconds",
    Unit::Seconds,
    "How late the slowest worker is on average, where overload goes by that.",
);

/// `{worker}`
pub const TARPITTED: Metric = gauge(
    "ringlane_tarpitted",
    Unit::Count,
    "Rejected clients that the worker keeps waiting.",
);
