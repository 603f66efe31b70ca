//! A session whose way depends on what the client says first, or with whose client or backend there is
//! more to be said than to pass bytes on: from the first byte to the relay.

use std::cell::Cell;
use std::future::Future;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::sync::Arc;

use rustix::io::Errno;

use super::Worker;
use super::front::Front;
use super::heard::Heard;
use super::record::Record;
use super::session::find_backend;
use crate::backend::Permit;
use crate::base::clock::now;
use crate::base::reason::{Reason, Side};
use crate::config::model::{StartTls, Target};
use crate::forward::link::{Direction, Ending, Link};
use crate::forward::opening::Opening;
use crate::forward::preface::{self, Preface, SSL_REQUEST};
use crate::forward::relay::{Loan, relay};
use crate::forward::secure::{self, handshake, relay_secured};
use crate::io::deadline::ended_after;
use crate::io::join::both;
use crate::io::socket::Socket;
use crate::snapshot::{Listener, Pool, Routing};
use crate::sys::socket::{receive, send};
use crate::tls::live::Encrypting;
use crate::tls::seam::Session;

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
    if let Some(entry) = entry {
        worker.let_through(link, listener, entry, record)?;
    }
    let ends_here = entry.filter(|it| matches!(it.route.target, Target::Terminate(_)));
    let front = Front {
        link,
        listener,
        worker,
    };
    if let Some(entry) = ends_here {
        bytes = front.terminate(entry, bytes, record).await?.into();
    }
    let mut first = front.header(pool, record, proxied.as_ref());
    // Where TLS goes on, the backend is asked for it as the client asked us. TLS of our own it is asked
    // for whatever the client did: PostgreSQL before 17 knows no other way.
    let asks = match &pool.tls {
        Some(_) => listener.starttls(),
        None => upgrade.filter(|_| ends_here.is_none()),
    };
    if let Some(StartTls::Postgres) = asks {
        first.extend_from_slice(&SSL_REQUEST);
    }
    let ours = first.len();
    let later = asks.is_some() || pool.tls.is_some();
    if !later {
        first.extend_from_slice(&bytes);
    }
    let opening = Opening {
        bytes: first.into(),
        ours,
    };
    let permit = find_backend(link, (listener, pool), &opening, worker, record).await?;
    if let Some(StartTls::Postgres) = asks {
        let consented = worker.watched(link, consent(link, listener, record)).await;
        if let Err(ending) = consented {
            tell(permit, Some(blamed(link, record, ending)));
            return Err(ending);
        }
    }
    if let Some(tls) = &pool.tls {
        let encrypted = encrypt(link, (listener, pool, tls), worker, record).await;
        tell(permit, encrypted.err());
        encrypted?;
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
    let (client, kept) = (record.client, &mut record.pass);
    let admit = |source: IpAddr| {
        let Some(guard) = listener.guard.as_deref() else {
            return Ok(());
        };
        if !guard.is_allowed(source) {
            return Err(Reason::Denied);
        }
        *kept = guard.count(source, now())?;
        if let Some(meter) = kept.meter.take() {
            link.meter(*meter);
        }
        worker.count_over(listener, kept.over);
        Ok(())
    };
    match preface::read(link, listener, (&worker.lane, client), admit).await {
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
    let said = match handshake(link, session, hello, &worker.loan(listener)).await {
        Ok(said) => said,
        Err(ending) => {
            // Failing fast it would have the fewest connections, and get the next client, too.
            if let (Side::Backend, Some(backend)) = (ending.side, &record.lease) {
                backend.handshake_failed(now());
                link.begin_badly();
            }
            return Err(ending);
        }
    };
    if !said.is_empty() {
        link.set_unsent(Direction::Down, &said);
    }
    Ok(())
}

/// The end of a session whose backend was asked for TLS: whatever it says instead, and if it says nothing, it is
/// the backend's doing.
fn blamed(link: &Link, record: &Record, ending: Ending) -> Ending {
    if !matches!(ending.reason, Reason::TlsError | Reason::BackendReset) {
        return ending;
    }
    if let Some(backend) = &record.lease {
        backend.handshake_failed(now());
    }
    link.begin_badly();
    Ending {
        side: Side::Backend,
        ..ending
    }
}

/// Tells the pool's breaker how the handshake with a backend went.
fn tell(permit: Option<Permit>, ending: Option<Ending>) {
    match (permit, ending.map(|ending| ending.side)) {
        (Some(permit), None) => permit.succeeded(now()),
        (Some(permit), Some(Side::Backend)) => permit.failed(now()),
        // It was not the backend's fault.
        _ => {}
    }
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
