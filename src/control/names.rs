//! The names that are kept resolved: who is asked again when, and what the main thread hears of it.
//!
//! A host is asked for by its addresses. A service is asked for by its SRV records, and every host that these
//! offer is then kept like one of the configuration's own, with a TTL and failures of its own.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam::channel::{self, TrySendError};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::{Instant, sleep, sleep_until};

use super::directory::Directory;
use super::freshness::{Attempts, Freshness, Told};
use super::known::{Host, News, Offers, Service, Watch};
use super::{EVENTS_RETRY, Event, Resolved, Wanted};
use crate::snapshot::Answers;

/// Names that are looked up at once; the others wait their turn.
pub(super) const LOOKUPS_MAX: usize = 64;

/// All names, one task each.
pub(super) struct Names {
    shared: Arc<Shared>,
    nameservers: Vec<SocketAddr>,
    /// Hosts that the configuration names itself.
    wanted: HashSet<Arc<str>>,
    hosts: HashMap<Arc<str>, Host>,
    services: HashMap<Arc<str>, Service>,
    updates: mpsc::Receiver<Update>,
    /// The call of the main thread that is waiting.
    waiting: Option<Waiting>,
    /// When to send the table that has changed.
    publish_at: Option<Instant>,
    /// Tables made so far.
    sequence: u64,
    events: channel::Sender<Event>,
}

struct Waiting {
    until: Instant,
    reply: channel::Sender<Resolved>,
}

/// What the tasks share.
struct Shared {
    directory: ArcSwap<Directory>,
    turns: Semaphore,
    updates: mpsc::Sender<Update>,
}

/// What is asked for.
#[derive(Clone)]
enum Name {
    Host(Arc<str>),
    Service(Arc<str>),
}

/// A task's look-up has ended.
struct Update {
    name: Name,
    /// `None`: it failed, and the old answers hold.
    news: Option<News>,
}

impl Names {
    /// No names so far.
    pub(super) fn new(nameservers: Vec<SocketAddr>, events: channel::Sender<Event>) -> Self {
        let (sender, updates) = mpsc::channel(LOOKUPS_MAX);
        let shared = Shared {
            directory: ArcSwap::from_pointee(Directory::new(&nameservers)),
            turns: Semaphore::new(LOOKUPS_MAX),
            updates: sender,
        };
        Self {
            shared: Arc::new(shared),
            nameservers,
            wanted: HashSet::new(),
            hosts: HashMap::new(),
            services: HashMap::new(),
            updates,
            waiting: None,
            publish_at: None,
            sequence: 0,
            events,
        }
    }

    /// Forgets all names but `wanted`, looks up those that have no answer yet, and answers when each
    /// has been looked up or `within` is over.
    pub(super) fn resolve(
        &mut self,
        wanted: Wanted,
        within: Duration,
        reply: channel::Sender<Resolved>,
    ) {
        self.services
            .retain(|name, _| wanted.services.contains(name));
        for service in self.services.values_mut() {
            service.watch.hurry_unless(service.offers.known.is_some());
        }
        for name in wanted.services {
            if !self.services.contains_key(&name) {
                let watch = Watch::new(&self.shared, Name::Service(Arc::clone(&name)));
                let service = Service {
                    offers: Offers::default(),
                    watch,
                };
                self.services.insert(name, service);
            }
        }
        self.wanted = wanted.hosts.into_iter().collect();
        for host in self.hosts.values_mut() {
            host.watch.hurry_unless(!host.addresses.is_empty());
        }
        self.keep_hosts();
        self.waiting = Some(Waiting {
            until: Instant::now() + within,
            reply,
        });
        self.answer_if_settled();
    }

    /// Looks names up there from now on, and all of them at once where the servers are others.
    pub(super) fn set_nameservers(&mut self, nameservers: Vec<SocketAddr>) {
        let directory = Arc::new(Directory::new(&nameservers));
        self.shared.directory.store(directory);
        if self.nameservers != nameservers {
            self.nameservers = nameservers;
            let hosts = self.hosts.values().map(|host| &host.watch);
            let services = self.services.values().map(|service| &service.watch);
            hosts
                .chain(services)
                .for_each(|watch| watch.wake.notify_one());
        }
    }

    /// Waits for the next thing to happen to a name and deals with it. May be dropped while waiting.
    pub(super) async fn turn(&mut self) {
        let waits_until = self.waiting.as_ref().map(|waiting| waiting.until);
        tokio::select! {
            Some(update) = self.updates.recv() => self.take(update),
            () = until(waits_until) => self.answer(),
            () = until(self.publish_at) => self.publish(),
        }
    }

    fn take(&mut self, update: Update) {
        // The name may have been forgotten while it was looked up.
        let changed = match &update.name {
            Name::Host(name) => match self.hosts.get_mut(name) {
                Some(host) => host.take(update.news),
                None => return,
            },
            Name::Service(name) => match self.services.get_mut(name) {
                Some(service) => service.take(update.news),
                None => return,
            },
        };
        self.keep_hosts();
        if self.promote() || changed {
            self.publish_at
                .get_or_insert_with(|| Instant::now() + PUBLISH_DELAY);
        }
        self.answer_if_settled();
    }

    /// Keeps exactly the hosts that the configuration or a service names.
    fn keep_hosts(&mut self) {
        let offered = self.services.values().flat_map(|it| it.offers.all());
        let offered = offered.map(|offer| &offer.host);
        let needed: HashSet<Arc<str>> = offered.chain(&self.wanted).cloned().collect();
        self.hosts.retain(|name, _| needed.contains(name));
        for name in needed {
            if !self.hosts.contains_key(&name) {
                let watch = Watch::new(&self.shared, Name::Host(Arc::clone(&name)));
                let host = Host {
                    addresses: Vec::new(),
                    watch,
                };
                self.hosts.insert(name, host);
            }
        }
    }

    /// Puts in force what services offer whose hosts have all been looked up; says whether there is any.
    fn promote(&mut self) -> bool {
        let hosts = &self.hosts;
        let mut changed = false;
        for Service { offers, .. } in self.services.values_mut() {
            changed |= offers.promote(hosts);
        }
        if changed {
            self.keep_hosts();
        }
        changed
    }

    fn answer_if_settled(&mut self) {
        if self.waiting.is_some()
            && self.hosts.values().all(Host::is_answered)
            && self.services.values().all(Service::is_answered)
        {
            self.answer();
        }
    }

    fn answer(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            // The caller holds the other end until it is answered. What it is told now need not be
            // sent again.
            let _ = waiting.reply.send(self.table());
            self.publish_at = None;
        }
    }

    fn publish(&mut self) {
        if self.waiting.is_some() {
            // The main thread waits for this very table.
            self.publish_at = None;
            return;
        }
        let resolved = self.table();
        self.publish_at = match self.events.try_send(Event::Resolved(resolved)) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => None,
            Err(TrySendError::Full(_)) => Some(Instant::now() + EVENTS_RETRY),
        };
    }

    fn table(&mut self) -> Resolved {
        self.sequence += 1;
        let hosts = self.hosts.iter();
        let hosts = hosts.filter(|(_, host)| !host.addresses.is_empty());
        let services = self.services.iter();
        let services = services.filter_map(|(name, service)| {
            let known = service.offers.known.as_deref()?;
            Some((Arc::clone(name), known.to_vec()))
        });
        Resolved {
            sequence: self.sequence,
            table: Answers {
                hosts: hosts
                    .map(|(name, host)| (Arc::clone(name), host.addresses.clone()))
                    .collect(),
                services: services.collect(),
            },
        }
    }
}

/// Names that change together are told together.
const PUBLISH_DELAY: Duration = Duration::from_millis(20);

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

impl Watch {
    fn new(shared: &Arc<Shared>, name: Name) -> Self {
        let wake = Arc::new(Notify::new());
        let task = keep_fresh(Arc::clone(shared), name, Arc::clone(&wake));
        Self {
            settled: false,
            wake,
            task: tokio::spawn(task).abort_handle(),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => f.write_str(name),
            Self::Service(name) => write!(f, "srv:{name}"),
        }
    }
}

/// Looks one name up again and again.
async fn keep_fresh(shared: Arc<Shared>, name: Name, wake: Arc<Notify>) {
    let mut freshness = Freshness::default();
    let mut attempts = Attempts::default();
    loop {
        let (news, after, told) = {
            // Never closed, so always granted.
            let _turn = shared.turns.acquire().await;
            let directory = shared.directory.load_full();
            match &name {
                Name::Host(host) => {
                    let (next, told) = freshness.settle(directory.look_up(host).await);
                    (next.news.map(News::Addresses), next.after, told)
                }
                Name::Service(service) => {
                    let outcome = directory.look_up_service(service).await;
                    let (next, told) = attempts.settle_offers(outcome);
                    (next.news.map(News::Offers), next.after, told)
                }
            }
        };
        match told {
            Some(Told::Fails(error)) => tracing::warn!("resolve {name}: {error}"),
            Some(Told::Recovered) => tracing::info!("resolve {name}: answered again"),
            None => {}
        }
        let update = Update {
            name: name.clone(),
            news,
        };
        if shared.updates.send(update).await.is_err() {
            return;
        }
        tokio::select! {
            () = sleep(after) => {}
            () = wake.notified() => {}
        }
    }
}
