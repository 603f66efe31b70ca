//! A new configuration for the running process: everything is checked and prepared aside, then put in
//! force by steps that cannot fail. A rejected configuration changes nothing at all.

use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Process;
use super::start::{bind_admin, names, read_token};
use crate::admin::socket::AdminSocket;
use crate::admin::{Applied, Reloaded};
use crate::base::clock::now;
use crate::config::model::{Admin, Log, Model};
use crate::config::{self, Checked};
use crate::limits::store as lists;
use crate::log::writer::{self, Writer};
use crate::snapshot::Made;
use crate::tls::store;

/// How long new host names may take before the configuration goes into force without them.
pub(super) const RESOLVE_WAIT: Duration = Duration::from_secs(2);

/// Reloads so far: written by the main thread, read for the metrics; plain counts, so relaxed.
#[derive(Default)]
pub(super) struct Reloads {
    pub(super) applied: AtomicU64,
    pub(super) rejected: AtomicU64,
}

/// What a reload has got ready.
struct Ready {
    model: Model,
    tls: store::Prepared,
    lists: lists::Prepared,
    warnings: String,
    changes: Vec<String>,
    token: Option<String>,
    admin: AdminChange,
    log: Option<writer::Prepared>,
    sockets: super::listeners::Prepared,
}

enum AdminChange {
    Keep,
    Replace(Option<AdminSocket>),
}

impl Process {
    /// Reads the configuration again and puts it in force, if all of it can be.
    pub(super) fn reload(&mut self) -> Reloaded {
        // No service manager: nothing to tell.
        let _ = sd_notify::notify(&reloading());
        let outcome = match self.prepare() {
            Ok(ready) => self.commit(ready),
            Err(report) => {
                self.reloads.rejected.fetch_add(1, Ordering::Relaxed);
                tracing::error!("reload rejected, nothing has changed:\n{report}");
                Reloaded::Rejected { report }
            }
        };
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        outcome
    }

    fn prepare(&self) -> Result<Ready, String> {
        let Some(source) = &self.source else {
            return Err("there is no configuration file to read again".to_owned());
        };
        let Checked {
            model,
            warnings,
            places,
        } = config::load(source, &self.machine).map_err(|report| report.render(false))?;
        let running = &self.current.load().model;
        let changes = config::diff(running, &model);
        let model = keep_fixed(model, running);
        let text = |what: &dyn std::fmt::Display| format!("{}: {what}\n", source.display());
        let tls = self.tls.prepare(&model, &places, now());
        let tls = tls.map_err(|report| report.render(false))?;
        let lists = self.lists.prepare(&model, &places, now());
        let lists = lists.map_err(|report| report.render(false))?;
        let token = read_token(&model.admin).map_err(|error| text(&error))?;
        let admin = prepare_admin(&model.admin, &running.admin).map_err(|error| text(&error))?;
        let sockets = self.sockets.prepare(&model).map_err(|fault| text(&fault))?;
        // Last, because what it may create, a file, is not taken back.
        let log = prepare_log(&model.log, &running.log).map_err(|error| text(&error))?;
        Ok(Ready {
            warnings: warnings.and(tls.warnings.clone()).render(false),
            changes,
            model,
            tls,
            lists,
            token,
            admin,
            log,
            sockets,
        })
    }

    fn commit(&mut self, ready: Ready) -> Reloaded {
        let model = Arc::new(ready.model);
        self.control.set_nameservers(&model.global.nameservers);
        self.answers = self.control.resolve(names(&model), RESOLVE_WAIT);
        let version = self.current.load().version + 1;
        let snapshot = self.registries.build(
            Arc::clone(&model),
            &self.answers.table,
            Made {
                tls: ready.tls.settings(),
                lists: ready.lists.lists(),
            },
            version,
        );
        let sockets = ready.sockets;
        self.swap(&Arc::new(snapshot), |held, snapshot| {
            held.commit(sockets, snapshot)
        });
        self.tls.commit(ready.tls, now());
        self.lists.commit(ready.lists, now());
        if let Some(log) = ready.log {
            self.log.commit(log);
        }
        self.messages.set_level(model.log.level);
        *self.surface.token.write() = ready.token;
        if let AdminChange::Replace(socket) = ready.admin {
            self.control.serve_admin(socket);
        }
        self.reloads.applied.fetch_add(1, Ordering::Relaxed);
        let changes = ready.changes;
        let mut listed = String::new();
        for change in &changes {
            let _ = write!(listed, "\n  {change}");
        }
        tracing::info!(
            "reload applied as version {version}, changes: {}{listed}",
            changes.len()
        );
        Reloaded::Applied(Applied {
            version,
            changes,
            warnings: ready.warnings,
        })
    }
}

/// What only a new process could change stays as it is; the list of changes says so.
fn keep_fixed(mut model: Model, running: &Model) -> Model {
    model.global.workers = running.global.workers;
    model.global.pin = running.global.pin;
    model.global.driver = running.global.driver;
    model
}

/// A session log that goes on as it is is left alone: a half written line can still be completed.
fn prepare_log(log: &Log, running: &Log) -> io::Result<Option<writer::Prepared>> {
    let lines = |log: &Log| (log.sessions.clone(), log.format, log.on);
    (lines(log) != lines(running))
        .then(|| Writer::prepare(log))
        .transpose()
}

fn prepare_admin(admin: &Admin, running: &Admin) -> Result<AdminChange, String> {
    if admin.listen == running.listen {
        return Ok(AdminChange::Keep);
    }
    bind_admin(admin).map(AdminChange::Replace)
}

fn reloading() -> Vec<sd_notify::NotifyState<'static>> {
    let mut states = vec![sd_notify::NotifyState::Reloading];
    // Without the clock the service manager falls back to its plain notify protocol.
    states.extend(sd_notify::NotifyState::monotonic_usec_now());
    states
}
