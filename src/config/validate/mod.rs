//! From what the files say to the model: references, names and settings that depend on each other.

mod health;
mod limits;
mod listener;
mod outcomes;
mod overload;
mod pool;
mod proxy;
mod routes;
mod shadow;
mod tls;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::Machine;
use super::choices::{DRIVERS, FORMATS, LEVELS, LOG_ONS, meaning};
use super::model::{Admin, Global, Log, Model, SessionLog, Shutdown};
use super::report::{Finding, Findings};
use super::source::{Place, Source};
use super::suggest::Advice;
use super::table::{Table, Value};
use crate::base::address::Endpoint;
use crate::base::limits::DESCRIPTORS_RESERVED;

/// What a validation knows and finds.
pub(crate) struct Check<'m> {
    /// The machine that the configuration is for.
    pub(crate) machine: &'m Machine,
    /// The files, for what must know its place later.
    pub(crate) sources: &'m [Source],
    /// The names of all pools.
    pub(crate) pools: HashSet<Arc<str>>,
    /// The names of those that encrypt.
    pub(crate) encrypting: HashSet<Arc<str>>,
    /// What makes it unusable.
    pub(crate) faults: Findings,
    /// What is probably not meant.
    pub(crate) warnings: Findings,
    /// What else names could have been meant.
    pub(crate) advice: Advice,
}

impl Check<'_> {
    /// The model of `root`; of use only when no fault was found.
    pub(crate) fn model(&mut self, root: &Table) -> Model {
        let global = self.global(root);
        let (admin, admin_place) = admin(root);
        let log = self.log(root);
        let pools = self.pools(root);
        let listeners = self.listeners(root, admin.listen.as_ref().map(|at| (at, admin_place)));
        let listening: usize = listeners.iter().map(|listener| listener.listen.len()).sum();
        // The process and the worker have one each.
        let sockets = u64::try_from(2 * listening * global.workers).unwrap_or(u64::MAX);
        let descriptors = self.machine.descriptors;
        if sockets.saturating_add(DESCRIPTORS_RESERVED) > descriptors {
            let message = format!(
                "the descriptor limit is too low, got {descriptors}, \
                 expected more than the {sockets} that listening sockets take"
            );
            self.warnings.push(Finding::at(root.place, message));
        }
        Model {
            global,
            admin,
            log,
            listeners,
            pools,
        }
    }

    fn global(&mut self, root: &Table) -> Global {
        let global = section(root, "global");
        let cores = self.machine.cores.max(1);
        let workers = match global
            .entry("workers")
            .map(|entry| (&entry.value, entry.place))
        {
            Some((Value::Number(workers), place)) => {
                let workers = usize::try_from(*workers).unwrap_or(cores);
                if workers > cores {
                    let message = format!(
                        "more workers than cores, got {workers}, expected at most {cores} on this machine"
                    );
                    self.warnings.push(Finding::at(place, message));
                }
                workers
            }
            _ => cores,
        };
        let shutdown = section(global, "shutdown");
        let servers = section(global, "resolver").list("nameservers").iter();
        Global {
            workers,
            pin: global.flag("pin"),
            driver: meaning(&DRIVERS, word(global, "driver")),
            connections_max: Some(global.number("max_connections")).filter(|&most| most > 0),
            overload: self.overload(global),
            shutdown: Shutdown {
                pre_stop: shutdown.time("pre_stop"),
                drain: shutdown.time("drain"),
            },
            nameservers: servers
                .filter_map(|(_, value)| match value {
                    Value::Server(server) => Some(*server),
                    _ => None,
                })
                .collect(),
        }
    }

    fn log(&mut self, root: &Table) -> Log {
        let log = section(root, "log");
        let sessions = match word(log, "sessions") {
            "off" => SessionLog::Off,
            "stdout" => SessionLog::Stdout,
            path => SessionLog::File(PathBuf::from(path)),
        };
        if sessions == SessionLog::Off {
            for name in ["format", "on"] {
                self.idle_setting(log, name, "session lines are off");
            }
        }
        Log {
            level: meaning(&LEVELS, word(log, "level")),
            sessions,
            format: meaning(&FORMATS, word(log, "format")),
            on: meaning(&LOG_ONS, word(log, "on")),
        }
    }

    /// Warns about a setting that is not at its default and changes nothing because of `why`.
    fn idle_setting(&mut self, table: &Table, name: &str, why: &str) {
        if let Some(entry) = table.changed(name) {
            let message = format!("`{name}` has no effect: {why}");
            self.warnings.push(Finding::at(entry.key, message));
        }
    }

    /// Notes that `name` is taken at `place`; a fault if it was taken before.
    fn claim(
        &mut self,
        taken: &mut HashMap<Arc<str>, Place>,
        what: &str,
        (name, place): (&Arc<str>, Place),
    ) {
        if let Some(first) = taken.insert(Arc::clone(name), place) {
            taken.insert(Arc::clone(name), first);
            let message =
                format!("{what} name is taken, got \"{name}\" again, expected a name of its own");
            self.faults
                .push(Finding::at(place, message).also(first, "it is first used here"));
        }
    }
}

fn admin(root: &Table) -> (Admin, Place) {
    let admin = section(root, "admin");
    let entry = admin.entry("listen");
    let listen = match entry.map(|entry| &entry.value) {
        Some(Value::Endpoint(endpoint)) => Some(endpoint.clone()),
        _ => None,
    };
    let token_file = admin
        .text("token_file")
        .map(|path| PathBuf::from(path.as_ref()));
    (
        Admin { listen, token_file },
        entry.map_or(admin.place, |entry| entry.place),
    )
}

/// Who has an address: where, and what to say about it.
type Addresses = HashMap<Endpoint, (Place, &'static str)>;

/// A table that has a default; the reader has seen to it that it is there.
fn section<'t>(table: &'t Table, name: &str) -> &'t Table {
    table
        .table(name)
        .unwrap_or_else(|| unreachable!("`{name}` has no table as default"))
}

/// A word that has a default.
fn word<'t>(table: &'t Table, name: &str) -> &'t str {
    table
        .text(name)
        .unwrap_or_else(|| unreachable!("`{name}` has no word as default"))
}
