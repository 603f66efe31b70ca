//! From a configuration to a running process; whatever is refused here ends it with a clear message.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use crossbeam::channel::Sender;

use super::listeners::{BindFault, Moves, Sockets};
use super::reload::{RESOLVE_WAIT, Reloads};
use super::view::View;
use super::{Process, Seated};
use crate::admin::Surface;
use crate::admin::access;
use crate::admin::socket::{self, AdminSocket};
use crate::base::address::Address;
use crate::base::clock::now;
use crate::base::limits::{DESCRIPTORS_RESERVED, PIPE_BYTES, PIPE_BYTES_ALL};
use crate::config::model::{self, Admin, Model};
use crate::config::{Checked, Machine, Report};
use crate::control::{Control, Event, Strain, Wanted};
use crate::health;
use crate::limits::overload::Signal;
use crate::limits::store as lists;
use crate::log::messages::Messages;
use crate::log::writer::Writer;
use crate::metrics::Registry;
use crate::snapshot::{Answers, Made, Registries, Snapshot};
use crate::sys::process::{allowed_cores, descriptor_limit, raise_descriptor_limit};
use crate::tls::DefaultTimeProvider;
use crate::tls::store::Store;
use crate::worker::Seat;
use crate::worker::mailbox::mailbox;
use crate::worker::runtime::{self, Driver};

/// Why the process cannot run.
pub(super) enum StartFault {
    /// An address cannot be listened on.
    Bind(String),
    /// A file that the configuration names cannot be used.
    Configuration(Report),
    /// Anything else.
    Other(String),
}

impl StartFault {
    fn other(what: &str, error: &dyn Display) -> Self {
        Self::Other(format!("{what}: {error}"))
    }

    /// Tells the operator; returns the exit code.
    pub(super) fn report(&self) -> ExitCode {
        let (text, code) = match self {
            Self::Bind(text) => (format!("error: {text}\n"), 3),
            Self::Other(text) => (format!("error: {text}\n"), 1),
            Self::Configuration(report) => (report.render(false), 2),
        };
        // Without a standard error there is nobody to tell.
        let _ = write!(io::stderr().lock(), "{text}");
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
    checked: Checked,
    source: Option<PathBuf>,
    events: Sender<Event>,
) -> Result<Process, StartFault> {
    let other = StartFault::other;
    let files = read_files(checked)?;
    let (model, made) = (Arc::clone(&files.model), files.made());
    let messages = Messages::install(model.log.level).map_err(|e| other("messages", &e))?;
    warn(&files.warnings);
    raise_descriptor_limit();
    let driver = choose_driver(model.global.driver)?;
    let token = read_token(&model.admin).map_err(StartFault::Other)?;
    let log = Arc::new(Writer::start(&model.log).map_err(|e| other("session log", &e))?);

    let mut sockets = Sockets::new(model.global.workers);
    let prepared = sockets.prepare(&model)?;
    let admin = bind_admin(&model.admin).map_err(StartFault::Bind)?;

    let metrics = Arc::new(Registry::new(model.global.workers));
    let mut registries = Registries::new(Arc::clone(&metrics));
    let reloads = Arc::new(Reloads::default());
    let strain = Strain::new(Arc::clone(&metrics));
    let signal = Arc::clone(&strain.signal);
    // Names are resolved by the control thread, which needs the surface, which shows a snapshot: the
    // first one is built without names and never meets a session.
    let nameless = registries.build(Arc::clone(&model), &Answers::new(), made, 0);
    let current = Arc::new(ArcSwap::from_pointee(nameless));
    let view = View {
        metrics: Arc::clone(&metrics),
        current: Arc::clone(&current),
        reloads: Arc::clone(&reloads),
        certificates: Arc::clone(files.tls.counts()),
        lists: Arc::clone(files.lists.counts()),
        signal: Arc::clone(&signal),
        log: Arc::clone(&log),
        driver,
        source: source.clone(),
    };
    let surface = Arc::new(view.surface(token, events.clone()));
    let nameservers = &model.global.nameservers;
    let control = Control::start(nameservers, Arc::clone(&surface), strain, events)
        .map_err(|e| other("control thread", &e))?;
    let answers = control.resolve(names(&model), RESOLVE_WAIT);
    let snapshot = Arc::new(registries.build(Arc::clone(&model), &answers.table, made, 1));
    // Nobody has a session yet.
    let _ = registries.adopt(&snapshot, now());
    current.store(Arc::clone(&snapshot));

    let moves = sockets.commit(prepared, &snapshot);
    let sessions_max = Arc::new(AtomicU64::new(sessions_max(&sockets, &snapshot)));
    let crew = Crew {
        driver,
        sessions_max: &sessions_max,
        signal: &signal,
        snapshot: &snapshot,
        metrics: &metrics,
        log: &log,
    };
    let workers = crew.seat_all(moves)?;
    put_to_work(&control, &workers, &snapshot);
    control.serve_admin(admin);
    announce(&surface, &model, driver);
    Ok(Process {
        source,
        machine: Machine::here(),
        registries,
        current,
        answers,
        tls: files.tls,
        lists: files.lists,
        sockets,
        workers,
        control,
        surface,
        log,
        messages,
        metrics,
        reloads,
        sessions_max,
    })
}

fn put_to_work(control: &Control, workers: &[Seated], snapshot: &Snapshot) {
    control.introduce(workers.iter().map(|it| it.mailbox.clone()).collect());
    super::look_after(control, snapshot);
}

/// Says that clients are served.
fn announce(surface: &Surface, model: &Model, driver: Driver) {
    surface.ready.store(true, Ordering::Release);
    // No service manager: nothing to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(
        "ringlane {} serves {} listeners with {} workers on {}",
        env!("CARGO_PKG_VERSION"),
        model.listeners.len(),
        model.global.workers,
        driver.as_str(),
    );
}

/// A configuration with what the files hold that it names.
struct Files {
    model: Arc<Model>,
    tls: Store,
    lists: lists::Store,
    warnings: Report,
}

impl Files {
    fn made(&self) -> Made<'_> {
        Made {
            tls: self.tls.settings(),
            lists: self.lists.lists(),
        }
    }
}

/// Reads what the configuration names of TLS and of networks.
fn read_files(checked: Checked) -> Result<Files, StartFault> {
    let Checked {
        model,
        warnings,
        places,
    } = checked;
    let mut tls = Store::new(Arc::new(DefaultTimeProvider));
    let prepared = tls.prepare(&model, &places, now());
    let prepared = prepared.map_err(StartFault::Configuration)?;
    let warnings = warnings.and(prepared.warnings.clone());
    tls.commit(prepared, now());
    let mut lists = lists::Store::default();
    let prepared = lists.prepare(&model, &places, now());
    let prepared = prepared.map_err(StartFault::Configuration)?;
    lists.commit(prepared, now());
    Ok(Files {
        model: Arc::new(model),
        tls,
        lists,
        warnings,
    })
}

fn warn(warnings: &Report) {
    if !warnings.is_empty() {
        let text = warnings.render(false);
        tracing::warn!("the configuration is valid, but:\n{text}");
    }
}

/// How many sessions there are descriptors for, two each, beside those that listen or probe.
pub(super) fn sessions_max(sockets: &Sockets, snapshot: &Snapshot) -> u64 {
    let others = sockets.descriptors() + probes_max(snapshot);
    let descriptors = descriptor_limit();
    // Under a low limit not every pipe is worth a session: without one, bytes are copied.
    let pipes = (2 * PIPE_BYTES_ALL / PIPE_BYTES) as u64;
    let taken = DESCRIPTORS_RESERVED + others + pipes.min(descriptors / 8);
    (descriptors.saturating_sub(taken) / 2).max(1)
}

/// Descriptors that probes may take at once.
fn probes_max(snapshot: &Snapshot) -> u64 {
    let backends = health::targets(snapshot).len();
    backends.min(health::PROBES_MAX) as u64
}

/// What all workers start with.
struct Crew<'a> {
    driver: Driver,
    sessions_max: &'a Arc<AtomicU64>,
    signal: &'a Arc<Signal>,
    snapshot: &'a Arc<Snapshot>,
    metrics: &'a Arc<Registry>,
    log: &'a Writer,
}

impl Crew<'_> {
    /// Starts every worker with its sockets.
    fn seat_all(&self, moves: Moves) -> Result<Vec<Seated>, StartFault> {
        let global = &self.snapshot.model.global;
        let cores = allowed_cores();
        let mut seated = Vec::new();
        for (index, listening) in moves.listen.into_iter().enumerate() {
            let seat = Seat {
                index,
                workers: global.workers,
                sessions_max: Arc::clone(self.sessions_max),
                signal: Arc::clone(self.signal),
                snapshot: Arc::clone(self.snapshot),
                metrics: Arc::clone(self.metrics),
                log: self.log.session_log(),
            };
            let core = cores.get(index % cores.len().max(1)).filter(|_| global.pin);
            let (mailbox, inbox) =
                mailbox().map_err(|error| StartFault::other("worker", &error))?;
            let thread = runtime::start(seat, self.driver, core.copied(), inbox, listening)
                .map_err(|error| StartFault::other("worker", &error))?;
            seated.push(Seated { mailbox, thread });
        }
        Ok(seated)
    }
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

/// Binds the admin listener of a configuration, if it has one.
pub(super) fn bind_admin(admin: &Admin) -> Result<Option<AdminSocket>, String> {
    let bind = |endpoint| {
        socket::bind(endpoint).map_err(|error| format!("admin: listen on {endpoint}: {error}"))
    };
    admin.listen.as_ref().map(bind).transpose()
}

/// The names that a configuration needs answers for.
pub(super) fn names(model: &Model) -> Wanted {
    let mut wanted = Wanted::default();
    for backend in model.pools.iter().flat_map(|pool| &pool.backends) {
        match &backend.address {
            Address::Name(name) => wanted.hosts.insert(Arc::clone(&name.host)),
            Address::Service(name) => wanted.services.insert(Arc::clone(name)),
            Address::Endpoint(_) => false,
        };
    }
    wanted
}

/// The admin token of a configuration, if it has one.
pub(super) fn read_token(admin: &Admin) -> Result<Option<String>, String> {
    let read = |path: &PathBuf| {
        access::read_token(path)
            .map_err(|error| format!("admin.token_file {}: {error}", path.display()))
    };
    admin.token_file.as_ref().map(read).transpose()
}
