//! Every metric that ringlane exports: its name, kind, unit and help text.

mod protection;

use metrics::Unit;

use super::outcomes::{
    BACKEND_EJECTED, BREAKER_CONNECTIONS, BREAKER_PENDING, BREAKER_STATE, BREAKER_TURNS, EJECTIONS,
};
pub use protection::{
    ACCESS_PREFIXES, LIMIT_SOURCES, LIMIT_UNCOUNTED, LIMITS_LOGGED, LIST_RELOADS, OVERLOAD_LAG,
    OVERLOAD_MEMORY, OVERLOAD_MEMORY_THRESHOLD, OVERLOADED, OVERLOADS, SLOWED, TARPITTED,
};

/// Distinct values of labels from the configuration that one metric may carry; what is beyond is
/// summed under [`OTHER`].
pub const VALUES_MAX: usize = 1_000;

/// The label value of what is beyond [`VALUES_MAX`].
pub const OTHER: &str = "other";

/// One exported metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// As in the exposition.
    pub name: &'static str,
    /// What its values mean.
    pub kind: Kind,
    /// What its values count.
    pub unit: Unit,
    /// One sentence for the operator.
    pub help: &'static str,
}

/// What the values of a metric mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Is what it is now.
    Gauge,
    /// Durations in buckets.
    Histogram,
}

pub(super) const fn counter(name: &'static str, unit: Unit, help: &'static str) -> Metric {
    let kind = Kind::Counter;
    Metric {
        name,
        kind,
        unit,
        help,
    }
}

pub(super) const fn gauge(name: &'static str, unit: Unit, help: &'static str) -> Metric {
    let kind = Kind::Gauge;
    Metric {
        name,
        kind,
        unit,
        help,
    }
}

const fn seconds(name: &'static str, help: &'static str) -> Metric {
    let (kind, unit) = (Kind::Histogram, Unit::Seconds);
    Metric {
        name,
        kind,
        unit,
        help,
    }
}

/// `{listener}`
pub const ACCEPTED: Metric = counter(
    "ringlane_accepted_total",
    Unit::Count,
    "Connections accepted.",
);

/// `{listener,result}`
pub const CONNECTIONS: Metric = counter(
    "ringlane_connections_total",
    Unit::Count,
    "Sessions that have ended, by the reason of their end.",
);

/// `{listener,worker}`
pub const CONNECTIONS_ACTIVE: Metric = gauge(
    "ringlane_connections_active",
    Unit::Count,
    "Sessions that have not ended.",
);

/// `{listener,direction}`
pub const BYTES: Metric = counter(
    "ringlane_bytes_total",
    Unit::Bytes,
    "Bytes relayed: up from clients to backends, down from backends to clients.",
);

/// `{listener}`
pub const SESSION_SECONDS: Metric = seconds(
    "ringlane_session_seconds",
    "Time from accept to close of sessions that have ended.",
);

/// `{reason}`
pub const REJECTED: Metric = counter(
    "ringlane_rejected_total",
    Unit::Count,
    "Sessions that ended before a backend could serve them, all listeners together.",
);

/// `{pool}`
pub const CONNECT_SECONDS: Metric = seconds(
    "ringlane_connect_seconds",
    "Time to establish a connection to a backend.",
);

/// `{pool}`
pub const FIRST_BYTE_SECONDS: Metric = seconds(
    "ringlane_first_byte_seconds",
    "Time from an established connection to the first byte of the backend.",
);

/// `{listener,result}`
pub const HANDSHAKES: Metric = counter(
    "ringlane_tls_handshakes_total",
    Unit::Count,
    "TLS handshakes with clients that have ended: full, resumed or failed.",
);

/// `{pool,outcome}`
pub const RETRIES: Metric = counter(
    "ringlane_retries_total",
    Unit::Count,
    "Connection attempts after the first: ok, failed, or denied by the retry budget.",
);

/// `{pool}`
pub const PROXY_VALUES_LEFT_OUT: Metric = counter(
    "ringlane_proxy_values_left_out_total",
    Unit::Count,
    "Values that PROXY headers to the pool's backends had no room for.",
);

/// `{pool}`
pub const QUEUE: Metric = gauge(
    "ringlane_pool_queue",
    Unit::Count,
    "Clients that wait for a backend of the pool with room for them.",
);

/// `{pool}`
pub const QUEUED: Metric = counter(
    "ringlane_pool_queued_total",
    Unit::Count,
    "Clients that had to wait for a backend of the pool with room for them.",
);

/// `{pool}`
pub const POOL_USABLE: Metric = gauge(
    "ringlane_pool_usable",
    Unit::Count,
    "Backends of the pool that may be tried now.",
);

/// `{pool,backend}`
pub const BACKEND_UP: Metric = gauge(
    "ringlane_backend_up",
    Unit::Count,
    "1 if the backend may be tried now, else 0; under other, how many may.",
);

/// `{pool,backend}`
pub const BACKEND_CONNECTIONS_ACTIVE: Metric = gauge(
    "ringlane_backend_connections_active",
    Unit::Count,
    "Connections to the backend that are open or being opened.",
);

/// `{pool,backend,result}`
pub const BACKEND_CONNECTS: Metric = counter(
    "ringlane_backend_connects_total",
    Unit::Count,
    "Attempts to connect to the backend that have ended: ok or failed.",
);

/// `{pool,backend,result}`
pub const BACKEND_PROBES: Metric = counter(
    "ringlane_backend_probes_total",
    Unit::Count,
    "Health checks of the backend that have ended: ok or failed.",
);

/// `{pool,backend}`
pub const BACKEND_PROBE_SECONDS: Metric = gauge(
    "ringlane_backend_probe_seconds",
    Unit::Seconds,
    "Time that the last health check of the backend took; under other, the longest of them.",
);

/// `{worker}`
pub const ACCEPT_PAUSED: Metric = counter(
    "ringlane_accept_paused_total",
    Unit::Count,
    "Times that the worker stopped accepting for a while because no descriptor was left.",
);

/// `{worker}`
pub const PIPES_REFUSED: Metric = counter(
    "ringlane_pipes_refused_total",
    Unit::Count,
    "Times that the worker wanted a pipe to splice through and went on copying without one.",
);

/// `{worker}`
pub const WORKER_UP: Metric = gauge(
    "ringlane_worker_up",
    Unit::Count,
    "1 if the worker was alive within the last second, else 0.",
);

/// `{worker}`
pub const WORKER_HEARTBEAT_AGE: Metric = gauge(
    "ringlane_worker_heartbeat_age_seconds",
    Unit::Seconds,
    "Time since the worker was last known to be alive.",
);

/// No labels.
pub const SESSION_PANICS: Metric = counter(
    "ringlane_session_panics_total",
    Unit::Count,
    "Sessions that ended in a panic, which is a fault of ringlane.",
);

/// No labels.
pub const LOG_DROPPED: Metric = counter(
    "ringlane_log_dropped_total",
    Unit::Count,
    "Session lines that were not written, because the target was slow or failed.",
);

/// `{version}`
pub const CONFIG_INFO: Metric = gauge(
    "ringlane_config_info",
    Unit::Count,
    "Always 1; its label is the version of the configuration in force.",
);

/// `{result}`
pub const CONFIG_RELOAD: Metric = counter(
    "ringlane_config_reload_total",
    Unit::Count,
    "Reloads of the configuration: applied or rejected.",
);

/// `{name}`
pub const CERTIFICATE_EXPIRY: Metric = gauge(
    "ringlane_certificate_expiry_seconds",
    Unit::Seconds,
    "Time until the certificate expires, negative afterwards; of several with one name the first to.",
);

/// `{result}`
pub const CERTIFICATE_RELOADS: Metric = counter(
    "ringlane_certificate_reloads_total",
    Unit::Count,
    "Changed files of certificates, keys and authorities: applied, or rejected for a fault.",
);

/// No labels.
pub const DESCRIPTORS: Metric = gauge(
    "ringlane_descriptors",
    Unit::Count,
    "File descriptors that the process has open.",
);

/// `{version,driver}`
pub const BUILD_INFO: Metric = gauge(
    "ringlane_build_info",
    Unit::Count,
    "Always 1; its labels are ringlane's version and what its workers wait with.",
);

/// Every metric.
pub const ALL: [Metric; 49] = [
    ACCEPTED,
    CONNECTIONS,
    CONNECTIONS_ACTIVE,
    BYTES,
    SESSION_SECONDS,
    REJECTED,
    CONNECT_SECONDS,
    FIRST_BYTE_SECONDS,
    HANDSHAKES,
    RETRIES,
    PROXY_VALUES_LEFT_OUT,
    QUEUE,
    QUEUED,
    POOL_USABLE,
    BACKEND_UP,
    BACKEND_CONNECTIONS_ACTIVE,
    BACKEND_CONNECTS,
    BACKEND_PROBES,
    BACKEND_PROBE_SECONDS,
    BACKEND_EJECTED,
    EJECTIONS,
    BREAKER_STATE,
    BREAKER_TURNS,
    BREAKER_CONNECTIONS,
    BREAKER_PENDING,
    ACCEPT_PAUSED,
    PIPES_REFUSED,
    WORKER_UP,
    WORKER_HEARTBEAT_AGE,
    SESSION_PANICS,
    LOG_DROPPED,
    CONFIG_INFO,
    CONFIG_RELOAD,
    CERTIFICATE_EXPIRY,
    CERTIFICATE_RELOADS,
    LIST_RELOADS,
    ACCESS_PREFIXES,
    LIMIT_SOURCES,
    LIMIT_UNCOUNTED,
    LIMITS_LOGGED,
    SLOWED,
    OVERLOADED,
    OVERLOADS,
    OVERLOAD_MEMORY,
    OVERLOAD_MEMORY_THRESHOLD,
    OVERLOAD_LAG,
    TARPITTED,
    DESCRIPTORS,
    BUILD_INFO,
];
