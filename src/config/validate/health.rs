//! `[pool.NAME.health]` to how the pool's backends are probed.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Check, word};
use crate::base::address::{Address, Endpoint};
use crate::config::choices::{ALL_DOWNS, INITIALS, meaning};
use crate::config::model::{
    AllDown, Backend, Exchange, Expect, Health, HttpProbe, Outliers, PoolTls, Probe,
};
use crate::config::report::Finding;
use crate::config::source::Place;
use crate::config::table::{Table, Value};

/// What of a pool matters for its probes.
pub(super) struct Probed<'a> {
    pub(super) backends: &'a [(Place, Backend)],
    pub(super) tls: Option<&'a PoolTls>,
    pub(super) source: Option<IpAddr>,
}

impl Check<'_> {
    /// How the backends are probed, of use only when no fault was found, and what happens once all are
    /// down.
    pub(super) fn health(
        &mut self,
        pool: &Table,
        probed: &Probed<'_>,
        outliers: &Outliers,
    ) -> (Option<Health>, AllDown) {
        let all_down = meaning(&ALL_DOWNS, word(pool, "all_down"));
        let Some(table) = pool.table("health") else {
            let ejects = outliers.connect_failures > 0 || outliers.failure_rate.is_some();
            let all_may_be_ejected = ejects && outliers.max_eject == 100;
            if !pool.is_given("health") && !all_may_be_ejected {
                let why = "without `health` some backend is always up, unless `outliers.max_eject` \
                           is \"100%\" and something ejects";
                self.idle_setting(pool, "all_down", why);
            }
            return (None, all_down);
        };
        let (interval, timeout) = (table.time("interval"), table.time("timeout"));
        if timeout > interval {
            let given = ["timeout", "interval"].map(|name| table.changed(name));
            let place = given.into_iter().flatten().next();
            let place = place.map_or(table.place, |entry| entry.place);
            let message = "`health.timeout` is above `health.interval`: a backend that does not \
                           answer is probed less often";
            self.warnings.push(Finding::at(place, message));
        }
        let (address, port) = self.probed_address(table, probed);
        let health = Health {
            probe: self.probe(table, probed),
            interval,
            timeout,
            rise: table.number("rise"),
            fall: table.number("fall"),
            address,
            port,
            initial: meaning(&INITIALS, word(table, "initial")),
        };
        (Some(health), all_down)
    }

    fn probe(&mut self, table: &Table, probed: &Probed<'_>) -> Probe {
        let kind = word(table, "type");
        for own in ["http", "exchange"] {
            if let Some(entry) = table.entry(own).filter(|_| kind != own) {
                let message = format!(
                    "`{own}` needs its type of probe, got type = \"{kind}\", \
                     expected type = \"{own}\""
                );
                self.faults.push(Finding::at(entry.key, message));
            }
        }
        match kind {
            "http" => Probe::Http(http(table.table("http"))),
            "exchange" => match table.table("exchange") {
                Some(own) => exchange(own).map_or(Probe::Tcp, Probe::Exchange),
                None => {
                    self.needs_exchange(table);
                    Probe::Tcp
                }
            },
            "tls" => {
                self.needs_names(table, probed);
                Probe::Tls
            }
            _ => Probe::Tcp,
        }
    }

    fn needs_exchange(&mut self, table: &Table) {
        if table.is_given("exchange") {
            return;
        }
        let place = table.entry("type").map_or(table.place, |entry| entry.place);
        let message = "`exchange` is missing in [pool.NAME.health], got type = \"exchange\" \
                       without it, expected what to send and what to expect";
        self.faults.push(Finding::at(place, message));
    }

    /// A TLS handshake asks for a name, and a unix socket has none.
    fn needs_names(&mut self, table: &Table, probed: &Probed<'_>) {
        let is_unix =
            |backend: &Backend| matches!(backend.address, Address::Endpoint(Endpoint::Unix(_)));
        let unix = probed.backends.iter().find(|(_, one)| is_unix(one));
        if let (None, Some((backend_place, backend))) = (probed.tls, unix) {
            let place = table.entry("type").map_or(table.place, |entry| entry.place);
            let message = format!(
                "a probe by TLS needs a name to ask for, got type = \"tls\" for the unix socket of \
                 the backend \"{}\", expected another type",
                backend.name
            );
            let finding = Finding::at(place, message);
            self.faults
                .push(finding.also(*backend_place, "the backend is here"));
        }
    }

    /// Where probes go instead of to the backends' own addresses and ports.
    fn probed_address(
        &mut self,
        table: &Table,
        probed: &Probed<'_>,
    ) -> (Option<IpAddr>, Option<u16>) {
        let entry = |name| table.entry(name).map(|entry| (&entry.value, entry.place));
        let address = match entry("address") {
            Some((Value::Ip(ip), place)) => Some((*ip, place)),
            _ => None,
        };
        let port = match entry("port") {
            Some((Value::Number(port), place)) => u16::try_from(*port).ok().map(|it| (it, place)),
            _ => None,
        };
        if let (Some((ip, place)), Some(source)) = (address, probed.source)
            && ip.is_ipv4() != source.is_ipv4()
        {
            let message = format!(
                "`health.address` is of the wrong family, got {ip}, \
                 expected that of the pool's `source` {source}"
            );
            self.faults.push(Finding::at(place, message));
        }
        let half = match (address, port) {
            (Some((_, place)), None) => Some(("address", "port", place)),
            (None, Some((_, place))) => Some(("port", "address", place)),
            _ => None,
        };
        if let Some((given, missing, place)) =
            half.filter(|_| !table.is_given("address") || !table.is_given("port"))
        {
            self.needs_both(probed, (given, missing), place);
        }
        (address.map(|(ip, _)| ip), port.map(|(port, _)| port))
    }

    /// Half of an address does not lead from a unix socket to anywhere.
    fn needs_both(&mut self, probed: &Probed<'_>, (given, missing): (&str, &str), place: Place) {
        let unix = probed
            .backends
            .iter()
            .find(|(_, backend)| matches!(backend.address, Address::Endpoint(Endpoint::Unix(_))));
        if let Some((backend_place, backend)) = unix {
            let message = format!(
                "`health.{given}` alone is no address, got the unix socket of the backend \"{}\", \
                 expected `{missing}`, too",
                backend.name
            );
            let finding = Finding::at(place, message);
            self.faults
                .push(finding.also(*backend_place, "the backend is here"));
        }
    }
}

/// What is asked by HTTP; without a table it has the defaults of one.
fn http(table: Option<&Table>) -> HttpProbe {
    let text = |name| table.and_then(|table| table.text(name));
    let status = table.map(|table| table.list("status")).unwrap_or_default();
    let mut status: Vec<_> = status
        .iter()
        .filter_map(|(_, value)| match value {
            Value::Status(range) => Some(range.clone()),
            _ => None,
        })
        .collect();
    if status.is_empty() {
        status.push(200..=399);
    }
    HttpProbe {
        method: text("method").map_or_else(|| Arc::from("GET"), Arc::clone),
        path: text("path").map_or_else(|| Arc::from("/"), Arc::clone),
        host: text("host").map(Arc::clone),
        status,
    }
}

/// What is sent and expected; `None`: it has a fault.
fn exchange(table: &Table) -> Option<Exchange> {
    let bytes = |name| match table.entry(name).map(|entry| &entry.value) {
        Some(Value::Bytes(bytes)) => Some(Arc::clone(bytes)),
        _ => None,
    };
    let regex = match table.entry("expect_regex").map(|entry| &entry.value) {
        Some(Value::Regex(pattern)) => Some(Expect::Regex(pattern.clone())),
        _ => None,
    };
    Some(Exchange {
        send: bytes("send").unwrap_or_default(),
        expect: bytes("expect").map(Expect::Prefix).or(regex)?,
    })
}
