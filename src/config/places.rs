//! Where settings stand that can be judged only once the files that they name have been read.

use std::collections::HashMap;
use std::sync::Arc;

use super::model::{Model, Routing, Target};
use super::report::{Finding, Findings, Report, Severity};
use super::source::{Place, Source};
use super::table::{Table, Value};

/// Where everything that names files stands in the files of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Places {
    sources: Arc<Vec<Source>>,
    at: HashMap<Spot, Place>,
}

/// A value in the configuration, or what it is part of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spot {
    /// What it is part of.
    pub owner: Owner,
    /// The path or the name that the value is; empty: all of the owner.
    pub text: Arc<str>,
}

/// A part of the configuration that names files or host names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The listener's certificate with this number, from 0.
    Certificate(Arc<str>, usize),
    /// What clients of the listener are checked against.
    Clients(Arc<str>),
    /// The listener's other settings of TLS.
    Termination(Arc<str>),
    /// The listener's route with this name.
    Route(Arc<str>, Arc<str>),
    /// The pool's settings of TLS.
    Pool(Arc<str>),
    /// The listener's lists of networks.
    Access(Arc<str>),
    /// Those of the listener's route with this name.
    RouteAccess(Arc<str>, Arc<str>),
}

/// What is to be said of a spot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Where.
    pub at: Spot,
    /// What.
    pub message: String,
}

impl Places {
    /// The places of what `model` was made of; it and `root` have no fault.
    pub(crate) fn gather(root: &Table, model: &Model, sources: &Arc<Vec<Source>>) -> Self {
        let mut places = Self {
            sources: Arc::clone(sources),
            at: HashMap::new(),
        };
        for (table, listener) in root.tables("listener").iter().zip(&model.listeners) {
            let name = || Arc::clone(&listener.name);
            places.add(&Owner::Access(name()), table, &["allow_file", "deny_file"]);
            let Routing::ByHello(routes) = &listener.routing else {
                continue;
            };
            for (table, route) in table.tables("route").iter().zip(&routes.routes) {
                if route.entrance.is_some() {
                    let owner = Owner::RouteAccess(name(), Arc::clone(&route.name));
                    places.add(&owner, table, &["allow_file", "deny_file"]);
                }
            }
            let Some(tls) = table.table("tls").filter(|_| routes.termination.is_some()) else {
                continue;
            };
            places.add(&Owner::Termination(name()), tls, &["ticket_keys"]);
            if let Some(clients) = tls.table("client_auth") {
                places.add(&Owner::Clients(name()), clients, &["ca", "crl"]);
            }
            for (number, certificate) in tls.tables("certificates").iter().enumerate() {
                let owner = Owner::Certificate(name(), number);
                places.add(&owner, certificate, &["chain", "key", "ocsp"]);
            }
            // Further routes stand for other settings and have no table.
            for (table, route) in table.tables("route").iter().zip(&routes.routes) {
                if matches!(route.target, Target::Terminate(_)) {
                    let owner = Owner::Route(name(), Arc::clone(&route.name));
                    places.add(&owner, table, &[]);
                    places.add_patterns(&owner, table.list("sni"));
                }
            }
        }
        for (_, name, pool) in root.named("pool") {
            if let Some(tls) = pool.table("tls") {
                let owner = Owner::Pool(Arc::clone(name));
                places.add(&owner, tls, &["ca", "certificate", "key"]);
            }
        }
        places
    }

    /// A report of faults, each with its picture.
    pub fn faults(&self, remarks: Vec<Remark>) -> Report {
        self.report(Severity::Fault, remarks)
    }

    /// A report of what is allowed but probably not meant.
    pub fn warnings(&self, remarks: Vec<Remark>) -> Report {
        self.report(Severity::Warning, remarks)
    }

    fn report(&self, severity: Severity, remarks: Vec<Remark>) -> Report {
        let mut findings = Findings::default();
        for Remark { at, message } in remarks {
            findings.push(match self.find(at) {
                Some(place) => Finding::at(place, message),
                None => Finding::of_file(message),
            });
        }
        findings.into_report(severity, &self.sources)
    }

    fn find(&self, mut spot: Spot) -> Option<Place> {
        let exact = self.at.get(&spot).copied();
        exact.or_else(|| {
            spot.text = Arc::from("");
            self.at.get(&spot).copied()
        })
    }

    /// Adds a table and the values of some of its keys.
    fn add(&mut self, owner: &Owner, table: &Table, keys: &[&str]) {
        self.note(owner, Arc::from(""), table.place);
        for entry in keys.iter().filter_map(|key| table.entry(key)) {
            if let Value::Text(path) = &entry.value {
                self.note(owner, Arc::clone(path), entry.place);
            }
        }
    }

    fn add_patterns(&mut self, owner: &Owner, patterns: &[(Place, Value)]) {
        for (place, value) in patterns {
            if let Value::Pattern(pattern) = value {
                self.note(owner, Arc::from(pattern.to_string()), *place);
            }
        }
    }

    /// Of several places the first is shown.
    fn note(&mut self, owner: &Owner, text: Arc<str>, place: Place) {
        let owner = owner.clone();
        self.at.entry(Spot { owner, text }).or_insert(place);
    }
}
