//! What a session leaves behind: its counts and its line in the log.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::admit::{OVER_BYTES, over_text};
use super::heard::Heard;
use super::{Pinned, Worker, tcp_facts};
use crate::backend::{Backend, Lease};
use crate::base::clock::{Instant, now};
use crate::base::reason::Reason;
use crate::forward::link::{Direction, Ending, Link};
use crate::limits::guard::Pass;
use crate::log::session::{Asked, Client as Source, Closed, Event, SessionId, SessionLine};
use crate::snapshot::{Listener, Pool};

/// What is known of a session besides what its link knows.
pub(super) struct Record {
    pub(super) id: SessionId,
    pub(super) client: Option<SocketAddr>,
    /// Counts the session among its source's for as long as it lives.
    pub(super) pass: Pass,
    pub(super) opened: Instant,
    pub(super) backend: Option<Arc<Backend>>,
    pub(super) attempts: u8,
    pub(super) queued: Option<Duration>,
    pub(super) connect: Option<Duration>,
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

impl Worker {
    pub(super) fn count_opened(&self, listener: &Listener) {
        self.cells().sessions.inc();
        let cells = listener.cells.worker(self.index);
        cells.accepted.inc();
        cells.active.inc();
    }

    pub(super) fn count_lost(&self, listener: &Listener) {
        let cells = listener.cells.worker(self.index);
        cells.accepted.inc();
        cells.ended[Reason::Internal.index()].inc();
    }

    pub(super) fn count_closed(
        &self,
        listener: &Listener,
        link: &Link,
        record: &Record,
        ending: Ending,
    ) {
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

    pub(super) fn log_opened(&self, listener: &Listener, snapshot: &Pinned, record: &Record) {
        let mut log = self.log.borrow_mut();
        if log.wants_open() {
            log.push(&self.line(listener, snapshot, record, Event::Open));
        }
    }

    pub(super) fn log_closed(
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
            held: link.held_for(),
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
                .or_else(|| record.pass.over.map(over_text))
                .or_else(|| heard.and_then(|heard| heard.ticket.over()))
                .or_else(|| link.is_over_bytes().then_some(OVER_BYTES)),
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
