//! The workloads: what each does and in which unit its cost is told.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A kind of work that is given to every peer.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// 64 keep-alive connections, 64 B there and back
    #[value(name = "small-64")]
    #[serde(rename = "small-64")]
    Small64,
    /// 64 keep-alive connections, 1 KiB there and back
    #[value(name = "small-1k")]
    #[serde(rename = "small-1k")]
    Small1k,
    /// connect, 64 B there and back, close; 64 at a time
    Churn,
    /// 64 keep-alive connections, 64 B there, 100 KiB back
    #[value(name = "response-100k")]
    #[serde(rename = "response-100k")]
    Response100k,
    /// iperf3, client to server, one connection
    #[value(name = "bulk-up-1")]
    #[serde(rename = "bulk-up-1")]
    BulkUp1,
    /// iperf3, client to server, eight connections
    #[value(name = "bulk-up-8")]
    #[serde(rename = "bulk-up-8")]
    BulkUp8,
    /// iperf3, server to client, one connection
    #[value(name = "bulk-down-1")]
    #[serde(rename = "bulk-down-1")]
    BulkDown1,
    /// iperf3, server to client, eight connections
    #[value(name = "bulk-down-8")]
    #[serde(rename = "bulk-down-8")]
    BulkDown8,
    /// open loop at 30 % of the slowest peer's small-64 rate
    #[value(name = "latency-30")]
    #[serde(rename = "latency-30")]
    Latency30,
    /// open loop at 70 % of the slowest peer's small-64 rate
    #[value(name = "latency-70")]
    #[serde(rename = "latency-70")]
    Latency70,
    /// memory of connections that are open and silent
    Idle,
    /// churn over a pool of 100 backends
    #[value(name = "backends-100")]
    #[serde(rename = "backends-100")]
    Backends100,
    /// 2,000 connections a second while the configuration is reloaded five times
    Reload,
    /// small-1k with two workers and with one
    TwoWorkers,
    /// small-64 with health checks, limits and lists of 100,000 networks, and without
    #[value(name = "protected-small-64")]
    #[serde(rename = "protected-small-64")]
    ProtectedSmall64,
    /// churn with health checks, limits and lists of 100,000 networks, and without
    ProtectedChurn,
    /// 5,000 requests a second, in peace and beside a flood, slow clients and a storm of reloads
    Siege,
    /// TLS 1.3, ECDSA P-256: full handshake, 64 B there and back, close; 64 at a time
    #[value(name = "tls-full-ecdsa-13")]
    #[serde(rename = "tls-full-ecdsa-13")]
    TlsFullEcdsa13,
    /// TLS 1.2, ECDSA P-256: full handshake, 64 B there and back, close; 64 at a time
    #[value(name = "tls-full-ecdsa-12")]
    #[serde(rename = "tls-full-ecdsa-12")]
    TlsFullEcdsa12,
    /// TLS 1.3, RSA-2048: full handshake, 64 B there and back, close; 64 at a time
    #[value(name = "tls-full-rsa-13")]
    #[serde(rename = "tls-full-rsa-13")]
    TlsFullRsa13,
    /// TLS 1.2, RSA-2048: full handshake, 64 B there and back, close; 64 at a time
    #[value(name = "tls-full-rsa-12")]
    #[serde(rename = "tls-full-rsa-12")]
    TlsFullRsa12,
    /// TLS 1.3: handshake with a ticket, 64 B there and back, close; 64 at a time
    #[value(name = "tls-resumed-13")]
    #[serde(rename = "tls-resumed-13")]
    TlsResumed13,
    /// TLS 1.2: handshake with a ticket, 64 B there and back, close; 64 at a time
    #[value(name = "tls-resumed-12")]
    #[serde(rename = "tls-resumed-12")]
    TlsResumed12,
    /// 64 keep-alive TLS connections, 64 B there and back
    #[value(name = "tls-small")]
    #[serde(rename = "tls-small")]
    TlsSmall,
    /// requests of 4 MiB over four TLS connections
    #[value(name = "tls-bulk-up")]
    #[serde(rename = "tls-bulk-up")]
    TlsBulkUp,
    /// responses of 4 MiB over four TLS connections
    #[value(name = "tls-bulk-down")]
    #[serde(rename = "tls-bulk-down")]
    TlsBulkDown,
    /// memory of TLS connections that are open and silent
    #[value(name = "tls-idle")]
    #[serde(rename = "tls-idle")]
    TlsIdle,
    /// churn with a ClientHello, routed by its name; one name
    #[value(name = "sni-1")]
    #[serde(rename = "sni-1")]
    Sni1,
    /// churn with a ClientHello, routed by its name; 1,000 names
    #[value(name = "sni-1000")]
    #[serde(rename = "sni-1000")]
    Sni1000,
}

/// How a cost is told.
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    /// `µs/request`
    pub cost: &'static str,
    /// What a cost as measured is multiplied by.
    pub cost_scale: f64,
    /// `requests/s`
    pub rate: &'static str,
    /// What a rate as measured is multiplied by.
    pub rate_scale: f64,
}

const REQUESTS: Unit = Unit {
    cost: "CPU µs/request",
    cost_scale: 1e6,
    rate: "requests/s",
    rate_scale: 1.0,
};
const CONNECTIONS: Unit = Unit {
    cost: "CPU µs/connection",
    cost_scale: 1e6,
    rate: "connections/s",
    rate_scale: 1.0,
};
const HANDSHAKES: Unit = Unit {
    cost: "CPU µs/handshake",
    cost_scale: 1e6,
    rate: "handshakes/s",
    rate_scale: 1.0,
};
const BYTES: Unit = Unit {
    cost: "CPU s/GB",
    cost_scale: 1e9,
    rate: "GB/s",
    rate_scale: 1e-9,
};
const MEMORY: Unit = Unit {
    cost: "bytes/connection",
    cost_scale: 1.0,
    rate: "",
    rate_scale: 1.0,
};

impl Workload {
    /// All, in the order they run: those that others are judged by first.
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// How its cost is told.
    pub fn unit(self) -> Unit {
        match self {
            Self::Small64
            | Self::Small1k
            | Self::Response100k
            | Self::Latency30
            | Self::Latency70
            | Self::TwoWorkers
            | Self::ProtectedSmall64
            | Self::Siege
            | Self::TlsSmall => REQUESTS,
            Self::Churn
            | Self::Backends100
            | Self::Reload
            | Self::ProtectedChurn
            | Self::Sni1
            | Self::Sni1000 => CONNECTIONS,
            Self::TlsFullEcdsa13
            | Self::TlsFullEcdsa12
            | Self::TlsFullRsa13
            | Self::TlsFullRsa12
            | Self::TlsResumed13
            | Self::TlsResumed12 => HANDSHAKES,
            Self::BulkUp1
            | Self::BulkUp8
            | Self::BulkDown1
            | Self::BulkDown8
            | Self::TlsBulkUp
            | Self::TlsBulkDown => BYTES,
            Self::Idle | Self::TlsIdle => MEMORY,
        }
    }

    /// Whether a high percentile is its figure, and not the cost.
    pub fn is_judged_by_latency(self) -> bool {
        matches!(
            self,
            Self::Latency30 | Self::Latency70 | Self::Reload | Self::Siege
        )
    }

    /// Whether TLS ends in the balancer.
    pub fn terminates(self) -> bool {
        matches!(
            self,
            Self::TlsFullEcdsa13
                | Self::TlsFullEcdsa12
                | Self::TlsFullRsa13
                | Self::TlsFullRsa12
                | Self::TlsResumed13
                | Self::TlsResumed12
                | Self::TlsSmall
                | Self::TlsBulkUp
                | Self::TlsBulkDown
                | Self::TlsIdle
        )
    }

    /// Those that a word means: the one of this name, or all whose names begin with it and a hyphen.
    ///
    /// # Errors
    /// No workload is meant.
    pub fn named(word: &str) -> Result<Vec<Self>, String> {
        let meant = |workload: &&Self| {
            let name = workload.to_string();
            name == word
                || name
                    .strip_prefix(word)
                    .is_some_and(|it| it.starts_with('-'))
        };
        let found: Vec<Self> = Self::all().iter().filter(meant).copied().collect();
        if found.is_empty() {
            let names: Vec<String> = Self::all().iter().map(Self::to_string).collect();
            return Err(format!("there are {}", names.join(", ")));
        }
        Ok(found)
    }

    /// One line on what it does.
    pub fn about(self) -> String {
        self.to_possible_value()
            .and_then(|value| value.get_help().map(ToString::to_string))
            .unwrap_or_default()
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().ok_or(fmt::Error)?;
        out.pad(value.get_name())
    }
}

#[cfg(test)]
mod tests {
    use super::Workload;

    #[test]
    fn a_name_means_itself_and_a_prefix_all_below_it() {
        assert_eq!(Workload::named("churn"), Ok(vec![Workload::Churn]));
        assert_eq!(Workload::named("idle"), Ok(vec![Workload::Idle]));
        let tls = Workload::named("tls").unwrap();
        assert!(tls.iter().all(|workload| workload.terminates()));
        let all = Workload::all().iter();
        assert_eq!(tls.len(), all.filter(|it| it.terminates()).count());
        let full = [Workload::TlsFullRsa13, Workload::TlsFullRsa12];
        assert_eq!(Workload::named("tls-full-rsa"), Ok(full.to_vec()));
        // A part of a word is no prefix.
        assert!(Workload::named("tls-f").is_err());
        assert!(Workload::named("").is_err());
    }
}
