//! What the admin listener gets to see of the process, and may ask of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam::channel::{RecvTimeoutError, Sender, TrySendError, bounded};
use parking_lot::RwLock;

use super::forget_unused;
use super::reload::Reloads;
use crate::admin::{Reloaded, Surface};
use crate::backend::{Backend, EjectionCause, Phase};
use crate::base::clock::{Instant, now};
use crate::control::Event;
use crate::limits::overload::{Cause, Signal};
use crate::limits::store;
use crate::log::writer::Writer;
use crate::metrics::{
    self, BackendFacts, BreakerFacts, CertificateFacts, Ejections, GuardFacts, OverloadFacts,
    Probed, Registry, Scrape,
};
use crate::snapshot::Snapshot;
use crate::sys::process::open_descriptors;
use crate::tls::store::Counts;
use crate::tls::{DefaultTimeProvider, TimeProvider};
use crate::worker::runtime::Driver;

/// A worker that has not ticked for so long is stuck.
const STUCK: Duration = Duration::from_secs(1);

/// How long the admin listener waits for a reload.
const RELOAD_WAIT: Duration = Duration::from_secs(30);

/// What the admin listener may look at.
pub(super) struct View {
    pub(super) metrics: Arc<Registry>,
    pub(super) current: Arc<ArcSwap<Snapshot>>,
    pub(super) reloads: Arc<Reloads>,
    pub(super) certificates: Arc<Counts>,
    pub(super) lists: Arc<store::Counts>,
    pub(super) signal: Arc<Signal>,
    pub(super) log: Arc<Writer>,
    pub(super) driver: Driver,
    /// The configuration file, if there is one.
    pub(super) source: Option<PathBuf>,
}

impl View {
    pub(super) fn surface(mut self, token: Option<String>, events: Sender<Event>) -> Surface {
        let metrics = Arc::clone(&self.metrics);
        let (source, signal) = (self.source.take(), Arc::clone(&self.signal));
        Surface {
            metrics: Box::new(move || metrics::render(&self.metrics, &self.scrape())),
            healthy: Box::new(move || healthy(&metrics)),
            ready: AtomicBool::new(false),
            signal,
            reload: Box::new(move || ask_for_reload(&events)),
            token: RwLock::new(token),
            source,
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
                usable: member.weight > 0
                    && member.backend.is_usable(time)
                    && !member.backend.recently_failed(time),
                ejections: ejections(&member.backend, time),
                probed: pool.health.as_ref().map(|_| probed(&member.backend)),
            })
        });
        Scrape {
            now: time,
            version: env!("CARGO_PKG_VERSION"),
            driver: self.driver.as_str(),
            snapshot: snapshot.version,
            reloads_applied: self.reloads.applied.load(Ordering::Relaxed),
            reloads_rejected: self.reloads.rejected.load(Ordering::Relaxed),
            certificates_applied: self.certificates.applied.load(Ordering::Relaxed),
            certificates_rejected: self.certificates.rejected.load(Ordering::Relaxed),
            certificates: certificates(&snapshot),
            lists_applied: self.lists.applied.load(Ordering::Relaxed),
            lists_rejected: self.lists.rejected.load(Ordering::Relaxed),
            guards: guards(&snapshot, time),
            overload: overload(&self.signal),
            today: DefaultTimeProvider
                .current_time()
                .map_or(0, |time| time.as_secs()),
            descriptors: open_descriptors(),
            log_dropped: self.log.dropped(),
            pools: snapshot
                .pools()
                .iter()
                .map(|pool| Arc::clone(&pool.name))
                .collect(),
            backends: members.collect(),
            breakers: breakers(&snapshot),
        }
    }
}

fn probed(backend: &Backend) -> Probed {
    let probed = backend.probed();
    Probed {
        passed: probed.passed,
        failed: probed.failed,
        took: probed.took,
    }
}

fn ejections(backend: &Backend, time: Instant) -> Ejections {
    Ejections {
        now: u64::from(backend.is_ejected(time)),
        connect_failures: backend.ejections(EjectionCause::ConnectFailures),
        failure_rate: backend.ejections(EjectionCause::FailureRate),
    }
}

/// Every pool's breaker.
fn breakers(snapshot: &Snapshot) -> Vec<BreakerFacts> {
    let pools = snapshot.pools().iter();
    let breakers = pools.filter(|pool| pool.breaker.is_some()).map(|pool| {
        let breaker = &pool.live.breaker;
        BreakerFacts {
            pool: Arc::clone(&pool.name),
            state: breaker.phase() as u64,
            turns: [Phase::Closed, Phase::HalfOpen, Phase::Open].map(|it| breaker.turns(it)),
            connections: u64::from(breaker.connections()),
            pending: u64::from(breaker.pending()),
        }
    });
    breakers.collect()
}

/// Every certificate that clients or backends are shown.
fn certificates(snapshot: &Snapshot) -> Vec<CertificateFacts> {
    let listeners = snapshot.listeners().filter_map(|it| it.tls.as_ref());
    let pools = snapshot.pools().iter().filter_map(|it| it.tls.as_ref());
    let ours = pools.filter_map(|tls| tls.certificate());
    let all = listeners.flat_map(|tls| tls.certificates()).chain(ours);
    all.map(|loaded| CertificateFacts {
        name: loaded.title(),
        expires: loaded.not_after,
    })
    .collect()
}

/// Every listener and every route that asks something of its clients.
fn guards(snapshot: &Snapshot, time: Instant) -> Vec<GuardFacts> {
    let all = snapshot.listeners().flat_map(|listener| {
        let guards = listener.guards();
        guards.map(move |(_, guard)| {
            let sources = guard.sources();
            GuardFacts {
                listener: Arc::clone(&listener.name),
                prefixes: guard.access().map_or(0, |access| access.prefixes() as u64),
                sources: sources.map_or(0, |sources| sources.known(time)),
                uncounted: sources.map_or(0, |sources| sources.uncounted()),
            }
        })
    });
    let mut guards: Vec<_> = all.collect();
    guards.sort_by(|one, other| one.listener.cmp(&other.listener));
    guards
}

fn overload(signal: &Signal) -> OverloadFacts {
    let load = signal.load();
    OverloadFacts {
        is_overloaded: signal.is_overloaded(),
        begun: Cause::ALL.map(|cause| (cause.as_str(), signal.begun(cause))),
        memory: load.memory,
        memory_limit: signal.memory_limit(),
        lag: load.lag,
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
    match events.try_send(Event::Reload { reply: Some(reply) }) {
        Ok(()) => {}
        Err(TrySendError::Full(_)) => return Reloaded::Busy,
        Err(TrySendError::Disconnected(_)) => return Reloaded::Stopping,
    }
    match outcome.recv_timeout(RELOAD_WAIT) {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Timeout) => Reloaded::Busy,
        // The main thread has ended with the request in its channel.
        Err(RecvTimeoutError::Disconnected) => Reloaded::Stopping,
    }
}
