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
            | Self::TwoWorkers => REQUESTS,
            Self::Churn | Self::Backends100 | Self::Reload => CONNECTIONS,
            Self::BulkUp1 | Self::BulkUp8 | Self::BulkDown1 | Self::BulkDown8 => BYTES,
            Self::Idle => MEMORY,
        }
    }

    /// Whether the 99.9th percentile is its figure, and not the cost.
    pub fn is_judged_by_latency(self) -> bool {
        matches!(self, Self::Latency30 | Self::Latency70 | Self::Reload)
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
