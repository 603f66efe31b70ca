//! From a configuration to a running process; whatever is refused here ends it with a clear message.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam::channel::{Sender, bounded};
use parking_lot::RwLock;

use super::listeners::{BindFault, Moves, Sockets};
use super::reload::{RESOLVE_WAIT, Reloads};
use super::{Process, Seated, forget_unused};
use crate::admin::socket;
use crate::admin::{Reloaded, Surface, access};
use crate::base::address::Address;
use crate::base::clock::now;
use crate::base::limits::{DESCRIPTORS_RESERVED, PIPE_BYTES, PIPE_BYTES_ALL};
use crate::config::model::{self, Admin, Model};
use crate::config::{Checked, Machine};
use crate::control::{Control, Event};
use crate::log::messages::Messages;
use crate::log::writer::Writer;
use crate::metrics::{self, BackendFacts, Registry, Scrape};
use crate::snapshot::{Answers, Registries, Snapshot};
use crate::sys::process::{allowed_cores, open_descriptors, raise_descriptor_limit};
use crate::worker::Seat;
use crate::worker::mailbox::mailbox;
use crate::worker::runtime::{self, Driver};

/// A worker that has not ticked for so long is stuck.
const STUCK: Duration = Duration::from_secs(1);

/// How long the admin listener waits for a reload.
const RELOAD_WAIT: Duration = Duration::from_secs(30);

/// Why the process cannot run.
pub(super) enum StartFault {
    /// An address cannot be listened on.
    Bind(String),
    /// Anything else.
    Other(String),
}

impl StartFault {
    /// Tells the operator; returns the exit code.
    pub(super) fn report(&self) -> ExitCode {
        let (text, code) = match self {
            Self::Bind(text) => (text, 3),
            Self::Other(text) => (text, 1),
        };
        // Without a standard error there is nobody to tell.
        let _ = writeln!(io::stderr().lock(), "error: {text}");
        ExitCode::from(code)
    }
}

impl From<BindFault> for StartFault {
    fn from(fault: BindFault) -> Self {
        Self::Bind(fault.to_string())
    }
}

/// Binds everything, then starts every thread; on return clients are served.
pub(super) fn start(
    Checked { model, warnings }: Checked,
    source: Option<PathBuf>,
    events: Sender<Event>,
) -> Result<Process, StartFault> {
    let other =
        |what: &str, error: &dyn std::fmt::Display| StartFault::Other(format!("{what}: {error}"));
    let messages = Messages::install(model.log.level).map_err(|e| other("messages", &e))?;
    if !warnings.is_empty() {
        tracing::warn!(
            "the configuration is valid, but:\n{}",
            warnings.render(false)
        );
    }
    let descriptors = raise_descriptor_limit();
    let driver = choose_driver(model.global.driver)?;
    let token = read_token(&model.admin).map_err(StartFault::Other)?;
    let log = Writer::start(&model.log).map_err(|e| other("session log", &e))?;
    let log = Arc::new(log);

    let mut sockets = Sockets::new(model.global.workers);
    let prepared = sockets.prepare(&model)?;
    let admin = model.admin.listen.as_ref().map(|endpoint| {
        socket::bind(endpoint)
            .map_err(|error| StartFault::Bind(format!("admin: listen on {endpoint}: {error}")))
    });
    let admin = admin.transpose()?;

    let model = Arc::new(model);
    let metrics = Arc::new(Registry::new(model.global.workers));
    let mut registries = Registries::new(Arc::clone(&metrics));
    let reloads = Arc::new(Reloads::default());
    // Names are resolved by the control thread, which needs the surface, which shows a snapshot: the
    // first one is built without names and never meets a session.
    let nameless = registries.build(Arc::clone(&model), &Answers::new(), 0);
    let current = Arc::new(ArcSwap::from_pointee(nameless));
    let view = View {
        metrics: Arc::clone(&metrics),
        current: Arc::clone(&current),
        reloads: Arc::clone(&reloads),
        log: Arc::clone(&log),
        driver,
    };
    let surface = Arc::new(view.surface(token, events.clone()));
    let control = Control::start(&model.global.nameservers, Arc::clone(&surface), events)
        .map_err(|e| other("control thread", &e))?;
    let answers = control.resolve(host_names(&model), RESOLVE_WAIT);
    let snapshot = Arc::new(registries.build(Arc::clone(&model), &answers, 1));
    registries.adopt(&snapshot);
    current.store(Arc::clone(&snapshot));

    let moves = sockets.commit(prepared, &snapshot);
    let cores = allowed_cores();
    let sessions_max = sessions_max(descriptors, &moves);
    let mut workers = Vec::new();
    for (index, listening) in moves.listen.into_iter().enumerate() {
        let seat = Seat {
            index,
            workers: model.global.workers,
            sessions_max,
            snapshot: Arc::clone(&snapshot),
            metrics: Arc::clone(&metrics),
            log: log.session_log(),
        };
        let core = model
            .global
            .pin
            .then(|| cores.get(index % cores.len().max(1)).copied());
        let (mailbox, inbox) = mailbox().map_err(|e| other("worker", &e))?;
        let thread = runtime::start(seat, driver, core.flatten(), inbox, listening)
            .map_err(|e| other("worker", &e))?;
        workers.push(Seated { mailbox, thread });
    }
    control.serve_admin(admin);
    surface.ready.store(true, Ordering::Release);
    // No service manager: nothing to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(
        "ringlane {} serves {} listeners with {} workers on {}",
        env!("CARGO_PKG_VERSION"),
        model.listeners.len(),
        workers.len(),
        driver.as_str(),
    );
    Ok(Process {
        source,
        machine: Machine::here(),
        registries,
        current,
        answers,
        sockets,
        workers,
        control,
        surface,
        log,
        messages,
        metrics,
        reloads,
    })
}

/// How many sessions there are descriptors for, two each.
fn sessions_max(descriptors: u64, moves: &Moves) -> u64 {
    // Each worker holds a socket of its own beside the process's, and both ends of its pipes.
    let listening: usize = moves.listen.iter().map(|sockets| 2 * sockets.len()).sum();
    let pipes = 2 * PIPE_BYTES_ALL / PIPE_BYTES;
    let taken = DESCRIPTORS_RESERVED + (listening + pipes) as u64;
    (descriptors.saturating_sub(taken) / 2).max(1)
}

fn choose_driver(choice: model::Driver) -> Result<Driver, StartFault> {
    match (choice, Driver::probe_uring()) {
        (model::Driver::Epoll, _) => Ok(Driver::Epoll),
        (_, Ok(driver)) => Ok(driver),
        (model::Driver::Auto, Err(error)) => {
            tracing::warn!("io_uring is refused here ({error}); waiting with epoll instead");
            Ok(Driver::Epoll)
        }
        (model::Driver::IoUring, Err(error)) => Err(StartFault::Other(format!(
            "global.driver is \"io_uring\", but the kernel refuses it: {error}"
        ))),
    }
}

/// The host names that a configuration needs addresses of.
pub(super) fn host_names(model: &Model) -> Vec<Arc<str>> {
    let backends = model.pools.iter().flat_map(|pool| &pool.backends);
    let mut names: Vec<Arc<str>> = backends
        .filter_map(|backend| match &backend.address {
            Address::Name(name) => Some(Arc::clone(&name.host)),
            Address::Endpoint(_) => None,
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The admin token of a configuration, if it has one.
pub(super) fn read_token(admin: &Admin) -> Result<Option<String>, String> {
    let read = |path: &PathBuf| {
        access::read_token(path)
            .map_err(|error| format!("admin.token_file {}: {error}", path.display()))
    };
    admin.token_file.as_ref().map(read).transpose()
}

/// What the admin listener may look at.
struct View {
    metrics: Arc<Registry>,
    current: Arc<ArcSwap<Snapshot>>,
    reloads: Arc<Reloads>,
    log: Arc<Writer>,
    driver: Driver,
}

impl View {
    fn surface(self, token: Option<String>, events: Sender<Event>) -> Surface {
        let metrics = Arc::clone(&self.metrics);
        Surface {
            metrics: Box::new(move || metrics::render(&self.metrics, &self.scrape())),
            healthy: Box::new(move || healthy(&metrics)),
            ready: AtomicBool::new(false),
            reload: Box::new(move || ask_for_reload(&events)),
            token: RwLock::new(token),
        }
    }

    fn scrape(&self) -> Scrape {
        let snapshot = self.current.load();
        // What a reload removed is in use until its last session has ended, long after the reload.
        forget_unused(&self.metrics, &snapshot);
        let time = now();
        let members = snapshot.pools().iter().flat_map(|pool| {
            let members = pool.balancer.members().iter();
            members.map(move |member| BackendFacts {
                pool: Arc::clone(&pool.name),
                name: Arc::clone(&member.backend.id().name),
                active: u64::from(member.backend.active()),
                connects: member.backend.connects_total(),
                failures: member.backend.failures_total(),
                usable: member.weight > 0 && !member.backend.recently_failed(time),
            })
        });
        Scrape {
            now: time,
            version: env!("CARGO_PKG_VERSION"),
            driver: self.driver.as_str(),
            snapshot: snapshot.version,
            reloads_applied: self.reloads.applied.load(Ordering::Relaxed),
            reloads_rejected: self.reloads.rejected.load(Ordering::Relaxed),
            descriptors: open_descriptors(),
            log_dropped: self.log.dropped(),
            pools: snapshot
                .pools()
                .iter()
                .map(|pool| Arc::clone(&pool.name))
                .collect(),
            backends: members.collect(),
        }
    }
}

/// Whether every worker has ticked lately.
fn healthy(metrics: &Registry) -> Result<(), String> {
    let time = now();
    for (index, worker) in metrics.workers().all().enumerate() {
        let silent = time - worker.last();
        if silent > STUCK {
            return Err(format!(
                "worker {index} has been stuck for {} ms",
                silent.as_millis()
            ));
        }
    }
    Ok(())
}

/// Has the main thread reload, and waits for what comes of it.
fn ask_for_reload(events: &Sender<Event>) -> Reloaded {
    let (reply, outcome) = bounded(1);
    let asked = events.try_send(Event::Reload { reply: Some(reply) });
    if asked.is_err() {
        return Reloaded::Busy;
    }
    outcome.recv_timeout(RELOAD_WAIT).unwrap_or(Reloaded::Busy)
}
