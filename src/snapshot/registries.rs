//! What outlives snapshots, found again by name; and the way from a model to a snapshot.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::routes::{Entry, Routes};
use super::{Listener, ListenerId, Pool, PoolLive, Routing, Snapshot};
use crate::backend::{self, Backend, BackendId, State};
use crate::balance::{Balancer, Member};
use crate::base::address::{Address, Endpoint};
use crate::base::clock::now;
use crate::config::model::{self, Initial, Model, Target};
use crate::limits::guard::Guard;
use crate::limits::sources::Sources;
use crate::limits::store::{Access, Lists};
use crate::metrics;
use crate::tls::ServerName;
use crate::tls::live::{Encrypting, Settings, Terminating};

/// The addresses of each host name that the configuration uses.
pub type Answers = HashMap<Arc<str>, Vec<IpAddr>>;

/// Live state by name or id.
pub struct Registries {
    backends: backend::Registry,
    pools: HashMap<Arc<str>, Arc<PoolLive>>,
    listeners: HashMap<Arc<str>, ListenerId>,
    /// Numbers are never used twice, so that a late message cannot meet the wrong listener.
    next_listener: u32,
    /// What the sources of each listener are up to.
    sources: HashMap<Arc<str>, Arc<Sources>>,
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
            sources: HashMap::new(),
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
            if let Some(routing) = routing(&listener.routing, &by_name) {
                let tls = tls.listener(&listener.name).cloned();
                let access = lists.get(&listener.name).cloned();
                let guard = self.guard(listener, access);
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
    pub fn adopt(&mut self, snapshot: &Snapshot) {
        self.has_begun = true;
        self.backends.reconcile(
            snapshot
                .pools
                .iter()
                .flat_map(|pool| pool.balancer.members())
                .map(|member| &member.backend),
        );
        for pool in &snapshot.pools {
            pool.come_into_force();
        }
        // A pool that left may still have sessions, and may come back to them.
        self.pools.retain(|_, live| Arc::strong_count(live) > 1);
        for pool in &snapshot.pools {
            self.pools
                .insert(Arc::clone(&pool.name), Arc::clone(&pool.live));
        }
        // Of a listener that left, too: it may come back while some of its sessions go on.
        self.sources
            .retain(|_, sources| Arc::strong_count(sources) > 1);
        for listener in snapshot.listeners.values() {
            if let Some(sources) = listener.guard.as_ref().and_then(|guard| guard.sources()) {
                let sources = Arc::clone(sources);
                self.sources.insert(Arc::clone(&listener.name), sources);
            }
        }
        let numbered = snapshot.listeners.iter();
        self.listeners = numbered
            .map(|(id, listener)| (Arc::clone(&listener.name), *id))
            .collect();
        let highest = self.listeners.values().map(|id| id.0).max();
        self.next_listener = self.next_listener.max(highest.unwrap_or(0));
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

    fn guard(&self, listener: &model::Listener, access: Option<Arc<Access>>) -> Option<Guard> {
        Guard::new(access, &listener.limits, |prefixes| {
            let known = self.sources.get(&listener.name);
            let known = known.filter(|sources| sources.prefixes() == prefixes);
            known.map_or_else(
                || Arc::new(Sources::new((random(), random()), prefixes)),
                Arc::clone,
            )
        })
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
            live,
            cells: self.metrics.pool(&pool.name),
        }
    }

    fn members(
        &self,
        (pool, live): (&model::Pool, &PoolLive),
        backend: &model::Backend,
        answers: &Answers,
    ) -> Vec<Member> {
        let member = |name: Arc<str>, endpoint: Endpoint| {
            let id = BackendId {
                pool: Arc::clone(&pool.name),
                name,
                endpoint,
            };
            let known = self.backends.find(&id);
            // One that outlived its pool would give its slots to a line that nobody stands in.
            let known = known.filter(|known| known.is_in_line(&live.queue));
            let backend_of = |id| {
                let new = Backend::in_line(id, Arc::clone(&live.queue), Arc::clone(&live.ejector));
                new.set_limit(backend.max_connections);
                new.set_state(at_first(pool));
                let new = Arc::new(new);
                if self.has_begun {
                    new.became_usable(now());
                }
                new
            };
            Member {
                backend: known.unwrap_or_else(|| backend_of(id)),
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
                        let endpoint = Endpoint::Inet(SocketAddr::new(ip, host.port));
                        member(resolved_name(backend, ip), endpoint)
                    })
                    .collect()
            }
        }
    }
}

impl Pool {
    /// Puts in force what outlives the snapshot, and lets those go who no longer need to wait.
    fn come_into_force(&self) {
        let members = self.balancer.members();
        for (member, limit) in members.iter().zip(&self.limits) {
            member.backend.set_limit(*limit);
        }
        let open = || {
            let open = members.iter().filter(|member| member.weight > 0);
            open.map(|member| &member.backend)
        };
        self.live.queue.set_members(open());
        self.live.queue.set_all_down(self.balancer.all_down());
        self.live.ejector.set(self.outliers, open(), now());
        self.live.breaker.set(self.breaker.as_ref());
        open()
            .filter(|backend| backend.is_up() && !backend.has_failed())
            .for_each(Backend::serve_waiting);
    }
}

/// What a backend that nobody knows yet is taken for. One that serves already when its pool gets its first
/// `health` is known and stays up until its probes say otherwise.
const fn at_first(pool: &model::Pool) -> State {
    match &pool.health {
        None => State::Up,
        Some(health) => match health.initial {
            Initial::Up => State::Up,
            Initial::Down => State::Down,
            Initial::Check => State::Unchecked,
        },
    }
}

/// A number that nobody can know.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// One of the backends that a host name stands for.
fn resolved_name(backend: &model::Backend, ip: IpAddr) -> Arc<str> {
    format!("{}/{ip}", backend.name).into()
}

/// What backends are called by themselves: their host name, else their IP address.
fn server_names(
    backends: &[model::Backend],
    answers: &Answers,
) -> HashMap<Arc<str>, ServerName<'static>> {
    let mut names = HashMap::new();
    for backend in backends {
        match &backend.address {
            Address::Endpoint(Endpoint::Inet(address)) => {
                let name = ServerName::IpAddress(address.ip().into());
                names.insert(Arc::clone(&backend.name), name);
            }
            Address::Endpoint(Endpoint::Unix(_)) => {}
            Address::Name(host) => {
                let Ok(name) = ServerName::try_from(host.host.to_string()) else {
                    continue;
                };
                for ip in answers.get(&host.host).into_iter().flatten() {
                    names.insert(resolved_name(backend, *ip), name.clone());
                }
            }
        }
    }
    names
}

/// Where a listener's sessions go; `None`: a pool is missing.
fn routing(routing: &model::Routing, pools: &HashMap<&str, &Arc<Pool>>) -> Option<Routing> {
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
        let route = route.clone();
        Some(Entry { route, pool })
    });
    let entries = entries.collect::<Option<_>>()?;
    Some(Routing::ByHello(Box::new(Routes::new(entries, routes))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Machine, parse};

    const MACHINE: Machine = Machine {
        cores: 1,
        somaxconn: 4096,
        descriptors: 1 << 20,
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
}
