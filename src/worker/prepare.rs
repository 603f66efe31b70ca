//! A session whose way depends on what the client says first, or whose backend is told something
//! before: from the first byte to the relay.

use std::borrow::Cow;
use std::cell::Cell;
use std::future::Future;
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::sync::Arc;

use rustix::io::Errno;

use super::Worker;
use super::session::{Record, find_backend};
use crate::base::clock::now;
use crate::base::reason::Reason;
use crate::config::model::StartTls;
use crate::forward::link::{Direction, Ending, Link};
use crate::forward::preface::{self, Hello, Preface, Proxied, SSL_REQUEST};
use crate::forward::relay::{Loan, relay};
use crate::io::deadline::ended_after;
use crate::io::join::both;
use crate::io::socket::Socket;
use crate::log::session::Asked;
use crate::proxy_protocol::{Facts, Tlvs, write};
use crate::snapshot::{Listener, Pool};
use crate::sys::socket::{local_address, receive, send};

/// What a backend gets first.
pub(super) struct Opening {
    pub(super) bytes: Box<[u8]>,
    /// So many of the bytes, from the first on, are not the client's.
    pub(super) ours: usize,
}

/// What a client said first.
pub(super) struct Heard {
    /// Where its route leads.
    pub(super) pool: Option<Arc<Pool>>,
    /// Why it was refused.
    pub(super) why: Option<String>,
    route: Option<Arc<str>>,
    hello: Option<Hello>,
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
    let preface = match preface::read(link, listener, &worker.lane, record.client).await {
        Ok(preface) => preface,
        Err(refused) => {
            record.heard = Some(Box::new(Heard {
                pool: None,
                why: refused.why,
                route: None,
                hello: refused.hello,
            }));
            return Err(refused.ending);
        }
    };
    let Preface {
        bytes,
        proxied,
        entry,
        hello,
        upgrade,
        waiting,
    } = preface;
    let pool = entry
        .and_then(|entry| entry.pool.as_ref())
        .or(listener.pool());
    let Some(pool) = pool else {
        return Err(link.reject(Reason::Internal, None));
    };
    let destination = match proxied.as_ref().and_then(|proxied| proxied.addresses) {
        Some((source, destination)) => {
            record.client = Some(source);
            Some(destination)
        }
        None => None,
    };
    let heard = Heard {
        pool: Some(Arc::clone(pool)),
        why: None,
        route: entry.map(|entry| Arc::clone(&entry.route.name)),
        hello,
    };
    let heard = record.heard.insert(Box::new(heard));
    let mut first = Vec::new();
    if let Some(settings) = &pool.proxy_protocol {
        let id = record.id.to_string();
        let facts = Facts {
            client: record.client,
            destination: destination.or_else(|| local_address(link.client().as_fd())),
            alpn: heard.hello.as_ref().and_then(|hello| hello.alpn.as_deref()),
            authority: heard.hello.as_ref().and_then(|hello| hello.name.as_deref()),
            unique_id: Some(id.as_bytes()),
            tls: None,
            received: proxied.as_ref().map_or_else(Tlvs::default, Proxied::tlvs),
        };
        let written = write(settings, &facts, &mut first);
        let cells = pool.cells.worker(worker.index);
        cells.proxy_values_left_out.add(written.left_out as u64);
    }
    if upgrade.is_some() {
        first.extend_from_slice(&SSL_REQUEST);
    }
    let ours = first.len();
    if upgrade.is_none() {
        first.extend_from_slice(&bytes);
    }
    let opening = Opening {
        bytes: first.into(),
        ours,
    };
    find_backend(link, (listener, pool), &opening, worker, record).await?;
    if let Some(StartTls::Postgres) = upgrade {
        await_consent(link, listener).await?;
        link.set_unsent(Direction::Up, &bytes);
    }
    Ok(waiting)
}

/// Waits until the backend agrees to speak TLS, which PostgreSQL says in one byte.
async fn await_consent(link: &Link, listener: &Listener) -> Result<(), Ending> {
    let Some(backend) = link.backend() else {
        return Err(link.reject(Reason::Internal, None));
    };
    let until = now() + listener.timeouts.handshake;
    let mut answer = [0; 1];
    loop {
        match receive(backend.as_fd(), &mut answer) {
            Ok(1) if answer == *b"S" => return Ok(()),
            // "N", an error message, or the end.
            Ok(_) => return Err(link.reject(Reason::TlsError, None)),
            Err(Errno::AGAIN) => {
                let left = until - now();
                let end = || link.kill(Reason::TlsError);
                ended_after(pin!(backend.readable()), left, end).await;
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

/// Relays while a wait for the client goes on that was begun before; both end with the session.
pub(super) async fn relay_beside(
    waiting: Waiting<'_>,
    link: &Link,
    backend: &Socket,
    loan: &Loan<'_>,
) -> Ending {
    let ending = Cell::new(Ending::ours(Reason::Internal));
    let relayed = async {
        ending.set(relay(link, backend, loan).await);
    };
    both(pin!(relayed), pin!(waiting)).await;
    ending.get()
}

impl Heard {
    pub(super) fn alpn(&self) -> Option<Cow<'_, str>> {
        self.hello.as_ref().and_then(Hello::protocol)
    }

    pub(super) fn asked<'a>(&'a self, alpn: Option<&'a str>) -> Asked<'a> {
        let hello = self.hello.as_ref();
        Asked {
            route: self.route.as_deref(),
            sni: hello.and_then(|hello| hello.name.as_deref()),
            alpn,
            tls: None,
            ja4: hello.map(|hello| &*hello.ja4),
        }
    }
}
