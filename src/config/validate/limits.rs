//! `allow`, `deny`, `max_connections` and `limits` of a listener or a route.

use std::path::PathBuf;

use super::routes::networks;
use super::{Check, word};
use crate::base::address::Endpoint;
use crate::config::model::{Access, Action, Enforcement, Entrance, Limits, ProxyReceive};
use crate::config::report::Finding;
use crate::config::table::{Table, Value};
use crate::config::text::action;

const LISTS: [&str; 4] = ["allow", "allow_file", "deny", "deny_file"];

const UNIX: &str =
    "every address of the listener is a unix socket, whose clients are in no network";

impl Check<'_> {
    /// Who may connect to a listener.
    pub(super) fn access(&mut self, table: &Table) -> Access {
        let access = Access {
            allow: networks(table, "allow"),
            allow_file: table.text("allow_file").map(|path| PathBuf::from(&**path)),
            deny: networks(table, "deny"),
            deny_file: table.text("deny_file").map(|path| PathBuf::from(&**path)),
        };
        for (place, value) in table.list("allow") {
            if let Value::Network(network) = value
                && access.deny.contains(network)
            {
                let message = format!("`allow` has no effect for {network}: `deny` has it, too");
                self.warnings.push(Finding::at(*place, message));
            }
        }
        access
    }

    /// What a route asks of its clients; `None`: nothing.
    pub(super) fn entrance(&mut self, table: &Table) -> Option<Box<Entrance>> {
        let given = |name: &&str| table.is_given(name);
        let names = LISTS.iter().chain(&["max_connections", "limits"]);
        let given: Vec<_> = names.copied().filter(|name| given(name)).collect();
        if given.is_empty() {
            return None;
        }
        if table.flag("reject") {
            for name in given {
                self.idle_setting(table, name, "the route rejects");
            }
            return None;
        }
        let (access, limits) = (self.access(table), self.limits(table));
        let asks = !access.is_open() || limits != Limits::NONE;
        asks.then(|| Box::new(Entrance { access, limits }))
    }

    /// How many may connect to a listener or take a route, and how often.
    pub(super) fn limits(&mut self, table: &Table) -> Limits {
        let connections = match table.entry("max_connections").map(|entry| &entry.value) {
            Some(Value::Number(most @ 1..)) => Some(*most),
            _ => None,
        };
        let Some(limits) = table.table("limits") else {
            return Limits {
                connections,
                ..Limits::NONE
            };
        };
        let rate = match limits.entry("rate_per_source").map(|entry| &entry.value) {
            Some(Value::Rate(rate)) => Some(*rate),
            _ => None,
        };
        let bytes = match limits.entry("bytes_per_source").map(|entry| &entry.value) {
            Some(Value::Number(bytes)) => Some(*bytes),
            _ => None,
        };
        let some = |number: u32| (number > 0).then_some(number);
        let per_source = some(limits.number("per_source"));
        if rate.is_none() {
            self.idle_setting(limits, "burst", "`rate_per_source` is \"off\"");
        }
        if per_source.is_none() && rate.is_none() && bytes.is_none() {
            let why = "no limit of sources is set";
            for name in ["exempt", "ipv4_prefix", "ipv6_prefix", "log_only"] {
                self.idle_setting(limits, name, why);
            }
        }
        if let (Some(most), Some(all)) = (per_source, connections)
            && most > all
        {
            let why = "`max_connections` is lower";
            self.idle_setting(limits, "per_source", why);
        }
        let burst = match limits.entry("burst").map(|entry| &entry.value) {
            Some(Value::Number(burst)) => *burst,
            _ => rate.map_or(1, |rate| rate.count),
        };
        Limits {
            connections,
            per_source,
            rate,
            bytes,
            burst,
            action: action(word(limits, "action")).unwrap_or(Action::Reset),
            exempt: networks(limits, "exempt"),
            ipv4_prefix: u8::try_from(limits.number("ipv4_prefix")).unwrap_or(32),
            ipv6_prefix: u8::try_from(limits.number("ipv6_prefix")).unwrap_or(128),
            enforcement: if limits.flag("log_only") {
                Enforcement::LogOnly
            } else {
                Enforcement::Reject
            },
        }
    }

    /// Warns about what goes by the client's address where clients have none.
    pub(super) fn limits_without_address(
        &mut self,
        table: &Table,
        (listen, proxy_protocol): (&[Endpoint], Option<&ProxyReceive>),
    ) {
        let all_unix = listen.iter().all(|at| matches!(at, Endpoint::Unix(_)));
        if listen.is_empty() || !all_unix || proxy_protocol.is_some() {
            return;
        }
        for table in table.tables("route").iter().chain([table]) {
            for name in LISTS {
                self.idle_setting(table, name, UNIX);
            }
            let limits = table.table("limits");
            for name in ["per_source", "rate_per_source", "bytes_per_source"] {
                if let Some(limits) = limits {
                    self.idle_setting(limits, name, UNIX);
                }
            }
        }
    }
}
