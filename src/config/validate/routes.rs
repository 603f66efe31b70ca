//! `[[listener.route]]` tables, or what stands for them, to routes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::shadow::{Shadows, Taken};
use super::{Check, word};
use crate::base::name::NamePattern;
use crate::config::choices::{STARTTLS, meaning};
use crate::config::model::{ClientAuth, Route, RouteNames, Routes, Routing, Target, Termination};
use crate::config::report::{Finding, line};
use crate::config::source::Place;
use crate::config::table::{Entry, Table, Value};

/// What the routes of one listener need to know of it.
struct Around<'t> {
    root: &'t Table,
    listener: &'t Table,
    termination: Option<&'t Termination>,
}

/// What has been found of the routes of one listener.
#[derive(Default)]
struct Found {
    routes: Vec<Route>,
    names: HashMap<Arc<str>, Place>,
    shadows: Shadows,
}

impl Check<'_> {
    /// Where the connections of a listener go.
    pub(super) fn routing(&mut self, root: &Table, listener: &Table) -> Option<Routing> {
        let termination = listener.table("tls").map(|tls| self.termination(tls));
        let around = Around {
            root,
            listener,
            termination: termination.as_ref(),
        };
        self.pool_reference(root, listener, "pool");
        self.plain_reference(root, listener);
        let tables = listener.tables("route");
        if tables.is_empty() {
            let pool = Arc::clone(listener.text("pool")?);
            if termination.is_none() {
                for name in ["plain", "silent_after", "sniff_max", "starttls"] {
                    let why = "everything goes to `pool` as it comes";
                    self.idle_setting(listener, name, why);
                }
                return Some(Routing::Pool(pool));
            }
            let mut found = Found::default();
            found.routes.push(self.whole(pool, listener));
            self.listener_plain(&around, &mut found);
            return Some(self.routes(listener, found, termination));
        }
        let mut found = Found::default();
        for table in tables {
            self.route(&around, table, &mut found);
        }
        self.listener_plain(&around, &mut found);
        let terminates = |route: &Route| matches!(route.target, Target::Terminate(_));
        let used = found.routes.iter().any(terminates);
        if !used && let Some(entry) = listener.entry("tls") {
            let message = "`tls` has no effect: no route of the listener has `terminate = true`";
            self.warnings.push(Finding::at(entry.key, message));
        }
        Some(self.routes(listener, found, termination.filter(|_| used)))
    }

    fn routes(
        &mut self,
        listener: &Table,
        found: Found,
        termination: Option<Termination>,
    ) -> Routing {
        let goes_on = |route: &Route| route.names.plain && route.target != Target::Reject;
        let silent_after = Some(listener.time("silent_after"));
        let starttls = meaning(&STARTTLS, word(listener, "starttls"));
        let why = match starttls {
            Some(_) => Some("with `starttls` it is the client that speaks first"),
            None if found.routes.iter().any(goes_on) => None,
            None => Some("no plain connection goes to a pool"),
        };
        let silent_after = silent_after.filter(|_| why.is_none());
        if let Some(why) = why {
            self.idle_setting(listener, "silent_after", why);
        }
        Routing::ByHello(Box::new(Routes {
            routes: found.routes,
            termination,
            silent_after,
            sniff_max: usize::try_from(listener.number("sniff_max")).unwrap_or(usize::MAX),
            starttls,
        }))
    }

    /// What `tls` beside `pool` stands for.
    fn whole(&self, pool: Arc<str>, listener: &Table) -> Route {
        Route {
            name: Arc::from("all"),
            place: self.line(listener.place),
            names: RouteNames {
                no_sni: true,
                default: true,
                ..RouteNames::default()
            },
            alpn: Vec::new(),
            client: Vec::new(),
            ja4: Vec::new(),
            target: Target::Terminate(pool),
            client_names: Vec::new(),
            entrance: None,
        }
    }

    /// What `plain` of the listener stands for.
    fn listener_plain(&mut self, around: &Around<'_>, found: &mut Found) {
        let Some(entry) = around.listener.changed("plain") else {
            return;
        };
        let Value::Text(pool) = &entry.value else {
            return;
        };
        let route = Route {
            name: Arc::from("plain"),
            place: self.line(entry.place),
            names: RouteNames {
                plain: true,
                ..RouteNames::default()
            },
            alpn: Vec::new(),
            client: Vec::new(),
            ja4: Vec::new(),
            target: Target::Pass(Arc::clone(pool)),
            client_names: Vec::new(),
            entrance: None,
        };
        self.claim(&mut found.names, "route", (&route.name, entry.key));
        self.add(route, vec![(Taken::Plain, entry.key)], found);
    }

    /// Warns about addresses among the names of a route: who sends one asks for no name.
    fn addresses_for_names(&mut self, route: &str, taken: &[(Taken, Place)]) {
        for (kind, place) in taken {
            if let Taken::Name(NamePattern::Exact(name)) = kind
                && name.parse::<IpAddr>().is_ok()
            {
                let message = format!(
                    "the route \"{route}\" never gets \"{name}\": \
                     who asks for an address asks for no name, which is `no_sni`"
                );
                self.warnings.push(Finding::at(*place, message));
            }
        }
    }

    fn add(&mut self, route: Route, taken: Vec<(Taken, Place)>, found: &mut Found) {
        for warning in found.shadows.add(&route, taken) {
            self.warnings.push(warning);
        }
        found.routes.push(route);
    }

    fn route(&mut self, around: &Around<'_>, table: &Table, found: &mut Found) {
        self.pool_reference(around.root, table, "pool");
        let taken = taken(table);
        if taken.is_empty() && !table.is_given("sni") {
            let message = format!(
                "{ROUTE} is incomplete, expected at least one of `sni`, `no_sni = true`, \
                 `default = true` and `plain = true`"
            );
            self.faults.push(Finding::at(table.place, message));
        }
        let first = || taken.first().map(|(kind, _)| default_name(kind));
        let name = table.text("name").map(Arc::clone).or_else(first);
        if let Some(name) = &name {
            let place = table.entry("name").map_or(table.place, |entry| entry.place);
            self.claim(&mut found.names, "route", (name, place));
            self.addresses_for_names(name, &taken);
        }
        self.plain_conditions(table);
        self.client_names(around, table);
        let target = self.target(around, table);
        let entrance = self.entrance(table);
        let (Some(name), Some(target)) = (name, target) else {
            return;
        };
        let route = Route {
            name,
            place: self.line(table.place),
            names: RouteNames {
                sni: patterns(table, "sni"),
                no_sni: table.flag("no_sni"),
                default: table.flag("default"),
                plain: table.flag("plain"),
            },
            alpn: texts(table, "alpn"),
            client: networks(table, "client"),
            ja4: texts(table, "ja4"),
            target,
            client_names: patterns(table, "client_names"),
            entrance,
        };
        self.add(route, taken, found);
    }

    fn target(&mut self, around: &Around<'_>, table: &Table) -> Option<Target> {
        let reject = table.changed("reject");
        let terminate = table.changed("terminate");
        let (pool, reject) = match (table.entry("pool"), reject) {
            (Some(pool), Some(reject)) => {
                let (first, second) = if pool.key < reject.key {
                    (pool, reject)
                } else {
                    (reject, pool)
                };
                let message = "`pool` beside `reject = true`, expected only one of the two";
                let finding = Finding::at(second.key, message);
                self.faults
                    .push(finding.also(first.key, "the other one is here"));
                return None;
            }
            (None, None) if table.is_given("pool") => return None,
            (None, None) => {
                let message = format!("{ROUTE} is incomplete, expected `pool` or `reject = true`");
                self.faults.push(Finding::at(table.place, message));
                return None;
            }
            (pool, reject) => (pool, reject),
        };
        if reject.is_some() {
            self.idle_setting(table, "terminate", "the route rejects");
            return Some(Target::Reject);
        }
        let Value::Text(name) = &pool?.value else {
            return None;
        };
        let Some(terminate) = terminate else {
            self.double_encryption(table, (name, pool?.place));
            return Some(Target::Pass(Arc::clone(name)));
        };
        if around.termination.is_none() && !around.listener.is_given("tls") {
            let message = "`terminate` needs a certificate, \
                           got a listener without `tls`, expected [listener.tls] in it";
            self.faults.push(Finding::at(terminate.key, message));
        }
        Some(Target::Terminate(Arc::clone(name)))
    }

    /// Warns about a pool that encrypts what clients have encrypted already.
    fn double_encryption(&mut self, table: &Table, (pool, place): (&Arc<str>, Place)) {
        let names_only_plain =
            table.list("sni").is_empty() && !table.flag("no_sni") && !table.flag("default");
        if self.encrypting.contains(pool) && !names_only_plain {
            let message = format!(
                "TLS within TLS: the pool \"{pool}\" has `tls`, and the route has no `terminate = true`"
            );
            self.warnings.push(Finding::at(place, message));
        }
    }

    /// A connection that is not TLS has no ClientHello that conditions could look at.
    fn plain_conditions(&mut self, table: &Table) {
        if !table.flag("plain") {
            return;
        }
        for name in ["sni", "alpn", "ja4", "terminate"] {
            if let Some(entry) = table.changed(name) {
                let message = format!(
                    "`{name}` beside `plain = true`, expected a route of its own: \
                     plain connections have no ClientHello"
                );
                self.faults.push(Finding::at(entry.key, message));
            }
        }
    }

    fn client_names(&mut self, around: &Around<'_>, table: &Table) {
        let Some(entry) = table.changed("client_names") else {
            return;
        };
        let needs = |got, expected| {
            format!("`client_names` needs client certificates, got {got}, expected {expected}")
        };
        let asks = |termination: &Termination| termination.client_auth != ClientAuth::Off;
        if table.flag("reject") {
            self.idle_setting(table, "client_names", "the route rejects");
            return;
        }
        let message = if !table.flag("terminate") {
            needs("a route that does not terminate", "`terminate = true`")
        } else if around.termination.is_some_and(|tls| !asks(tls)) {
            needs(
                "client_auth.mode = \"off\" in [listener.tls]",
                "\"request\" or \"require\"",
            )
        } else {
            return;
        };
        self.faults.push(Finding::at(entry.key, message));
    }

    fn plain_reference(&mut self, root: &Table, listener: &Table) {
        if word(listener, "plain") != "reject" {
            self.pool_reference(root, listener, "plain");
        }
    }

    /// `file:line` of a place.
    fn line(&self, place: Place) -> Arc<str> {
        line(self.sources, place).into()
    }
}

const ROUTE: &str = "[[listener.route]]";

/// What a route takes, and where it says so, in the order that its name follows.
fn taken(table: &Table) -> Vec<(Taken, Place)> {
    let names = table
        .list("sni")
        .iter()
        .filter_map(|(place, value)| match value {
            Value::Pattern(pattern) => Some((Taken::Name(pattern.clone()), *place)),
            _ => None,
        });
    let kinds = [
        ("default", Taken::Default),
        ("no_sni", Taken::NoSni),
        ("plain", Taken::Plain),
    ];
    let flags = kinds.into_iter().filter_map(|(name, kind)| {
        let entry: &Entry = table.changed(name)?;
        Some((kind, entry.key))
    });
    names.chain(flags).collect()
}

fn default_name(kind: &Taken) -> Arc<str> {
    match kind {
        Taken::Name(pattern) => Arc::from(pattern.to_string()),
        Taken::Default => Arc::from("default"),
        Taken::NoSni => Arc::from("no_sni"),
        Taken::Plain => Arc::from("plain"),
    }
}

fn patterns(table: &Table, name: &str) -> Vec<NamePattern> {
    let patterns = table
        .list(name)
        .iter()
        .filter_map(|(_, value)| match value {
            Value::Pattern(pattern) => Some(pattern.clone()),
            _ => None,
        });
    patterns.collect()
}

pub(super) fn texts(table: &Table, name: &str) -> Vec<Arc<str>> {
    let texts = table
        .list(name)
        .iter()
        .filter_map(|(_, value)| match value {
            Value::Text(text) => Some(Arc::clone(text)),
            _ => None,
        });
    texts.collect()
}

pub(super) fn networks(table: &Table, name: &str) -> Vec<IpNet> {
    let networks = table
        .list(name)
        .iter()
        .filter_map(|(_, value)| match value {
            Value::Network(network) => Some(*network),
            _ => None,
        });
    networks.collect()
}
