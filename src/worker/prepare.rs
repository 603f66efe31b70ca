//! A session whose way depends on what the client says first, or with whose client or backend there is
//! more to be said than to pass bytes on: from the first byte to the relay.

use std::cell::Cell;
use std::future::Future;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::sync::Arc;

use rustix::io::Errno;

use super::Worker;
use super::heard::{Agreed, Heard};
use super::session::{Record, find_backend};
use crate::base::clock::now;
use crate::base::reason::{Reason, Side};
use crate::config::model::{StartTls, Target};
use crate::forward::link::{BLIND_INTERVAL, Direction, Ending, Link};
use crate::forward::preface::{self, Preface, Proxied, SSL_REQUEST};
use crate::forward::relay::{Loan, relay};
use crate::forward::secure::{self, handshake, relay_secured};
use crate::io::deadline::ended_after;
use crate::io::join::both;
use crate::io::socket::Socket;
use crate::metrics::Gauge;
use crate::proxy_protocol::{Facts, Shown, Tlvs, write};
use crate::snapshot::routes::Entry;
use crate::snapshot::{Listener, Pool, Routing};
use crate::sys::socket::{local_address, receive, send};
use crate::tls::live::{Encrypting, Terminating};
use crate::tls::peer::client_names_match;
use crate::tls::seam::{Session, SessionFault};

/// What a backend gets first.
pub(super) struct Opening {
    pub(super) bytes: Box<[u8]>,
    /// So many of the bytes, from the first on, are not the client's.
    pub(super) ours: usize,
}

/// A wait for the client that was begun and has to end by itself.
pub(super) type Waiting<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Hears what the client says first, and gives it the backend that follows from it.
pub(super) async fn prepare<'a>(
    link: &'a Link,
    listener: &'a Listener,
    worker: &'a Worker,
    record: &mut Record,
) -> Result<Option<Waiting<'a>>, Ending> {
    let Preface {
        mut bytes,
        proxied,
        entry,
        hello,
        upgrade,
        waiting,
    } = listen(link, listener, worker, record).await?;
    let pool = entry.and_then(|entry| entry.pool.as_ref());
    let Some(pool) = pool.or_else(|| listener.pool()) else {
        return Err(link.reject(Reason::Internal, None));
    };
    let addresses = proxied.as_ref().and_then(|proxied| proxied.addresses);
    if let Some((source, _)) = addresses {
        record.client = Some(source);
    }
    record.heard = Some(Box::new(Heard {
        pool: Some(Arc::clone(pool)),
        route: entry.map(|entry| Arc::clone(&entry.route.name)),
        hello,
        ..Heard::default()
    }));
    let ends_here = entry.filter(|it| matches!(it.route.target, Target::Terminate(_)));
    if let Some(entry) = ends_here {
        let client = Client {
            link,
            listener,
            worker,
        };
        bytes = client.terminate(entry, bytes, record).await?.into();
    }
    let mut first = Vec::new();
    if pool.proxy_protocol.is_some() {
        let destination = addresses.map(|(_, destination)| destination);
        let destination = destination.or_else(|| local_address(link.client().as_fd()));
        header(pool, record, (destination, proxied.as_ref()), &mut first).inspect(|left_out| {
            let cells = pool.cells.worker(worker.index);
            cells.proxy_values_left_out.add(*left_out);
        });
    }
    // The backend is asked for TLS as the client asked us, unless TLS ends here and it gets plaintext.
    let asks = upgrade.is_some() && (ends_here.is_none() || pool.tls.is_some());
    if asks {
        first.extend_from_slice(&SSL_REQUEST);
    }
    let ours = first.len();
    let later = asks || pool.tls.is_some();
    if !later {
        first.extend_from_slice(&bytes);
    }
    let opening = Opening {
        bytes: first.into(),
        ours,
    };
    find_backend(link, (listener, pool), &opening, worker, record).await?;
    if let (true, Some(StartTls::Postgres)) = (asks, upgrade) {
        let asked = Client {
            link,
            listener,
            worker,
        };
        asked.watched(consent(link, listener, record)).await?;
    }
    if let Some(tls) = &pool.tls {
        encrypt(link, (listener, pool, tls), worker, record).await?;
    }
    if later && !bytes.is_empty() {
        link.set_unsent(Direction::Up, &bytes);
    }
    Ok(waiting)
}

/// What the client says before its route is known.
async fn listen<'a>(
    link: &'a Link,
    listener: &'a Listener,
    worker: &'a Worker,
    record: &mut Record,
) -> Result<Preface<'a>, Ending> {
    if let (Routing::Pool(_), None) = (&listener.routing, &listener.proxy_protocol) {
        return Ok(Preface::of(worker.opening(link).bytes.into()));
    }
    match preface::read(link, listener, &worker.lane, record.client).await {
        Ok(preface) => Ok(preface),
        Err(refused) => {
            record.heard = Some(Box::new(Heard {
                why: refused.why,
                hello: refused.hello,
                ..Heard::default()
            }));
            Err(refused.ending)
        }
    }
}

/// Appends the PROXY header for a session of `pool`; returns how many values it had no room for.
fn header(
    pool: &Pool,
    record: &Record,
    (destination, proxied): (Option<SocketAddr>, Option<&Proxied>),
    out: &mut Vec<u8>,
) -> Option<u64> {
    let settings = pool.proxy_protocol.as_ref()?;
    let id = record.id.to_string();
    let heard = record.heard.as_deref()?;
    let hello = heard.hello.as_ref();
    let agreed = heard.tls.as_ref();
    let offered = hello.and_then(|hello| hello.alpn.as_deref());
    let facts = Facts {
        client: record.client,
        destination,
        alpn: agreed.map_or(offered, |agreed| agreed.alpn.as_deref()),
        authority: hello.and_then(|hello| hello.name.as_deref()),
        unique_id: Some(id.as_bytes()),
        tls: agreed.map(Agreed::facts),
        received: proxied.map_or_else(Tlvs::default, Proxied::tlvs),
    };
    Some(write(settings, &facts, out).left_out as u64)
}

/// A client that has to wait, mostly since its TLS ends here.
#[derive(Clone, Copy)]
struct Client<'a> {
    link: &'a Link,
    listener: &'a Listener,
    worker: &'a Worker,
}

impl Client<'_> {
    /// Shakes hands; returns what the client has said since, in plaintext.
    async fn terminate(
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
        let session = match Session::server(&tls.config()) {
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

    /// Notices meanwhile that the client breaks, which nobody reads.
    async fn watched<T>(&self, wait: impl Future<Output = T>) -> T {
        self.link.set_stalled(Direction::Up, true);
        if let Some(key) = self.link.key() {
            let soon = now() + BLIND_INTERVAL;
            self.worker.sessions.borrow_mut().hasten(key, soon);
        }
        let outcome = wait.await;
        self.link.set_stalled(Direction::Up, false);
        outcome
    }

    fn ours(&self, fault: &SessionFault, record: &mut Record) -> Ending {
        record.note(fault.to_string());
        self.link.reject(Reason::Internal, None)
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

/// Shakes hands with the backend.
async fn encrypt(
    link: &Link,
    (listener, pool, tls): (&Listener, &Pool, &Encrypting),
    worker: &Worker,
    record: &mut Record,
) -> Result<(), Ending> {
    let hello = record.heard.as_ref().and_then(|heard| heard.hello.as_ref());
    let asked = hello.and_then(|hello| hello.name.as_deref());
    let own = record.lease.as_deref();
    let own = own.and_then(|backend| pool.server_names.get(&backend.id().name));
    let Some(name) = tls.name(asked, own) else {
        record.note("there is no name to check the backend's certificate against: set `tls.sni`");
        return Err(link.reject(Reason::TlsError, None));
    };
    let session = match Session::client(&tls.config(), name) {
        Ok(session) => Box::new(session),
        Err(fault) => {
            record.note(fault.to_string());
            return Err(link.reject(Reason::Internal, None));
        }
    };
    let hello = secure::Hello {
        side: Side::Backend,
        received: Box::default(),
        limit: listener.timeouts.handshake,
    };
    let said = handshake(link, session, hello, &worker.loan(listener)).await?;
    if !said.is_empty() {
        link.set_unsent(Direction::Down, &said);
    }
    Ok(())
}

/// Waits until the backend agrees to speak TLS, which PostgreSQL says in one byte.
async fn consent(link: &Link, listener: &Listener, record: &mut Record) -> Result<(), Ending> {
    let Some(backend) = link.backend() else {
        return Err(link.reject(Reason::Internal, None));
    };
    let until = now() + listener.timeouts.handshake;
    let mut answer = [0; 1];
    loop {
        match receive(backend.as_fd(), &mut answer) {
            Ok(1) if answer == *b"S" => return Ok(()),
            // "N", an error message, or the end.
            Ok(_) => {
                record.note("the backend does not agree to speak TLS");
                return Err(Ending {
                    side: Side::Backend,
                    ..link.reject(Reason::TlsError, None)
                });
            }
            Err(Errno::AGAIN) => {
                let end = || link.kill(Reason::TlsError);
                ended_after(pin!(backend.readable()), until - now(), end).await;
                if link
                    .ending()
                    .is_some_and(|it| it.reason == Reason::TlsError)
                {
                    record.note("the backend did not say in time whether it speaks TLS");
                }
            }
            Err(cause) => return Err(link.reject(Reason::BackendReset, Some(cause))),
        }
        if let Some(ending) = link.ending() {
            return Err(ending);
        }
    }
}

/// Sends bytes that are not the client's to the backend, all of them.
pub(super) async fn say(link: &Link, mut bytes: &[u8]) -> Result<(), Ending> {
    let Some(backend) = link.backend() else {
        return Err(link.reject(Reason::Internal, None));
    };
    while !bytes.is_empty() {
        match send(backend.as_fd(), bytes) {
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(Errno::AGAIN) => backend.writable().await,
            Err(cause) => return Err(link.reject(Reason::BackendReset, Some(cause))),
        }
        if let Some(ending) = link.ending() {
            return Err(ending);
        }
    }
    Ok(())
}

/// Relays where TLS ends here, or while a wait for the client goes on that was begun before; that ends
/// with the session.
pub(super) async fn relay_prepared(
    waiting: Option<Waiting<'_>>,
    link: &Link,
    backend: &Socket,
    loan: &Loan<'_>,
) -> Ending {
    let Some(waiting) = waiting else {
        return relay_secured(link, backend, loan).await;
    };
    let ending = Cell::new(Ending::ours(Reason::Internal));
    let relayed = async {
        ending.set(if link.is_secured() {
            relay_secured(link, backend, loan).await
        } else {
            relay(link, backend, loan).await
        });
    };
    both(pin!(relayed), pin!(waiting)).await;
    ending.get()
}
