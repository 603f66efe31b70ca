//! `[[listener]]` tables to listeners.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{Addresses, Check, section, word};
use crate::base::address::Endpoint;
use crate::config::choices::{RELAYS, meaning};
use crate::config::model::{
    Keepalive, Listener, ProxyReceive, Routing, SocketOptions, Target, Timeouts,
};
use crate::config::report::Finding;
use crate::config::source::Place;
use crate::config::suggest::did_you_mean;
use crate::config::table::{Origin, Table, Value};
use crate::config::text::{PLAIN, POOL};

/// Addresses of all listeners together; each costs a socket on every worker.
const ADDRESSES_MAX: usize = 16_384;

impl Check<'_> {
    /// All listeners. `admin` is taken, too: operators must not be where clients are.
    pub(super) fn listeners(
        &mut self,
        root: &Table,
        admin: Option<(&Endpoint, Place)>,
    ) -> Vec<Listener> {
        let tables = root.tables("listener");
        if tables.is_empty()
            && root
                .entry("listener")
                .is_none_or(|entry| entry.origin != Origin::Changed)
        {
            let message = "no listener, expected at least one [[listener]] table";
            self.faults.push(Finding::at(root.place, message));
        }
        let mut addresses: Addresses = admin
            .map(|(at, place)| {
                (
                    at.clone(),
                    (
                        place,
                        "the admin listener has it (its default unless [admin] says otherwise)",
                    ),
                )
            })
            .into_iter()
            .collect();
        let mut names = HashMap::new();
        let mut listeners = Vec::new();
        for table in tables {
            let listen = self.addresses(table, &mut addresses);
            let first = || Some(Arc::from(listen.first()?.to_string()));
            let name = table.text("name").map(Arc::clone).or_else(first);
            if let Some(name) = &name {
                let place = table.entry("name").map_or(table.place, |entry| entry.place);
                self.claim(&mut names, "listener", (name, place));
            }
            let all = section(root, "global").number("max_connections");
            if (1..table.number("max_connections")).contains(&all) {
                let why = format!("`global.max_connections` is {all}");
                self.idle_setting(table, "max_connections", &why);
            }
            let routing = self.routing(root, table);
            listeners.extend(self.listener(table, name, (listen, routing)));
        }
        listeners
    }

    fn listener(
        &mut self,
        table: &Table,
        name: Option<Arc<str>>,
        (listen, routing): (Vec<Endpoint>, Option<Routing>),
    ) -> Option<Listener> {
        let socket = self.socket_options(table, &listen);
        let timeouts = self.timeouts(section(table, "timeouts"));
        let proxy_protocol = self.proxy_receive(table, &listen);
        if let Some(routing) = &routing {
            self.idle_timeouts(table, routing, proxy_protocol.as_ref());
        }
        let access = self.access(table);
        let limits = self.limits(table);
        self.limits_without_address(table, (&listen, proxy_protocol.as_ref()));
        if proxy_protocol.is_none() {
            self.clients_without_address(table, &listen);
        }
        Some(Listener {
            name: name?,
            listen,
            routing: routing?,
            proxy_protocol,
            access,
            limits,
            relay: meaning(&RELAYS, word(table, "relay")),
            timeouts,
            socket,
        })
    }

    fn addresses(&mut self, table: &Table, taken: &mut Addresses) -> Vec<Endpoint> {
        let mut listen = Vec::new();
        for (place, value) in table.list("listen") {
            let count = match value {
                Value::Ports(_, ports) => ports.len(),
                _ => 1,
            };
            if taken.len() + count > ADDRESSES_MAX {
                let message = format!(
                    "too many addresses, expected at most {ADDRESSES_MAX} in all listeners"
                );
                self.faults.push(Finding::at(*place, message));
                break;
            }
            for endpoint in endpoints(value) {
                if let Some(first) = taken.get(&endpoint) {
                    let message = format!(
                        "address is taken, got \"{endpoint}\" again, expected one of its own"
                    );
                    self.faults
                        .push(Finding::at(*place, message).also(first.0, first.1));
                    break;
                }
                taken.insert(endpoint.clone(), (*place, "it is first used here"));
                listen.push(endpoint);
            }
        }
        listen
    }

    /// Sees to it that the pool exists which `table` names under `key`.
    pub(super) fn pool_reference(&mut self, root: &Table, table: &Table, key: &str) {
        let (Some(entry), Some(pool)) = (table.entry(key), table.text(key)) else {
            return;
        };
        let known = root.named("pool");
        if self.pools.contains(pool) {
            return;
        }
        self.faults.push_with(|| {
            let kind = if key == "plain" { &PLAIN } else { &POOL };
            let message = format!("no such pool, got \"{pool}\", expected {}", kind.expected);
            let names = known.iter().map(|(_, name, _)| name.as_ref());
            let word = did_you_mean(pool, kind.words.iter().copied(), '"');
            let help = word.or_else(|| self.advice.did_you_mean(pool, names, '"'));
            Finding::at(entry.place, message).help(help)
        });
    }

    fn timeouts(&mut self, table: &Table) -> Timeouts {
        let max_lifetime = table.time_or_off("max_lifetime");
        if max_lifetime.is_none() {
            self.idle_setting(table, "lifetime_jitter", "`max_lifetime` is off");
        }
        Timeouts {
            idle: table.time("idle"),
            half_closed: table.time("half_closed"),
            first_byte: table.time_or_off("first_byte"),
            max_lifetime,
            sniff: table.time("sniff"),
            handshake: table.time("handshake"),
            lifetime_jitter: u8::try_from(table.number("lifetime_jitter")).unwrap_or(100),
        }
    }

    fn idle_timeouts(
        &mut self,
        listener: &Table,
        routing: &Routing,
        proxy_protocol: Option<&ProxyReceive>,
    ) {
        let table = section(listener, "timeouts");
        let routes = match routing {
            Routing::Pool(pool) => {
                if proxy_protocol.is_none() {
                    self.idle_setting(table, "sniff", "everything goes to `pool` as it comes");
                }
                if !self.encrypting.contains(pool) {
                    self.idle_setting(table, "handshake", NO_HANDSHAKE);
                }
                return;
            }
            Routing::ByHello(routes) => routes,
        };
        let mut targets = routes.routes.iter().map(|route| &route.target);
        let shakes_hands = targets.any(|target| match target {
            Target::Terminate(_) => true,
            Target::Pass(pool) => self.encrypting.contains(pool),
            Target::Reject => false,
        });
        if !shakes_hands {
            self.idle_setting(table, "handshake", NO_HANDSHAKE);
        }
        if let Some(silent_after) = routes.silent_after
            && silent_after >= table.time("sniff")
        {
            let given = [table.changed("sniff"), listener.changed("silent_after")];
            let place = given.into_iter().flatten().next();
            let place = place.map_or(listener.place, |entry| entry.place);
            let message = "`silent_after` has no effect: `timeouts.sniff` is not longer";
            self.warnings.push(Finding::at(place, message));
        }
    }

    /// Warns about routes for clients of some networks where clients are of none.
    fn clients_without_address(&mut self, table: &Table, listen: &[Endpoint]) {
        if listen.is_empty() || !listen.iter().all(is_unix) {
            return;
        }
        for entry in table
            .tables("route")
            .iter()
            .filter_map(|route| route.entry("client"))
        {
            let message = "the route is never taken: every address of the listener is a unix \
                           socket, whose clients are in no network";
            self.warnings.push(Finding::at(entry.key, message));
        }
    }

    fn socket_options(&mut self, table: &Table, listen: &[Endpoint]) -> SocketOptions {
        self.backlog(table);
        self.idle_socket_options(table, listen);
        SocketOptions {
            backlog: table.number("backlog"),
            defer_accept: table.time_or_off("defer_accept"),
            fastopen: Some(table.number("fastopen")).filter(|&queue| queue > 0),
            nodelay: table.flag("nodelay"),
            keepalive: table.table("keepalive").map(|keepalive| Keepalive {
                idle: keepalive.time("idle"),
                interval: keepalive.time("interval"),
                count: keepalive.number("count"),
            }),
            transparent: table.flag("transparent"),
            mptcp: table.flag("mptcp"),
            v6only: table.flag("v6only"),
            unix_mode: table.number("unix_mode"),
        }
    }

    fn backlog(&mut self, table: &Table) {
        let (backlog, most) = (table.number("backlog"), self.machine.somaxconn);
        if backlog > most
            && let Some(entry) = table.entry("backlog")
        {
            let message = format!(
                "the kernel cuts `backlog`, got {backlog}, expected at most {most} (net.core.somaxconn)"
            );
            self.warnings.push(Finding::at(entry.place, message));
        }
    }

    fn idle_socket_options(&mut self, table: &Table, listen: &[Endpoint]) {
        if listen.is_empty() {
            return;
        }
        if !listen.iter().any(is_unix) {
            self.idle_setting(
                table,
                "unix_mode",
                "no address of the listener is a unix socket",
            );
        }
        if listen.iter().all(is_unix) {
            for name in [
                "defer_accept",
                "fastopen",
                "nodelay",
                "keepalive",
                "transparent",
                "mptcp",
                "v6only",
            ] {
                self.idle_setting(
                    table,
                    name,
                    "every address of the listener is a unix socket",
                );
            }
        } else if !listen
            .iter()
            .any(|at| matches!(at, Endpoint::Inet(at) if at.is_ipv6()))
        {
            self.idle_setting(table, "v6only", "no address of the listener is IPv6");
        }
    }
}

const NO_HANDSHAKE: &str = "neither the listener nor a pool of its encrypts";

fn is_unix(endpoint: &Endpoint) -> bool {
    matches!(endpoint, Endpoint::Unix(_))
}

/// The addresses that one text stands for.
fn endpoints(value: &Value) -> Vec<Endpoint> {
    match value {
        Value::Endpoint(endpoint) => vec![endpoint.clone()],
        Value::Ports(ip, ports) => ports
            .clone()
            .map(|port| Endpoint::Inet(SocketAddr::new(*ip, port)))
            .collect(),
        _ => Vec::new(),
    }
}
