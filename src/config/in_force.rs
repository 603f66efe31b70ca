//! What of a configuration bears upon one client, in the words of the file, for explanations.

use toml::Value;

use super::model::{Limits, Pool};
use super::settings::{self, Setting};

/// Keys of a pool that say what becomes of a client whom its backends fail or have no room for.
const OF_POOL: [&str; 11] = [
    "slow_start",
    "queue",
    "queue_timeout",
    "all_down",
    "health.type",
    "health.interval",
    "outliers.failure_rate",
    "breaker.max_connections",
    "breaker.max_pending",
    "breaker.failure_rate",
    "breaker.open",
];

/// The limits that are set, with their keys.
pub fn limits_in_force(limits: &Limits) -> Vec<(&'static str, Value)> {
    let none = settings::limits(&Limits::NONE);
    let set = settings::limits(limits);
    let is_set = |setting: &Setting| !none.contains(setting);
    set.into_iter().filter(is_set).filter_map(valued).collect()
}

/// What a pool does about backends that are down, full or failing, as far as it is not off.
pub fn pool_in_force(pool: &Pool) -> Vec<(&'static str, Value)> {
    let is_idle = |key: &str| match key {
        "queue_timeout" => pool.queue.is_none(),
        "all_down" => pool.health.is_none(),
        "breaker.open" => pool.breaker.is_none_or(|it| it.failure_rate.is_none()),
        _ => false,
    };
    let set = settings::pool(pool).into_iter();
    let set = set.filter(|(key, _)| OF_POOL.contains(key) && !is_idle(key));
    set.filter_map(valued)
        .filter(|(_, value)| !is_off(value))
        .collect()
}

fn valued((key, value): Setting) -> Option<(&'static str, Value)> {
    Some((key, value?))
}

fn is_off(value: &Value) -> bool {
    match value {
        Value::Integer(number) => *number == 0,
        Value::String(text) => matches!(&**text, "off" | "0s"),
        _ => false,
    }
}
