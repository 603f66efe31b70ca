//! The one type over rustls that the data path drives: bytes in, bytes out, never a wait.
//!
//! It is shaped so that another release of rustls, or another library, changes this file alone.
//!
//! # How to drive it
//!
//! The caller owns the socket and lends the buffers: one for what arrives, one for plaintext, shared
//! by all sessions of a worker. A [`Session`] is made with the settings of its listener or pool and
//! never waits; the caller turns around this until the end:
//!
//! 1. **In.** What was received, or had been received before somebody decided to terminate (a
//!    ClientHello that was read for its name), goes through [`decrypt`](Session::decrypt), whole or in
//!    pieces, cut anywhere. It fills the lent buffer up to its capacity; what has no room stays in
//!    `received`, so the caller passes the plaintext on, clears the buffer and calls again:
//!
//!    ```text
//!    loop {
//!        let fault = session.decrypt(&mut received, &mut plain).err();
//!        // Send `plain` to the other side, even beside a fault: it came before that. Then clear it.
//!        // Stop at a fault, or when `received` is empty and `session.plaintext()` gives none.
//!    }
//!    ```
//!
//! 2. **Out.** While [`wants_write`](Session::wants_write): [`write_into`](Session::write_into), which
//!    gives up to 64 records to one vectored write of the socket (its `WouldBlock` comes back, nothing
//!    is lost), or to a `Vec` that the caller lends. After every `decrypt`, too: handshake, tickets,
//!    alerts and answers to key updates come from there.
//! 3. **Seal.** Only when nothing wants to be written, read from the other side and
//!    [`encrypt`](Session::encrypt) what came: 64 KiB are four records in one write. Then 2. A peer
//!    that does not read thus stops the reading of the other side.
//! 4. **Rest.** Before waiting for either socket, [`rest`](Session::rest).
//!
//! **Handshake**: only 1 and 2 happen while [`is_handshaking`](Session::is_handshaking), under the
//! caller's deadline. `decrypt` gives plaintext as soon as there is some, perhaps in the call that
//! ends the handshake. [`negotiated`](Session::negotiated) and
//! [`peer_certificate`](Session::peer_certificate) then say with whom. A client's first bytes are
//! ready once it is made. What is encrypted before the end waits in memory.
//!
//! **Orderly end**: when the other side ended, [`close`](Session::close), then 2 until nothing is
//! left, then `shutdown(SHUT_WR)`; the other direction goes on. When
//! [`peer_closed`](Session::peer_closed) and the plaintext is passed on, the peer's direction is over:
//! that is the other side's `SHUT_WR`. When the socket gives its end instead, ask
//! [`peer_ended`](Session::peer_ended): a stream that ended without `close_notify` may have been cut
//! off by anybody on the way, and is to be passed on as a reset.
//!
//! **A fault** ends both directions and comes back from every later call that takes bytes. Plaintext
//! from before it can still be taken out. Then 2, so that the peer gets the alert that is due, and
//! `shutdown(SHUT_WR)`; receive and drop what is on its way before the socket is closed, since closing
//! it with bytes unread resets the connection and takes the alert along.
//!
//! To send records as they come instead of gathering them, [`feed`](Session::feed),
//! [`plaintext`](Session::plaintext) and [`consume`](Session::consume) do without the lent buffer.
//!
//! # What it holds to
//!
//! - No byte is lost or given twice, however the stream is cut: plaintext comes out as it went in at
//!   the other side, and ciphertext that a socket did not take waits here.
//! - The peer's end is an end only if it said so. What follows a `close_notify` is ignored (RFC 8446
//!   §6.1). Our `close_notify` ends only what we send.
//! - A peer makes it hold at most a handshake message of 64 KiB, or a record and the plaintext of
//!   4 KiB more, beside what is encrypted for it. At rest, with nothing to write, it holds 4 KiB for
//!   the next record, its keys and what was negotiated.

use std::io::{self, BufRead, Write};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Connection, Error, InvalidMessage,
    ServerConfig, ServerConnection,
};

pub use super::alert::UNRECOGNIZED_NAME;
use super::alert::{self, Circumstances};
use super::beginning::{Beginning, Newest};
use super::last_word::last_word;
pub use super::negotiated::Negotiated;
use super::peer;
use super::sealing::{self, Withheld};
pub use super::session_fault::SessionFault;
use super::wear::records_max;

/// What rustls takes in at once, bytes. It lists the plaintext of each record, and the list keeps the
/// length it once had: a peer that sends records of one byte makes it 6 KiB long, but no longer.
const STEP_BYTES: usize = 4096;

/// The most plaintext of a record (RFC 8446 §5.1).
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// One side of a TLS connection.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    /// Plaintext that is ready and has not been consumed, bytes.
    ready: usize,
    peer_closed: bool,
    closed: bool,
    /// Records that can still be sealed with the keys there are; only counted where keys cannot
    /// change, that is below TLS 1.3.
    records_left: u64,
    newest: Newest,
    beginning: Beginning,
    last: Option<Box<Last>>,
}

/// What is left of a session after a fault.
#[derive(Debug)]
struct Last {
    fault: SessionFault,
    /// The alert that the peer gets.
    alert: Option<AlertDescription>,
    /// Bytes for the peer that rustls has no more, the alert with them.
    unsent: Vec<u8>,
}

impl Session {
    /// The side that a client talks to.
    pub fn server(config: &Arc<ServerConfig>) -> Result<Self, SessionFault> {
        let connection = ServerConnection::new(config.clone())?;
        Ok(Self::new(Connection::Server(connection)))
    }

    /// The newest version that the settings allow: a client that should have asked for it, and did not
    /// on purpose, is refused.
    pub(super) const fn set_newest(&mut self, newest: Newest) {
        self.newest = newest;
    }

    /// The side that talks to a server called `name`; its first bytes are ready at once.
    pub fn client(
        config: &Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, SessionFault> {
        let connection = ClientConnection::new(config.clone(), name)?;
        Ok(Self::new(Connection::Client(connection)))
    }

    fn new(mut connection: Connection) -> Self {
        // `encrypt` takes all it is given: its caller bounds that by the size of its scratch.
        connection.set_buffer_limit(None);
        Self {
            connection,
            ready: 0,
            peer_closed: false,
            closed: false,
            records_left: u64::MAX,
            newest: Newest::Unknown,
            beginning: Beginning::Awaited,
            last: None,
        }
    }

    /// Takes bytes from the peer, moves `incoming` on past what it took, and appends the plaintext in
    /// them to `plain`, which never grows beyond its capacity: where that is full the rest stays in
    /// `incoming`, or comes with the next call. A fault is told when all that came before it is out;
    /// `plain` may have some of that beside the fault.
    pub fn decrypt(
        &mut self,
        incoming: &mut &[u8],
        plain: &mut Vec<u8>,
    ) -> Result<(), SessionFault> {
        loop {
            self.take_out(plain);
            if self.plaintext().is_some() {
                return Ok(());
            }
            if let Some(last) = &self.last {
                return Err(last.fault.clone());
            }
            if incoming.is_empty() || plain.len() == plain.capacity() {
                return Ok(());
            }
            // A fault is kept, and told above once the plaintext before it is out.
            let _ = self.feed(incoming);
        }
    }

    fn take_out(&mut self, plain: &mut Vec<u8>) {
        while let Some(ready) = self.plaintext() {
            let room = plain.capacity() - plain.len();
            let (taken, _) = ready.split_at(ready.len().min(room));
            let bytes = taken.len();
            if bytes == 0 {
                break;
            }
            plain.extend_from_slice(taken);
            self.consume(bytes);
        }
    }

    /// Takes bytes from the peer, and moves `incoming` on past what it took: all of them, unless
    /// plaintext is ready that must be consumed first.
    pub fn feed(&mut self, incoming: &mut &[u8]) -> Result<(), SessionFault> {
        while !incoming.is_empty() && self.ready == 0 {
            if let Some(last) = &self.last {
                return Err(last.fault.clone());
            }
            if self.peer_closed {
                *incoming = &[];
                break;
            }
            if self.beginning == Beginning::Awaited {
                self.beginning = Beginning::of(incoming);
                if let Some(alert) = self.beginning.refusal(self.newest) {
                    return Err(self.refuse(alert));
                }
            }
            let (mut step, _) = incoming.split_at(incoming.len().min(STEP_BYTES));
            // Of its errors only the full buffer of a handshake message can come up here: a slice
            // gives none, and there is room for plaintext.
            let Ok(taken) = self.connection.read_tls(&mut step) else {
                let error = Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge);
                return Err(self.fail(error));
            };
            *incoming = incoming.get(taken..).unwrap_or_default();
            self.take_in()?;
        }
        Ok(())
    }

    fn take_in(&mut self) -> Result<(), SessionFault> {
        let was_handshaking = self.connection.is_handshaking();
        let process = || self.connection.process_new_packets();
        let state = match sealing::withholding(Withheld::Fatal, process) {
            Ok(state) => state,
            Err(error) => return Err(self.fail(error)),
        };
        self.ready = state.plaintext_bytes_to_read();
        self.peer_closed = state.peer_has_closed();
        if was_handshaking && !self.connection.is_handshaking() {
            // What was encrypted during the handshake has been sealed by now.
            let sealed = u64::MAX - self.records_left;
            self.records_left = records_max(&self.connection).saturating_sub(sealed);
        }
        Ok(())
    }

    /// Ends the session, and sees to it that a peer that is refused gets the alert that is due.
    fn fail(&mut self, error: Error) -> SessionFault {
        let circumstances = Circumstances {
            version: self.connection.protocol_version(),
            beginning: self.beginning,
        };
        let (unsent, alert) = last_word(&mut self.connection, &error, circumstances);
        let fault = match (&error, alert) {
            (Error::General(_), Some(AlertDescription::UnrecognisedName)) => {
                SessionFault::UnknownName
            }
            _ => error.into(),
        };
        self.end(fault, alert, unsent)
    }

    /// Ends the session before rustls sees anything of it.
    fn refuse(&mut self, alert: AlertDescription) -> SessionFault {
        let what = match alert {
            AlertDescription::InappropriateFallback => "an older version than both sides speak",
            _ => "a renegotiation without a session",
        };
        let fault = SessionFault::Incompatible(Error::General(what.to_owned()));
        self.end(fault, Some(alert), alert::record(alert).to_vec())
    }

    fn end(
        &mut self,
        fault: SessionFault,
        alert: Option<AlertDescription>,
        unsent: Vec<u8>,
    ) -> SessionFault {
        self.last = Some(Box::new(Last {
            fault: fault.clone(),
            alert,
            unsent,
        }));
        fault
    }

    /// The alert that the peer gets after a fault, if one is due.
    pub fn alert(&self) -> Option<u8> {
        self.last.as_ref()?.alert.map(u8::from)
    }

    /// Plaintext from the peer that is ready, at most a record of it; `None`: nothing is.
    pub fn plaintext(&mut self) -> Option<&[u8]> {
        let plain = self.connection.reader().into_first_chunk().ok()?;
        (!plain.is_empty()).then_some(plain)
    }

    /// Forgets the first `bytes` of what [`plaintext`](Self::plaintext) gives, at most all of it.
    pub fn consume(&mut self, bytes: usize) {
        let ready = self.plaintext().map_or(0, <[u8]>::len);
        let bytes = bytes.min(ready);
        self.connection.reader().consume(bytes);
        self.ready = self.ready.saturating_sub(bytes);
    }

    /// Seals `plain` for the peer; all of it, or none in case of a fault. Before the end of the
    /// handshake it waits in memory.
    pub fn encrypt(&mut self, plain: &[u8]) -> Result<(), SessionFault> {
        if let Some(last) = &self.last {
            return Err(last.fault.clone());
        }
        let records = plain.len().div_ceil(RECORD_BYTES_MAX) as u64;
        // Below TLS 1.3 rustls drops what it cannot seal any more and only closes the session, so
        // that must never be left to it.
        if records > self.records_left {
            self.close();
            return Err(SessionFault::KeysWornOut);
        }
        self.records_left -= records;
        let written = self.connection.writer().write_all(plain);
        written.map_err(|error| SessionFault::Ours(Error::General(error.to_string())))
    }

    /// Whether there are bytes for the peer.
    pub fn wants_write(&self) -> bool {
        let last = self.last.as_ref();
        last.is_some_and(|last| !last.unsent.is_empty()) || self.connection.wants_write()
    }

    /// Gives bytes for the peer to `sink` by one vectored write of at most 64 records, and says how
    /// many it took. The rest stays.
    pub fn write_into(&mut self, sink: &mut dyn Write) -> io::Result<usize> {
        match &mut self.last {
            Some(last) if !last.unsent.is_empty() => {
                let written = sink.write(&last.unsent)?;
                last.unsent.drain(..written.min(last.unsent.len()));
                Ok(written)
            }
            _ => self.connection.write_tls(sink),
        }
    }

    /// Whether the handshake goes on. Its last bytes may still wait to be written when it is over.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Tells the peer that nothing more comes (`close_notify`); once, and not after a fault, which is
    /// no orderly end. The peer may go on sending.
    pub fn close(&mut self) {
        self.closed = true;
        if self.last.is_none() {
            self.connection.send_close_notify();
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

    /// Gives memory back before a wait that may be long: a buffer that grew for large records shrinks
    /// to its least, 4 KiB, unless a part of a record is in it.
    pub fn rest(&mut self) {
        if self.ready == 0 && !self.peer_closed {
            // The buffer is fitted before anything is read; a reader that would block ends it there.
            let fitted = self.connection.read_tls(&mut NothingYet);
            debug_assert!(fitted.is_err(), "a reader without bytes gives none");
        }
    }

    /// What both sides agreed on so far.
    pub fn negotiated(&self) -> Negotiated<'_> {
        Negotiated::of(&self.connection)
    }

    /// The certificate that the peer showed, whether now or when the session began that was resumed.
    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.connection.peer_certificates()?.first()
    }

    /// The common name of the certificate that the peer showed.
    pub fn peer_common_name(&self) -> Option<String> {
        self.peer_certificate().and_then(peer::common_name)
    }
}

struct NothingYet;

impl io::Read for NothingYet {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

#[cfg(test)]
impl Session {
    pub(super) const fn records_left(&self) -> u64 {
        self.records_left
    }

    pub(super) const fn set_records_left(&mut self, records: u64) {
        self.records_left = records;
    }

    pub(super) fn update_keys(&mut self) {
        self.connection.refresh_traffic_keys().unwrap();
    }

    pub(super) fn group(&self) -> Option<String> {
        let group = self.connection.negotiated_key_exchange_group()?;
        Some(format!("{:?}", group.name()))
    }

    /// Tickets that the peer gave.
    pub(super) fn tickets(&self) -> u32 {
        match &self.connection {
            Connection::Client(client) => client.tls13_tickets_received(),
            Connection::Server(_) => 0,
        }
    }
}
