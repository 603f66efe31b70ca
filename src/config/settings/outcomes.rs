//! `pool.outliers` and `pool.breaker` as keys and values.

use toml::Value;

use super::{Setting, percent, time};
use crate::config::model::{Breaker, Outliers};

/// `pool.outliers`
pub(super) fn outliers(outliers: &Outliers) -> Vec<Setting> {
    vec![
        (
            "outliers.connect_failures",
            count(outliers.connect_failures),
        ),
        ("outliers.failure_rate", share(outliers.failure_rate)),
        ("outliers.window", Some(time(outliers.window))),
        ("outliers.min_samples", count(outliers.min_samples)),
        ("outliers.eject", Some(time(outliers.eject))),
        ("outliers.eject_most", Some(time(outliers.eject_most))),
        ("outliers.max_eject", Some(percent(outliers.max_eject))),
    ]
}

/// `pool.breaker`
pub(super) fn breaker(breaker: &Breaker) -> Vec<Setting> {
    vec![
        ("breaker.max_connections", count(breaker.max_connections)),
        ("breaker.max_pending", count(breaker.max_pending)),
        ("breaker.failure_rate", share(breaker.failure_rate)),
        ("breaker.window", Some(time(breaker.window))),
        ("breaker.min_samples", count(breaker.min_samples)),
        ("breaker.open", Some(time(breaker.open))),
        ("breaker.probes", count(breaker.probes)),
    ]
}

fn count(number: u32) -> Option<Value> {
    Some(i64::from(number).into())
}

fn share(share: Option<u8>) -> Option<Value> {
    Some(share.map_or_else(|| "off".into(), percent))
}
