//! What a session has to do with its client beyond passing bytes on: TLS that ends here, and what the
//! backend is told of it.

use std::future::Future;
use std::os::fd::AsFd;

use super::Worker;
use super::heard::Agreed;
use super::record::Record;
use crate::base::clock::now;
use crate::base::reason::{Reason, Side};
use crate::forward::link::{BLIND_INTERVAL, Direction, Ending, Link};
use crate::forward::preface::Proxied;
use crate::forward::secure::{self, handshake};
use crate::metrics::Gauge;
use crate::proxy_protocol::{Facts, Shown, Tlvs, write};
use crate::snapshot::routes::Entry;
use crate::snapshot::{Listener, Pool};
use crate::sys::socket::local_address;
use crate::tls::live::Terminating;
use crate::tls::peer::client_names_match;
use crate::tls::seam::SessionFault;

/// The client's side of a session.
#[derive(Clone, Copy)]
pub(super) struct Front<'a> {
    pub(super) link: &'a Link,
    pub(super) listener: &'a Listener,
    pub(super) worker: &'a Worker,
}

impl Front<'_> {
    /// Shakes hands; returns what the client has said since, in plaintext.
    pub(super) async fn terminate(
        &self,
        entry: &Entry,
        received: Vec<u8>,
        record: &mut Record,
    ) -> Result<Box<[u8]>, Ending> {
        let Some(tls) = &self.listener.tls else {
            return Err(self.link.reject(Reason::Internal, None));
        };
        let cells = self.listener.cells.worker(self.worker.index);
        if let Err(why) = self.may_begin(tls, record) {
            record.note(why);
            return Err(self.link.reject(Reason::LimitHandshakes, None));
        }
        let session = match tls.session() {
            Ok(session) => Box::new(session),
            Err(fault) => return Err(self.ours(&fault, record)),
        };
        let hello = secure::Hello {
            side: Side::Client,
            received: received.into(),
            limit: self.listener.timeouts.handshake,
        };
        let under_way = UnderWay::begin(&cells.handshakes);
        let said = handshake(self.link, session, hello, &self.worker.loan(self.listener)).await;
        drop(under_way);
        let (Ok(said), Some(agreed)) = (said, Agreed::with(self.link)) else {
            cells.handshakes_failed.inc();
            let ended = self.link.ending();
            return Err(ended.unwrap_or(Ending::ours(Reason::Internal)));
        };
        match agreed.shown {
            Shown::Now => cells.handshakes_full.inc(),
            Shown::Before => cells.handshakes_resumed.inc(),
        }
        if let Some(heard) = &mut record.heard {
            heard.tls = Some(agreed);
        }
        if !self.is_welcome(entry) {
            record.note("the client's certificate carries none of the route's `client_names`");
            return Err(self.link.reject(Reason::Denied, None));
        }
        Ok(said)
    }

    /// Asked before any cryptography.
    fn may_begin(&self, tls: &Terminating, record: &Record) -> Result<(), &'static str> {
        let under_way = self
            .listener
            .cells
            .worker(self.worker.index)
            .handshakes
            .read();
        if under_way >= i64::from(tls.handshakes_max) {
            return Err("`handshakes_max` are under way");
        }
        match (&tls.handshake_rate, record.client) {
            (Some(rate), Some(client)) if !rate.admit(client.ip(), now()) => {
                Err("the source has used up its `handshake_rate`")
            }
            _ => Ok(()),
        }
    }

    /// Whether the client's certificate carries a name that the route asks for.
    fn is_welcome(&self, entry: &Entry) -> bool {
        let names = &entry.route.client_names;
        let Some(session) = self.link.session(Side::Client) else {
            return false;
        };
        let session = session.borrow();
        let certificate = session.peer_certificate();
        names.is_empty() || certificate.is_some_and(|it| client_names_match(it, names))
    }

    /// The PROXY header that the backend gets; empty: none.
    pub(super) fn header(
        &self,
        pool: &Pool,
        record: &Record,
        proxied: Option<&Proxied>,
    ) -> Vec<u8> {
        let mut header = Vec::new();
        let (Some(settings), Some(heard)) = (&pool.proxy_protocol, record.heard.as_deref()) else {
            return header;
        };
        let id = record.id.to_string();
        let hello = heard.hello.as_ref();
        let agreed = heard.tls.as_ref();
        let offered = hello.and_then(|hello| hello.alpn.as_deref());
        let facts = Facts {
            client: record.client,
            destination: match proxied.and_then(|proxied| proxied.addresses) {
                Some((_, destination)) => Some(destination),
                None => local_address(self.link.client().as_fd()),
            },
            alpn: agreed.map_or(offered, |agreed| agreed.alpn.as_deref()),
            authority: hello.and_then(|hello| hello.name.as_deref()),
            unique_id: Some(id.as_bytes()),
            tls: agreed.map(Agreed::facts),
            received: proxied.map_or_else(Tlvs::default, Proxied::tlvs),
        };
        let written = write(settings, &facts, &mut header);
        let cells = pool.cells.worker(self.worker.index);
        cells.proxy_values_left_out.add(written.left_out as u64);
        header
    }

    fn ours(&self, fault: &SessionFault, record: &mut Record) -> Ending {
        record.note(fault.to_string());
        self.link.reject(Reason::Internal, None)
    }
}

impl Worker {
    /// Waits for a backend, and notices meanwhile that the link's client breaks, which nobody reads.
    pub(super) async fn watched<T>(&self, link: &Link, wait: impl Future<Output = T>) -> T {
        link.set_stalled(Direction::Up, true);
        if let Some(key) = link.key() {
            let soon = now() + BLIND_INTERVAL;
            self.sessions.borrow_mut().hasten(key, soon);
        }
        let outcome = wait.await;
        link.set_stalled(Direction::Up, false);
        outcome
    }
}

/// A handshake, counted for as long as this lives.
struct UnderWay<'a>(&'a Gauge);

impl<'a> UnderWay<'a> {
    fn begin(handshakes: &'a Gauge) -> Self {
        handshakes.inc();
        Self(handshakes)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
