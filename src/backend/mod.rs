//! What is known of each backend while ringlane runs: its open connections and its failures.
//!
//! These facts live outside the snapshot and are keyed by a stable id, so a reload keeps them
//! ([`Registry`]). Workers write them as they dial and close; `balance` reads them to choose.

mod health;
mod registry;
mod retry_budget;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::base::address::Endpoint;
use crate::base::clock::Instant;

pub use health::{Probed, State};
pub use registry::Registry;
pub use retry_budget::RetryBudget;

/// Which backend is meant, the same before and after a reload.
///
/// The endpoint belongs to it: a backend that moved is another backend, and each answer for a host
/// name is a backend of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId {
    /// The name of its pool.
    pub pool: Arc<str>,
    /// Its name within the pool.
    pub name: Arc<str>,
    /// Where to connect to.
    pub endpoint: Endpoint,
}

/// An address in a pool, with the live facts about it.
///
/// Every fact is an atomic of its own that all workers read and write with `Relaxed` ordering: each
/// is complete in itself, none announces other memory, and a choice made on a value some
/// nanoseconds old is as good as one made some nanoseconds earlier.
#[derive(Debug)]
pub struct Backend {
    id: BackendId,
    /// Written by [`Lease`] alone, on any worker; read by balancers and metrics. Additions and
    /// subtractions of one atomic never get lost, whatever the ordering.
    active: AtomicU32,
    /// Nanoseconds of the last connect that failed, or began after that, with none succeeding since;
    /// 0: there is none. Written by whichever worker's connect began or ended last; read by balancers.
    failed_at: AtomicU64,
    /// Only ever added to, by the worker whose connect ended; read by metrics.
    connects_total: AtomicU64,
    /// Like `connects_total`.
    failures_total: AtomicU64,
    /// What probes say of it; written by the control thread, except at first.
    health: health::Facts,
}

impl Backend {
    /// A backend that nobody is connected to and that never failed.
    pub const fn new(id: BackendId) -> Self {
        Self {
            id,
            active: AtomicU32::new(0),
            failed_at: AtomicU64::new(0),
            connects_total: AtomicU64::new(0),
            failures_total: AtomicU64::new(0),
            health: health::Facts::new(),
        }
    }

    /// Which backend this is.
    pub const fn id(&self) -> &BackendId {
        &self.id
    }

    /// Where to connect to.
    pub const fn endpoint(&self) -> &Endpoint {
        &self.id.endpoint
    }

    /// Leases held at this moment: connections open or being opened, of all workers.
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// Connects that succeeded since this backend became known.
    pub fn connects_total(&self) -> u64 {
        self.connects_total.load(Ordering::Relaxed)
    }

    /// Connects that failed since this backend became known.
    pub fn failures_total(&self) -> u64 {
        self.failures_total.load(Ordering::Relaxed)
    }

    /// Counts one connection for as long as the lease lives; take it before connecting, so that
    /// workers that choose meanwhile see it.
    pub fn lease(self: &Arc<Self>) -> Lease {
        self.active.fetch_add(1, Ordering::Relaxed);
        Lease(Arc::clone(self))
    }

    /// Notes that a connect begins. At a backend whose last failure is half forgotten it is the probe:
    /// until its end, others keep away from the backend for another while, so that one that hangs
    /// holds up one client a second and not everyone.
    pub fn connect_begins(&self, now: Instant) {
        if self.failed_at.load(Ordering::Relaxed) != 0 {
            self.failed_at
                .store(now.as_nanos().max(1), Ordering::Relaxed);
        }
    }

    /// Notes that a connect was refused, timed out or could not reach the backend.
    pub fn connect_failed(&self, now: Instant) {
        self.failures_total.fetch_add(1, Ordering::Relaxed);
        self.failed_at
            .store(now.as_nanos().max(1), Ordering::Relaxed);
    }

    /// Notes that TLS or the way to it failed with a backend that had taken the connection.
    pub fn handshake_failed(&self, now: Instant) {
        self.failed_at
            .store(now.as_nanos().max(1), Ordering::Relaxed);
    }

    /// Notes that a connect succeeded, which clears the last failure.
    pub fn connect_succeeded(&self) {
        self.connects_total.fetch_add(1, Ordering::Relaxed);
        if self.failed_at.load(Ordering::Relaxed) != 0 {
            self.failed_at.store(0, Ordering::Relaxed);
        }
    }

    /// Whether the last connect that ended failed.
    pub fn has_failed(&self) -> bool {
        self.failed_at.load(Ordering::Relaxed) != 0
    }

    /// Whether a connect failed within the last second, or was tried again, and none has succeeded
    /// since.
    ///
    /// A closed backend has the fewest connections of all, so without this memory the balancers
    /// would offer it first to every client. It is short because nothing else brings the backend
    /// back: after it, one client's first attempt is the probe.
    pub fn recently_failed(&self, now: Instant) -> bool {
        const MEMORY: Duration = Duration::from_secs(1);
        let failed_at = self.failed_at.load(Ordering::Relaxed);
        failed_at != 0 && now.since(Instant::from_nanos(failed_at)) < MEMORY
    }
}

/// One connection counted on a backend; dropping it counts it off.
#[derive(Debug)]
pub struct Lease(Arc<Backend>);

impl Deref for Lease {
    type Target = Backend;

    fn deref(&self) -> &Backend {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend() -> Arc<Backend> {
        Arc::new(Backend::new(BackendId {
            pool: "p".into(),
            name: "a".into(),
            endpoint: Endpoint::Inet("10.0.0.1:80".parse().unwrap()),
        }))
    }

    #[test]
    fn leases_count_while_they_live() {
        let backend = backend();
        let first = backend.lease();
        let second = backend.lease();
        assert_eq!(backend.active(), 2);
        drop(first);
        assert_eq!(second.active(), 1);
        drop(second);
        assert_eq!(backend.active(), 0);
    }

    #[test]
    fn leases_of_many_threads_all_return() {
        let backend = backend();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        drop(backend.lease());
                    }
                });
            }
        });
        assert_eq!(backend.active(), 0);
    }

    #[test]
    fn failure_is_remembered_for_a_second() {
        let backend = backend();
        assert!(!backend.recently_failed(Instant::ZERO));
        backend.connect_failed(Instant::from_millis(5_000));
        assert!(backend.recently_failed(Instant::from_millis(5_000)));
        assert!(backend.recently_failed(Instant::from_millis(5_999)));
        assert!(!backend.recently_failed(Instant::from_millis(6_000)));
    }

    #[test]
    fn a_probe_keeps_others_away_until_it_succeeds() {
        let backend = backend();
        backend.connect_begins(Instant::from_millis(4_000));
        assert!(!backend.recently_failed(Instant::from_millis(4_000)));
        backend.connect_failed(Instant::from_millis(5_000));
        backend.connect_begins(Instant::from_millis(6_000));
        assert!(backend.recently_failed(Instant::from_millis(6_999)));
        assert!(!backend.recently_failed(Instant::from_millis(7_000)));
        backend.connect_begins(Instant::from_millis(7_000));
        backend.connect_succeeded();
        assert!(!backend.recently_failed(Instant::from_millis(7_000)));
    }

    #[test]
    fn failure_at_the_clocks_zero_counts() {
        let backend = backend();
        backend.connect_failed(Instant::ZERO);
        assert!(backend.recently_failed(Instant::ZERO));
    }

    #[test]
    fn failure_stamped_ahead_of_a_coarse_clock_counts() {
        let backend = backend();
        backend.connect_failed(Instant::from_millis(5_000));
        assert!(backend.recently_failed(Instant::from_millis(4_996)));
    }

    #[test]
    fn success_clears_the_failure() {
        let backend = backend();
        backend.connect_failed(Instant::from_millis(5_000));
        backend.connect_succeeded();
        assert!(!backend.recently_failed(Instant::from_millis(5_001)));
        assert_eq!((backend.connects_total(), backend.failures_total()), (1, 1));
    }
}
