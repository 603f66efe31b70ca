//! From a pool to a connected backend.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use crate::backend::{Backend, Lease, Permit, Slot};
use crate::balance::Ask;
use crate::base::address::Endpoint;
use crate::base::clock::{Instant, now};
use crate::base::reason::Reason;
use crate::forward::link::Link;
use crate::forward::opening::Opening;
use crate::io::deadline::ended_after;
use crate::io::shortage::Shortage;
use crate::io::socket::Socket;
use crate::io::wheel::Wheel;
use crate::metrics::PoolCells;
use crate::snapshot::Pool;
use crate::sys::socket::{
    Acknowledge, Connecting, acknowledge, connect, is_connected_to_itself, open, reset, send,
};

/// How long to wait for a descriptor, or for room in the queue of a unix socket, before asking again.
/// Accepting pauses for longer, so that a descriptor that comes free serves a client that waits before
/// it admits another.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(25);

/// What a session dials with.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// Where its backends are.
    pub pool: &'a Pool,
    /// The pool's counters of this worker.
    pub cells: &'a PoolCells,
    /// What the balancer goes by.
    pub ask: Ask,
    /// What the client has said so far: goes to the backend together with the handshake's last
    /// segment.
    pub opening: &'a Opening,
    /// Told when there is no descriptor for a backend.
    pub shortage: &'a Shortage,
    /// Where the worker's sessions are known by their backends.
    pub sessions: &'a RefCell<Wheel<Rc<Link>>>,
}

/// A connected backend.
pub struct Dialled {
    /// The connection.
    pub socket: Socket,
    /// Bytes of the opening that the backend's kernel has taken.
    pub sent: usize,
    /// The backend, counted as active for as long as this lives.
    pub lease: Lease,
    /// When the connection was there.
    pub connected: Instant,
    /// How long the attempt took.
    pub took: Duration,
    /// Backends tried, this one included.
    pub attempts: u8,
    /// How long the client waited for one that has room.
    pub queued: Option<Duration>,
    /// To be told how the handshake with the backend went, where there is one and the pool has a breaker.
    pub permit: Option<Permit>,
}

/// No backend could be reached.
#[derive(Clone, Debug)]
pub struct DialFault {
    /// As one word.
    pub reason: Reason,
    /// What the kernel said of the last attempt.
    pub cause: Option<Errno>,
    /// The last backend tried.
    pub backend: Option<Arc<Backend>>,
    /// Backends tried.
    pub attempts: u8,
    /// How long the client waited for one that has room.
    pub queued: Option<Duration>,
}

/// Connects to the pool's best backend, or to the next one where that fails.
///
/// The end of the session `link`, whoever brings it about, cuts the attempt under way short.
///
/// # Errors
/// The last attempt's fault when attempts, time or the pool's retry budget are used up.
pub async fn dial(link: &Link, call: &Call<'_>) -> Result<Dialled, DialFault> {
    let mut dialler = Dialler::new(link, call);
    let Call { pool, ask, .. } = *call;
    if let Some(settings) = &pool.breaker
        && pool.live.breaker.is_open(settings, ask.now)
    {
        dialler.fault.reason = Reason::BreakerOpen;
        return Err(dialler.fault);
    }
    let mut walk = pool.balancer.walk(&pool.live.rotation, ask);
    while let Some(backend) = walk.next() {
        dialler.link.choose(backend.era().of_choice(walk.chose()));
        let Some(lease) = dialler.lease(backend) else {
            continue;
        };
        if !dialler.may_try() {
            return Err(dialler.fault);
        }
        if let Some(dialled) = dialler.attempt(lease).await {
            return Ok(dialled);
        }
    }
    if pool.is_limited
        && let Some(dialled) = Box::pin(dialler.dial_later()).await
    {
        return Ok(dialled);
    }
    Err(dialler.fault)
}

pub(super) struct Dialler<'a> {
    pub(super) link: &'a Link,
    pub(super) call: &'a Call<'a>,
    pub(super) fault: DialFault,
    /// What `connect.total` counts from: when there was a backend to try.
    pub(super) begun: Instant,
    /// The last attempt looked whether a backend that had failed is back.
    probed: bool,
    /// The next attempt, as the pool's breaker counts it.
    pub(super) permit: Option<Permit>,
    /// The session, as the pool's breaker counts it.
    pub(super) slot: Option<Slot>,
}

impl<'a> Dialler<'a> {
    const fn new(link: &'a Link, call: &'a Call<'a>) -> Self {
        let fault = DialFault {
            reason: Reason::NoBackend,
            cause: None,
            backend: None,
            attempts: 0,
            queued: None,
        };
        Self {
            link,
            call,
            fault,
            begun: call.ask.now,
            probed: false,
            permit: None,
            slot: None,
        }
    }

    /// A slot at `backend`; `None`: it has none, or another with none is rather to be waited for.
    pub(super) fn lease(&self, backend: &Arc<Backend>) -> Option<Lease> {
        let pool = self.call.pool;
        if pool.queue.is_some() && backend.recently_failed(now()) && pool.is_worth_waiting_for() {
            return None;
        }
        backend.try_lease()
    }

    /// Whether the pool's limits allow one more attempt.
    pub(super) fn may_try(&mut self) -> bool {
        if self.link.ending().is_some() {
            return false;
        }
        let time = now();
        if self.fault.attempts == 0 {
            let may_enter = self.enter(time);
            if may_enter {
                self.call.pool.live.budget.note_connect(time);
            }
            return may_enter;
        }
        let pool = self.call.pool;
        let limits = &pool.connect;
        if self.fault.attempts >= limits.attempts || time - self.begun >= limits.total {
            return false;
        }
        if self.probed {
            // Probes are one a second and backend: what they cost is not the pool's to save on.
            return self.enter(time);
        }
        let granted = pool.live.budget.try_retry(time, pool.retry_budget);
        if !granted {
            self.call.cells.retries_denied.inc();
        }
        granted && self.enter(time)
    }

    /// Tries a backend whose era at the [choice](Link::choose) the link knows.
    pub(super) async fn attempt(&mut self, mut lease: Lease) -> Option<Dialled> {
        let backend = lease.backend();
        if let Some(reason) = self.go_to(backend) {
            self.fault.reason = reason;
            self.fault.cause = None;
            self.fault.backend = Some(Arc::clone(backend));
            self.permit = None;
            return None;
        }
        self.fault.attempts += 1;
        let begun = now();
        let had_failed = backend.has_failed();
        self.probed = had_failed && !backend.recently_failed(begun);
        backend.connect_begins(begun);
        let outcome = self.connect(backend).await;
        let time = now();
        if self.fault.attempts > 1 {
            match outcome {
                Ok(_) => self.call.cells.retries_succeeded.inc(),
                Err(_) => self.call.cells.retries_failed.inc(),
            }
        }
        match outcome {
            Ok((socket, sent)) => {
                backend.connect_succeeded(time);
                if self.call.pool.balancer.feels() {
                    backend.feel_connect(time, time - begun);
                }
                self.call.cells.connect_seconds.record(time - begun);
                lease.set_slot(self.slot.take());
                let mut permit = self.permit.take();
                if self.call.pool.tls.is_none()
                    && let Some(permit) = permit.take()
                {
                    permit.succeeded(time);
                }
                Some(Dialled {
                    socket,
                    sent,
                    lease,
                    connected: time,
                    took: time - begun,
                    attempts: self.fault.attempts,
                    queued: self.fault.queued,
                    permit,
                })
            }
            Err(cause) => {
                let cut = self.link.cut();
                self.fault.reason = cut.unwrap_or_else(|| reason_of(cause));
                self.fault.cause = Some(cause).filter(|_| cut.is_none());
                self.fault.backend = Some(Arc::clone(backend));
                let permit = self.permit.take();
                // A lack of ours says nothing of the backend, nor does a session that ended meanwhile.
                let ours = self.fault.reason == Reason::Internal || cut.is_some();
                if !ours && self.link.ending().is_none() {
                    backend.connect_failed(time);
                    if let Some(permit) = permit {
                        permit.failed(time);
                    }
                }
                self.leave();
                None
            }
        }
    }

    /// Connects and sends the opening; returns how much of it the kernel took.
    async fn connect(&self, backend: &Backend) -> Result<(Socket, usize), Errno> {
        let endpoint = backend.endpoint();
        let descriptor = match open(endpoint, self.call.pool.source) {
            Err(Errno::MFILE | Errno::NFILE) => {
                let opened = Box::pin(self.open_later(endpoint)).await?;
                if self.link.cut().is_some() {
                    return Err(Errno::CANCELED);
                }
                opened
            }
            opened => opened?,
        };
        let speaks_first = !self.call.opening.bytes.is_empty();
        if speaks_first {
            // The opening acknowledges the backend's part of the handshake: one segment less, 1.5 of
            // 66 µs for a connection on loopback.
            acknowledge(descriptor.as_fd(), Acknowledge::WithData);
        }
        let mut state = connect(descriptor.as_fd(), endpoint)?;
        if state == Connecting::Wait && !speaks_first {
            // A backend on this machine has answered by now.
            state = connect(descriptor.as_fd(), endpoint)?;
        }
        let socket = Socket::new(descriptor)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::NOMEM))?;
        // Sending asks what a second connect would: whether the handshake is over.
        if (state == Connecting::Done || (state == Connecting::Wait && speaks_first))
            && let Some(sent) = self.open_with(&socket, endpoint)?
        {
            return Ok((socket, sent));
        }
        let socket = Rc::new(socket);
        self.link.set_dialling(Some(Rc::clone(&socket)));
        // A session's memory is what its largest state takes: the rare ones live on the heap.
        let outcome = Box::pin(self.connected(&socket, endpoint)).await;
        self.link.set_dialling(None);
        let socket = outcome.and_then(|()| Rc::into_inner(socket).ok_or(Errno::INVAL))?;
        let sent = self.open_with(&socket, endpoint)?;
        Ok((socket, sent.unwrap_or(0)))
    }

    /// Sends the opening as far as the kernel takes it; `None` where the handshake is not over yet.
    fn open_with(&self, socket: &Socket, endpoint: &Endpoint) -> Result<Option<usize>, Errno> {
        if is_connected_to_itself(socket.as_fd(), endpoint) {
            return Err(Errno::CONNREFUSED);
        }
        if self.call.opening.bytes.is_empty() {
            return Ok(Some(0));
        }
        match send(socket.as_fd(), &self.call.opening.bytes) {
            Ok(sent) => {
                // Backends that answer in small pieces wait for the first one's acknowledgement.
                acknowledge(socket.as_fd(), Acknowledge::AtOnce);
                Ok(Some(sent))
            }
            Err(Errno::AGAIN) => Ok(None),
            Err(cause) => Err(cause),
        }
    }

    /// Waits until the connect that is under way is over.
    async fn connected(&self, socket: &Socket, endpoint: &Endpoint) -> Result<(), Errno> {
        let begun = now();
        loop {
            match connect(socket.as_fd(), endpoint)? {
                Connecting::Done => return Ok(()),
                Connecting::Wait => self.until_writable(socket).await?,
                Connecting::Full if now() - begun < self.call.pool.connect.timeout => {
                    monoio::time::sleep(SHORTAGE_PAUSE).await;
                }
                Connecting::Full => return Err(Errno::TIMEDOUT),
            }
            if self.link.ending().is_some() || self.link.cut().is_some() {
                return Err(Errno::CANCELED);
            }
        }
    }

    /// A new socket for a process that has no descriptor left: the first that another session gives
    /// back.
    async fn open_later(&self, endpoint: &Endpoint) -> Result<OwnedFd, Errno> {
        let pool = self.call.pool;
        let _waiting = self.call.shortage.wait(now());
        loop {
            match open(endpoint, pool.source) {
                Err(Errno::MFILE | Errno::NFILE)
                    if self.link.ending().is_none()
                        && self.link.cut().is_none()
                        && now() - self.begun < pool.connect.total =>
                {
                    monoio::time::sleep(SHORTAGE_PAUSE).await;
                }
                opened => return opened,
            }
        }
    }

    async fn until_writable(&self, socket: &Socket) -> Result<(), Errno> {
        let limits = &self.call.pool.connect;
        let left = limits.total.saturating_sub(now() - self.begun);
        let timed_out = Cell::new(false);
        let end = || {
            timed_out.set(true);
            reset(socket.as_fd());
        };
        ended_after(pin!(socket.connected()), left.min(limits.timeout), end).await;
        if timed_out.get() {
            return Err(Errno::TIMEDOUT);
        }
        Ok(())
    }
}

/// The word for a failed attempt.
fn reason_of(cause: Errno) -> Reason {
    match cause {
        // A unix socket that nobody listens on refuses in its own words. So does a backend that
        // accepts and resets at once, which with a FIN before is a broken pipe.
        Errno::CONNREFUSED | Errno::CONNRESET | Errno::CONNABORTED | Errno::PIPE | Errno::NOENT => {
            Reason::ConnectRefused
        }
        Errno::TIMEDOUT => Reason::ConnectTimeout,
        Errno::HOSTUNREACH
        | Errno::NETUNREACH
        | Errno::HOSTDOWN
        | Errno::NETDOWN
        | Errno::ACCESS
        | Errno::PERM => Reason::ConnectUnreachable,
        _ => Reason::Internal,
    }
}
