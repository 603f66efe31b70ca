//! The bytes of a connection, plain or through TLS: whatever lies above sees the pattern alone.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use rustix::event::epoll::EventFlags;
use rustls::{ClientConnection, HandshakeKind, NamedGroup};

use super::connection::Fault;

/// How much of the scratch buffer takes bytes as they come from the socket. The rest takes what they
/// decrypt to, which is at most so much and a record that was begun before.
const RAW: usize = 16 * 1024;

/// Why an operation did not happen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stop {
    /// The socket is not ready: for this.
    Blocked(EventFlags),
    Broken(Fault),
}

impl Stop {
    fn of(error: &io::Error, ready: EventFlags) -> Self {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::Interrupted => Self::Blocked(ready),
            _ => Self::Broken(Fault::Reset),
        }
    }
}

/// A socket, with TLS or without.
pub(super) struct Wire {
    pub(super) socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Wire {
    pub(super) fn new(socket: TcpStream, tls: Option<Box<ClientConnection>>) -> Self {
        Self { socket, tls }
    }

    /// Goes on with the handshake. What the client sends last stays here, to go out with the request.
    /// Without TLS there is nothing to do and no kind.
    pub(super) fn shake(&mut self, scratch: &mut [u8]) -> Result<Option<HandshakeKind>, Stop> {
        loop {
            let Some(tls) = &self.tls else {
                return Ok(None);
            };
            if !tls.is_handshaking() {
                let group = tls.negotiated_key_exchange_group();
                if group.is_some_and(|group| group.name() != NamedGroup::X25519) {
                    return Err(Stop::Broken(Fault::Tls));
                }
                return Ok(tls.handshake_kind());
            }
            self.flush()?;
            if !self.fetch(scratch)?.is_empty() {
                return Err(Stop::Broken(Fault::WrongBytes));
            }
        }
    }

    /// Sends some of the piece, and gives how much. With TLS that may not yet be out: see `flush`.
    pub(super) fn send(&mut self, piece: &[u8]) -> Result<usize, Stop> {
        let Some(tls) = &mut self.tls else {
            let sent = (&self.socket).write(piece);
            return sent.map_err(|error| Stop::of(&error, EventFlags::OUT));
        };
        let accepted = tls.writer().write(piece);
        let accepted = accepted.map_err(|_| Stop::Broken(Fault::Tls))?;
        match self.flush() {
            Err(Stop::Blocked(_)) if accepted > 0 => Ok(accepted),
            Err(stop) => Err(stop),
            Ok(()) => Ok(accepted),
        }
    }

    /// Has the socket take all that was sent.
    pub(super) fn flush(&mut self) -> Result<(), Stop> {
        let Some(tls) = &mut self.tls else {
            return Ok(());
        };
        while tls.wants_write() {
            let written = tls.write_tls(&mut &self.socket);
            written.map_err(|error| Stop::of(&error, EventFlags::OUT))?;
        }
        Ok(())
    }

    /// What has come, at least one byte.
    pub(super) fn receive<'a>(&mut self, scratch: &'a mut [u8]) -> Result<&'a [u8], Stop> {
        if self.tls.is_none() {
            let length = self.read(scratch)?;
            return scratch.get(..length).ok_or(Stop::Broken(Fault::WrongBytes));
        }
        let plain = self.fetch(scratch)?;
        if plain.is_empty() {
            // A ticket, or part of a record.
            return Err(Stop::Blocked(EventFlags::IN));
        }
        Ok(plain)
    }

    /// Sends the end that TLS has; the socket is closed when this is dropped.
    pub(super) fn close(mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            // Nothing waits for it: a client that goes away does not care whether this arrives.
            let _ = self.flush();
        }
    }

    fn read(&self, into: &mut [u8]) -> Result<usize, Stop> {
        match (&self.socket).read(into) {
            Ok(0) => Err(Stop::Broken(Fault::EarlyClose)),
            Ok(length) => Ok(length),
            Err(error) => Err(Stop::of(&error, EventFlags::IN)),
        }
    }

    /// Reads once and decrypts what is complete, which may be nothing.
    fn fetch<'a>(&mut self, scratch: &'a mut [u8]) -> Result<&'a [u8], Stop> {
        let (raw, plain) = scratch.split_at_mut(RAW);
        let length = self.read(raw)?;
        let tls = self.tls.as_mut().expect("callers have looked for it");
        let mut rest = raw.get(..length).unwrap_or_default();
        let mut filled = 0;
        // It takes a few kilobytes at a time, and no more until their text has been fetched.
        while !rest.is_empty() {
            let broken = |_| Stop::Broken(Fault::Tls);
            let taken = tls.read_tls(&mut rest).map_err(broken)?;
            let state = tls
                .process_new_packets()
                .map_err(|_| Stop::Broken(Fault::Tls))?;
            while let Ok(count @ 1..) = tls.reader().read(&mut plain[filled..]) {
                filled += count;
            }
            if taken == 0 || (state.peer_has_closed() && filled == 0) {
                return Err(Stop::Broken(Fault::EarlyClose));
            }
        }
        Ok(&plain[..filled])
    }
}
