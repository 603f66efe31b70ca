//! `pool.health` as keys and values.

use toml::Value;

use super::{Setting, time};
use crate::config::choices::{INITIALS, word};
use crate::config::model::{Exchange, Expect, Health, HttpProbe, Probe};
use crate::config::text::{bytes_text, status_text};

/// `pool.health`
pub(super) fn health(health: &Health) -> Vec<Setting> {
    let (word_of_probe, own) = match &health.probe {
        Probe::Tcp => ("tcp", Vec::new()),
        Probe::Tls => ("tls", Vec::new()),
        Probe::Http(probe) => ("http", http(probe)),
        Probe::Exchange(probe) => ("exchange", exchange(probe)),
    };
    let port = health.port.map(|port| i64::from(port).into());
    let address = health.address.map(|address| address.to_string().into());
    let mut all = vec![
        ("health.type", Some(word_of_probe.into())),
        ("health.interval", Some(time(health.interval))),
        ("health.timeout", Some(time(health.timeout))),
        ("health.rise", Some(i64::from(health.rise).into())),
        ("health.fall", Some(i64::from(health.fall).into())),
        ("health.port", port),
        ("health.address", address),
        (
            "health.initial",
            Some(word(&INITIALS, &health.initial).into()),
        ),
    ];
    all.extend(own);
    all
}

fn http(probe: &HttpProbe) -> Vec<Setting> {
    let status = probe.status.iter().map(|range| status_text(range).into());
    vec![
        ("health.http.method", Some((*probe.method).into())),
        ("health.http.path", Some((*probe.path).into())),
        ("health.http.host", probe.host.as_deref().map(Value::from)),
        ("health.http.status", Some(Value::Array(status.collect()))),
    ]
}

fn exchange(probe: &Exchange) -> Vec<Setting> {
    let (prefix, regex) = match &probe.expect {
        Expect::Prefix(bytes) => (Some(bytes_text(bytes).into()), None),
        Expect::Regex(pattern) => (None, Some(pattern.as_str().into())),
    };
    vec![
        ("health.exchange.send", Some(bytes_text(&probe.send).into())),
        ("health.exchange.expect", prefix),
        ("health.exchange.expect_regex", regex),
    ]
}
