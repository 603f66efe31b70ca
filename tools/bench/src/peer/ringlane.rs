//! ringlane: the defaults, but one worker, pinned from outside, and no line per session.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::hello;

use super::{Front, Setup};
use crate::siege::{SLOW_PER_SOURCE, slow_clients};

/// What its log says after a reload that worked.
pub(super) const RELOADED: &str = "reload applied as version";

pub(super) fn arguments(file: &str) -> Vec<String> {
    ["run", "--config", file].map(str::to_owned).to_vec()
}

/// What it does for clients and backends besides passing bytes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Protection {
    /// Nothing.
    Off,
    /// It checks backends, and counts and limits clients; nobody comes near a limit.
    On,
    /// The same with limits that a siege is beyond.
    Narrow,
}

pub(super) fn configuration(setup: &Setup, workers: usize, protection: Protection) -> String {
    let backends: Vec<String> = setup
        .backends
        .iter()
        .map(|backend| format!("\"{backend}\""))
        .collect();
    format!(
        r#"[global]
workers = {workers}
pin = false

[global.shutdown]
drain = "0s"

[admin]
listen = "unix:{scratch}/admin.sock"

[log]
sessions = "off"

[[listener]]
listen = "127.0.0.1:{listen}"
{limits}{front}
[pool.bench]
balance = "least_connections"
backends = [{backends}]
{health}"#,
        scratch = setup.scratch.display(),
        listen = setup.listen,
        limits = match protection {
            Protection::Off => String::new(),
            Protection::On => limits(setup, &WIDE),
            Protection::Narrow => limits(setup, &narrow()),
        },
        front = front(setup),
        health = match protection {
            Protection::Off => "",
            Protection::On | Protection::Narrow => {
                "health = { interval = \"1s\", timeout = \"500ms\" }\n\
                 outliers = { failure_rate = \"50%\" }\n\
                 breaker = { max_connections = 100000, max_pending = 10000 }\n"
            }
        },
        backends = backends.join(", "),
    )
}

struct Limits {
    connections: usize,
    per_source: usize,
    rate: u32,
    burst: u32,
}

const WIDE: Limits = Limits {
    connections: 100_000,
    per_source: 100_000,
    rate: 1_000_000,
    burst: 1_000_000,
};

/// Room for the slow clients of a siege and for those who are served, not for the flood.
fn narrow() -> Limits {
    Limits {
        connections: slow_clients() + 256,
        per_source: 2 * SLOW_PER_SOURCE,
        rate: 100,
        burst: 200,
    }
}

fn limits(setup: &Setup, limits: &Limits) -> String {
    format!(
        r#"allow = ["0.0.0.0/0"]
deny_file = "{denied}"
max_connections = {connections}
limits = {{ per_source = {per_source}, rate_per_source = "{rate}/s", burst = {burst} }}
"#,
        connections = limits.connections,
        per_source = limits.per_source,
        rate = limits.rate,
        burst = limits.burst,
        denied = denied_file(setup).display(),
    )
}

/// Where the networks are that it refuses.
pub(super) fn denied_file(setup: &Setup) -> PathBuf {
    setup.scratch.join("denied.txt")
}

/// 100,000 networks without any client of this machine's.
pub(super) fn denied() -> String {
    const FIRST: u32 = 128 << 24;
    let networks = (0..100_000).map(|number| Ipv4Addr::from_bits(FIRST + (number << 8)));
    networks.map(|network| format!("{network}/24\n")).collect()
}

/// Where connections go. With names each has a route of its own, as if each had a pool.
fn front(setup: &Setup) -> String {
    match &setup.front {
        Front::Plain => "pool = \"bench\"\n".to_owned(),
        Front::Tls(certificate) => format!(
            r#"pool = "bench"

[listener.tls]
certificates = [{{ chain = "{chain}", key = "{key}" }}]
"#,
            chain = certificate.chain.display(),
            key = certificate.key.display(),
        ),
        Front::Names(names) => {
            let mut text = String::new();
            for name in (0..*names).map(hello::name) {
                let _ = write!(
                    text,
                    "\n[[listener.route]]\nsni = [\"{name}\"]\npool = \"bench\"\n"
                );
            }
            text
        }
    }
}
