//! `[pool.NAME]` tables to pools.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::health::Probed;
use super::{Check, section, word};
use crate::base::address::{Address, Endpoint};
use crate::config::choices::{BALANCES, meaning};
use crate::config::model::{Backend, Balance, Connect, Partings, Pool, Waiting};
use crate::config::report::Finding;
use crate::config::source::Place;
use crate::config::table::{Table, Value};
use crate::config::text::parting;

impl Check<'_> {
    /// All pools, in the order of their names.
    pub(super) fn pools(&mut self, root: &Table) -> Vec<Pool> {
        let listeners = root.tables("listener").iter();
        let used: HashSet<_> = listeners.flat_map(used).collect();
        let mut names = HashMap::new();
        let mut pools = Vec::new();
        for (place, name, table) in root.named("pool") {
            self.claim(&mut names, "pool", (name, *place));
            if !used.contains(name) {
                let message = format!("no listener uses the pool \"{name}\"");
                self.warnings.push(Finding::at(*place, message));
            }
            pools.push(self.pool(name, table));
        }
        pools.sort_by(|one, other| one.name.cmp(&other.name));
        pools
    }

    fn pool(&mut self, name: &Arc<str>, table: &Table) -> Pool {
        let balance = self.balance(table);
        let backends = self.backends(table);
        self.idle_backend_settings(table, balance);
        if balance == Balance::First {
            self.idle_setting(table, "slow_start", "balance is \"first\"");
        }
        let tls = table.table("tls").map(|tls| self.pool_tls(tls));
        let source = match table
            .entry("source")
            .map(|entry| (&entry.value, entry.place))
        {
            Some((Value::Ip(ip), place)) => {
                self.source(*ip, place, &backends);
                Some(*ip)
            }
            _ => None,
        };
        let probed = Probed {
            backends: &backends,
            tls: tls.as_ref(),
            source,
        };
        let outliers = self.outliers(table, &backends);
        let (health, all_down) = self.health(table, &probed, &outliers);
        Pool {
            name: Arc::clone(name),
            balance,
            connect: self.connect(section(table, "connect")),
            slow_start: Some(table.time("slow_start")).filter(|time| !time.is_zero()),
            queue: self.queue(table),
            retry_budget: u8::try_from(table.number("retry_budget")).unwrap_or(100),
            source,
            proxy_protocol: self.proxy_send(table),
            tls,
            health,
            all_down,
            partings: self.partings(table),
            outliers,
            breaker: self.breaker(table, &backends),
            backends: backends.into_iter().map(|(_, backend)| backend).collect(),
        }
    }

    fn balance(&mut self, table: &Table) -> Balance {
        let balance = meaning(&BALANCES, word(table, "balance"));
        let Some(entry) = table.entry("source_hash") else {
            return balance;
        };
        match (balance, &entry.value) {
            (Balance::SourceHash { .. }, Value::Table(hash)) => {
                let ipv6_prefix = u8::try_from(hash.number("ipv6_prefix")).unwrap_or(128);
                Balance::SourceHash { ipv6_prefix }
            }
            _ => {
                let got = word(table, "balance");
                let message = format!(
                    "`source_hash` needs its balancing, got balance = \"{got}\", \
                     expected balance = \"source_hash\""
                );
                self.faults.push(Finding::at(entry.key, message));
                balance
            }
        }
    }

    fn partings(&mut self, table: &Table) -> Partings {
        if !table.is_given("health") {
            self.idle_setting(table, "on_down", "without `health` no backend is down");
        }
        // Text that cannot be read has been refused.
        let read = |key| parting(word(table, key)).unwrap_or_default();
        Partings {
            down: read("on_down"),
            removed: read("on_remove"),
            drained: read("on_drain"),
        }
    }

    fn queue(&mut self, table: &Table) -> Option<Waiting> {
        let most = table.number("queue");
        let mut backends = table.tables("backend").iter();
        if most == 0 {
            self.idle_setting(table, "queue_timeout", "nobody waits: `queue` is 0");
        } else if backends.all(|backend| backend.number("max_connections") == 0) {
            self.idle_setting(
                table,
                "queue",
                "no backend of the pool has `max_connections`",
            );
        }
        let timeout = table.time("queue_timeout");
        (most > 0).then_some(Waiting { most, timeout })
    }

    fn backends(&mut self, table: &Table) -> Vec<(Place, Backend)> {
        let short = table
            .list("backends")
            .iter()
            .filter_map(|(place, value)| match value {
                Value::Address(address) => Some((*place, *place, backend(None, address, None))),
                _ => None,
            });
        let long = table.tables("backend").iter().filter_map(|table| {
            let entry = table.entry("address")?;
            let Value::Address(address) = &entry.value else {
                return None;
            };
            let name = table.text("name");
            let name_place = table.entry("name").map_or(entry.place, |entry| entry.place);
            Some((name_place, entry.place, backend(name, address, Some(table))))
        });
        let (mut names, mut addresses) = (HashMap::new(), HashMap::new());
        let mut backends = Vec::new();
        for (name_place, place, backend) in short.chain(long) {
            if let Some(first) = addresses.get(&backend.address) {
                let address = &backend.address;
                let message = format!("backend is in the pool twice, got \"{address}\" again");
                self.faults
                    .push(Finding::at(place, message).also(*first, "it is first used here"));
            } else {
                addresses.insert(backend.address.clone(), place);
                self.claim(&mut names, "backend", (&backend.name, name_place));
            }
            backends.push((place, backend));
        }
        backends
    }

    fn idle_backend_settings(&mut self, table: &Table, balance: Balance) {
        let backends = table.tables("backend");
        let Some(first) = backends.first() else {
            return;
        };
        let weight = |backend: &Table| backend.number("weight");
        if backends.iter().all(|backend| weight(backend) == 0)
            && let Some(entry) = first.entry("weight")
        {
            let message = "every backend of the pool has weight 0: it takes no connections";
            self.warnings.push(Finding::at(entry.key, message));
        }
        for backend in backends.iter().filter(|backend| weight(backend) > 1) {
            let address = backend.entry("address").map(|entry| &entry.value);
            if let Some(Value::Address(Address::Service(_))) = address {
                self.idle_setting(backend, "weight", "the SRV records say it, unless it is 0");
            } else if backends.len() == 1 {
                self.idle_setting(backend, "weight", "the pool has only this backend");
            } else if balance == Balance::First {
                self.idle_setting(backend, "weight", "balance is \"first\"");
            }
        }
        let tier = first.number("tier");
        if backends
            .iter()
            .all(|backend| backend.number("tier") == tier)
        {
            self.idle_setting(first, "tier", "every backend of the pool has the same");
        }
    }

    fn source(&mut self, source: IpAddr, place: Place, backends: &[(Place, Backend)]) {
        let family = |ip: IpAddr| if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        let mut has_inet = backends.is_empty();
        for (backend_place, backend) in backends {
            let Address::Endpoint(Endpoint::Inet(address)) = &backend.address else {
                has_inet |= matches!(backend.address, Address::Name(_) | Address::Service(_));
                continue;
            };
            has_inet = true;
            if address.is_ipv4() != source.is_ipv4() {
                let (got, expected) = (family(source), family(address.ip()));
                let message = format!(
                    "`source` is of the wrong family, got the {got} address {source}, \
                     expected {expected} as the backend \"{}\"",
                    backend.name
                );
                let finding = Finding::at(place, message);
                self.faults
                    .push(finding.also(*backend_place, "the backend is here"));
                return;
            }
        }
        if !has_inet {
            let message = "`source` has no effect: every backend of the pool is a unix socket";
            self.warnings.push(Finding::at(place, message));
        }
    }

    fn connect(&mut self, table: &Table) -> Connect {
        let (timeout, total) = (table.time("timeout"), table.time("total"));
        if timeout > total {
            let name = if table.is_given("timeout") {
                "timeout"
            } else {
                "total"
            };
            let place = table.entry(name).map_or(table.place, |entry| entry.place);
            let message = "`connect.timeout` has no effect: `connect.total` is shorter";
            self.warnings.push(Finding::at(place, message));
        }
        let attempts = u8::try_from(table.number("attempts")).unwrap_or(u8::MAX);
        Connect {
            timeout,
            attempts,
            total,
        }
    }
}

/// The pools that a listener names.
fn used(listener: &Table) -> impl Iterator<Item = &Arc<str>> {
    let routes = listener.tables("route").iter();
    let routed = routes.filter_map(|route| route.text("pool"));
    let own = ["pool", "plain"].into_iter();
    own.filter_map(|name| listener.text(name)).chain(routed)
}

/// A backend; without a table it has the defaults of one.
fn backend(name: Option<&Arc<str>>, address: &Address, table: Option<&Table>) -> Backend {
    let number = |key, default| table.map_or(default, |table: &Table| table.number(key));
    Backend {
        name: name.map_or_else(|| Arc::from(address.to_string()), Arc::clone),
        address: address.clone(),
        weight: u16::try_from(number("weight", 1)).unwrap_or(u16::MAX),
        tier: u8::try_from(number("tier", 0)).unwrap_or(u8::MAX),
        max_connections: number("max_connections", 0),
    }
}
