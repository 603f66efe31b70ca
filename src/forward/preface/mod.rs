//! What a client says before its stream is forwarded: a PROXY header, a request for TLS in another
//! protocol, a ClientHello. And the route that follows from it.

mod postgres;

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use rustix::io::Errno;

use crate::base::clock::{Instant, now};
use crate::base::limits::OPENING_BYTES;
use crate::base::reason::{Reason, Side};
use crate::config::model::{ProxyHeader, ProxyReceive, StartTls};
use crate::forward::link::{Ending, Link};
use crate::forward::secure::farewell;
use crate::io::deadline::ended_after;
use crate::io::lane::Lane;
use crate::proxy_protocol::{self, Origin, Read, Tlvs};
use crate::snapshot::routes::{Entry, Routes};
use crate::snapshot::{Listener, Routing};
use crate::sni::{Sniff, answer_to_stranger, ja4, sniff};
use crate::sys::socket::{receive, send};
use crate::tls::seam::UNRECOGNIZED_NAME;

pub use postgres::SSL_REQUEST;

/// What a client said first.
pub struct Preface<'a> {
    /// What was received and belongs to the stream.
    pub bytes: Vec<u8>,
    /// What its PROXY header said.
    pub proxied: Option<Proxied>,
    /// The route that takes it; `None`: the listener has no routes.
    pub entry: Option<&'a Entry>,
    /// What its ClientHello asked for.
    pub hello: Option<Hello>,
    /// The request for TLS that was answered, and that the backend has not seen.
    pub upgrade: Option<StartTls>,
    /// A wait for the client that is still under way: it must end with the session, not before.
    pub waiting: Option<Pin<Box<dyn Future<Output = ()> + 'a>>>,
}

/// What a PROXY header said.
pub struct Proxied {
    /// The client, and what it connected to; `None`: the sender itself is the client.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    tlvs: Box<[u8]>,
}

/// What a ClientHello asked for, for the log and for what the backend is told.
pub struct Hello {
    /// The server's name.
    pub name: Option<Box<str>>,
    /// The application protocol offered first.
    pub alpn: Option<Box<[u8]>>,
    /// The fingerprint.
    pub ja4: Box<str>,
}

/// A client that is not served.
pub struct Refused {
    /// How its session ended.
    pub ending: Ending,
    /// What was wrong.
    pub why: Option<String>,
    /// What it asked for, as far as that was understood.
    pub hello: Option<Hello>,
}

/// Reads what the client says first, and finds its route.
///
/// `admit` is asked once about the client, where somebody else may speak for it; its error is the reason to
/// refuse it.
///
/// # Errors
/// The session's end: the client said what no route takes, said nothing in time, may not connect, or left.
pub async fn read<'a>(
    link: &'a Link,
    listener: &'a Listener,
    (lane, client): (&'a Lane, Option<SocketAddr>),
    admit: impl FnOnce(IpAddr) -> Result<(), Reason>,
) -> Result<Preface<'a>, Refused> {
    let mut reader = Reader {
        link,
        lane,
        until: now() + listener.timeouts.sniff,
        bytes: Vec::new(),
    };
    // Mostly the client has said something by now.
    reader.receive(OPENING_BYTES)?;
    let proxied = match &listener.proxy_protocol {
        Some(settings) => reader.header(settings, client).await?,
        None => None,
    };
    let source = match &proxied {
        Some(Proxied {
            addresses: Some((source, _)),
            ..
        }) => Some(source.ip()),
        _ => client.map(|client| client.ip()),
    };
    if let (Some(source), Some(_)) = (source, &listener.proxy_protocol) {
        admit(source).map_err(|reason| {
            let why = format!("{source}, for whom the connection was made");
            reader.refuse(reason, proxied.is_some().then_some(why))
        })?;
    }
    let mut preface = Preface {
        proxied,
        ..Preface::of(Vec::new())
    };
    if let Routing::ByHello(routes) = &listener.routing {
        reader.route(routes, source, &mut preface).await?;
    }
    preface.bytes = reader.bytes;
    Ok(preface)
}

impl Preface<'_> {
    /// These bytes, and nothing known of them.
    pub const fn of(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            proxied: None,
            entry: None,
            hello: None,
            upgrade: None,
            waiting: None,
        }
    }
}

struct Reader<'a> {
    link: &'a Link,
    lane: &'a Lane,
    until: Instant,
    /// What was received and not yet understood.
    bytes: Vec<u8>,
}

impl<'a> Reader<'a> {
    /// The PROXY header, if there is one; what follows it stays.
    async fn header(
        &mut self,
        settings: &ProxyReceive,
        client: Option<SocketAddr>,
    ) -> Result<Option<Proxied>, Refused> {
        let trusted = client.is_none_or(|client| is_within(settings, client.ip()));
        if !trusted && settings.header == ProxyHeader::Require {
            return Err(self.deny("a PROXY header is required, and this address may not send one"));
        }
        loop {
            match proxy_protocol::read(&self.bytes) {
                Read::Incomplete => self.more(OPENING_BYTES).await?,
                Read::Absent if settings.header == ProxyHeader::Optional => return Ok(None),
                Read::Absent => return Err(self.deny("no PROXY header")),
                Read::Bad(fault) => return Err(self.deny(&format!("PROXY header: {fault}"))),
                Read::Header(_) if !trusted => {
                    return Err(self.deny("this address may not send a PROXY header"));
                }
                Read::Header(header) => {
                    let addresses = match header.origin {
                        Origin::Inet {
                            source,
                            destination,
                        } => Some((source, destination)),
                        Origin::Socket | Origin::Unix { .. } => None,
                    };
                    let tlvs = header.tlvs.as_bytes().into();
                    let length = header.length;
                    self.bytes.drain(..length);
                    return Ok(Some(Proxied { addresses, tlvs }));
                }
            }
        }
    }

    /// Finds the route, asking for as much of the client's words as that takes.
    async fn route(
        &mut self,
        routes: &'a Routes,
        source: Option<IpAddr>,
        preface: &mut Preface<'a>,
    ) -> Result<(), Refused> {
        if let Some(StartTls::Postgres) = routes.starttls {
            preface.upgrade = self.postgres().await?;
        } else if let Some(silence) = routes.silent_after
            && self.bytes.is_empty()
        {
            preface.waiting = self.first_byte(silence).await?;
        }
        let heard = preface.waiting.is_none() && self.hello(routes, source, preface).await?;
        if !heard {
            preface.entry = routes.for_plain(source);
        }
        self.admit(preface).await
    }

    /// Reads the ClientHello and finds its route, if it has one; whether the client speaks TLS.
    async fn hello(
        &mut self,
        routes: &'a Routes,
        source: Option<IpAddr>,
        preface: &mut Preface<'a>,
    ) -> Result<bool, Refused> {
        loop {
            match sniff(&self.bytes, routes.sniff_max) {
                Sniff::Incomplete { needs } => {
                    let lacking = needs - self.bytes.len();
                    self.more(lacking).await?;
                }
                Sniff::NotTls if preface.upgrade.is_none() => return Ok(false),
                Sniff::NotTls => return Err(self.fail("asked for TLS and does not speak it")),
                Sniff::Bad(fault) => {
                    let why = fault.to_string();
                    self.farewell(&fault.alert().record()).await;
                    return Err(self.fail(&why));
                }
                Sniff::Hello(hello) => {
                    let mut asked = routes.asked(&hello, source);
                    preface.entry = routes.for_hello(&asked);
                    let fingerprint = asked.ja4.take().unwrap_or_else(|| ja4(&hello));
                    preface.hello = Some(Hello {
                        name: asked.name.map(|name| Box::from(&*name)),
                        alpn: asked.alpn.first().map(|alpn| Box::from(&**alpn)),
                        ja4: fingerprint.into(),
                    });
                    return Ok(true);
                }
            }
        }
    }

    /// Sends away whom no route takes, or one that refuses.
    async fn admit(&self, preface: &mut Preface<'a>) -> Result<(), Refused> {
        let why = match preface.entry {
            Some(Entry { pool: Some(_), .. }) => return Ok(()),
            Some(Entry { route, .. }) => {
                let mut refused = self.deny(&format!("route {:?} refuses", route.name));
                refused.hello = preface.hello.take();
                return Err(refused);
            }
            None if preface.hello.is_some() => {
                self.farewell(&UNRECOGNIZED_NAME).await;
                None
            }
            None => {
                if let Some(alert) = answer_to_stranger(&self.bytes) {
                    self.farewell(&alert.record()).await;
                }
                Some("not TLS".to_owned())
            }
        };
        let mut refused = self.refuse(Reason::NoRoute, why);
        refused.hello = preface.hello.take();
        Err(refused)
    }

    /// Waits for the client's first byte; a wait that is over without one goes on beside the session,
    /// since the ring may be about to end it.
    async fn first_byte(
        &self,
        silence: Duration,
    ) -> Result<Option<Pin<Box<dyn Future<Output = ()> + 'a>>>, Refused> {
        let client = self.link.client();
        let mut wait: Pin<Box<dyn Future<Output = ()> + 'a>> = Box::pin(client.readable());
        let mut sleep = pin!(monoio::time::sleep(silence));
        let heard = poll_fn(|context| {
            if wait.as_mut().poll(context).is_ready() {
                return Poll::Ready(true);
            }
            sleep.as_mut().poll(context).map(|()| false)
        });
        if heard.await {
            return self.go_on().map(|()| None);
        }
        Ok(Some(wait))
    }

    /// Waits for more and receives it; about `wanted` bytes would help.
    async fn more(&mut self, wanted: usize) -> Result<(), Refused> {
        while self.receive(wanted)? == 0 {
            self.readable().await?;
        }
        Ok(())
    }

    /// Receives what is there; 0: nothing yet.
    fn receive(&mut self, wanted: usize) -> Result<usize, Refused> {
        let scratch = &mut *self.lane.scratch.borrow_mut();
        let room = wanted.clamp(OPENING_BYTES, scratch.len());
        match receive(self.link.client().as_fd(), &mut scratch[..room]) {
            Ok(0) => {
                let mut refused = self.refuse(Reason::Eof, None);
                refused.ending.side = Side::Client;
                Err(refused)
            }
            Ok(received) => {
                self.bytes.extend_from_slice(&scratch[..received]);
                Ok(received)
            }
            Err(Errno::AGAIN) => Ok(0),
            Err(cause) => {
                self.link.lose_client(cause);
                let ending = self.link.end_if_lost();
                Err(Refused::by(
                    ending.unwrap_or(Ending::ours(Reason::Internal)),
                ))
            }
        }
    }

    async fn readable(&self) -> Result<(), Refused> {
        let left = self.until - now();
        let end = || self.link.kill(Reason::SniffTimeout);
        self.link.set_heard(true);
        ended_after(pin!(self.link.client().readable()), left, end).await;
        self.link.set_heard(false);
        self.go_on()
    }

    /// Unless the session was ended meanwhile.
    fn go_on(&self) -> Result<(), Refused> {
        match self.link.ending() {
            Some(ending) => Err(Refused::by(ending)),
            None => Ok(()),
        }
    }

    fn fail(&self, why: &str) -> Refused {
        self.refuse(Reason::TlsError, Some(why.to_owned()))
    }

    fn deny(&self, why: &str) -> Refused {
        self.refuse(Reason::Denied, Some(why.to_owned()))
    }

    fn refuse(&self, reason: Reason, why: Option<String>) -> Refused {
        Refused {
            ending: self.link.reject(reason, None),
            why,
            hello: None,
        }
    }

    /// Sends an alert and sees to it that it is read.
    async fn farewell(&self, alert: &[u8]) {
        if send(self.link.client().as_fd(), alert).is_ok() {
            farewell(self.link, Side::Client, self.lane).await;
        }
    }
}

impl Refused {
    const fn by(ending: Ending) -> Self {
        Self {
            ending,
            why: None,
            hello: None,
        }
    }
}

impl Proxied {
    /// What it said besides the addresses.
    pub fn tlvs(&self) -> Tlvs<'_> {
        Tlvs::new(&self.tlvs)
    }
}

impl Hello {
    /// The application protocol offered first, for people.
    pub fn protocol(&self) -> Option<Cow<'_, str>> {
        self.alpn.as_deref().map(String::from_utf8_lossy)
    }
}

fn is_within(settings: &ProxyReceive, source: IpAddr) -> bool {
    let source = source.to_canonical();
    settings.trusted.iter().any(|net| net.contains(&source))
}
