//! The backends of a pool: found again or new, and their place in a configuration that comes into force.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::registries::Registries;
use super::{Answers, Offer, Pool, PoolLive, Ranked, Snapshot};
use crate::backend::{self, Backend, BackendId, Standing, State};
use crate::balance::Member;
use crate::base::address::{Address, Endpoint};
use crate::base::clock::Instant;
use crate::config::model::{self, Health, Initial};
use crate::tls::ServerName;

impl Registries {
    pub(super) fn members(
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
                new.set_state(at_first(pool.health.as_ref()));
                Arc::new(new)
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
                let found = answers.of_host(&host.host).iter();
                let members = found.map(|&ip| {
                    let endpoint = Endpoint::Inet(SocketAddr::new(ip, host.port));
                    member(resolved_name(backend, ip), endpoint)
                });
                members.collect()
            }
            Address::Service(service) => {
                let members = answers.of_service(service).map(|(ranked, ip)| {
                    let offer = ranked.offer;
                    let endpoint = Endpoint::Inet(SocketAddr::new(ip, offer.port));
                    Member {
                        // Weight 0 in the file takes all of it out of service.
                        weight: if backend.weight == 0 {
                            0
                        } else {
                            ranked.weight
                        },
                        tier: backend.tier.saturating_add(ranked.rank),
                        ..member(offered_name(backend, offer, ip), endpoint)
                    }
                });
                members.collect()
            }
        }
    }
}

impl Registries {
    /// Lets backends begin slowly that come beside others.
    pub(super) fn greet(&self, snapshot: &Snapshot, now: Instant) {
        let members = snapshot.pools.iter();
        let backends = members.flat_map(|pool| pool.balancer.members());
        for Member { backend, .. } in backends {
            let known = self.backends.find(backend.id());
            if !known.is_some_and(|known| Arc::ptr_eq(&known, backend)) {
                backend.became_usable(now);
            }
        }
    }
}

impl Pool {
    /// Puts in force what outlives the snapshot, and lets those go who no longer need to wait.
    pub(super) fn come_into_force(&self, now: Instant) {
        let members = self.balancer.members();
        let returns = |member: &&Member| member.backend.standing() == Standing::Removed;
        for member in members.iter().filter(returns) {
            welcome(&member.backend, self.health.as_deref(), now);
        }
        for (member, limit) in members.iter().zip(&self.limits) {
            member.backend.set_limit(*limit);
        }
        let open = || {
            let open = members.iter().filter(|member| member.weight > 0);
            open.map(|member| &member.backend)
        };
        self.live.queue.set_members(open());
        self.live.queue.set_all_down(self.balancer.all_down());
        self.live.ejector.set(self.outliers, open(), now);
        self.live.breaker.set(self.breaker.as_ref());
        open()
            .filter(|backend| backend.is_up() && !backend.has_failed())
            .for_each(Backend::serve_waiting);
    }
}

/// Tells every backend its place in `snapshot`, those that it does not have any more, too; returns those for
/// whose sessions something changes by that.
pub(super) fn stand(
    snapshot: &Snapshot,
    backends: &backend::Registry,
    now: Instant,
) -> Vec<Arc<Backend>> {
    let mut changed = Vec::new();
    let mut there = HashSet::new();
    for pool in &snapshot.pools {
        for member in pool.balancer.members() {
            let standing = match member.weight {
                0 => Standing::Drained,
                _ => Standing::Serving,
            };
            there.insert(member.backend.number());
            if member.backend.stand(standing, Some(pool.partings), now) {
                changed.push(Arc::clone(&member.backend));
            }
        }
    }
    let rules: HashMap<&str, _> = snapshot
        .pools
        .iter()
        .map(|pool| (&*pool.name, pool.partings))
        .collect();
    for backend in backends.all() {
        let rules = rules.get(&*backend.id().pool).copied();
        let gone = !there.contains(&backend.number());
        if gone && backend.stand(Standing::Removed, rules, now) {
            changed.push(backend);
        }
    }
    changed
}

/// What a backend that nobody knows yet is taken for. One that serves already when its pool gets its first
/// `health` is known and stays up until its probes say otherwise.
const fn at_first(health: Option<&Health>) -> State {
    match health {
        None => State::Up,
        Some(health) => match health.initial {
            Initial::Up => State::Up,
            Initial::Down => State::Down,
            Initial::Check => State::Unchecked,
        },
    }
}

/// Begins anew with one that had left the configuration and is known only by the sessions that it still has:
/// nobody has probed it meanwhile.
fn welcome(backend: &Arc<Backend>, health: Option<&Health>, now: Instant) {
    // Its sessions have nothing to do with that, so it does not go down.
    if at_first(health) != State::Up {
        backend.set_state(State::Unchecked);
    }
    backend.became_usable(now);
}

/// One of the backends that a host name stands for.
fn resolved_name(backend: &model::Backend, ip: IpAddr) -> Arc<str> {
    format!("{}/{ip}", backend.name).into()
}

/// One of the backends that a service stands for.
fn offered_name(backend: &model::Backend, offer: &Offer, ip: IpAddr) -> Arc<str> {
    format!("{}/{}:{}/{ip}", backend.name, offer.host, offer.port).into()
}

/// What backends are called by themselves: their host name, else their IP address.
pub(super) fn server_names(
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
                for ip in answers.of_host(&host.host) {
                    names.insert(resolved_name(backend, *ip), name.clone());
                }
            }
            Address::Service(service) => {
                for (Ranked { offer, .. }, ip) in answers.of_service(service) {
                    if let Ok(name) = ServerName::try_from(offer.host.to_string()) {
                        names.insert(offered_name(backend, offer, ip), name);
                    }
                }
            }
        }
    }
    names
}
