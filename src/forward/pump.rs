//! One direction of a relay: copied while messages are small, spliced while there is bulk.
//!
//! The ring tells when, direct calls move the bytes. A direction that waits owns nothing, unless its
//! destination is full: then it owns the rest of one read, or one pipe.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;

use super::link::metered::Grant;
use super::link::{BLIND_INTERVAL, Direction, Link};
use super::relay::Loan;
use super::toll::Toll;
use crate::base::limits::{PIPE_BYTES, TURN_BYTES};
use crate::base::reason::Side;
use crate::config::model::Relay;
use crate::io::pipes::PipeLoan;
use crate::io::socket::Socket;
use crate::sys::socket::{receive, send, send_promptly};

/// Splices below this many bytes are not worth their two calls.
const SMALL_SPLICE: usize = 16 * 1024;

/// So many small splices in a row turn a direction back to copying.
const SMALL_SPLICES_MAX: u32 = 3;

pub(super) struct Pump<'a> {
    pub(super) link: &'a Link,
    backend: &'a Socket,
    pub(super) loan: &'a Loan<'a>,
    pub(super) direction: Direction,
    hurried: Cell<bool>,
    pub(super) toll: Toll,
}

/// A side broke.
pub(super) struct Broken {
    pub(super) side: Side,
    pub(super) cause: Errno,
}

/// Why copying stopped.
enum Copied {
    /// Nothing more is there at the moment.
    Dry,
    /// A read filled the buffer.
    Bulk,
    /// Enough for one turn.
    Turn,
    /// The destination is full, and the link keeps the rest.
    Stalled,
    /// The client's source has moved what it may for now.
    Held(Duration),
    /// The source has ended.
    End,
}

/// Why splicing stopped.
enum Spliced {
    /// Messages have become small, no pipe is to be had, or the pipe saw nothing.
    Small,
    /// The kernel cannot splice these sockets.
    Unable,
    /// The source has ended.
    End,
}

impl<'a> Pump<'a> {
    pub(super) const fn new(
        link: &'a Link,
        backend: &'a Socket,
        loan: &'a Loan<'a>,
        direction: Direction,
    ) -> Self {
        Self {
            link,
            backend,
            loan,
            direction,
            hurried: Cell::new(matches!(direction, Direction::Down)),
            toll: Toll::Due,
        }
    }

    /// Moves bytes until the source ends or a side breaks, and tells the other side.
    pub(super) async fn run(&self) {
        match self.move_all().await {
            Ok(()) => {
                self.link.finished(self.direction);
                self.look_soon();
            }
            Err(broken) => {
                if broken.side == self.destination() {
                    self.rescue();
                }
                self.link.broken(broken.side, broken.cause);
            }
        }
    }

    /// Delivers what the destination had said before it broke: a server that refuses a long request
    /// answers, closes and resets, and the answer must not be lost with the request.
    fn rescue(&self) {
        let back = self.reversed();
        if !self.link.is_engaged(back.direction) && !self.link.has_unsent(back.direction) {
            // However far it comes, the connection is broken.
            let _ = back.copy(Relay::Copy);
        }
    }

    /// What moves the other direction.
    pub(super) fn reversed(&self) -> Self {
        Self {
            direction: self.direction.reverse(),
            hurried: Cell::new(true),
            toll: Toll::Waived,
            ..*self
        }
    }

    async fn move_all(&self) -> Result<(), Broken> {
        let mut mode = self.loan.mode;
        if self.link.has_unsent(self.direction) {
            // Of a long opening, or of one to a backend that was slow to answer.
            Box::pin(self.flush()).await?;
        }
        // What the client had said is on its way, and the backend mostly waits for it.
        self.from().readable().await;
        loop {
            let bulk = match mode {
                Relay::Splice => true,
                Relay::Auto | Relay::Copy => match self.copy(mode)? {
                    Copied::Bulk => true,
                    Copied::Stalled => {
                        // Idle sessions are many: the memory of the busy states is not theirs.
                        Box::pin(self.flush()).await?;
                        continue;
                    }
                    Copied::Held(wait) => {
                        Box::pin(self.hold(wait)).await?;
                        continue;
                    }
                    Copied::End => return Ok(()),
                    Copied::Turn => {
                        self.loan.lane.end_turn().await;
                        false
                    }
                    Copied::Dry => false,
                },
            };
            if bulk {
                match Box::pin(self.splice(mode)).await? {
                    Spliced::End => return Ok(()),
                    Spliced::Unable => mode = Relay::Copy,
                    Spliced::Small => {}
                }
            } else {
                self.from().readable().await;
            }
        }
    }

    /// Copies through the worker's buffer until something stops it.
    fn copy(&self, mode: Relay) -> Result<Copied, Broken> {
        let scratch = &mut *self.loan.lane.scratch.borrow_mut();
        let mut moved = 0;
        while moved < TURN_BYTES {
            let room = match self.grant(scratch.len()) {
                Grant::Bytes(room) => room,
                Grant::Wait(wait) => return Ok(Copied::Held(wait)),
            };
            let received = receive(self.from().as_fd(), &mut scratch[..room]);
            self.give_back(room - received.unwrap_or(0));
            let received = match received {
                Ok(0) => return Ok(Copied::End),
                Ok(received) => received,
                Err(Errno::AGAIN) => return Ok(Copied::Dry),
                Err(cause) => return Err(self.source_broke(cause)),
            };
            self.hurry();
            let rest = self.send(&scratch[..received])?;
            if !rest.is_empty() {
                self.link.set_unsent(self.direction, rest);
                return Ok(Copied::Stalled);
            }
            if received < room {
                // The poll is level-triggered: what came meanwhile completes it at once, and the
                // call that would say EAGAIN is saved.
                return Ok(Copied::Dry);
            }
            if mode == Relay::Auto && received == scratch.len() {
                return Ok(Copied::Bulk);
            }
            moved += received;
        }
        Ok(Copied::Turn)
    }

    /// Has the backend get small messages at once, from the second on: the first never waits, and a
    /// connection with a single request saves the call. The client's socket has it from its listener.
    pub(super) fn hurry(&self) {
        if !self.hurried.get() && self.link.bytes(self.direction) > 0 {
            self.hurried.set(true);
            send_promptly(self.to().as_fd());
        }
    }

    /// Sends until all is sent or the destination is full; returns the rest.
    pub(super) fn send<'b>(&self, mut bytes: &'b [u8]) -> Result<&'b [u8], Broken> {
        while !bytes.is_empty() {
            match send(self.to().as_fd(), bytes) {
                Ok(sent) => {
                    self.delivered(sent);
                    bytes = bytes.get(sent..).unwrap_or_default();
                }
                Err(Errno::AGAIN) => break,
                Err(cause) => return Err(self.destination_broke(cause)),
            }
        }
        Ok(bytes)
    }

    /// Sends what the destination had no room for.
    pub(super) async fn flush(&self) -> Result<(), Broken> {
        let rest = self.link.take_unsent(self.direction);
        let mut unsent = &*rest;
        self.hurry();
        while !unsent.is_empty() {
            self.room().await;
            unsent = self.send(unsent)?;
        }
        Ok(())
    }

    /// Splices until the source ends or the messages become small.
    async fn splice(&self, mode: Relay) -> Result<Spliced, Broken> {
        let mut small = 0;
        loop {
            let Some(mut pipe) = self.loan.lane.pipes.borrow() else {
                self.loan.worker.pipes_refused.inc();
                return self.copy_instead().await;
            };
            let (mut moved, mut wait) = (0, None);
            while moved < TURN_BYTES {
                let room = match self.grant(PIPE_BYTES) {
                    Grant::Bytes(room) => room,
                    Grant::Wait(time) => {
                        wait = Some(time);
                        break;
                    }
                };
                let filled = pipe.fill(self.from().as_fd(), room);
                self.give_back(room.saturating_sub(filled.unwrap_or(0)));
                let filled = match filled {
                    // The end of the stream, or urgent data, before which splice(2) stops likewise:
                    // a copy tells which, and gets past it.
                    Ok(0) => {
                        drop(pipe);
                        return self.copy_instead().await;
                    }
                    Ok(filled) => filled,
                    // Every fill is drained at once, so the pipe is empty: it is the source.
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INVAL) => return Ok(Spliced::Unable),
                    Err(cause) => return Err(self.source_broke(cause)),
                };
                self.hurry();
                self.drain(&mut pipe).await?;
                moved += filled;
                small = if filled < SMALL_SPLICE { small + 1 } else { 0 };
            }
            drop(pipe);
            if moved >= TURN_BYTES {
                self.loan.lane.end_turn().await;
            }
            if mode == Relay::Auto && small >= SMALL_SPLICES_MAX {
                return Ok(Spliced::Small);
            }
            match wait {
                Some(wait) => self.hold(wait).await?,
                None => self.from().readable().await,
            }
        }
    }

    /// One turn of copying where splicing does not go on.
    async fn copy_instead(&self) -> Result<Spliced, Broken> {
        match self.copy(Relay::Copy)? {
            Copied::End => return Ok(Spliced::End),
            Copied::Stalled => self.flush().await?,
            Copied::Held(wait) => self.hold(wait).await?,
            Copied::Turn => self.loan.lane.end_turn().await,
            Copied::Dry | Copied::Bulk => self.from().readable().await,
        }
        Ok(Spliced::Small)
    }

    async fn drain(&self, pipe: &mut PipeLoan<'_>) -> Result<(), Broken> {
        while pipe.held() > 0 {
            match pipe.drain(self.to().as_fd()) {
                Ok(moved) => self.delivered(moved),
                Err(Errno::AGAIN) => self.room().await,
                Err(cause) => return Err(self.destination_broke(cause)),
            }
        }
        Ok(())
    }

    /// Waits until the destination has room; nobody reads the source meanwhile.
    async fn room(&self) {
        self.link.set_stalled(self.direction, true);
        self.look_soon();
        self.to().writable().await;
        self.link.set_stalled(self.direction, false);
    }

    /// Has the worker's tick look whether a side broke that nobody reads any more.
    pub(super) fn look_soon(&self) {
        if let Some(key) = self.link.key() {
            let soon = self.loan.lane.time.get() + BLIND_INTERVAL;
            self.loan.sessions.borrow_mut().hasten(key, soon);
        }
    }

    pub(super) fn delivered(&self, bytes: usize) {
        self.loan.delivered(self.link, self.direction, bytes);
    }

    pub(super) const fn from(&self) -> &'a Socket {
        match self.direction {
            Direction::Up => self.link.client(),
            Direction::Down => self.backend,
        }
    }

    pub(super) const fn to(&self) -> &'a Socket {
        match self.direction {
            Direction::Up => self.backend,
            Direction::Down => self.link.client(),
        }
    }

    pub(super) const fn source_broke(&self, cause: Errno) -> Broken {
        Broken {
            side: self.source(),
            cause,
        }
    }

    pub(super) const fn destination_broke(&self, cause: Errno) -> Broken {
        Broken {
            side: self.destination(),
            cause,
        }
    }

    pub(super) const fn source(&self) -> Side {
        match self.direction {
            Direction::Up => Side::Client,
            Direction::Down => Side::Backend,
        }
    }

    pub(super) const fn destination(&self) -> Side {
        match self.direction {
            Direction::Up => Side::Backend,
            Direction::Down => Side::Client,
        }
    }
}
