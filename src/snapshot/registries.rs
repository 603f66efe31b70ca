//! What outlives snapshots, found again by name; and the way from a model to a snapshot.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{Listener, ListenerId, Pool, PoolLive, Snapshot};
use crate::backend::{self, Backend, BackendId};
use crate::balance::{Balancer, Member};
use crate::base::address::{Address, Endpoint};
use crate::config::model::{self, Model};
use crate::metrics;

/// The addresses of each host name that the configuration uses.
pub type Answers = HashMap<Arc<str>, Vec<IpAddr>>;

/// Live state by name or id.
pub struct Registries {
    backends: backend::Registry,
    pools: HashMap<Arc<str>, Arc<PoolLive>>,
    listeners: HashMap<Arc<str>, ListenerId>,
    /// Numbers are never used twice, so that a late message cannot meet the wrong listener.
    next_listener: u32,
    metrics: Arc<metrics::Registry>,
}

impl Registries {
    /// Nothing yet; `metrics` has the workers' cells.
    pub fn new(metrics: Arc<metrics::Registry>) -> Self {
        Self {
            backends: backend::Registry::new(),
            pools: HashMap::new(),
            listeners: HashMap::new(),
            next_listener: 0,
            metrics,
        }
    }

    /// Builds a snapshot aside: live state is looked up, none is changed.
    ///
    /// A name without an answer gives its pool no backend.
    pub fn build(&self, model: Arc<Model>, answers: &Answers, version: u64) -> Snapshot {
        let pools: Vec<Arc<Pool>> = model
            .pools
            .iter()
            .map(|pool| Arc::new(self.pool(pool, answers)))
            .collect();
        let by_name: HashMap<&str, &Arc<Pool>> =
            pools.iter().map(|pool| (&*pool.name, pool)).collect();
        let mut next = self.next_listener;
        let mut listeners = HashMap::new();
        for listener in &model.listeners {
            let known = self.listeners.get(&listener.name).copied();
            let id = known.unwrap_or_else(|| {
                next += 1;
                ListenerId(next)
            });
            // Validation has seen to it that the pool exists.
            if let Some(pool) = by_name.get(&*listener.pool) {
                listeners.insert(id, self.listener(listener, pool));
            }
        }
        Snapshot {
            version,
            model,
            listeners,
            pools,
        }
    }

    /// Takes over what a snapshot brought that is now in force, and forgets what nothing uses.
    pub fn adopt(&mut self, snapshot: &Snapshot) {
        self.backends.reconcile(
            snapshot
                .pools
                .iter()
                .flat_map(|pool| pool.balancer.members())
                .map(|member| &member.backend),
        );
        // A pool that left may still have sessions, and may come back to them.
        self.pools.retain(|_, live| Arc::strong_count(live) > 1);
        for pool in &snapshot.pools {
            self.pools
                .insert(Arc::clone(&pool.name), Arc::clone(&pool.live));
        }
        let numbered = snapshot.listeners.iter();
        self.listeners = numbered
            .map(|(id, listener)| (Arc::clone(&listener.name), *id))
            .collect();
        let highest = self.listeners.values().map(|id| id.0).max();
        self.next_listener = self.next_listener.max(highest.unwrap_or(0));
    }

    fn listener(&self, listener: &model::Listener, pool: &Arc<Pool>) -> Listener {
        Listener {
            name: Arc::clone(&listener.name),
            relay: listener.relay,
            timeouts: listener.timeouts,
            keepalive: listener.socket.keepalive,
            pool: Arc::clone(pool),
            cells: self.metrics.listener(&listener.name),
        }
    }

    fn pool(&self, pool: &model::Pool, answers: &Answers) -> Pool {
        let members = pool
            .backends
            .iter()
            .flat_map(|backend| self.members(&pool.name, backend, answers))
            .collect();
        let live = self.pools.get(&pool.name).map(Arc::clone);
        Pool {
            name: Arc::clone(&pool.name),
            balancer: Balancer::new(pool.balance, members),
            connect: pool.connect,
            retry_budget: pool.retry_budget,
            source: pool.source,
            live: live.unwrap_or_default(),
            cells: self.metrics.pool(&pool.name),
        }
    }

    fn members(&self, pool: &Arc<str>, backend: &model::Backend, answers: &Answers) -> Vec<Member> {
        let member = |name: Arc<str>, endpoint: Endpoint| {
            let id = BackendId {
                pool: Arc::clone(pool),
                name,
                endpoint,
            };
            let known = self.backends.find(&id);
            Member {
                backend: known.unwrap_or_else(|| Arc::new(Backend::new(id))),
                weight: backend.weight,
                tier: backend.tier,
            }
        };
        match &backend.address {
            Address::Endpoint(endpoint) => {
                vec![member(Arc::clone(&backend.name), endpoint.clone())]
            }
            Address::Name(host) => {
                let found = answers
                    .get(&host.host)
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                found
                    .iter()
                    .map(|&ip| {
                        let name = format!("{}/{ip}", backend.name).into();
                        member(name, Endpoint::Inet(SocketAddr::new(ip, host.port)))
                    })
                    .collect()
            }
        }
    }
}
