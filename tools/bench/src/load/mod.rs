//! The load generator: plans, what comes out of them, and the loop that carries them out.

mod connection;
mod engine;
mod opener;
pub mod tls;
mod wire;

use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

pub use engine::run;

/// What a load process does. Handed to it as JSON on its command line.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Plan {
    /// Where to connect to.
    pub target: SocketAddr,
    /// What connections speak below requests and responses.
    pub dialect: Dialect,
    /// Connections at the most.
    pub connections: usize,
    /// Bytes of a request, header included.
    pub request: u32,
    /// Bytes of a response.
    pub response: u32,
    /// What becomes of a connection after its response.
    pub reuse: Reuse,
    /// When requests begin.
    pub pace: Pace,
    /// Work before the measured window.
    pub warm_up: Duration,
    /// The measured window.
    pub measure: Duration,
    /// A request that takes longer is an error.
    pub timeout: Duration,
    /// Processes whose CPU time is taken at both ends of the window.
    pub watch: Vec<u32>,
    /// Processes that generate load besides this one.
    pub watch_load: Vec<u32>,
}

/// What connections speak below requests and responses.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub enum Dialect {
    /// Nothing.
    Plain,
    /// TLS.
    Tls(tls::Client),
    /// A ClientHello before the first request of a connection, for one of so many names; then nothing.
    Hello {
        /// The names are those of the numbers below this.
        names: usize,
    },
}

/// What becomes of a connection after its response.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Reuse {
    /// It carries the next request.
    KeepAlive,
    /// The client closes it and opens another for the next request.
    Close,
}

/// When requests begin.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub enum Pace {
    /// Each connection asks again as soon as it has its response.
    Closed,
    /// At so many a second, whether or not a connection is free: latency counts from the time at
    /// which a request was due, so that a stall is felt by all requests that were due in it.
    Open(f64),
    /// Each connection asks once; the run ends when all have their response.
    Once,
}

/// Errors by kind.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Errors {
    /// No connection came about.
    pub connect: u64,
    /// The connection was reset.
    pub reset: u64,
    /// The connection was closed before the response was complete.
    pub early_close: u64,
    /// A byte differs from the pattern, or there is one too many.
    pub wrong_bytes: u64,
    /// The response was not complete in time.
    pub timeout: u64,
    /// TLS failed: a handshake, a record, or an alert came.
    #[serde(default)]
    pub tls: u64,
    /// A session was not continued.
    #[serde(default)]
    pub not_resumed: u64,
}

impl Errors {
    /// All kinds together.
    pub fn total(self) -> u64 {
        self.connect
            + self.reset
            + self.early_close
            + self.wrong_bytes
            + self.timeout
            + self.tls
            + self.not_resumed
    }

    /// Kind by kind.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            connect: self.connect + other.connect,
            reset: self.reset + other.reset,
            early_close: self.early_close + other.early_close,
            wrong_bytes: self.wrong_bytes + other.wrong_bytes,
            timeout: self.timeout + other.timeout,
            tls: self.tls + other.tls,
            not_resumed: self.not_resumed + other.not_resumed,
        }
    }

    /// `3 reset, 1 timeout`; empty without errors.
    pub fn describe(self) -> String {
        let kinds = [
            (self.connect, "connect"),
            (self.reset, "reset"),
            (self.early_close, "early close"),
            (self.wrong_bytes, "wrong bytes"),
            (self.timeout, "timeout"),
            (self.tls, "TLS"),
            (self.not_resumed, "not resumed"),
        ];
        kinds
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, kind)| format!("{count} {kind}"))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// 99 of 100 are below.
    pub p99: f64,
    /// 999 of 1,000 are below.
    pub p999: f64,
    /// The longest.
    pub max: f64,
    /// How many were measured.
    pub count: u64,
}

impl Latency {
    fn of(nanoseconds: &Histogram<u64>) -> Option<Self> {
        let at = |quantile: f64| nanoseconds.value_at_quantile(quantile) as f64 / 1e3;
        (!nanoseconds.is_empty()).then(|| Self {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: nanoseconds.max() as f64 / 1e3,
            count: nanoseconds.len(),
        })
    }
}

/// What a plan came to.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Outcome {
    /// Length of the measured window in seconds.
    pub wall_s: f64,
    /// Requests completed inside the window.
    pub completed: u64,
    /// CPU time of the watched processes inside the window, in seconds.
    pub cpu_s: f64,
    /// CPU time of this process and of the other load processes inside the window, in seconds.
    pub load_cpu_s: f64,
    /// CPU time of all other processes of the machine inside the window, in seconds.
    pub foreign_cpu_s: f64,
    /// Errors, warm-up included: there is no time at which an error is welcome.
    pub errors: Errors,
    /// Of requests that were due, or without a rate: completed, inside the window.
    pub latency: Option<Latency>,
}
