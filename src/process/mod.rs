//! One process: starts the workers, changes their configuration, stops them.
//!
//! The main thread lives here. It waits for events (signals, the admin listener, new answers of the
//! resolver) and is the only one that changes the snapshot.

mod listeners;
mod reload;
mod start;
mod stop;
mod view;

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};

use crate::admin::Surface;
use crate::base::clock::now;
use crate::config::{Checked, Machine};
use crate::control::{Control, Event, Resolved};
use crate::health;
use crate::limits::store as lists;
use crate::log::messages::Messages;
use crate::log::writer::Writer;
use crate::metrics::Registry;
use crate::snapshot::{Made, Registries, Snapshot};
use crate::sys::process::yield_to_others;
use crate::tls::store::Store;
use crate::worker::mailbox::{Adoption, Mailbox, Message};
use listeners::{Moves, Sockets};

/// Events that may wait for the main thread.
const EVENTS_MAX: usize = 64;

/// Runs the configuration until stopped; `source` is what a reload reads again.
///
/// The exit code is 0 after a stop, 1 when ringlane cannot run here, 2 when a file that the configuration
/// names cannot be used, 3 when an address cannot be listened on.
pub fn run(checked: Checked, source: Option<PathBuf>) -> ExitCode {
    let (sender, events) = bounded(EVENTS_MAX);
    match start::start(checked, source, sender) {
        Ok(process) => process.obey(&events),
        Err(fault) => fault.report(),
    }
}

/// The running process.
struct Process {
    source: Option<PathBuf>,
    machine: Machine,
    registries: Registries,
    /// The snapshot in force: written here, read by the admin listener. Workers get theirs by message,
    /// together with their sockets.
    current: Arc<ArcSwap<Snapshot>>,
    answers: Resolved,
    tls: Store,
    lists: lists::Store,
    sockets: Sockets,
    workers: Vec<Seated>,
    control: Control,
    surface: Arc<Surface>,
    log: Arc<Writer>,
    messages: Messages,
    metrics: Arc<Registry>,
    reloads: Arc<reload::Reloads>,
    /// See [`Seat::sessions_max`](crate::worker::Seat::sessions_max).
    sessions_max: Arc<AtomicU64>,
}

/// Drops the metrics of names that `snapshot` does not have and no session uses any more.
fn forget_unused(metrics: &Registry, snapshot: &Snapshot) {
    let listeners = snapshot.model.listeners.iter();
    let listeners: HashSet<&str> = listeners.map(|listener| &*listener.name).collect();
    let pools: HashSet<&str> = snapshot.pools().iter().map(|pool| &*pool.name).collect();
    metrics.retain(|name| listeners.contains(name), |name| pools.contains(name));
}

/// Has the control thread look after what `snapshot` wants looked after.
fn look_after(control: &Control, snapshot: &Snapshot) {
    control.probe(health::targets(snapshot));
    control.look_after(snapshot.pools());
    control.watch(snapshot.model.global.overload);
}

/// A running worker.
struct Seated {
    mailbox: Mailbox,
    thread: JoinHandle<()>,
}

impl Process {
    fn obey(mut self, events: &Receiver<Event>) -> ExitCode {
        // A reload may take some time, and a core that a worker serves clients on.
        yield_to_others();
        while let Ok(event) = self.next(events) {
            let Some(event) = event else {
                self.tls.look(now());
                self.lists.look(now());
                continue;
            };
            match event {
                Event::Reload { reply } => {
                    let outcome = self.reload();
                    if let Some(reply) = reply {
                        // Who asked may have gone.
                        let _ = reply.try_send(outcome);
                    }
                }
                Event::Resolved(resolved) => self.resolved(resolved),
                Event::ReopenLogs => self.log.reopen(),
                Event::Stop => break,
            }
        }
        self.stop(events)
    }

    /// The next event; `None`: it is time to look at files and ticket keys.
    fn next(&self, events: &Receiver<Event>) -> Result<Option<Event>, RecvTimeoutError> {
        let due = self.tls.due().into_iter().chain(self.lists.due()).min();
        let Some(due) = due else {
            return events
                .recv()
                .map(Some)
                .map_err(|_| RecvTimeoutError::Disconnected);
        };
        // However many events there are: what is due is due.
        let time = now();
        if time >= due {
            return Ok(None);
        }
        match events.recv_timeout(due - time) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(gone @ RecvTimeoutError::Disconnected) => Err(gone),
        }
    }

    /// New addresses for the same configuration.
    fn resolved(&mut self, resolved: Resolved) {
        // The event may have waited while a reload was told what came after it.
        if !self.answers.renew(resolved) {
            return;
        }
        let current = self.current.load();
        let model = Arc::clone(&current.model);
        self.answers.table.keep_only(&start::names(&model).hosts);
        let snapshot = self.registries.build(
            model,
            &self.answers.table,
            Made {
                tls: self.tls.settings(),
                lists: self.lists.lists(),
            },
            current.version + 1,
        );
        self.swap(&Arc::new(snapshot), |sockets, _| sockets.keep_all());
    }

    /// Puts a snapshot in force, here and on every worker.
    fn swap(
        &mut self,
        snapshot: &Arc<Snapshot>,
        move_sockets: impl FnOnce(&mut Sockets, &Snapshot) -> Moves,
    ) {
        let changed = self.registries.adopt(snapshot, now());
        let moves = move_sockets(&mut self.sockets, snapshot);
        let sessions_max = start::sessions_max(&self.sockets, snapshot);
        self.sessions_max.store(sessions_max, Ordering::Relaxed);
        self.current.store(Arc::clone(snapshot));
        self.tell(snapshot, moves);
        for worker in &self.workers {
            worker.mailbox.tell_of(&changed);
        }
        look_after(&self.control, snapshot);
        forget_unused(&self.metrics, snapshot);
    }

    fn tell(&self, snapshot: &Arc<Snapshot>, moves: Moves) {
        let mut listen = moves.listen.into_iter();
        for worker in &self.workers {
            worker.mailbox.send(Message::Adopt(Adoption {
                snapshot: Arc::clone(snapshot),
                withdraw: moves.withdraw.clone(),
                reassign: moves.reassign.clone(),
                listen: listen.next().unwrap_or_default(),
            }));
        }
    }
}
