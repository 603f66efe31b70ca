//! The control thread: signals, name resolution, health checks, the admin server and the service manager's watchdog.
//!
//! One tokio runtime on one thread. It decides nothing about the configuration: it tells the main
//! thread what happened, as an [`Event`], and does what the main thread asks of [`Control`]. It
//! never waits for the main thread, which may itself be waiting in [`Control::resolve`].

mod directory;
mod freshness;
mod known;
mod names;
mod outcomes;
mod overload;
mod probe;
mod probe_tls;
mod prober;
mod server;
mod signals;

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{self, TrySendError};
use tokio::sync::mpsc;

use crate::admin::socket::AdminSocket;
use crate::admin::{Reloaded, Surface};
use crate::base::clock::now_coarse;
use crate::base::seldom::Seldom;
use crate::config::model::Overload;
use crate::health::Target;
use crate::snapshot::{Answers, Pool};
use crate::worker::mailbox::Mailbox;

pub use overload::Strain;

use names::Names;
use outcomes::{Outcomes, Watched};
use overload::Watch;
use prober::Prober;
use server::Server;
use signals::Signals;

/// The names that are to be resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// By their addresses.
    pub hosts: BTreeSet<Arc<str>>,
    /// By their SRV records, and the addresses of the hosts that these offer.
    pub services: BTreeSet<Arc<str>>,
}

/// What the main thread is told.
#[derive(Debug)]
pub enum Event {
    /// The configuration is to be read again: by SIGHUP, or through the admin listener, which waits
    /// for the answer.
    Reload {
        /// Who wants to know how it went.
        reply: Option<channel::Sender<Reloaded>>,
    },
    /// SIGTERM or SIGINT; again for a second one.
    Stop,
    /// SIGUSR1: the log files have been moved away.
    ReopenLogs,
    /// The addresses of some name have changed: all names that [`Control::resolve`] was last given, as
    /// far as they are known.
    Resolved(Resolved),
}

/// A table of addresses, and when it was made. An event may wait while [`Control::resolve`] returns a
/// newer one.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// Greater than that of any table made before.
    pub sequence: u64,
    /// What is known of each name.
    pub table: Answers,
}

impl Resolved {
    /// Takes over what `other` says, if that is newer; says whether it was. A name that `other` lacks
    /// has no addresses any more and keeps its last ones.
    pub fn renew(&mut self, other: Self) -> bool {
        let is_newer = other.sequence > self.sequence;
        if is_newer {
            self.sequence = other.sequence;
            self.table.hosts.extend(other.table.hosts);
            self.table.services.extend(other.table.services);
        }
        is_newer
    }
}

/// The main thread's hold on the control thread.
#[derive(Debug)]
pub struct Control {
    commands: mpsc::Sender<Command>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Command {
    Serve(Option<AdminSocket>),
    Resolve {
        names: Wanted,
        within: Duration,
        reply: channel::Sender<Resolved>,
    },
    Nameservers(Vec<SocketAddr>),
    Introduce(Vec<Mailbox>),
    Probe(Vec<Target>),
    Watch(Option<Overload>),
    LookAfter(Vec<Watched>),
    Stop,
}

impl Control {
    /// Starts the control thread; from here on signals arrive as events.
    ///
    /// Without `nameservers` the system's are asked. The main thread must go on receiving `events`;
    /// what finds the channel full is sent as soon as there is room.
    pub fn start(
        nameservers: &[SocketAddr],
        surface: Arc<Surface>,
        strain: Strain,
        events: channel::Sender<Event>,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let signals = {
            // The signals' wake-up pipe is registered with this runtime.
            let _inside = runtime.enter();
            Signals::register()?
        };
        let names = Names::new(nameservers.to_vec(), events.clone());
        let (commands, asked) = mpsc::channel(COMMANDS_MAX);
        let thread = thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    signals.spawn(&events);
                    spawn_watchdog(Arc::clone(&surface));
                    run(asked, names, Server::new(surface), Watch::new(strain)).await;
                });
            })?;
        Ok(Self {
            commands,
            thread: Some(thread),
        })
    }

    /// Serves the admin surface on `socket` and no longer on the one before, whose connections end
    /// after the response that they are waiting for.
    pub fn serve_admin(&self, socket: Option<AdminSocket>) {
        self.command(Command::Serve(socket));
    }

    /// Looks up `names`, waits `within` for those that are not known yet, and keeps exactly these
    /// fresh from then on. Blocks, so it is for the main thread only.
    ///
    /// A name that is left out is forgotten; while a reload may still be rejected, ask for the
    /// names of both configurations.
    pub fn resolve(&self, names: Wanted, within: Duration) -> Resolved {
        let (reply, answers) = channel::bounded(1);
        self.command(Command::Resolve {
            names,
            within,
            reply,
        });
        // The control thread keeps the deadline; it drops `reply` unanswered only when it ends.
        answers.recv().unwrap_or_default()
    }

    /// Asks these servers from now on; none: the system's, whose configuration is read again.
    pub fn set_nameservers(&self, nameservers: &[SocketAddr]) {
        self.command(Command::Nameservers(nameservers.to_vec()));
    }

    /// Tells these workers from now on which backends have gone down or come back.
    ///
    /// Not by way of the main thread: that may be waiting for names in a reload, while sessions wait for
    /// their end.
    pub fn introduce(&self, workers: Vec<Mailbox>) {
        self.command(Command::Introduce(workers));
    }

    /// Probes exactly these backends from now on; what is known of those that stay holds on.
    pub fn probe(&self, targets: Vec<Target>) {
        self.command(Command::Probe(targets));
    }

    /// Looks for overload by these settings from now on; `None`: not at all.
    pub fn watch(&self, settings: Option<Overload>) {
        self.command(Command::Watch(settings));
    }

    /// Looks after what comes of the sessions of exactly these pools from now on.
    pub fn look_after(&self, pools: &[Arc<Pool>]) {
        let watched = pools.iter().map(|pool| Watched::of(pool)).collect();
        self.command(Command::LookAfter(watched));
    }

    /// Ends the admin server and the thread; responses under way are given a second.
    pub fn stop(mut self) {
        self.join();
    }

    fn join(&mut self) {
        self.command(Command::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the control thread had panicked");
        }
    }

    fn command(&self, command: Command) {
        // The thread takes commands until it is stopped, so this fails only after a panic of it,
        // which `stop` reports.
        let _ = self.commands.blocking_send(command);
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.join();
        }
    }
}

/// Commands that may wait; the main thread, their only source, waits for room.
const COMMANDS_MAX: usize = 16;

async fn run(
    mut commands: mpsc::Receiver<Command>,
    mut names: Names,
    mut server: Server,
    mut watch: Watch,
) {
    let mut prober = Prober::new();
    let mut outcomes = Outcomes::new();
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Serve(socket)) => server.serve(socket),
                Some(Command::Resolve { names: wanted, within, reply }) => {
                    names.resolve(wanted, within, reply);
                }
                Some(Command::Nameservers(nameservers)) => names.set_nameservers(nameservers),
                Some(Command::Introduce(workers)) => prober.introduce(workers),
                Some(Command::Probe(targets)) => prober.set(targets),
                Some(Command::Watch(settings)) => watch.set(settings),
                Some(Command::LookAfter(pools)) => outcomes.set(pools),
                Some(Command::Stop) | None => break,
            },
            () = names.turn() => {}
            () = prober.turn() => {}
            () = watch.turn() => {}
            () = outcomes.turn() => {}
        }
    }
    server.stop().await;
}

/// Puts an event into the channel, however long the main thread leaves it full, without blocking
/// this thread. `false`: the main thread is gone.
async fn deliver(events: &channel::Sender<Event>, mut event: Event) -> bool {
    loop {
        match events.try_send(event) {
            Ok(()) => return true,
            Err(TrySendError::Disconnected(_)) => return false,
            Err(TrySendError::Full(back)) => event = back,
        }
        tokio::time::sleep(EVENTS_RETRY).await;
    }
}

/// How soon a full channel is tried again; its receiver cannot wake an async task.
const EVENTS_RETRY: Duration = Duration::from_millis(10);

/// Tells systemd twice per watchdog interval that the workers tick; silence makes it restart us.
fn spawn_watchdog(surface: Arc<Surface>) {
    let Some(interval) = sd_notify::watchdog_enabled() else {
        return;
    };
    let tell = || sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
    tokio::spawn(keep_alive(interval, surface, tell));
}

/// Goes on after a failure: systemd would take the silence for a stuck process and restart it.
async fn keep_alive(
    interval: Duration,
    surface: Arc<Surface>,
    tell: impl Fn() -> io::Result<()> + Send,
) {
    let mut ticks = tokio::time::interval((interval / 2).max(Duration::from_millis(1)));
    let mut seldom = Seldom::default();
    loop {
        ticks.tick().await;
        if (surface.healthy)().is_ok()
            && let Err(error) = tell()
            && seldom.is_due(now_coarse())
        {
            tracing::warn!("watchdog: {error}");
        }
    }
}

#[cfg(test)]
mod tests;
