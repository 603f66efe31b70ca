//! ★ Start reading here: one client's connection, from accept to close.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;

use super::prepare::{prepare, relay_prepared, say};
use super::record::Record;
use super::{Pinned, Worker};
use crate::backend::{Beginning, Permit};
use crate::balance::Ask;
use crate::base::clock::{Instant, now};
use crate::base::limits::OPENING_BYTES;
use crate::base::reason::Reason;
use crate::forward::dial::{Call, Dialled, dial};
use crate::forward::link::{BLIND_INTERVAL, Direction, Ending, Limits, Link};
use crate::forward::opening::Opening;
use crate::forward::relay::{Loan, relay};
use crate::io::socket::Socket;
use crate::io::unwind::caught;
use crate::io::wheel::Key;
use crate::limits::guard::Pass;
use crate::snapshot::{Listener, ListenerId, Pool};
use crate::sys::socket::receive;

/// A client that has just been accepted.
pub(super) struct Client {
    pub(super) socket: OwnedFd,
    /// Keeps a descriptor free for the backend's connection where they are scarce.
    pub(super) spare: Option<OwnedFd>,
    /// `None`: it came through a unix socket.
    pub(super) address: Option<SocketAddr>,
    /// Counts it among its source's.
    pub(super) pass: Pass,
    pub(super) listener: ListenerId,
}

/// A session, from accept to close.
struct Session {
    listener: ListenerId,
    snapshot: Pinned,
    worker: Rc<Worker>,
    link: Rc<Link>,
    key: Key,
    record: Record,
}

/// Begins the session of a client that has just been accepted.
pub(super) fn begin(client: Client, snapshot: Pinned, worker: &Rc<Worker>) {
    // Snapshot and sockets change together, so the listener is there.
    let Some(listener) = snapshot.listener(client.listener) else {
        return;
    };
    let Ok(socket) = Socket::new(client.socket) else {
        // The kernel cannot watch one more socket.
        return worker.count_lost(listener);
    };
    let opened = now();
    let link = Rc::new(Link::new(socket, worker.limits(listener, opened), opened));
    let mut pass = client.pass;
    if let Some(meter) = pass.meter.take() {
        link.meter(*meter);
    }
    let key = worker
        .sessions
        .borrow_mut()
        .insert(opened + BLIND_INTERVAL, Rc::clone(&link));
    link.set_key(key);
    let record = Record {
        id: worker.session_ids.borrow_mut().next_id(),
        client: client.address,
        pass,
        opened,
        backend: None,
        attempts: 0,
        queued: None,
        connect: None,
        lease: None,
        heard: None,
    };
    worker.count_opened(listener);
    worker.count_over(listener, record.pass.over);
    worker.log_opened(listener, &snapshot, &record);
    let session = Session {
        listener: client.listener,
        snapshot,
        worker: Rc::clone(worker),
        link,
        key,
        record,
    };
    monoio::spawn(session.run(client.spare));
}

impl Session {
    /// Serves the client until all is over; counts and logs the session once.
    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn keeps its arguments twice: 136 bytes of every idle session"
    )]
    fn run(mut self, spare: Option<OwnedFd>) -> impl Future<Output = ()> {
        async move {
            let Some(listener) = self.snapshot.listener(self.listener) else {
                return;
            };
            drop(spare);
            let (link, worker) = (&*self.link, &*self.worker);
            let served = caught(pin!(serve(link, listener, worker, &mut self.record))).await;
            let ending = served.unwrap_or_else(|_| {
                worker.cells().panics.inc();
                link.kill(Reason::Internal);
                Ending::ours(Reason::Internal)
            });
            worker.sessions.borrow_mut().remove(self.key);
            worker.count_closed(listener, link, &self.record, ending);
            worker.log_closed(listener, &self.snapshot, &self.record, (link, ending));
        }
    }
}

/// Finds the client a backend and relays between them until the session is over.
async fn serve(link: &Link, listener: &Listener, worker: &Worker, record: &mut Record) -> Ending {
    let prepared = match listener.direct_pool() {
        Some(pool) => {
            let opening = worker.opening(link);
            let place = (listener, &**pool);
            // On the heap for as long as it takes: 280 bytes less for every session that is idle afterwards.
            let found = Box::pin(find_backend(link, place, &opening, worker, record)).await;
            found.map(|_| None)
        }
        // What a session's first moments take is not for its whole life.
        None => Box::pin(prepare(link, listener, worker, record)).await,
    };
    let waiting = match prepared {
        Ok(waiting) => waiting,
        Err(ending) => return ending,
    };
    if let Some(ending) = link.end_if_lost() {
        return ending;
    }
    link.charge_opening();
    let Some(backend) = link.backend() else {
        return Ending::ours(Reason::Internal);
    };
    let loan = worker.loan(listener);
    if waiting.is_none() && !link.is_secured() {
        return relay(link, backend, &loan).await;
    }
    Box::pin(relay_prepared(waiting, link, backend, &loan)).await
}

/// Gives the link its backend, and the backend what the client has said by now.
///
/// Where a handshake with the backend follows, the permit of the pool's breaker is to be told of it.
pub(super) async fn find_backend(
    link: &Link,
    (listener, pool): (&Listener, &Pool),
    opening: &Opening,
    worker: &Worker,
    record: &mut Record,
) -> Result<Option<Permit>, Ending> {
    let ask = Ask {
        source: record.client.map(|client| client.ip()),
        // What a client takes to say where it wants to go is not the backends' time.
        now: now(),
        seed: worker.random.borrow_mut().next_u64(),
    };
    let call = Call {
        pool,
        cells: pool.cells.worker(worker.index),
        ask,
        opening,
        shortage: &worker.shortage,
        sessions: &worker.sessions,
    };
    let dialled = match dial(link, &call).await {
        Ok(dialled) => dialled,
        Err(fault) => {
            record.backend = fault.backend;
            record.attempts = fault.attempts;
            record.queued = fault.queued;
            return Err(link.reject(fault.reason, fault.cause));
        }
    };
    let Dialled {
        socket,
        sent,
        lease,
        connected,
        took,
        attempts,
        queued,
        permit,
    } = dialled;
    if pool.outliers.failure_rate.is_some() {
        link.set_beginning(Beginning::of(lease.backend()));
    }
    record.lease = Some(lease);
    record.connect = Some(took);
    record.attempts = attempts;
    record.queued = queued;
    link.connect(socket, connected);
    if let Some(key) = link.key() {
        let due = link.first_check(connected);
        worker.sessions.borrow_mut().hasten(key, due);
    }
    let Opening { bytes, ours } = opening;
    if sent < *ours {
        let rest = bytes.get(sent..*ours).unwrap_or_default();
        Box::pin(worker.watched(link, say(link, rest))).await?;
    }
    let sent = sent.max(*ours);
    if sent > *ours {
        let loan = worker.loan(listener);
        loan.delivered(link, Direction::Up, sent - ours);
    }
    if let Some(unsent) = bytes.get(sent..).filter(|unsent| !unsent.is_empty()) {
        link.set_unsent(Direction::Up, unsent);
    }
    Ok(permit)
}

impl Worker {
    /// What the client has said by now; nothing if it is silent or has finished, which the relay
    /// finds out.
    pub(super) fn opening(&self, link: &Link) -> Opening {
        let scratch = &mut *self.lane.scratch.borrow_mut();
        let bytes = match receive(link.client().as_fd(), &mut scratch[..OPENING_BYTES]) {
            Ok(received) => scratch[..received].into(),
            Err(Errno::AGAIN) => Box::default(),
            Err(cause) => {
                link.lose_client(cause);
                Box::default()
            }
        };
        Opening { bytes, ours: 0 }
    }

    fn limits(&self, listener: &Listener, opened: Instant) -> Limits {
        let timeouts = &listener.timeouts;
        let lifetime_end = timeouts
            .max_lifetime
            .map(|lifetime| opened + self.jittered(lifetime, timeouts.lifetime_jitter));
        Limits {
            idle: timeouts.idle,
            half_closed: timeouts.half_closed,
            first_byte: timeouts.first_byte,
            lifetime_end,
            keepalive: listener.keepalive,
        }
    }

    /// A time up to `percent` shorter or longer, so that sessions begun together do not end together.
    fn jittered(&self, time: Duration, percent: u8) -> Duration {
        let spread = time * u32::from(percent) / 100;
        let twice = u64::try_from(spread.as_nanos() * 2).unwrap_or(u64::MAX);
        let offset = self.random.borrow_mut().below(twice.saturating_add(1));
        (time + Duration::from_nanos(offset)).saturating_sub(spread)
    }

    pub(super) fn loan<'a>(&'a self, listener: &'a Listener) -> Loan<'a> {
        Loan {
            lane: &self.lane,
            sessions: &self.sessions,
            listener: listener.cells.worker(self.index),
            worker: self.cells(),
            mode: listener.relay,
        }
    }
}
