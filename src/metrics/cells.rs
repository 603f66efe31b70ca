//! The cells that workers add to: each is written by one thread and read by any.
//!
//! A cell is an atomic only so that another thread may read it. Its one writer adds with a relaxed
//! load and a relaxed store, which compile to a plain addition without a bus lock (0.24 ns against
//! 10 ns for a shared handle of the `metrics` crate). Relaxed is enough: a reader wants a recent
//! value of each cell, and no other memory is published through one.

use std::ops::Deref;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

use super::histogram::Histogram;
use crate::base::clock::Instant;
use crate::base::reason::Reason;

/// A count that only rises. Written by one thread, read by any.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// A number of things that exist now. Written by one thread, read by any.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

/// What one worker counts for one listener; 616 bytes, 640 with its padding.
#[derive(Debug, Default)]
pub struct ListenerCells {
    /// Connections accepted.
    pub accepted: Counter,
    /// Sessions that have not ended.
    pub active: Gauge,
    /// Sessions that have ended, each reason at its [`Reason::index`].
    pub ended: [Counter; Reason::ALL.len()],
    /// Bytes from clients to backends.
    pub bytes_up: Counter,
    /// Bytes from backends to clients.
    pub bytes_down: Counter,
    /// TLS handshakes with clients that are under way.
    pub handshakes: Gauge,
    /// Handshakes that began a TLS session.
    pub handshakes_full: Counter,
    /// Handshakes that resumed one.
    pub handshakes_resumed: Counter,
    /// Handshakes that failed.
    pub handshakes_failed: Counter,
    /// Clients above `per_source` that were served, because that is only logged.
    pub over_source: Counter,
    /// Clients above `rate_per_source` that were served, because that is only logged.
    pub over_rate: Counter,
    /// Sessions above `bytes_per_source` that were not slowed, because that is only logged.
    pub over_bytes: Counter,
    /// Sessions that were slowed.
    pub slowed: Counter,
    /// From accept to close.
    pub session_seconds: Histogram,
}

/// What one worker counts for one pool; 592 bytes, 640 with its padding.
#[derive(Debug, Default)]
pub struct PoolCells {
    /// From the start of an attempt to an established connection.
    pub connect_seconds: Histogram,
    /// From an established connection to the backend's first byte.
    pub first_byte_seconds: Histogram,
    /// Attempts after the first that gave a connection.
    pub retries_succeeded: Counter,
    /// Attempts after the first that gave none.
    pub retries_failed: Counter,
    /// Attempts that the retry budget did not allow.
    pub retries_denied: Counter,
    /// Values that PROXY headers to backends had no room for.
    pub proxy_values_left_out: Counter,
    /// Clients that had to wait for a backend with room.
    pub queued: Counter,
    /// Clients that wait for one now.
    pub queue: Gauge,
}

/// What one worker counts for itself.
#[derive(Debug, Default)]
pub struct WorkerCells {
    /// Sessions that the worker has open.
    pub sessions: Gauge,
    /// Rejected clients that are kept waiting.
    pub tarpitted: Gauge,
    /// Times that accepting paused because no descriptor was left.
    pub accept_paused: Counter,
    /// Sessions that ended in a panic.
    pub panics: Counter,
    /// Times that a direction wanted a pipe to splice through and had to go on copying.
    pub pipes_refused: Counter,
    /// How late its clock ticked: the sum of each tick's delay times its length, square microseconds.
    pub lag: Counter,
    heartbeat: AtomicU64,
}

/// One block of cells per worker, each on cache lines of its own, so that no two workers write to
/// the same line.
#[derive(Debug)]
pub struct Cells<T>(Box<[CachePadded<T>]>);

/// Cells whose counts can be added to others'.
pub(super) trait Absorb {
    /// Adds what `from` holds; the caller must be the only writer of `self`.
    fn absorb(&self, from: &Self);
}

impl Counter {
    /// Adds `count`; only from the cell's own thread, or counts are lost.
    pub fn add(&self, count: u64) {
        let sum = self.read().wrapping_add(count);
        self.0.store(sum, Ordering::Relaxed);
    }

    /// Adds one; only from the cell's own thread.
    pub fn inc(&self) {
        self.add(1);
    }

    /// The count so far.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Gauge {
    /// Adds one; only from the cell's own thread.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Takes one away; only from the cell's own thread.
    pub fn dec(&self) {
        self.add(-1);
    }

    /// The number now.
    pub fn read(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, count: i64) {
        let sum = self.read().wrapping_add(count);
        self.0.store(sum, Ordering::Relaxed);
    }
}

impl WorkerCells {
    /// Notes that the worker was alive at `now`; only from the worker.
    pub fn beat(&self, now: Instant) {
        self.heartbeat.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// When the worker was last known to be alive; [`Instant::ZERO`] before its first beat.
    pub fn last(&self) -> Instant {
        Instant::from_nanos(self.heartbeat.load(Ordering::Relaxed))
    }
}

impl<T: Default> Cells<T> {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| CachePadded::default()).collect())
    }
}

impl<T> Cells<T> {
    /// The block that the worker at `index` writes; `index` must be below the number of workers
    /// that the registry was made for.
    pub fn worker(&self, index: usize) -> &T {
        &self.0[index]
    }

    /// Every worker's block, in the order of the workers.
    pub fn all(&self) -> impl ExactSizeIterator<Item = &T> {
        self.0.iter().map(Deref::deref)
    }
}

impl<T: Absorb> Absorb for Cells<T> {
    fn absorb(&self, from: &Self) {
        for (to, from) in self.all().zip(from.all()) {
            to.absorb(from);
        }
    }
}

impl Absorb for ListenerCells {
    fn absorb(&self, from: &Self) {
        self.accepted.add(from.accepted.read());
        self.active.add(from.active.read());
        for (to, from) in self.ended.iter().zip(&from.ended) {
            to.add(from.read());
        }
        self.bytes_up.add(from.bytes_up.read());
        self.bytes_down.add(from.bytes_down.read());
        self.handshakes.add(from.handshakes.read());
        self.handshakes_full.add(from.handshakes_full.read());
        self.handshakes_resumed.add(from.handshakes_resumed.read());
        self.handshakes_failed.add(from.handshakes_failed.read());
        self.over_source.add(from.over_source.read());
        self.over_rate.add(from.over_rate.read());
        self.over_bytes.add(from.over_bytes.read());
        self.slowed.add(from.slowed.read());
        self.session_seconds.absorb(&from.session_seconds);
    }
}

impl Absorb for PoolCells {
    fn absorb(&self, from: &Self) {
        self.connect_seconds.absorb(&from.connect_seconds);
        self.first_byte_seconds.absorb(&from.first_byte_seconds);
        self.retries_succeeded.add(from.retries_succeeded.read());
        self.retries_failed.add(from.retries_failed.read());
        self.retries_denied.add(from.retries_denied.read());
        self.proxy_values_left_out
            .add(from.proxy_values_left_out.read());
        self.queued.add(from.queued.read());
        self.queue.add(from.queue.read());
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn cells_of_several_workers_sum_exactly() {
        let cells = Cells::<ListenerCells>::new(4);
        thread::scope(|scope| {
            for worker in 0..4 {
                let cells = &cells;
                scope.spawn(move || {
                    let own = cells.worker(worker);
                    for _ in 0..100_000 {
                        own.accepted.inc();
                        own.bytes_up.add(3);
                        own.active.inc();
                    }
                    for _ in 0..99_990 {
                        own.active.dec();
                    }
                });
            }
        });
        let total = ListenerCells::default();
        cells.all().for_each(|own| total.absorb(own));
        assert_eq!(total.accepted.read(), 400_000);
        assert_eq!(total.bytes_up.read(), 1_200_000);
        assert_eq!(total.active.read(), 40);
    }

    #[test]
    fn blocks_are_as_small_as_documented() {
        assert_eq!(size_of::<ListenerCells>(), 616);
        assert_eq!(size_of::<CachePadded<ListenerCells>>(), 640);
        assert_eq!(size_of::<PoolCells>(), 592);
        assert_eq!(size_of::<CachePadded<PoolCells>>(), 640);
    }

    #[test]
    fn absorbed_cells_keep_every_count() {
        let (from, to) = (PoolCells::default(), PoolCells::default());
        from.retries_succeeded.add(1);
        from.retries_failed.add(2);
        from.retries_denied.add(3);
        from.proxy_values_left_out.add(5);
        from.queued.add(7);
        from.queue.inc();
        from.connect_seconds
            .record(std::time::Duration::from_millis(1));
        from.first_byte_seconds
            .record(std::time::Duration::from_secs(7));
        to.absorb(&from);
        to.absorb(&from);
        assert_eq!(to.retries_succeeded.read(), 2);
        assert_eq!(to.retries_failed.read(), 4);
        assert_eq!(to.retries_denied.read(), 6);
        assert_eq!(to.proxy_values_left_out.read(), 10);
        assert_eq!(to.queued.read(), 14);
        assert_eq!(to.queue.read(), 2);
        assert_eq!(to.connect_seconds.sum_nanos(), 2_000_000);
        assert_eq!(to.first_byte_seconds.sum_nanos(), 14_000_000_000);
    }

    #[test]
    fn heartbeat_is_the_last_beat() {
        let cells = WorkerCells::default();
        assert_eq!(cells.last(), Instant::ZERO);
        cells.beat(Instant::from_millis(5));
        assert_eq!(cells.last(), Instant::from_millis(5));
    }
}
