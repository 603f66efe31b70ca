//! A worker that serves the sessions it is given, as `worker::session` does once a route is found.

use std::cell::RefCell;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};
use ringlane::base::clock::now;
use ringlane::base::reason::{Reason, Side};
use ringlane::config::model::Relay;
use ringlane::forward::link::{BLIND_INTERVAL, Direction, Ending, Limits, Link};
use ringlane::forward::relay::Loan;
use ringlane::forward::secure::{Hello, handshake, relay_secured};
use ringlane::io::lane::Lane;
use ringlane::io::socket::Socket;
use ringlane::io::turns::Turns;
use ringlane::io::wheel::Wheel;
use ringlane::metrics::Registry;
use ringlane::sys::socket::{receive, reset};
use ringlane::tls::seam::Session;
use ringlane::tls::{ClientConfig, ServerConfig};

use crate::settings::name;

/// How long anything may take here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const TICK: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    Ring,
    Epoll,
}

pub(crate) const DRIVERS: [Driver; 2] = [Driver::Ring, Driver::Epoll];

/// A session to be served.
pub(crate) struct Cast {
    pub(crate) client: OwnedFd,
    pub(crate) backend: OwnedFd,
    /// TLS ends here for the client.
    pub(crate) terminate: Option<Arc<ServerConfig>>,
    /// TLS begins here for the backend.
    pub(crate) originate: Option<Arc<ClientConfig>>,
    pub(crate) handshake: Duration,
    pub(crate) limits: Limits,
    /// What is read of the client before its handshake begins, as for routing by name.
    pub(crate) sniffed: usize,
}

pub(crate) const LIMITS: Limits = Limits {
    idle: Duration::from_secs(60),
    half_closed: Duration::from_secs(60),
    first_byte: None,
    lifetime_end: None,
    keepalive: None,
};

impl Cast {
    /// A session between plain sides without haste.
    pub(crate) fn between(client: OwnedFd, backend: OwnedFd) -> Self {
        Self {
            client,
            backend,
            terminate: None,
            originate: None,
            handshake: PATIENCE,
            limits: LIMITS,
            sniffed: 0,
        }
    }
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) ending: Ending,
    pub(crate) up: u64,
    pub(crate) down: u64,
    pub(crate) fault: Option<String>,
}

enum Job {
    Serve(Box<Cast>, Sender<Played>),
    /// As at the end of a drain.
    KillAll,
}

/// A worker's thread; ends when dropped and idle.
pub(crate) struct Worker(Sender<Job>);

impl Worker {
    pub(crate) fn start(driver: Driver) -> Self {
        let (jobs, inbox) = channel();
        thread::spawn(move || match driver {
            Driver::Ring => {
                let mut ring = io_uring::IoUring::builder();
                ring.setup_single_issuer().setup_defer_taskrun();
                RuntimeBuilder::<IoUringDriver>::new()
                    .uring_builder(ring)
                    .enable_timer()
                    .build()
                    .unwrap()
                    .block_on(work(None, inbox));
            }
            Driver::Epoll => {
                RuntimeBuilder::<LegacyDriver>::new()
                    .enable_timer()
                    .build()
                    .unwrap()
                    .block_on(work(Some(Turns::new().unwrap()), inbox));
            }
        });
        Self(jobs)
    }

    /// Serves a session; what is received tells how it ended.
    pub(crate) fn serve(&self, cast: Cast) -> Receiver<Played> {
        let (done, played) = channel();
        self.0.send(Job::Serve(Box::new(cast), done)).unwrap();
        played
    }

    pub(crate) fn kill_all(&self) {
        self.0.send(Job::KillAll).unwrap();
    }
}

/// The two ends of a connection: a peer's, and ringlane's.
pub(crate) fn connection() -> (TcpStream, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    connection_to(&listener, || {
        TcpStream::connect(listener.local_addr().unwrap()).unwrap()
    })
}

pub(crate) fn connection_to(
    listener: &TcpListener,
    connect: impl FnOnce() -> TcpStream,
) -> (TcpStream, OwnedFd) {
    let theirs = connect();
    theirs.set_nodelay(true).unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    let ours = listener.accept().unwrap().0;
    ours.set_nodelay(true).unwrap();
    ours.set_nonblocking(true).unwrap();
    (theirs, ours.into())
}

struct Stage {
    lane: Lane,
    sessions: RefCell<Wheel<Rc<Link>>>,
    registry: Registry,
}

async fn work(turns: Option<Turns>, inbox: Receiver<Job>) {
    let stage = Rc::new(Stage {
        lane: Lane::new(1, turns, now()),
        sessions: RefCell::new(Wheel::new(now())),
        registry: Registry::new(1),
    });
    let turning = Rc::clone(&stage);
    monoio::spawn(async move {
        if let Some(turns) = &turning.lane.turns {
            turns.run().await.unwrap();
        }
    });
    loop {
        monoio::time::sleep(TICK).await;
        let time = now();
        stage.lane.time.set(time);
        stage
            .sessions
            .borrow_mut()
            .advance(time, usize::MAX, |link| link.check(time));
        loop {
            match inbox.try_recv() {
                Ok(Job::Serve(cast, done)) => {
                    drop(monoio::spawn(perform(Rc::clone(&stage), *cast, done)));
                }
                Ok(Job::KillAll) => {
                    for link in stage.sessions.borrow().values() {
                        link.kill(Reason::Drain);
                    }
                }
                Err(TryRecvError::Disconnected) if stage.sessions.borrow().is_empty() => return,
                Err(_) => break,
            }
        }
    }
}

async fn perform(stage: Rc<Stage>, cast: Cast, done: Sender<Played>) {
    let Cast {
        client,
        backend,
        limits,
        ..
    } = cast;
    let opened = now();
    let link = Rc::new(Link::new(Socket::new(client).unwrap(), limits, opened));
    let key = stage
        .sessions
        .borrow_mut()
        .insert(opened + BLIND_INTERVAL, Rc::clone(&link));
    link.set_key(key);
    let terms = Terms {
        terminate: cast.terminate,
        originate: cast.originate,
        handshake: cast.handshake,
        sniffed: cast.sniffed,
    };
    let played = serve(&stage, &link, backend, terms);
    let played: Pin<Box<dyn Future<Output = Ending>>> = Box::pin(played);
    let ending = played.await;
    stage.sessions.borrow_mut().remove(key);
    let played = Played {
        ending,
        up: link.bytes(Direction::Up),
        down: link.bytes(Direction::Down),
        fault: link.fault().map(ToString::to_string),
    };
    drop(link);
    // Not every test asks.
    let _ = done.send(played);
}

struct Terms {
    terminate: Option<Arc<ServerConfig>>,
    originate: Option<Arc<ClientConfig>>,
    handshake: Duration,
    sniffed: usize,
}

async fn serve(stage: &Stage, link: &Link, backend: OwnedFd, terms: Terms) -> Ending {
    let listener = stage.registry.listener(&"front".into());
    let loan = Loan {
        lane: &stage.lane,
        sessions: &stage.sessions,
        listener: listener.worker(0),
        worker: stage.registry.worker(0),
        mode: Relay::Auto,
    };
    if let Some(config) = &terms.terminate {
        let mut received = vec![0; terms.sniffed];
        if !received.is_empty() {
            link.client().readable().await;
            let bytes = receive(link.client().as_fd(), &mut received).unwrap_or(0);
            received.truncate(bytes);
        }
        let hello = Hello {
            side: Side::Client,
            received: received.into(),
            limit: terms.handshake,
        };
        let session = Box::new(Session::server(config).unwrap());
        match handshake(link, session, hello, &loan).await {
            Ok(said) => link.set_unsent(Direction::Up, &said),
            Err(ending) => {
                // It would not have been connected at all; to its peer that is a reset.
                reset(backend.as_fd());
                return ending;
            }
        }
    }
    link.connect(Socket::new(backend).unwrap(), now());
    if let Some(config) = &terms.originate {
        let hello = Hello {
            side: Side::Backend,
            received: Box::default(),
            limit: terms.handshake,
        };
        let session = Box::new(Session::client(config, name()).unwrap());
        match handshake(link, session, hello, &loan).await {
            Ok(said) => link.set_unsent(Direction::Down, &said),
            Err(ending) => return ending,
        }
    }
    match link.backend() {
        Some(backend) => relay_secured(link, backend, &loan).await,
        None => Ending::ours(Reason::Internal),
    }
}
