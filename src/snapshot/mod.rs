//! Everything a session may look up, in one immutable value.
//!
//! A snapshot is built aside from a model, swapped in by one pointer and pinned by each session. What
//! must outlive it (counts, rotations, budgets) lives in the [`Registries`] and is only referred to.

mod answers;
mod guards;
mod members;
mod registries;
pub mod routes;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::backend::{Breaker, Ejector, Queue, RetryBudget};
use crate::balance::{Balancer, Rotation};
use crate::config::model::{
    self, Connect, Health, Keepalive, Model, Outliers, Partings, ProxyReceive, ProxySend, Relay,
    StartTls, Timeouts, Waiting,
};
use crate::limits::guard::Guard;
use crate::metrics::{Cells, ListenerCells, PoolCells};
use crate::tls::ServerName;
use crate::tls::live::{Encrypting, Terminating};

pub use answers::{Answers, Offer, Ranked};
pub use registries::{Made, Registries};
use routes::Routes;

/// A listener's number: the same name has the same number in every snapshot of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(u32);

/// One configuration as the workers see it.
pub struct Snapshot {
    /// Counts the configurations of this process, from 1.
    pub version: u64,
    /// What it was built from.
    pub model: Arc<Model>,
    listeners: HashMap<ListenerId, Listener>,
    pools: Vec<Arc<Pool>>,
}

/// What a session needs to know of its listener.
pub struct Listener {
    /// As configured.
    pub name: Arc<str>,
    /// How bytes are moved.
    pub relay: Relay,
    /// How long a session may do what.
    pub timeouts: Timeouts,
    /// How backends are probed that are silent for long.
    pub keepalive: Option<Keepalive>,
    /// Where its sessions go.
    pub routing: Routing,
    /// Who says in the PROXY protocol whom it speaks for.
    pub proxy_protocol: Option<ProxyReceive>,
    /// What it asks of its clients; `None`: nothing.
    pub guard: Option<Box<Guard>>,
    /// How it terminates TLS; there is this exactly if some route terminates.
    pub tls: Option<Arc<Terminating>>,
    /// Counters.
    pub cells: Arc<Cells<ListenerCells>>,
}

/// Where the sessions of a listener go.
pub enum Routing {
    /// All to one pool, as they come.
    Pool(Arc<Pool>),
    /// By what the client says first.
    ByHello(Box<Routes>),
}

/// What a session needs to know of its pool.
pub struct Pool {
    /// As configured.
    pub name: Arc<str>,
    /// The backends, and the way to choose one.
    pub balancer: Balancer,
    /// The most connections of each member of `balancer` at a time; 0: any number.
    pub limits: Box<[u32]>,
    /// Whether there is such a limit at all.
    pub is_limited: bool,
    /// How clients wait while every backend is full; `None`: they do not.
    pub queue: Option<Waiting>,
    /// How to connect.
    pub connect: Connect,
    /// Retries allowed, percent of connections.
    pub retry_budget: u8,
    /// The local address to connect from.
    pub source: Option<IpAddr>,
    /// What backends are told of the client.
    pub proxy_protocol: Option<ProxySend>,
    /// How connections to backends are encrypted; `None`: not by us.
    pub tls: Option<Arc<Encrypting>>,
    /// How the backends are probed; `None`: not at all.
    pub health: Option<Arc<Health>>,
    /// Which backends are ejected because of their failures.
    pub outliers: Outliers,
    /// What the pool is spared; `None`: nothing.
    pub breaker: Option<model::Breaker>,
    /// What each backend is called by itself, by its name within the pool; empty without `tls` and
    /// `health`.
    pub server_names: HashMap<Arc<str>, ServerName<'static>>,
    /// What becomes of the sessions of a backend that leaves.
    pub partings: Partings,
    /// What outlives the snapshot.
    pub live: Arc<PoolLive>,
    /// Counters.
    pub cells: Arc<Cells<PoolCells>>,
}

/// The part of a pool that outlives a snapshot.
#[derive(Default)]
pub struct PoolLive {
    /// Whose turn it is.
    pub rotation: Rotation,
    /// Retries made and connections counted.
    pub budget: RetryBudget,
    /// Who waits for a backend.
    pub queue: Arc<Queue>,
    /// Which backends are ejected.
    pub ejector: Arc<Ejector>,
    /// Only where there is a breaker.
    pub breaker: Arc<Breaker>,
}

impl Listener {
    /// The pool that every session goes to; `None`: that depends on what the client says first.
    pub fn pool(&self) -> Option<&Arc<Pool>> {
        match &self.routing {
            Routing::Pool(pool) => Some(pool),
            Routing::ByHello(_) => None,
        }
    }

    /// Sessions that have not ended, of all workers; a moment old for those of others.
    pub fn active(&self) -> i64 {
        self.cells.all().map(|cells| cells.active.read()).sum()
    }

    /// What it and, by their names, its routes ask of clients.
    pub fn guards(&self) -> impl Iterator<Item = (Option<&Arc<str>>, &Guard)> {
        let routes = match &self.routing {
            Routing::Pool(_) => &[],
            Routing::ByHello(routes) => routes.entries(),
        };
        let routes = routes.iter().filter_map(|entry| {
            let guard = entry.guard.as_deref()?;
            Some((Some(&entry.route.name), guard))
        });
        let own = self.guard.as_deref().map(|guard| (None, guard));
        own.into_iter().chain(routes)
    }

    /// What comes before a ClientHello.
    pub fn starttls(&self) -> Option<StartTls> {
        match &self.routing {
            Routing::Pool(_) => None,
            Routing::ByHello(routes) => routes.starttls,
        }
    }

    /// The pool that every session's bytes go to as they come, with nothing before, between or after.
    pub fn direct_pool(&self) -> Option<&Arc<Pool>> {
        let pool = self.pool()?;
        let before = self.proxy_protocol.is_some() || pool.proxy_protocol.is_some();
        (!before && pool.tls.is_none()).then_some(pool)
    }
}

impl Snapshot {
    /// The listener with this number, unless the configuration has dropped it.
    pub fn listener(&self, id: ListenerId) -> Option<&Listener> {
        self.listeners.get(&id)
    }

    /// The number of the listener with this name.
    pub fn listener_id(&self, name: &str) -> Option<ListenerId> {
        self.listeners
            .iter()
            .find_map(|(id, listener)| (*listener.name == *name).then_some(*id))
    }

    /// Every listener, in no order.
    pub fn listeners(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.values()
    }

    /// Every pool, in the order of their names.
    pub fn pools(&self) -> &[Arc<Pool>] {
        &self.pools
    }
}
