//! The one type over rustls that the data path drives: bytes in, bytes out, never a wait.
//!
//! It is shaped so that another release of rustls, or another library, changes this file and `engine`
//! alone.
//!
//! # How to drive it
//!
//! The caller owns the socket and lends the buffers, shared by all sessions of a worker: one for what
//! arrives, one for plaintext, one for what is sealed. A [`Session`] is made with the settings of its
//! listener or pool and never waits; the caller turns around this until the end:
//!
//! 1. **In.** What was received, or had been received before somebody decided to terminate (a
//!    ClientHello that was read for its name), goes through [`decrypt`](Session::decrypt), whole or in
//!    pieces, cut anywhere. The plaintext is sent to the other side even beside a fault: it came before
//!    that.
//! 2. **Out.** While [`wants_write`](Session::wants_write): [`write_into`](Session::write_into), whose
//!    `WouldBlock` loses nothing. After every `decrypt`, too: handshake, tickets, alerts and answers to
//!    key updates come from there.
//! 3. **Seal.** Only when nothing wants to be written, read from the other side and
//!    [`encrypt`](Session::encrypt) what came: 64 KiB are four records in one write. What the socket
//!    does not take waits for 2. A peer that does not read thus stops the reading of the other side.
//! 4. **Rest.** Before waiting for either socket, [`rest`](Session::rest).
//!
//! **Handshake**: only 1 and 2 happen while [`is_handshaking`](Session::is_handshaking), under the
//! caller's deadline. `decrypt` gives plaintext as soon as there is some, perhaps in the call that
//! ends the handshake. [`negotiated`](Session::negotiated) and
//! [`peer_certificate`](Session::peer_certificate) then say with whom. A client's first bytes are
//! ready once it is made.
//!
//! **Orderly end**: when the other side ended, [`close`](Session::close), then 2 until nothing is
//! left, then `shutdown(SHUT_WR)`; the other direction goes on. When
//! [`peer_closed`](Session::peer_closed) and the plaintext is passed on, the peer's direction is over:
//! that is the other side's `SHUT_WR`. When the socket gives its end instead, ask
//! [`peer_ended`](Session::peer_ended): a stream that ended without `close_notify` may have been cut
//! off by anybody on the way, and is to be passed on as a reset.
//!
//! **A fault** ends both directions and comes back from every later call that takes bytes. Then 2, so
//! that the peer gets the alert that is due, and `shutdown(SHUT_WR)`; receive and drop what is on its
//! way before the socket is closed, since closing it with bytes unread resets the connection and takes
//! the alert along.
//!
//! # What it holds to
//!
//! - No byte is lost or given twice, however the stream is cut: plaintext comes out as it went in at
//!   the other side, and ciphertext that a socket did not take waits here.
//! - The peer's end is an end only if it said so. What follows a `close_notify` is ignored (RFC 8446
//!   §6.1). Our `close_notify` ends only what we send.
//! - A peer makes it hold at most [`HELD_BYTES_MAX`] of what is not whole yet, beside what is encrypted
//!   for it. At rest, with nothing to write, it holds what is there of a record, its keys and what was
//!   negotiated.

use std::io::{self, Write};
use std::mem;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::{AlertDescription, ClientConfig, Error, InvalidMessage, ServerConfig};

pub use super::alert::UNRECOGNIZED_NAME;
use super::alert::{self, Circumstances};
use super::beginning::{Beginning, Newest};
use super::engine::{Engine, RECORD_BYTES_MAX, Unsealed};
pub use super::engine::{HELD_BYTES_MAX, sealed_bytes};
use super::held::{Held, record_bytes};
use super::last_word::{Voice, last_word};
pub use super::negotiated::Negotiated;
use super::peer;
use super::sealing::{self, Withheld};
pub use super::session_fault::SessionFault;
use super::wear::records_max;

/// One side of a TLS connection.
pub struct Session {
    engine: Engine,
    held: Held,
    /// What waits for the peer's socket.
    unsent: Vec<u8>,
    peer_closed: bool,
    closed: bool,
    /// Records that can still be sealed with the keys there are; only counted where keys cannot
    /// change, that is below TLS 1.3.
    records_left: u64,
    voice: Voice,
    newest: Newest,
    beginning: Beginning,
    last: Option<Box<Last>>,
}

/// What is left of a session after a fault.
struct Last {
    fault: SessionFault,
    /// The alert that the peer gets.
    alert: Option<AlertDescription>,
}

impl Session {
    /// The side that a client talks to.
    pub fn server(config: &Arc<ServerConfig>) -> Result<Self, SessionFault> {
        let connection = UnbufferedServerConnection::new(config.clone())?;
        Ok(Self::new(Engine::Server(connection)))
    }

    /// The side that talks to a server called `name`; its first bytes are ready at once.
    pub fn client(
        config: &Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, SessionFault> {
        let connection = UnbufferedClientConnection::new(config.clone(), name)?;
        Ok(Self::new(Engine::Client(connection)))
    }

    fn new(mut engine: Engine) -> Self {
        let mut unsent = Vec::new();
        engine.drain(&mut unsent);
        Self {
            engine,
            held: Held::default(),
            unsent,
            peer_closed: false,
            closed: false,
            records_left: u64::MAX,
            voice: Voice::default(),
            newest: Newest::Unknown,
            beginning: Beginning::Awaited,
            last: None,
        }
    }

    /// The newest version that the settings allow: a client that should have asked for it, and did not
    /// on purpose, is refused.
    pub(super) const fn set_newest(&mut self, newest: Newest) {
        self.newest = newest;
    }

    /// Takes bytes from the peer, which are changed, and appends the plaintext in them to `plain`: at most
    /// as much as was taken, and what was held before. There may be some beside a fault, too.
    pub fn decrypt(
        &mut self,
        incoming: &mut [u8],
        plain: &mut Vec<u8>,
    ) -> Result<(), SessionFault> {
        self.check()?;
        if self.beginning == Beginning::Awaited && !incoming.is_empty() {
            self.beginning = Beginning::of(incoming);
            if let Some((alert, why)) = self.beginning.refusal(self.newest) {
                self.unsent.extend(alert::record(alert));
                let error = Error::General(why.to_owned());
                return Err(self.end(SessionFault::Incompatible(error), Some(alert)));
            }
        }
        let mut rest = incoming;
        while !rest.is_empty() && !self.peer_closed {
            rest = match record_bytes(rest) {
                // Where it is, without a copy.
                Some(bytes) if self.held.is_empty() && bytes <= rest.len() => {
                    let (record, later) = rest.split_at_mut(bytes);
                    let taken = self.take_in(record, plain)?;
                    self.held.keep_seen(record.get(taken..).unwrap_or_default());
                    later
                }
                _ => {
                    let (now, later) = rest.split_at_mut(self.held.missing().min(rest.len()));
                    self.take_in_held(now, plain)?;
                    later
                }
            };
        }
        Ok(())
    }

    fn check(&self) -> Result<(), SessionFault> {
        match &self.last {
            Some(last) => Err(last.fault.clone()),
            None => Ok(()),
        }
    }

    /// Takes in what is held with `more` behind it, of one record at the most.
    fn take_in_held(&mut self, more: &[u8], plain: &mut Vec<u8>) -> Result<(), SessionFault> {
        let mut held = mem::take(&mut self.held);
        held.bytes.extend_from_slice(more);
        let taken = self.take_in(held.show(), plain)?;
        held.forget(taken);
        self.held = held;
        Ok(())
    }

    /// Gives `bytes` to rustls, and says how many of them are over and done with.
    fn take_in(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>) -> Result<usize, SessionFault> {
        let (engine, unsent) = (&mut self.engine, &mut self.unsent);
        let take_in = || engine.take_in(bytes, plain, unsent);
        let taken = sealing::withholding(Withheld::Fatal, take_in);
        self.voice.heed();
        self.peer_closed |= taken.peer_closed;
        taken.result.map_err(|error| self.fail(error))?;
        if self.peer_closed {
            return Ok(bytes.len());
        }
        if bytes.len() - taken.bytes > HELD_BYTES_MAX {
            let error = Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge);
            return Err(self.fail(error));
        }
        if self.records_left == u64::MAX && !self.is_handshaking() {
            self.records_left = records_max(self.engine.common());
        }
        Ok(taken.bytes)
    }

    /// Ends the session, and sees to it that a peer that is refused gets the alert that is due.
    fn fail(&mut self, error: Error) -> SessionFault {
        let circumstances = Circumstances {
            version: self.engine.common().protocol_version(),
            beginning: self.beginning,
        };
        let (engine, voice, unsent) = (&mut self.engine, &mut self.voice, &mut self.unsent);
        let alert = last_word(engine, &error, circumstances, voice, unsent);
        let fault = match (&error, alert) {
            (Error::General(_), Some(AlertDescription::UnrecognisedName)) => {
                SessionFault::UnknownName
            }
            _ => error.into(),
        };
        self.end(fault, alert)
    }

    fn end(&mut self, fault: SessionFault, alert: Option<AlertDescription>) -> SessionFault {
        self.held = Held::default();
        self.last = Some(Box::new(Last {
            fault: fault.clone(),
            alert,
        }));
        fault
    }

    /// The alert that the peer gets after a fault, if one is due.
    pub fn alert(&self) -> Option<u8> {
        self.last.as_ref()?.alert.map(u8::from)
    }

    /// Seals `plain` by way of `scratch` and gives it to `sink`; whether that took something. What it did
    /// not take waits to be written. All is sealed, or nothing in case of a fault; nothing can be sealed
    /// during the handshake. `scratch` should hold [`sealed_bytes`].
    pub fn encrypt(
        &mut self,
        plain: &[u8],
        scratch: &mut [u8],
        sink: &mut dyn Write,
    ) -> Result<bool, SessionFault> {
        self.check()?;
        if plain.is_empty() {
            // rustls would change keys for it where that is due, and keep what tells the peer.
            return Ok(false);
        }
        let records = plain.len().div_ceil(RECORD_BYTES_MAX) as u64;
        // Below TLS 1.3 rustls drops what it cannot seal any more and only closes the session, so
        // that must never be left to it.
        if records > self.records_left {
            self.close();
            return Err(SessionFault::KeysWornOut);
        }
        let (engine, held) = (&mut self.engine, &mut self.held.bytes);
        let encrypt = || engine.encrypt(held, plain, scratch);
        let sealed = sealing::withholding(Withheld::Nothing, encrypt);
        self.voice.heed();
        let sealed = match sealed {
            Ok(bytes) => scratch.get(..bytes).unwrap_or_default(),
            Err(Unsealed::NoRoom(bytes)) => {
                // A change of keys may have been sealed already, and goes before all else.
                self.engine.drain(&mut self.unsent);
                return self.encrypt(plain, &mut vec![0; bytes], sink);
            }
            Err(Unsealed::NotNow) => {
                return Err(SessionFault::Ours(Error::HandshakeNotComplete));
            }
        };
        self.records_left -= records;
        let mut written = 0;
        if self.unsent.is_empty() {
            // Whether it is full or broken is known to the sink.
            written = sink.write(sealed).unwrap_or_default().min(sealed.len());
        }
        self.unsent
            .extend_from_slice(sealed.get(written..).unwrap_or_default());
        Ok(written > 0)
    }

    /// Whether there are bytes for the peer.
    pub const fn wants_write(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Gives bytes for the peer to `sink` by one write, and says how many it took. The rest stays.
    pub fn write_into(&mut self, sink: &mut dyn Write) -> io::Result<usize> {
        let written = sink.write(&self.unsent)?.min(self.unsent.len());
        if written == self.unsent.len() {
            self.unsent = Vec::new();
        } else {
            self.unsent.drain(..written);
        }
        Ok(written)
    }

    /// Whether the handshake goes on. Its last bytes may still wait to be written when it is over.
    pub fn is_handshaking(&self) -> bool {
        self.engine.common().is_handshaking()
    }

    /// Tells the peer that nothing more comes (`close_notify`); once, and not after a fault, which is
    /// no orderly end, nor during the handshake, before which nothing has begun. The peer may go on
    /// sending.
    pub fn close(&mut self) {
        self.closed = true;
        if self.last.is_none() {
            let before = self.unsent.len();
            self.engine.close(&mut self.held.bytes, &mut self.unsent);
            if self.unsent.len() > before {
                self.voice.end();
            }
        }
    }

    /// Whether [`close`](Self::close) was called.
    pub const fn closed(&self) -> bool {
        self.closed
    }

    /// Whether the peer said that nothing more comes. Plaintext may still be ready.
    pub const fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// What the end of the peer's stream means: an end if it was announced.
    pub const fn peer_ended(&self) -> Result<(), SessionFault> {
        if self.peer_closed {
            Ok(())
        } else {
            Err(SessionFault::Truncated)
        }
    }

    /// Gives memory back before a wait that may be long.
    pub fn rest(&mut self) {
        self.held.rest();
    }

    /// What both sides agreed on so far.
    pub fn negotiated(&self) -> Negotiated<'_> {
        Negotiated::of(self.engine.common())
    }

    /// The certificate that the peer showed, whether now or when the session began that was resumed.
    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.engine.common().peer_certificates()?.first()
    }

    /// The common name of the certificate that the peer showed.
    pub fn peer_common_name(&self) -> Option<String> {
        self.peer_certificate().and_then(peer::common_name)
    }
}

#[cfg(test)]
impl Session {
    /// The memory that a rest gives back or needs, bytes.
    pub(super) const fn held(&self) -> usize {
        self.held.bytes.capacity()
    }

    pub(super) const fn records_left(&self) -> u64 {
        self.records_left
    }

    pub(super) const fn set_records_left(&mut self, records: u64) {
        self.records_left = records;
    }

    pub(super) fn update_keys(&mut self) {
        let (engine, held) = (&mut self.engine, &mut self.held.bytes);
        let update = || engine.update_keys(held, &mut self.unsent);
        sealing::withholding(Withheld::Nothing, update);
        self.voice.heed();
    }

    pub(super) fn group(&self) -> Option<String> {
        let group = self.engine.common().negotiated_key_exchange_group()?;
        Some(format!("{:?}", group.name()))
    }

    /// Tickets that the peer gave.
    pub(super) fn tickets(&self) -> u32 {
        match &self.engine {
            Engine::Client(client) => client.tls13_tickets_received(),
            Engine::Server(_) => 0,
        }
    }
}
