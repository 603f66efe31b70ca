//! What is known of each backend while ringlane runs: its open connections and its failures.
//!
//! These facts live outside the snapshot and are keyed by a stable id, so a reload keeps them
//! ([`Registry`]). Workers write them as they dial and close; `balance` reads them to choose.

mod breaker;
mod health;
mod latency;
mod notice;
mod outliers;
mod parting;
mod past;
mod queue;
mod registry;
mod retry_budget;
mod window;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::base::address::Endpoint;
use crate::base::clock::Instant;

pub use breaker::{Breaker, Permit, Phase, Refusal, Slot, Turn};
pub use health::{Probed, State};
use latency::Latency;
pub use notice::{EjectionCause, Notice, Return};
pub use outliers::{Beginning, Ejector};
pub use parting::{AsUp, Cause, Due, Era, Orders, Standing};
pub use queue::{Place, Queue};
pub use registry::Registry;
pub use retry_budget::RetryBudget;

/// The whole of a backend's weight, see [`Backend::warmth`].
pub const WARM: u64 = 1_024;

/// What a failed connect counts as among connect times.
const FAILED_CONNECT: Duration = Duration::from_secs(1);

/// Connect times below this are alike: what a busy machine adds to one says nothing of the way to it, and
/// would send a quiet pool's clients to one backend until the other's luck turns.
const NOISE: Duration = Duration::from_micros(250);

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
    /// See [`Backend::number`].
    number: u32,
    /// Written by [`Lease`] alone, on any worker; read by balancers and metrics. Additions and
    /// subtractions of one atomic never get lost, whatever the ordering. Where there is a limit the order
    /// is sequentially consistent, see [`Queue`].
    active: AtomicU32,
    /// The most leases at a time; 0: any number. Written by the main thread as a configuration comes into
    /// force, read by workers; a lease more or less in that moment does no harm.
    limit: AtomicU32,
    /// Nanoseconds of the last connect that failed, or began after that, with none succeeding since;
    /// 0: there is none. Written by whichever worker's connect began or ended last; read by balancers.
    failed_at: AtomicU64,
    /// Only ever added to, by the worker whose connect ended; read by metrics.
    connects_total: AtomicU64,
    /// Like `connects_total`.
    failures_total: AtomicU64,
    /// What probes say of it; written by the control thread, except at first.
    health: health::Facts,
    /// Nanoseconds of when the backend began to be used while others were; 0: with the process. Written as
    /// a configuration comes into force or a check succeeds, read by balancers.
    usable_since: AtomicU64,
    latency: Latency,
    parting: parting::Facts,
    outliers: outliers::Facts,
    /// Who waits for a slot, here or at another backend of the pool.
    queue: Arc<Queue>,
    /// Who of the pool's backends is left out because of failures.
    ejector: Arc<Ejector>,
}

impl Backend {
    /// A backend that nobody is connected to and that never failed, without a limit.
    pub fn new(id: BackendId) -> Self {
        Self::in_line(id, Arc::default(), Arc::default())
    }

    /// The same as one of several whose clients wait in one line, and of which only some are ejected at a
    /// time.
    pub fn in_line(id: BackendId, queue: Arc<Queue>, ejector: Arc<Ejector>) -> Self {
        Self {
            id,
            number: next_number(),
            queue,
            ejector,
            outliers: outliers::Facts::default(),
            active: AtomicU32::new(0),
            limit: AtomicU32::new(0),
            failed_at: AtomicU64::new(0),
            connects_total: AtomicU64::new(0),
            failures_total: AtomicU64::new(0),
            health: health::Facts::new(),
            usable_since: AtomicU64::new(0),
            latency: Latency::new(),
            parting: parting::Facts::new(),
        }
    }

    /// What a worker knows the backend by: no two of a process have the same, and none has 0.
    pub const fn number(&self) -> u32 {
        self.number
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
        Lease::of(self)
    }

    /// The same unless the backend has as many connections as it may; exact however many workers ask at
    /// once.
    pub fn try_lease(self: &Arc<Self>) -> Option<Lease> {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == 0 {
            return Some(self.lease());
        }
        let one_more = |active| (active < limit).then(|| active + 1);
        let taken = self
            .active
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more);
        taken.is_ok().then(|| Lease::of(self))
    }

    /// Whether the backend has as many connections as it may.
    pub fn is_full(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        limit != 0 && self.active() >= limit
    }

    /// The most connections at a time; 0: any number. More that are open stay open.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Whether its clients wait in this line.
    pub fn is_in_line(&self, queue: &Arc<Queue>) -> bool {
        Arc::ptr_eq(&self.queue, queue)
    }

    /// Gives what room there is to those who wait: after a limit was raised, a backend was added or one has
    /// come back.
    pub fn serve_waiting(self: &Arc<Self>) {
        if self.queue.waiting() > 0 {
            self.queue.serve(self);
        }
    }

    /// The end of a lease where there is a limit.
    fn give_back(self: &Arc<Self>, mut slot: Option<Slot>) {
        let fits = self.active.load(Ordering::SeqCst) <= self.limit.load(Ordering::Relaxed);
        if fits && self.queue.hand_over(self, &mut slot) {
            return;
        }
        self.active.fetch_sub(1, Ordering::SeqCst);
        drop(slot);
        // Somebody may have begun to wait since the look at the line.
        self.serve_waiting();
    }

    /// Notes that the backend is new beside others, or has come back: where there is a slow start, its begins
    /// now, or with the end of an ejection that goes on; and those who wait may go there.
    pub fn became_usable(self: &Arc<Self>, now: Instant) {
        let since = now.as_nanos().max(self.ejected_until()).max(1);
        self.usable_since.store(since, Ordering::Relaxed);
        if self.queue.waiting() > 0 {
            self.queue.serve_at_last(self);
        }
    }

    /// How much of its weight the backend counts with, of [`WARM`], while a slow start takes `time`: a tenth
    /// at first, then evenly more.
    pub fn warmth(&self, now: Instant, time: Duration) -> u64 {
        const COLD: u64 = WARM / 10;
        let since = self.usable_since.load(Ordering::Relaxed);
        if since == 0 {
            return WARM;
        }
        let passed = now.since(Instant::from_nanos(since));
        if passed >= time {
            return WARM;
        }
        let gained = u128::from(WARM - COLD) * passed.as_nanos() / time.as_nanos().max(1);
        COLD + u64::try_from(gained).unwrap_or(0)
    }

    /// Takes in how long a connect took.
    pub fn feel_connect(&self, now: Instant, took: Duration) {
        self.latency.feel_peak(now, took);
    }

    /// Takes in the round trip time of a connection at its end.
    pub fn feel_round_trip(&self, now: Instant, took: Duration) {
        self.latency.feel(now, took);
    }

    /// How far away the backend feels, in units that only compare. One that nobody has heard of is near, and
    /// as far as one that does not answer once somebody has asked it: nobody else then waits to find out.
    pub fn connect_time(&self, now: Instant) -> u64 {
        let unheard = || {
            let asked = self.active() > 0;
            if asked {
                Latency::units(FAILED_CONNECT)
            } else {
                0
            }
        };
        let time = self.latency.read(now).unwrap_or_else(unheard);
        time.max(Latency::units(NOISE))
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
        self.latency.feel_peak(now, FAILED_CONNECT);
        self.failed_at
            .store(now.as_nanos().max(1), Ordering::Relaxed);
        self.ejector.connect_failed(self, now);
    }

    /// Notes that TLS or the way to it failed with a backend that had taken the connection.
    pub fn handshake_failed(&self, now: Instant) {
        self.failed_at
            .store(now.as_nanos().max(1), Ordering::Relaxed);
    }

    /// Notes that a connect succeeded, which clears the last failure, ends an ejection for such, and lets
    /// those go there who wait.
    pub fn connect_succeeded(self: &Arc<Self>, now: Instant) {
        self.connects_total.fetch_add(1, Ordering::Relaxed);
        if self.failed_at.load(Ordering::Relaxed) != 0 || self.is_out() {
            self.failed_at.store(0, Ordering::Relaxed);
            self.end_ejection(now);
            self.serve_waiting();
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

/// A number that none has had, unless more than four thousand million backends have come and gone.
fn next_number() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    (LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1)).max(1)
}

/// One connection counted on a backend; dropping it counts it off, or gives it to whoever waits.
#[derive(Debug)]
pub struct Lease {
    backend: Arc<Backend>,
    /// Where the pool counts its connections, too.
    slot: Option<Slot>,
}

impl Lease {
    fn of(backend: &Arc<Backend>) -> Self {
        Self {
            backend: Arc::clone(backend),
            slot: None,
        }
    }

    /// The backend itself.
    pub const fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// Holds a connection of the pool for as long as it lives itself.
    pub fn set_slot(&mut self, slot: Option<Slot>) {
        self.slot = slot;
    }

    /// The connection of the pool, if it holds one.
    pub const fn take_slot(&mut self) -> Option<Slot> {
        self.slot.take()
    }
}

impl Deref for Lease {
    type Target = Backend;

    fn deref(&self) -> &Backend {
        &self.backend
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.backend.limit.load(Ordering::Relaxed) == 0 {
            self.backend.active.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.backend.give_back(self.slot.take());
        }
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
        backend.connect_succeeded(Instant::from_millis(7_000));
        assert!(!backend.recently_failed(Instant::from_millis(7_000)));
    }

    #[test]
    fn a_slow_start_goes_from_a_tenth_to_all_evenly() {
        let backend = backend();
        let time = Duration::from_secs(10);
        let at = |millis: u64| backend.warmth(Instant::from_millis(5_000 + millis), time);
        assert_eq!(at(0), WARM, "it began with the process");
        backend.became_usable(Instant::from_millis(5_000));
        assert_eq!((at(0), at(5_000), at(10_000)), (102, 563, WARM));
        assert!((0..10_000).all(|millis| at(millis) <= at(millis + 1)));
        let earlier = backend.warmth(Instant::from_millis(4_996), time);
        assert_eq!(earlier, 102, "a clock that is behind");
        assert_eq!(
            backend.warmth(Instant::from_millis(5_000), Duration::ZERO),
            WARM
        );
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
        backend.connect_succeeded(Instant::from_millis(7_000));
        assert!(!backend.recently_failed(Instant::from_millis(5_001)));
        assert_eq!((backend.connects_total(), backend.failures_total()), (1, 1));
    }
}
