//! What outlives snapshots, found again by name; and the way from a model to a snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use super::guards::Guards;
use super::members::{server_names, stand};
use super::routes::{Entry, Routes};
use super::{Answers, Listener, ListenerId, Pool, PoolLive, Routing, Snapshot};
use crate::backend::{self, Backend};
use crate::balance::Balancer;
use crate::base::clock::Instant;
use crate::config::model::{self, Model, Target};
use crate::limits::guard::Guard;
use crate::limits::store::Lists;
use crate::metrics;
use crate::tls::live::{Encrypting, Settings, Terminating};

/// Live state by name or id.
pub struct Registries {
    pub(super) backends: backend::Registry,
    pools: HashMap<Arc<str>, Arc<PoolLive>>,
    listeners: HashMap<Arc<str>, ListenerId>,
    /// Numbers are never used twice, so that a late message cannot meet the wrong listener.
    next_listener: u32,
    guards: Guards,
    metrics: Arc<metrics::Registry>,
    /// A configuration is in force: a backend that comes now comes beside others.
    has_begun: bool,
}

/// What was made of the files that a model names.
#[derive(Clone, Copy)]
pub struct Made<'a> {
    /// Of certificates, keys and authorities.
    pub tls: &'a Settings,
    /// Of lists of networks.
    pub lists: &'a Lists,
}

impl Registries {
    /// Nothing yet; `metrics` has the workers' cells.
    pub fn new(metrics: Arc<metrics::Registry>) -> Self {
        Self {
            backends: backend::Registry::new(),
            pools: HashMap::new(),
            listeners: HashMap::new(),
            next_listener: 0,
            guards: Guards::default(),
            metrics,
            has_begun: false,
        }
    }

    /// Builds a snapshot aside: live state is looked up, none is changed.
    ///
    /// A name without an answer gives its pool no backend. `made` was made for the same model.
    pub fn build(
        &self,
        model: Arc<Model>,
        answers: &Answers,
        Made { tls, lists }: Made<'_>,
        version: u64,
    ) -> Snapshot {
        let pools: Vec<Arc<Pool>> = model
            .pools
            .iter()
            .map(|pool| {
                let tls = tls.pool(&pool.name).cloned();
                Arc::new(self.pool(pool, answers, tls))
            })
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
            // Validation has seen to it that every pool exists.
            let place = (Arc::clone(&listener.name), None);
            let entrances = Entrances {
                guards: &self.guards,
                listener: &listener.name,
                lists,
            };
            if let Some(routing) = routing(&listener.routing, &by_name, &entrances) {
                let tls = tls.listener(&listener.name).cloned();
                let guard = self.guards.guard(&place, &listener.limits, lists);
                listeners.insert(id, self.listener(listener, routing, (tls, guard)));
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
    ///
    /// Returns the backends whose sessions workers are to look at: they have left, or come back.
    pub fn adopt(&mut self, snapshot: &Snapshot, now: Instant) -> Vec<Arc<Backend>> {
        if self.has_begun {
            self.greet(snapshot, now);
        }
        self.has_begun = true;
        self.backends.reconcile(
            snapshot
                .pools
                .iter()
                .flat_map(|pool| pool.balancer.members())
                .map(|member| &member.backend),
        );
        for pool in &snapshot.pools {
            pool.come_into_force(now);
        }
        let changed = stand(snapshot, &self.backends, now);
        // A pool that left may still have sessions, and may come back to them.
        self.pools.retain(|_, live| Arc::strong_count(live) > 1);
        for pool in &snapshot.pools {
            self.pools
                .insert(Arc::clone(&pool.name), Arc::clone(&pool.live));
        }
        self.guards.adopt(snapshot);
        let numbered = snapshot.listeners.iter();
        self.listeners = numbered
            .map(|(id, listener)| (Arc::clone(&listener.name), *id))
            .collect();
        let highest = self.listeners.values().map(|id| id.0).max();
        self.next_listener = self.next_listener.max(highest.unwrap_or(0));
        changed
    }

    fn listener(
        &self,
        listener: &model::Listener,
        routing: Routing,
        (tls, guard): (Option<Arc<Terminating>>, Option<Guard>),
    ) -> Listener {
        Listener {
            name: Arc::clone(&listener.name),
            relay: listener.relay,
            timeouts: listener.timeouts,
            keepalive: listener.socket.keepalive,
            routing,
            proxy_protocol: listener.proxy_protocol.clone(),
            guard: guard.map(Box::new),
            tls,
            cells: self.metrics.listener(&listener.name),
        }
    }

    fn pool(&self, pool: &model::Pool, answers: &Answers, tls: Option<Arc<Encrypting>>) -> Pool {
        let live = self.pools.get(&pool.name).map(Arc::clone);
        let live = live.unwrap_or_default();
        let (members, limits): (Vec<_>, Vec<_>) = pool
            .backends
            .iter()
            .flat_map(|backend| {
                let members = self.members((pool, &live), backend, answers);
                members
                    .into_iter()
                    .map(|member| (member, backend.max_connections))
            })
            .unzip();
        let server_names = match (&tls, &pool.health) {
            (None, None) => HashMap::new(),
            _ => server_names(&pool.backends, answers),
        };
        let balancer = Balancer::new(pool.balance, members)
            .with_all_down(pool.all_down)
            .starting_slowly(pool.slow_start);
        Pool {
            name: Arc::clone(&pool.name),
            balancer,
            is_limited: limits.iter().any(|&limit| limit > 0),
            limits: limits.into(),
            queue: pool.queue,
            connect: pool.connect,
            retry_budget: pool.retry_budget,
            source: pool.source,
            proxy_protocol: pool.proxy_protocol.clone(),
            tls,
            health: pool.health.clone().map(Arc::new),
            outliers: pool.outliers,
            breaker: pool.breaker,
            server_names,
            partings: pool.partings,
            live,
            cells: self.metrics.pool(&pool.name),
        }
    }
}

/// What is needed to find out what the routes of a listener ask of their clients.
struct Entrances<'a> {
    guards: &'a Guards,
    listener: &'a Arc<str>,
    lists: &'a Lists,
}

impl Entrances<'_> {
    fn guard(&self, route: &model::Route) -> Option<Box<Guard>> {
        let limits = &route.entrance.as_deref()?.limits;
        let place = (Arc::clone(self.listener), Some(Arc::clone(&route.name)));
        self.guards.guard(&place, limits, self.lists).map(Box::new)
    }
}

/// Where a listener's sessions go; `None`: a pool is missing.
fn routing(
    routing: &model::Routing,
    pools: &HashMap<&str, &Arc<Pool>>,
    entrances: &Entrances<'_>,
) -> Option<Routing> {
    let find = |name: &Arc<str>| pools.get(&**name).map(|pool| Arc::clone(pool));
    let routes = match routing {
        model::Routing::Pool(pool) => return find(pool).map(Routing::Pool),
        model::Routing::ByHello(routes) => routes,
    };
    let entries = routes.routes.iter().map(|route| {
        let pool = match &route.target {
            Target::Pass(pool) | Target::Terminate(pool) => Some(find(pool)?),
            Target::Reject => None,
        };
        let (guard, route) = (entrances.guard(route), route.clone());
        Some(Entry { route, pool, guard })
    });
    let entries = entries.collect::<Option<_>>()?;
    Some(Routing::ByHello(Box::new(Routes::new(entries, routes))))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backend::{State, WARM};
    use crate::base::clock::now;
    use crate::config::{Machine, parse};

    const MACHINE: Machine = Machine {
        cores: 1,
        somaxconn: 4096,
        descriptors: 1 << 20,
        memory: 8 << 30,
    };

    #[test]
    fn every_route_has_the_pool_that_it_names() {
        let text = r#"
            [[listener]]
            name = "tls"
            listen = "127.0.0.1:1"
            plain = "b"
            tls = { certificates = [{ chain = "a.pem", key = "a.key" }] }
            route = [
                { sni = "a.example", pool = "a" },
                { sni = "b.example", terminate = true, pool = "b" },
                { default = true, reject = true },
            ]
            [[listener]]
            name = "tcp"
            listen = "127.0.0.1:2"
            pool = "a"
            [pool.a]
            backends = ["127.0.0.1:3"]
            [pool.b]
            backends = ["127.0.0.1:4"]
        "#;
        let checked = parse("test.toml", text, &MACHINE);
        let model = Arc::new(
            checked
                .unwrap_or_else(|it| panic!("{}", it.render(false)))
                .model,
        );
        let registries = Registries::new(Arc::new(metrics::Registry::new(1)));
        let snapshot = registries.build(
            model,
            &Answers::new(),
            Made {
                tls: &Settings::default(),
                lists: &Lists::new(),
            },
            1,
        );
        let listener = |name| {
            let id = snapshot.listener_id(name).unwrap();
            snapshot.listener(id).unwrap()
        };
        let Routing::ByHello(routes) = &listener("tls").routing else {
            panic!("everything goes to one pool");
        };
        let pool = |entry: &'_ Entry| entry.pool.as_ref().map(|pool| pool.name.to_string());
        let pools: Vec<_> = routes
            .entries()
            .iter()
            .map(|entry| (&*entry.route.name, pool(entry)))
            .collect();
        let expected = [
            ("a.example", Some("a".to_owned())),
            ("b.example", Some("b".to_owned())),
            ("default", None),
            ("plain", Some("b".to_owned())),
        ];
        assert_eq!(pools, expected);
        assert!(listener("tls").pool().is_none());
        assert_eq!(&*listener("tcp").pool().unwrap().name, "a");
    }

    #[test]
    fn a_backend_that_returns_to_its_sessions_is_checked_and_starts_slowly_like_a_new_one() {
        let text = |backends: &str| {
            format!(
                "[[listener]]\nlisten = \"127.0.0.1:1\"\npool = \"p\"\n[pool.p]\nbackends = [{backends}]\n\
                 [pool.p.health]\ninitial = \"check\"\n"
            )
        };
        let mut registries = Registries::new(Arc::new(metrics::Registry::new(1)));
        let mut adopt = |backends: &str| {
            let checked = parse("test.toml", &text(backends), &MACHINE);
            let checked = checked.unwrap_or_else(|it| panic!("{}", it.render(false)));
            let made = Made {
                tls: &Settings::default(),
                lists: &Lists::new(),
            };
            let model = Arc::new(checked.model);
            let snapshot = registries.build(model, &Answers::new(), made, 1);
            registries.adopt(&snapshot, now());
            Arc::clone(&snapshot.pools[0].balancer.members()[0].backend)
        };
        let backend = adopt("\"127.0.0.1:2\", \"127.0.0.1:3\"");
        backend.set_state(State::Up);
        let session = backend.lease();
        adopt("\"127.0.0.1:2\", \"127.0.0.1:3\"");
        let time = Duration::from_secs(60);
        assert!(backend.is_up() && backend.warmth(now(), time) == WARM);
        let era = backend.era();
        adopt("\"127.0.0.1:3\"");
        let again = adopt("\"127.0.0.1:2\", \"127.0.0.1:3\"");
        assert!(Arc::ptr_eq(&again, &backend) && again.active() == 1);
        assert_eq!(again.state(), State::Unchecked);
        assert_eq!(again.era(), era, "its sessions have not gone down with it");
        assert!(again.warmth(now(), time) < WARM / 5);
        drop(session);
    }
}
