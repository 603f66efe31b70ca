//! Whether a client that has just come may stay, and what becomes of who may not.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Pinned, Worker};
use crate::base::clock::now;
use crate::base::reason::{Reason, Side};
use crate::config::model::Action;
use crate::limits::guard::Pass;
use crate::limits::overload::Stance;
use crate::log::session::{Asked, Client as Source, Closed, Event, SessionLine};
use crate::snapshot::Listener;
use crate::sys::socket::{finish_gently, reset, vanish};

/// Rejected clients that one worker keeps waiting; others are reset at once.
const TARPITTED_MAX: i64 = 1_024;

/// Of so many sessions that there are descriptors for, one may be a client that is kept waiting: they must not
/// keep those out who would be served.
const TARPITTED_PART: u64 = 8;

impl Worker {
    /// Asked before anything is made for the client.
    ///
    /// A worker counts its own sessions only after this, and sees the others' a moment late: so many more
    /// than a limit says may be there as there are other workers.
    pub(super) fn admit(
        &self,
        snapshot: &Pinned,
        listener: &Listener,
        client: Option<SocketAddr>,
    ) -> Result<Pass, Reason> {
        // Whom a proxy speaks for is known once its header is there.
        let known = client.filter(|_| listener.proxy_protocol.is_none());
        let guard = listener.guard.as_deref();
        if let (Some(guard), Some(client)) = (guard, known)
            && !guard.is_allowed(client.ip())
        {
            return Err(Reason::Denied);
        }
        let most = snapshot.model.global.connections_max;
        if most.is_some_and(|most| self.metrics.sessions() >= u64::from(most)) {
            return Err(Reason::LimitGlobal);
        }
        let Some(guard) = guard else {
            return Ok(Pass::default());
        };
        let most = guard.connections();
        if most.is_some_and(|most| listener.active() >= i64::from(most)) {
            return Err(Reason::LimitListener);
        }
        match known {
            Some(client) => guard.count(client.ip(), now()),
            None => Ok(Pass::default()),
        }
    }

    /// Whether clients are left in the kernel's queue for now.
    pub(super) fn pauses(&self) -> bool {
        self.signal.stance() == Stance::Pause
    }

    /// Counts, logs and ends the connection of a client that may not stay.
    pub(super) fn turn_away(
        &self,
        (socket, client): (OwnedFd, Option<SocketAddr>),
        reason: Reason,
        (snapshot, listener): (&Pinned, &Listener),
    ) {
        let cells = listener.cells.worker(self.index);
        cells.accepted.inc();
        cells.ended[reason.index()].inc();
        self.log_turned_away(client, reason, (snapshot, listener));
        let guard = listener.guard.as_deref();
        let action = guard
            .filter(|_| !matches!(reason, Reason::Denied | Reason::Overload))
            .map_or(Action::Reset, |guard| guard.action());
        self.act(socket, action);
    }

    /// Does to a client that is over a limit what is to be done.
    pub(super) fn act(&self, socket: OwnedFd, action: Action) {
        match action {
            Action::Reset => reset(socket.as_fd()),
            Action::Finish => finish_gently(socket.as_fd()),
            Action::Silent => vanish(socket.as_fd()),
            Action::Tarpit(time) => self.keep_waiting(socket, time),
        }
    }

    /// Resets the client after some time; until then it costs a descriptor and a timer.
    fn keep_waiting(&self, socket: OwnedFd, time: Duration) {
        let held = self.metrics.held();
        let waiting = held.saturating_sub(self.metrics.sessions());
        let most = self.sessions_max.load(Ordering::Relaxed) / TARPITTED_PART;
        let is_full = waiting >= most || self.cells().tarpitted.read() >= TARPITTED_MAX;
        if is_full || self.room() == 0 {
            return reset(socket.as_fd());
        }
        self.cells().tarpitted.inc();
        let (metrics, index) = (Arc::clone(&self.metrics), self.index);
        monoio::spawn(async move {
            monoio::time::sleep(time).await;
            metrics.worker(index).tarpitted.dec();
            reset(socket.as_fd());
        });
    }

    fn log_turned_away(
        &self,
        client: Option<SocketAddr>,
        reason: Reason,
        (snapshot, listener): (&Pinned, &Listener),
    ) {
        let mut log = self.log.borrow_mut();
        if !log.wants_close() {
            return;
        }
        let closed = Closed {
            asked: Asked::default(),
            backend: None,
            endpoint: None,
            attempts: 0,
            queued: None,
            held: None,
            connect: None,
            first_byte: None,
            duration: Duration::ZERO,
            bytes_up: 0,
            bytes_down: 0,
            client_tcp: None,
            backend_tcp: None,
            reason,
            side: Side::Us,
            cause: None,
        };
        log.push(&SessionLine {
            session: self.session_ids.borrow_mut().next_id(),
            listener: &listener.name,
            client: client.map_or(Source::Unix, Source::Inet),
            pool: listener.pool().map(|pool| &*pool.name),
            worker: self.index,
            snapshot: snapshot.version,
            event: Event::Close(&closed),
        });
    }

    /// Counts a client that is over a limit and served all the same.
    pub(super) fn count_over(&self, listener: &Listener, over: Option<Reason>) {
        let cells = listener.cells.worker(self.index);
        match over {
            Some(Reason::LimitSource) => cells.over_source.inc(),
            Some(_) => cells.over_rate.inc(),
            None => {}
        }
    }
}

/// What the session line says of a session that would have been slowed.
pub(super) const OVER_BYTES: &str = "over bytes_per_source, not slowed because of `log_only`";

/// What the session line says of a client that is over a limit and served all the same.
pub(super) const fn over_text(over: Reason) -> &'static str {
    match over {
        Reason::LimitSource => "over limit_source, served because of `log_only`",
        _ => "over limit_rate, served because of `log_only`",
    }
}
