//! The two connections of a session, and what their relay has come to so far.
//!
//! The session's own task moves the bytes; the worker's tick calls [`Link::check`] now and then, and
//! ends what has been silent or alive for too long. Both run on one thread.

mod limits;
mod look;
pub(in crate::forward) mod metered;
mod parting;
mod progress;
pub mod secured;

use std::cell::{Cell, OnceCell};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;

pub use self::limits::Limits;
use self::limits::Packed;
use self::metered::Metered;
use self::parting::Parting;
pub use self::parting::room;
use self::secured::Secured;
use crate::backend::Beginning;
use crate::base::clock::Instant;
use crate::base::reason::{Reason, Side};
use crate::io::socket::Socket;
use crate::io::wheel::Key;
use crate::sys::socket::reset;

/// How often a session is looked at in which a side could break unnoticed.
pub const BLIND_INTERVAL: Duration = Duration::from_millis(250);

/// A session that has its backend for so long is a long one; most are over by then.
pub const LONG: Duration = Duration::from_secs(5);

/// A session that moved bytes so lately is in the middle of something.
const FLOWING: Duration = Duration::from_millis(100);

/// One way through the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the backend.
    Up,
    /// From the backend to the client.
    Down,
}

impl Direction {
    /// The other way.
    pub const fn reverse(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// As one word.
    pub reason: Reason,
    /// Who ended it; of two sides that finished, the first.
    pub side: Side,
    /// What the kernel said, if that was it.
    pub cause: Option<Errno>,
}

impl Ending {
    /// An end that ringlane has decided on.
    pub const fn ours(reason: Reason) -> Self {
        Self {
            reason,
            side: Side::Us,
            cause: None,
        }
    }
}

/// A session's connections, stamps and counts.
pub struct Link {
    client: Socket,
    /// A connect under way, so that the session's end can cut it short.
    dialling: Cell<Option<Rc<Socket>>>,
    backend: OnceCell<Socket>,
    secured: OnceCell<Box<Secured>>,
    metered: OnceCell<Box<Metered>>,
    /// Until it has succeeded or failed; only where the pool goes by that.
    beginning: Cell<Option<Beginning>>,
    limits: Packed,
    connected: Cell<Instant>,
    first_byte: Cell<Option<Instant>>,
    /// The coarse time of the last byte either way.
    active: Cell<Instant>,
    up: Progress,
    down: Progress,
    ending: Cell<Option<Ending>>,
    probed: Cell<bool>,
    /// Somebody waits for the client to say something, and finds out if it breaks.
    heard: Cell<bool>,
    lost: Cell<Option<Errno>>,
    key: Cell<Option<Key>>,
    parting: Parting,
}

#[derive(Default)]
struct Progress {
    /// Bytes delivered.
    bytes: Cell<u64>,
    /// The source has ended, and all its bytes are delivered.
    finished: Cell<bool>,
    /// Bytes wait for room at the destination, and nobody reads the source.
    stalled: Cell<bool>,
    /// Bytes that were received and not sent yet; empty but where the destination is full.
    unsent: Cell<Box<[u8]>>,
}

impl Link {
    /// A session that has only a client yet.
    pub fn new(client: Socket, limits: Limits, opened: Instant) -> Self {
        Self {
            client,
            dialling: Cell::new(None),
            backend: OnceCell::new(),
            secured: OnceCell::new(),
            metered: OnceCell::new(),
            beginning: Cell::new(None),
            limits: Packed::new(&limits),
            connected: Cell::new(opened),
            first_byte: Cell::new(None),
            active: Cell::new(opened),
            up: Progress::default(),
            down: Progress::default(),
            ending: Cell::new(None),
            probed: Cell::new(false),
            heard: Cell::new(false),
            lost: Cell::new(None),
            key: Cell::new(None),
            parting: Parting::default(),
        }
    }

    /// Notes a connect under way, or that there is none.
    pub fn set_dialling(&self, socket: Option<Rc<Socket>>) {
        self.dialling.set(socket);
    }

    /// Gives the session its backend; only once.
    pub fn connect(&self, backend: Socket, now: Instant) {
        self.connected.set(now);
        self.active.set(now);
        let first = self.backend.set(backend).is_ok();
        debug_assert!(first, "a session has one backend");
    }

    /// Notes that somebody waits for the client to say something, or does not any more.
    pub(in crate::forward) fn set_heard(&self, heard: bool) {
        self.heard.set(heard);
    }

    /// The client's connection.
    pub const fn client(&self) -> &Socket {
        &self.client
    }

    /// The backend's connection, once there is one.
    pub fn backend(&self) -> Option<&Socket> {
        self.backend.get()
    }

    /// Bytes delivered so far.
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.progress(direction).bytes.get()
    }

    /// When the backend's first byte was delivered.
    pub fn first_byte(&self) -> Option<Instant> {
        self.first_byte.get()
    }

    /// When the backend's connection was there.
    pub fn connected(&self) -> Instant {
        self.connected.get()
    }

    /// The session's place in the worker's timer wheel.
    pub fn key(&self) -> Option<Key> {
        self.key.get()
    }

    /// Notes the session's place in the worker's timer wheel.
    pub fn set_key(&self, key: Key) {
        self.key.set(Some(key));
    }

    /// Counts no silence for so long until `now`: the worker was held up, so nobody could be heard, and
    /// bytes that moved since then have a stamp from before.
    pub fn excuse(&self, held_up: Duration, now: Instant) {
        self.active.set((self.active.get() + held_up).min(now));
    }

    /// How the session ended, once both directions are over.
    pub fn ending(&self) -> Option<Ending> {
        self.ending.get()
    }

    /// Ends the session from outside its task: `reason` is noted, and both sides are reset.
    pub fn kill(&self, reason: Reason) {
        self.note(Ending::ours(reason));
        self.reset_all();
    }

    /// Ends a session that got no backend: the client is told by a reset that nobody served it.
    pub fn reject(&self, reason: Reason, cause: Option<Errno>) -> Ending {
        let rejected = Ending {
            cause,
            ..Ending::ours(reason)
        };
        self.note(rejected);
        self.reset_all();
        self.ending().unwrap_or(rejected)
    }

    /// Ends a session whose client's connection somebody else sees to.
    pub fn dismiss(&self, reason: Reason) -> Ending {
        let dismissed = Ending::ours(reason);
        self.note(dismissed);
        self.ending().unwrap_or(dismissed)
    }

    /// Notes that the client broke before its relay began: the kernel says so only once.
    pub fn lose_client(&self, cause: Errno) {
        self.lost.set(Some(cause));
    }

    /// Ends a session whose client was lost; a backend that it has got meanwhile is told by a reset.
    pub fn end_if_lost(&self) -> Option<Ending> {
        self.broken(Side::Client, self.lost.get()?);
        self.ending()
    }

    fn note(&self, ending: Ending) {
        // The end of the streams is what is left when nothing else has ended the session.
        if self
            .ending
            .get()
            .is_none_or(|noted| noted.reason == Reason::Eof)
        {
            self.ending.set(Some(ending));
            // A client that has finished may not be owed anything any more.
            if ending.side == Side::Backend && !self.up.finished.get() {
                self.begin_badly();
            }
        }
    }

    fn reset_all(&self) {
        reset(self.client.as_fd());
        self.reset_backend();
    }

    fn reset_backend(&self) {
        let dialling = self.dialling.take();
        if let Some(dialling) = &dialling {
            reset(dialling.as_fd());
        }
        self.dialling.set(dialling);
        if let Some(backend) = self.backend() {
            reset(backend.as_fd());
        }
    }

    fn progress(&self, direction: Direction) -> &Progress {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }
}

/// The word for a side that was reset or broke.
const fn broken_side(side: Side) -> Reason {
    match side {
        Side::Client => Reason::ClientReset,
        Side::Backend => Reason::BackendReset,
        Side::Us => Reason::Internal,
    }
}
