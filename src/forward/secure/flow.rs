//! One direction of a relay in which a side speaks TLS.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;

use super::farewell::farewell;
use crate::base::limits::TURN_BYTES;
use crate::base::reason::{Reason, Side};
use crate::forward::link::metered::Grant;
use crate::forward::link::secured::{Shared, Unsaid};
use crate::forward::pump::{Broken, Pump};
use crate::io::socket::Socket;
use crate::sys::socket::receive;
use crate::tls::seam::SessionFault;

pub(super) struct Flow<'a> {
    /// What a plain direction does, for the plain side of this one.
    pump: Pump<'a>,
    /// The TLS of the side that the bytes come from.
    source: Option<&'a Shared>,
    /// The TLS of the side that they go to.
    destination: Option<&'a Shared>,
    /// Plaintext whose ciphertext is not wholly with the destination's kernel yet, bytes.
    sealed: Cell<usize>,
}

/// What cuts a stream short.
enum Cut {
    /// A side's connection broke.
    Broken(Broken),
    /// A side's TLS cannot go on.
    Fault(Side, SessionFault),
}

/// Why a direction stopped moving bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// Nothing more is there at the moment.
    Dry,
    /// Enough for one turn.
    Turn,
    /// A socket is full, and something waits for room in it.
    Stalled,
    /// The client's source has moved what it may for now.
    Held(Duration),
    /// The source has ended.
    End,
}

impl From<Broken> for Cut {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl<'a> Flow<'a> {
    pub(super) fn new(pump: Pump<'a>) -> Self {
        Self {
            source: pump.link.session(pump.source()),
            destination: pump.link.session(pump.destination()),
            sealed: Cell::new(0),
            pump,
        }
    }

    /// Moves bytes until the source ends or something breaks, and tells the other side.
    pub(super) async fn run(&self) {
        if let Err(cut) = self.move_all().await
            // Whoever ended the session meanwhile has told both sides.
            && !self.pump.link.has_ended_early()
        {
            Box::pin(self.cut_off(cut)).await;
        }
    }

    async fn move_all(&self) -> Result<(), Cut> {
        let mut stop = self.begin()?;
        while !self.pump.link.has_ended_early() {
            stop = match stop {
                // Idle sessions are many: the memory of the rare states is not theirs.
                Stop::End => return Box::pin(self.pass_on_the_end()).await,
                Stop::Stalled => {
                    Box::pin(self.make_room()).await?;
                    self.go_on()?
                }
                Stop::Held(wait) => {
                    Box::pin(self.pump.hold(wait)).await?;
                    self.turn()?
                }
                Stop::Dry | Stop::Turn => {
                    self.rest();
                    if stop == Stop::Turn {
                        self.pump.loan.lane.end_turn().await;
                    }
                    self.pump.from().readable().await;
                    if self.pump.link.has_ended_early() {
                        break;
                    }
                    self.turn()?
                }
            };
        }
        Ok(())
    }

    /// Passes on what the source has said before its relay began.
    fn begin(&self) -> Result<Stop, Cut> {
        let unsent = self.pump.link.take_unsent(self.pump.direction);
        if !self.deliver(&unsent)? {
            return Ok(Stop::Stalled);
        }
        let ended = self.has_ended()?;
        Ok(if ended { Stop::End } else { Stop::Dry })
    }

    /// The next turn after all that came before is delivered, which may have been followed by an end.
    fn go_on(&self) -> Result<Stop, Cut> {
        if self.has_ended()? {
            return Ok(Stop::End);
        }
        self.turn()
    }

    /// Whether the source's TLS has ended, without another look at its socket.
    fn has_ended(&self) -> Result<bool, Cut> {
        let Some(session) = self.source else {
            return Ok(false);
        };
        let mut session = session.borrow_mut();
        let known = session.decrypt(&mut [], &mut Vec::new());
        known.map_err(|fault| Cut::Fault(self.pump.source(), fault))?;
        Ok(session.peer_closed())
    }

    /// Moves what is there, until something stops it.
    fn turn(&self) -> Result<Stop, Cut> {
        // The other direction may have found nothing but what goes to our destination, too.
        if !self.flush_destination()? {
            return Ok(Stop::Stalled);
        }
        let buffer = &mut *self.pump.loan.lane.secured.borrow_mut();
        let mut moved = 0;
        while moved < TURN_BYTES {
            let room = match self.pump.grant(buffer.len()) {
                Grant::Bytes(room) => room,
                Grant::Wait(wait) => return Ok(Stop::Held(wait)),
            };
            let received = receive(self.pump.from().as_fd(), &mut buffer[..room]);
            self.pump.give_back(room - received.unwrap_or(0));
            let received = match received {
                Ok(0) => return self.stream_ended(),
                Ok(received) => received,
                Err(Errno::AGAIN) => return Ok(Stop::Dry),
                Err(cause) => return Err(self.pump.source_broke(cause).into()),
            };
            let bytes = buffer.get_mut(..received).unwrap_or_default();
            if let Some(stop) = self.pass_on(bytes)? {
                return Ok(stop);
            }
            if received < room {
                // As in a plain relay: what came meanwhile completes the wait at once.
                return Ok(Stop::Dry);
            }
            moved += received;
        }
        Ok(Stop::Turn)
    }

    /// The source's stream has ended, which for TLS must have been announced.
    fn stream_ended(&self) -> Result<Stop, Cut> {
        if let Some(session) = self.source {
            let announced = session.borrow().peer_ended();
            announced.map_err(|fault| Cut::Fault(self.pump.source(), fault))?;
        }
        Ok(Stop::End)
    }

    /// Passes on what was received; `None`: all of it, and more may come.
    fn pass_on(&self, received: &mut [u8]) -> Result<Option<Stop>, Cut> {
        let Some(session) = self.source else {
            let delivered = self.deliver(received)?;
            return Ok((!delivered).then_some(Stop::Stalled));
        };
        let plain = &mut *self.pump.loan.lane.plain.borrow_mut();
        plain.clear();
        let mut session = session.borrow_mut();
        let fault = session.decrypt(received, plain).err();
        let (ended, owes) = (session.peer_closed(), session.wants_write());
        drop(session);
        if !self.deliver(plain)? {
            // An end or a fault shows again once there is room.
            return Ok(Some(Stop::Stalled));
        }
        if let Some(fault) = fault {
            return Err(Cut::Fault(self.pump.source(), fault));
        }
        if owes && !self.flush_source()? {
            return Ok(Some(Stop::Stalled));
        }
        Ok(ended.then_some(Stop::End))
    }

    /// Gives plaintext to the destination; `false`: something is left, with the link or with TLS.
    fn deliver(&self, plain: &[u8]) -> Result<bool, Cut> {
        if plain.is_empty() {
            return Ok(true);
        }
        if self.destination.is_none() {
            self.pump.hurry();
            let rest = self.pump.send(plain)?;
            if !rest.is_empty() {
                self.pump.link.set_unsent(self.pump.direction, rest);
            }
            return Ok(rest.is_empty());
        }
        let (link, destination) = (self.pump.link, self.pump.destination());
        let scratch = &mut *self.pump.loan.lane.sealed.borrow_mut();
        let sealed = link.seal(destination, plain, scratch);
        let moved = sealed.map_err(|unsaid| match unsaid {
            Unsaid::Fault(fault) => Cut::Fault(destination, fault),
            Unsaid::Broken(cause) => self.pump.destination_broke(cause).into(),
        })?;
        if moved {
            link.stirred(self.pump.loan.lane.time.get());
        }
        self.sealed.set(self.sealed.get() + plain.len());
        self.flush_destination()
    }

    /// Sends what TLS has for the destination; whether nothing is left.
    fn flush_destination(&self) -> Result<bool, Cut> {
        if self.destination.is_none() {
            return Ok(true);
        }
        let link = self.pump.link;
        let flushed = link.flush(self.pump.destination());
        let flushed = flushed.map_err(|cause| self.pump.destination_broke(cause))?;
        if flushed.done {
            let sealed = self.sealed.take();
            if sealed > 0 {
                self.pump.delivered(sealed);
            }
        } else if flushed.moved {
            link.stirred(self.pump.loan.lane.time.get());
        }
        Ok(flushed.done)
    }

    /// Sends what TLS has for the source by itself, such as alerts: the other direction may be silent.
    /// Whether nothing is left.
    fn flush_source(&self) -> Result<bool, Cut> {
        let link = self.pump.link;
        if link.is_finished(self.pump.direction.reverse()) {
            // Nothing follows a close_notify.
            return Ok(true);
        }
        let flushed = link.flush(self.pump.source());
        let flushed = flushed.map_err(|cause| self.pump.source_broke(cause))?;
        Ok(flushed.done)
    }

    /// Waits until everything that was received is with the kernel; nobody reads the source meanwhile.
    async fn make_room(&self) -> Result<(), Cut> {
        if self.destination.is_none() {
            self.pump.flush().await?;
        }
        while !self.pump.link.has_ended_early() {
            if !self.flush_destination()? {
                self.room(self.pump.to()).await;
            } else if self.source.is_some() && !self.flush_source()? {
                self.room(self.pump.from()).await;
            } else {
                break;
            }
        }
        Ok(())
    }

    async fn room(&self, socket: &Socket) {
        let (link, direction) = (self.pump.link, self.pump.direction);
        link.set_stalled(direction, true);
        self.pump.look_soon();
        socket.writable().await;
        link.set_stalled(direction, false);
    }

    /// The source has ended, and all its bytes are delivered.
    async fn pass_on_the_end(&self) -> Result<(), Cut> {
        if let Some(session) = self.destination {
            session.borrow_mut().close();
            while !self.flush_destination()? {
                self.room(self.pump.to()).await;
                if self.pump.link.has_ended_early() {
                    return Ok(());
                }
            }
        }
        self.pump.link.finished(self.pump.direction);
        self.pump.look_soon();
        Ok(())
    }

    /// Gives memory back before a wait that may be long.
    fn rest(&self) {
        if let Some(session) = self.source {
            session.borrow_mut().rest();
        }
    }

    /// Ends the session of a stream that was cut short.
    async fn cut_off(&self, cut: Cut) {
        let (link, direction) = (self.pump.link, self.pump.direction);
        let (side, fault) = match self.rescue(cut) {
            Cut::Broken(broken) => return link.broken(broken.side, broken.cause),
            Cut::Fault(side, fault) => (side, fault),
        };
        match fault {
            // Many clients just close once all is said to them, and nobody misses their close_notify.
            SessionFault::Truncated
                if link.is_finished(direction.reverse()) && !link.has_said_more(direction) =>
            {
                link.part(side);
            }
            SessionFault::Truncated => link.abort(Reason::TlsTruncated, side, fault),
            // Its close_notify would make the stream look whole.
            SessionFault::KeysWornOut => link.abort(Reason::TlsFault, side, fault),
            fault => {
                link.refuse(Reason::TlsFault, side, fault);
                farewell(link, side, self.pump.loan.lane).await;
            }
        }
    }

    /// Delivers what the destination had said before it broke, as a plain relay does. That may have
    /// been an alert, which tells more than the reset behind it.
    fn rescue(&self, cut: Cut) -> Cut {
        let back = self.pump.direction.reverse();
        match &cut {
            Cut::Broken(broken)
                if broken.side == self.pump.destination() && !self.pump.link.is_engaged(back) =>
            {
                let back = Self::new(self.pump.reversed());
                let turn = match back.begin() {
                    Ok(Stop::Dry) => back.turn(),
                    begun => begun,
                };
                match turn {
                    Err(alert @ Cut::Fault(_, SessionFault::Alert(_))) => alert,
                    _ => cut,
                }
            }
            _ => cut,
        }
    }
}
