//! One side's TLS handshake.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::pin::pin;
use std::time::Duration;

use rustix::io::Errno;

use super::farewell::farewell;
use crate::base::reason::{Reason, Side};
use crate::forward::link::secured::Shared;
use crate::forward::link::{BLIND_INTERVAL, Direction, Ending, Link};
use crate::forward::relay::Loan;
use crate::io::deadline::ended_after;
use crate::io::socket::Socket;
use crate::sys::socket::{receive, reset, send_promptly};
use crate::tls::seam::{Session, SessionFault};

/// Whom to shake hands with.
pub struct Hello {
    /// The side, which must be connected.
    pub side: Side,
    /// What it has said already.
    pub received: Box<[u8]>,
    /// How long it may take.
    pub limit: Duration,
}

/// Why a handshake came to nothing.
enum Failure {
    /// The peer ended its stream.
    Left,
    /// The connection broke.
    Broken(Errno),
    /// TLS itself.
    Fault(SessionFault),
}

/// Shakes hands with one side, and leaves the session with the link; returns what the side has said
/// right after the handshake, in plaintext.
///
/// The end of the link's session, whoever brings it about, cuts it short.
///
/// # Errors
/// How the link's session has ended. By then a peer that was refused has been told why, and the other
/// side is reset.
pub async fn handshake(
    link: &Link,
    session: Box<Session>,
    hello: Hello,
    loan: &Loan<'_>,
) -> Result<Box<[u8]>, Ending> {
    let Hello {
        side,
        received,
        limit,
    } = hello;
    link.secure(side, session);
    let internal = Ending::ours(Reason::Internal);
    let (Some(socket), Some(session)) = (link.socket(side), link.session(side)) else {
        return Err(internal);
    };
    let attempt = Attempt {
        link,
        side,
        socket,
        session,
        loan,
    };
    let timed_out = Cell::new(false);
    let end = || {
        timed_out.set(true);
        reset(socket.as_fd());
    };
    attempt.begin();
    let outcome = ended_after(pin!(attempt.drive(received)), limit, end).await;
    attempt.end();
    match outcome {
        Ok(said) if link.ending().is_none() && !timed_out.get() => return Ok(said),
        // Somebody else has ended the session, and both sides know.
        _ if link.ending().is_some() => {}
        _ if timed_out.get() => link.abort(Reason::TlsError, side, SessionFault::TimedOut),
        Ok(_) => {}
        Err(failure) => Box::pin(attempt.fail(failure)).await,
    }
    Err(link.ending().unwrap_or(internal))
}

struct Attempt<'a> {
    link: &'a Link,
    side: Side,
    socket: &'a Socket,
    session: &'a Shared,
    loan: &'a Loan<'a>,
}

impl Attempt<'_> {
    fn begin(&self) {
        if self.side == Side::Backend {
            // Our last flight is small, and so is the first request right behind it.
            send_promptly(self.socket.as_fd());
            // Nobody reads the client meanwhile.
            self.link.set_stalled(Direction::Up, true);
            if let Some(key) = self.link.key() {
                let soon = self.loan.lane.time.get() + BLIND_INTERVAL;
                self.loan.sessions.borrow_mut().hasten(key, soon);
            }
        } else {
            self.link.set_heard(true);
        }
    }

    fn end(&self) {
        if self.side == Side::Backend {
            self.link.set_stalled(Direction::Up, false);
        } else {
            self.link.set_heard(false);
        }
    }

    /// Goes on until both sides have all they need, or one cannot go on.
    async fn drive(&self, mut received: Box<[u8]>) -> Result<Box<[u8]>, Failure> {
        let mut said = self.take_in(&mut received)?;
        drop(received);
        loop {
            if !self.link.flush(self.side).map_err(Failure::Broken)?.done {
                self.socket.writable().await;
                continue;
            }
            if !self.session.borrow().is_handshaking() {
                return Ok(said);
            }
            self.socket.readable().await;
            said = self.receive()?;
        }
    }

    /// Takes in what is there; the first plaintext comes with the end of the handshake.
    fn receive(&self) -> Result<Box<[u8]>, Failure> {
        let buffer = &mut *self.loan.lane.secured.borrow_mut();
        match receive(self.socket.as_fd(), buffer) {
            Ok(0) => Err(Failure::Left),
            Ok(received) => self.take_in(buffer.get_mut(..received).unwrap_or_default()),
            Err(Errno::AGAIN) => Ok(Box::default()),
            Err(cause) => Err(Failure::Broken(cause)),
        }
    }

    fn take_in(&self, received: &mut [u8]) -> Result<Box<[u8]>, Failure> {
        let plain = &mut *self.loan.lane.plain.borrow_mut();
        plain.clear();
        let decrypted = self.session.borrow_mut().decrypt(received, plain);
        decrypted.map_err(Failure::Fault)?;
        Ok(plain.as_slice().into())
    }

    async fn fail(&self, failure: Failure) {
        let (link, side) = (self.link, self.side);
        match failure {
            Failure::Broken(cause) => link.broken(side, cause),
            Failure::Left => link.abort(Reason::TlsError, side, SessionFault::Truncated),
            Failure::Fault(fault) => {
                // A bad record may come right behind a good handshake.
                let reason = if self.session.borrow().is_handshaking() {
                    Reason::TlsError
                } else {
                    Reason::TlsFault
                };
                link.refuse(reason, side, fault);
                farewell(link, side, self.loan.lane).await;
            }
        }
    }
}
