//! Who may connect, as keys and values.

use std::path::Path;

use toml::Value;

use super::{Setting, list};
use crate::config::model::{Access, Enforcement, Entrance, Limits};
use crate::config::text::{action_text, byte_rate_text, rate_text};

/// `allow`, `deny` and their files.
pub(super) fn access(access: &Access) -> Vec<Setting> {
    let file = |path: &Option<_>| path.as_deref().map(path_text);
    vec![
        ("allow", Some(list(&access.allow))),
        ("allow_file", file(&access.allow_file)),
        ("deny", Some(list(&access.deny))),
        ("deny_file", file(&access.deny_file)),
    ]
}

/// What a route asks of its clients; its listener may ask the same.
pub(super) fn entrance(entrance: Option<&Entrance>) -> Vec<Setting> {
    let Some(Entrance {
        access: lists,
        limits: numbers,
    }) = entrance
    else {
        let none = [
            "allow",
            "allow_file",
            "deny",
            "deny_file",
            "max_connections",
            "limits",
        ];
        return none.map(|name| (name, None)).into();
    };
    let mut all = access(lists);
    // An empty list would be taken for a slip.
    all.iter_mut().for_each(|(_, value)| {
        value.take_if(|value| value.as_array().is_some_and(Vec::is_empty));
    });
    all.extend(limits(numbers));
    all
}

/// `max_connections` and `limits`.
pub(crate) fn limits(limits: &Limits) -> Vec<Setting> {
    let count = |number: Option<u32>| Some(i64::from(number.unwrap_or(0)).into());
    let rate = limits
        .rate
        .map_or_else(|| "off".to_owned(), rate_text)
        .into();
    let bytes = limits
        .bytes
        .map_or_else(|| "off".to_owned(), byte_rate_text)
        .into();
    let burst = limits.rate.map(|_| i64::from(limits.burst).into());
    let log_only = limits.enforcement == Enforcement::LogOnly;
    vec![
        ("max_connections", count(limits.connections)),
        ("limits.per_source", count(limits.per_source)),
        ("limits.rate_per_source", Some(rate)),
        ("limits.burst", burst),
        ("limits.bytes_per_source", Some(bytes)),
        ("limits.action", Some(action_text(limits.action).into())),
        ("limits.exempt", Some(list(&limits.exempt))),
        (
            "limits.ipv4_prefix",
            Some(i64::from(limits.ipv4_prefix).into()),
        ),
        (
            "limits.ipv6_prefix",
            Some(i64::from(limits.ipv6_prefix).into()),
        ),
        ("limits.log_only", Some(log_only.into())),
    ]
}

fn path_text(path: &Path) -> Value {
    path.to_string_lossy().into_owned().into()
}
