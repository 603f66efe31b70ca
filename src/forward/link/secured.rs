//! The TLS sessions of a link's two sides.

use std::cell::{Cell, OnceCell, RefCell};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use super::{Direction, Ending, Link};
use crate::base::reason::{Reason, Side};
use crate::io::socket::Socket;
use crate::sys::socket::{reset, send};
use crate::tls::seam::{Session, SessionFault};

/// A side's TLS session, which both directions use; never borrowed across a wait.
pub type Shared = RefCell<Box<Session>>;

/// What a link has of TLS; links without have none of it.
#[derive(Default)]
pub(super) struct Secured {
    client: OnceCell<Shared>,
    backend: OnceCell<Shared>,
    fault: OnceCell<SessionFault>,
    /// Bytes that one side had said when the stream of the other was over.
    said: Cell<u64>,
}

/// How far sending what TLS has for its peer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::forward) struct Flushed {
    /// Nothing is left.
    pub(in crate::forward) done: bool,
    /// The kernel has taken something.
    pub(in crate::forward) moved: bool,
}

/// Why plaintext does not go out.
pub(in crate::forward) enum Unsaid {
    /// TLS cannot seal it.
    Fault(SessionFault),
    /// The connection broke.
    Broken(Errno),
}

impl Link {
    /// Gives one side its TLS session; only once.
    pub(in crate::forward) fn secure(&self, side: Side, session: Box<Session>) {
        let secured = self.secured.get_or_init(Box::default);
        if let Some(place) = secured.place(side) {
            let first = place.set(RefCell::new(session)).is_ok();
            debug_assert!(first, "a side has one TLS session");
        }
    }

    /// The TLS session of one side, if it has one.
    pub fn session(&self, side: Side) -> Option<&Shared> {
        self.secured.get()?.place(side)?.get()
    }

    /// Whether one side at least has a TLS session.
    pub fn is_secured(&self) -> bool {
        self.secured.get().is_some()
    }

    /// What went wrong in TLS, if that ended the session.
    pub fn fault(&self) -> Option<&SessionFault> {
        self.secured.get()?.fault.get()
    }

    /// The connection of one side, if there is one.
    pub(in crate::forward) fn socket(&self, side: Side) -> Option<&Socket> {
        match side {
            Side::Client => Some(&self.client),
            Side::Backend => self.backend(),
            Side::Us => None,
        }
    }

    /// Seals `plain` for one side, which speaks TLS, and sends it as far as the kernel takes it; whether
    /// it took something.
    pub(in crate::forward) fn seal(
        &self,
        side: Side,
        plain: &[u8],
        scratch: &mut [u8],
    ) -> Result<bool, Unsaid> {
        let (Some(session), Some(socket)) = (self.session(side), self.socket(side)) else {
            return Ok(false);
        };
        let mut sink = Sink::new(socket.as_fd());
        let moved = session.borrow_mut().encrypt(plain, scratch, &mut sink);
        let moved = moved.map_err(Unsaid::Fault)?;
        match sink.broken {
            Some(cause) => Err(Unsaid::Broken(cause)),
            None => Ok(moved),
        }
    }

    /// Sends what TLS has for its peer, as far as the kernel takes it.
    pub(in crate::forward) fn flush(&self, side: Side) -> Result<Flushed, Errno> {
        let (mut done, mut moved) = (true, false);
        let (Some(session), Some(socket)) = (self.session(side), self.socket(side)) else {
            return Ok(Flushed { done, moved });
        };
        let mut session = session.borrow_mut();
        while session.wants_write() {
            match session.write_into(&mut Sink::new(socket.as_fd())) {
                Ok(_) => moved = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    done = false;
                    break;
                }
                Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            }
        }
        Ok(Flushed { done, moved })
    }

    /// TLS with one side has failed. The other side is reset, so that it cannot take what it got for
    /// the whole; the one that is to blame can still be told why.
    pub(in crate::forward) fn refuse(&self, reason: Reason, side: Side, fault: SessionFault) {
        self.note_fault(reason, side, fault);
        match side {
            Side::Client => self.reset_backend(),
            Side::Backend => reset(self.client.as_fd()),
            Side::Us => self.reset_all(),
        }
    }

    /// TLS with one side has failed, and nobody is to be told more than a reset says.
    pub(in crate::forward) fn abort(&self, reason: Reason, side: Side, fault: SessionFault) {
        self.note_fault(reason, side, fault);
        self.reset_all();
    }

    /// A side to which all has been said has left without a word. The session ends as it would have, but
    /// the other side must not take what it got for the whole. The one that leaves is not reset: some of
    /// what was said to it may still be on its way.
    pub(in crate::forward) fn part(&self, side: Side) {
        match side {
            Side::Client => self.reset_backend(),
            Side::Backend => reset(self.client.as_fd()),
            Side::Us => {}
        }
    }

    /// Notes what the destination of a stream that is over has said until now.
    pub(super) fn note_said(&self, direction: Direction) {
        if let Some(secured) = self.secured.get() {
            secured.said.set(self.bytes(direction.reverse()));
        }
    }

    /// Whether the source of a stream has said anything since it was told the end of the other one.
    pub(in crate::forward) fn has_said_more(&self, direction: Direction) -> bool {
        let secured = self.secured.get();
        secured.is_some_and(|secured| secured.said.get() < self.bytes(direction))
    }

    fn note_fault(&self, reason: Reason, side: Side, fault: SessionFault) {
        if self.has_ended_early() {
            return;
        }
        self.note(Ending {
            reason,
            side,
            cause: None,
        });
        if let Some(secured) = self.secured.get() {
            // The first fault is the one that ended the session.
            let _ = secured.fault.set(fault);
        }
    }

    /// Announces the end to each side that speaks TLS: without a close_notify what it got would pass
    /// for cut off. Where its socket has no room it is cut off.
    pub(super) fn take_leave(&self) {
        for side in [Side::Client, Side::Backend] {
            if let Some(session) = self.session(side) {
                session.borrow_mut().close();
                // One that is broken cannot be told anything.
                let _ = self.flush(side);
            }
        }
    }
}

impl Secured {
    const fn place(&self, side: Side) -> Option<&OnceCell<Shared>> {
        match side {
            Side::Client => Some(&self.client),
            Side::Backend => Some(&self.backend),
            Side::Us => None,
        }
    }
}

/// A socket as TLS writes to it.
struct Sink<'a> {
    socket: BorrowedFd<'a>,
    /// What broke it, which the kernel tells only once: every later write just finds it broken.
    broken: Option<Errno>,
}

impl<'a> Sink<'a> {
    const fn new(socket: BorrowedFd<'a>) -> Self {
        Self {
            socket,
            broken: None,
        }
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = send(self.socket, bytes);
        self.broken = sent.err().filter(|&cause| cause != Errno::AGAIN);
        Ok(sent?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
