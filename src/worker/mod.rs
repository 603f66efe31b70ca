//! One core: its runtime, its accept loops, its sessions.
//!
//! Everything in here stays on one thread. Other threads reach a worker through its mailbox, the
//! snapshot pointer and the counters.

pub mod mailbox;
pub mod runtime;

mod accept;
mod admit;
mod front;
mod heard;
mod parting;
mod pause;
mod prepare;
mod record;
mod session;
mod tick;
mod turnstile;

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use self::pause::Pause;
use crate::base::clock::{Instant, now};
use crate::base::random::Random;
use crate::forward::link::Link;
use crate::io::lane::Lane;
use crate::io::shortage::Shortage;
use crate::io::socket::Socket;
use crate::io::turns::Turns;
use crate::io::wheel::Wheel;
use crate::limits::overload::Signal;
use crate::log::session::{SessionIds, TcpFacts};
use crate::log::writer::SessionLog;
use crate::metrics::{Registry, WorkerCells};
use crate::snapshot::Snapshot;
use crate::sys::socket::tcp_summary;

/// What the process gives each worker.
pub struct Seat {
    /// Which worker this is, from 0.
    pub index: usize,
    /// How many there are.
    pub workers: usize,
    /// The snapshot to begin with.
    pub snapshot: Arc<Snapshot>,
    /// Sessions that all workers together may have open. The process writes it when sockets come or
    /// go; a value that is a moment old does no harm, so relaxed.
    pub sessions_max: Arc<AtomicU64>,
    /// Whether the process takes clients.
    pub signal: Arc<Signal>,
    /// Counters of all workers.
    pub metrics: Arc<Registry>,
    /// Where session lines go.
    pub log: SessionLog,
}

/// One worker's state, shared by its tasks.
struct Worker {
    index: usize,
    sessions_max: Arc<AtomicU64>,
    signal: Arc<Signal>,
    pause: Pause,
    metrics: Arc<Registry>,
    lane: Lane,
    sessions: RefCell<Wheel<Rc<Link>>>,
    log: RefCell<SessionLog>,
    /// The snapshot that new sessions live by; changes together with the sockets accepted from.
    snapshot: RefCell<Pinned>,
    random: RefCell<Random>,
    session_ids: RefCell<SessionIds>,
    shortage: Shortage,
}

/// A snapshot that tasks of one worker share: counting its users must not touch another core's cache.
type Pinned = Rc<Arc<Snapshot>>;

impl Worker {
    fn new(seat: Seat, turns: Option<Turns>) -> Rc<Self> {
        let time = now();
        Rc::new(Self {
            lane: Lane::new(seat.workers, turns, time),
            sessions: RefCell::new(Wheel::new(time)),
            log: RefCell::new(seat.log),
            snapshot: RefCell::new(Rc::new(seat.snapshot)),
            random: RefCell::new(Random::new(time.as_nanos() ^ (seat.index as u64) << 56)),
            session_ids: RefCell::new(SessionIds::for_worker(seat.index)),
            shortage: Shortage::default(),
            index: seat.index,
            sessions_max: seat.sessions_max,
            signal: seat.signal,
            pause: Pause::default(),
            metrics: seat.metrics,
        })
    }

    /// The snapshot that a new session lives by.
    fn snapshot(&self) -> Pinned {
        Rc::clone(&self.snapshot.borrow())
    }

    /// How many more sessions the process has descriptors for: none while one waits for its second. The other workers' counts may be a
    /// moment old, which the descriptors kept in reserve make up for.
    fn room(&self) -> u64 {
        if self.shortage.is_acute() {
            return 0;
        }
        let most = self.sessions_max.load(Ordering::Relaxed);
        most.saturating_sub(self.metrics.held())
    }

    fn cells(&self) -> &WorkerCells {
        self.metrics.worker(self.index)
    }

    /// Ends what is due among the sessions, as far as one turn goes; whether that was all.
    fn check_sessions(&self, time: Instant) -> bool {
        /// What others wait for at the most.
        const TURN: Duration = Duration::from_millis(1);
        const BETWEEN_CLOCKS: usize = 64;
        let begun = now();
        let mut sessions = self.sessions.borrow_mut();
        while !sessions.advance(time, BETWEEN_CLOCKS, |link| link.check(begun)) {
            if now() - begun >= TURN {
                return false;
            }
        }
        true
    }
}

/// What the kernel says of a connection.
fn tcp_facts(socket: &Socket) -> Option<TcpFacts> {
    tcp_summary(socket.as_fd()).map(|summary| TcpFacts {
        rtt: Duration::from_micros(u64::from(summary.rtt_micros)),
        retransmits: summary.retransmits,
    })
}
