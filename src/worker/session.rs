//! ★ Start reading here: one client's connection, from accept to close.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::admit::over_text;
use super::heard::Heard;
use super::prepare::{Opening, prepare, relay_prepared, say};
use super::{Pinned, Worker, tcp_facts};
use crate::backend::{Backend, Lease};
use crate::balance::Ask;
use crate::base::clock::{Instant, now};
use crate::base::limits::OPENING_BYTES;
use crate::base::reason::Reason;
use crate::forward::dial::{Call, Dialled, dial};
use crate::forward::link::{BLIND_INTERVAL, Direction, Ending, Limits, Link};
use crate::forward::relay::{Loan, relay};
use crate::io::socket::Socket;
use crate::io::unwind::caught;
use crate::io::wheel::Key;
use crate::limits::guard::Pass;
use crate::log::session::{Asked, Client as Source, Closed, Event, SessionId, SessionLine};
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

/// What is known of a session besides what its link knows.
pub(super) struct Record {
    pub(super) id: SessionId,
    pub(super) client: Option<SocketAddr>,
    /// Counts the session among its source's for as long as it lives.
    pub(super) pass: Pass,
    opened: Instant,
    backend: Option<Arc<Backend>>,
    attempts: u8,
    queued: Option<Duration>,
    connect: Option<Duration>,
    /// Counts the session among the backend's for as long as it lives.
    pub(super) lease: Option<Lease>,
    /// What the client said first, where its listener goes by that.
    pub(super) heard: Option<Box<Heard>>,
}

impl Record {
    /// Keeps what was wrong with the client or its backend, for the log.
    pub(super) fn note(&mut self, why: impl Into<String>) {
        if let Some(heard) = &mut self.heard {
            heard.why = Some(why.into());
        }
    }

    /// The pool that the session goes to, once that is known.
    fn pool<'a>(&'a self, listener: &'a Listener) -> Option<&'a Arc<Pool>> {
        let heard = self.heard.as_deref();
        heard
            .and_then(|heard| heard.pool.as_ref())
            .or_else(|| listener.pool())
    }
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
    let key = worker
        .sessions
        .borrow_mut()
        .insert(opened + BLIND_INTERVAL, Rc::clone(&link));
    link.set_key(key);
    let record = Record {
        id: worker.session_ids.borrow_mut().next_id(),
        client: client.address,
        pass: client.pass,
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
            let found = find_backend(link, (listener, pool), &opening, worker, record).await;
            found.map(|()| None)
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
pub(super) async fn find_backend(
    link: &Link,
    (listener, pool): (&Listener, &Pool),
    opening: &Opening,
    worker: &Worker,
    record: &mut Record,
) -> Result<(), Ending> {
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
        opening: &opening.bytes,
        shortage: &worker.shortage,
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
    } = dialled;
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
    Ok(())
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

    fn count_opened(&self, listener: &Listener) {
        self.cells().sessions.inc();
        let cells = listener.cells.worker(self.index);
        cells.accepted.inc();
        cells.active.inc();
    }

    fn count_lost(&self, listener: &Listener) {
        let cells = listener.cells.worker(self.index);
        cells.accepted.inc();
        cells.ended[Reason::Internal.index()].inc();
    }

    fn count_closed(&self, listener: &Listener, link: &Link, record: &Record, ending: Ending) {
        self.cells().sessions.dec();
        let cells = listener.cells.worker(self.index);
        cells.active.dec();
        cells.ended[ending.reason.index()].inc();
        cells.session_seconds.record(now() - record.opened);
        if let Some(lease) = &record.lease
            && record
                .pool(listener)
                .is_some_and(|pool| pool.balancer.feels())
            && let Some(tcp) = link.backend().and_then(tcp_facts)
        {
            lease.feel_round_trip(now(), tcp.rtt);
        }
        if let Some(first_byte) = link.first_byte() {
            let pool = record
                .pool(listener)
                .map(|pool| pool.cells.worker(self.index));
            if let Some(cells) = pool {
                let took = first_byte - link.connected();
                cells.first_byte_seconds.record(took);
            }
        }
    }
}

impl Worker {
    fn log_opened(&self, listener: &Listener, snapshot: &Pinned, record: &Record) {
        let mut log = self.log.borrow_mut();
        if log.wants_open() {
            log.push(&self.line(listener, snapshot, record, Event::Open));
        }
    }

    fn log_closed(
        &self,
        listener: &Listener,
        snapshot: &Pinned,
        record: &Record,
        (link, ending): (&Link, Ending),
    ) {
        let mut log = self.log.borrow_mut();
        if !log.wants_close() {
            return;
        }
        let backend = record.lease.as_deref().or(record.backend.as_deref());
        let heard = record.heard.as_deref();
        let cause = ending.cause.map(|cause| cause.to_string());
        let cause = cause.or_else(|| link.fault().map(ToString::to_string));
        let why = heard.and_then(|heard| heard.why.as_deref());
        let first_byte = link
            .first_byte()
            .map(|first_byte| first_byte - link.connected());
        let alpn = heard.and_then(Heard::alpn);
        let closed = Closed {
            asked: heard.map_or_else(Asked::default, |heard| heard.asked(alpn.as_deref())),
            backend: backend.map(|backend| &*backend.id().name),
            endpoint: backend.map(Backend::endpoint),
            attempts: u32::from(record.attempts),
            queued: record.queued,
            connect: record.connect,
            first_byte,
            duration: now() - record.opened,
            bytes_up: link.bytes(Direction::Up),
            bytes_down: link.bytes(Direction::Down),
            client_tcp: tcp_facts(link.client()),
            backend_tcp: link.backend().and_then(tcp_facts),
            reason: ending.reason,
            side: ending.side,
            cause: cause
                .as_deref()
                .or(why)
                .or_else(|| record.pass.over.map(over_text)),
        };
        log.push(&self.line(listener, snapshot, record, Event::Close(&closed)));
    }

    fn line<'a>(
        &self,
        listener: &'a Listener,
        snapshot: &Pinned,
        record: &'a Record,
        event: Event<'a>,
    ) -> SessionLine<'a> {
        SessionLine {
            session: record.id,
            listener: &listener.name,
            client: record.client.map_or(Source::Unix, Source::Inet),
            pool: record.pool(listener).map(|pool| &*pool.name),
            worker: self.index,
            snapshot: snapshot.version,
            event,
        }
    }
}
