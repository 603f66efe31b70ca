//! One client connection: connects, sends a request, checks the response byte by byte.

use std::net::{SocketAddr, TcpStream};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use rustls::{ClientConnection, HandshakeKind};

use crate::hello;
use crate::pattern::{HEADER, Request};

use super::Errors;
use super::wire::{Stop, Wire};

/// How far the patterns of two requests of a connection are apart.
const PHASE_STEP: u32 = 31;

/// Why a request came to nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    Connect,
    Reset,
    EarlyClose,
    WrongBytes,
    Timeout,
    Tls,
    NotResumed,
}

impl Errors {
    pub(super) fn count(&mut self, fault: Fault) {
        let kind = match fault {
            Fault::Connect => &mut self.connect,
            Fault::Reset => &mut self.reset,
            Fault::EarlyClose => &mut self.early_close,
            Fault::WrongBytes => &mut self.wrong_bytes,
            Fault::Timeout => &mut self.timeout,
            Fault::Tls => &mut self.tls,
            Fault::NotResumed => &mut self.not_resumed,
        };
        *kind += 1;
    }
}

/// Where a connection stands after an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Progress {
    /// It waits for the socket: for this.
    Waits(EventFlags),
    /// The response is complete and right.
    Complete,
}

/// What a connection begins with.
pub(super) enum Start {
    Plain,
    Tls {
        tls: Box<ClientConnection>,
        must_resume: bool,
    },
    /// A ClientHello goes before the first request.
    Hello(Vec<u8>),
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Connecting,
    Handshaking,
    Sending(u32),
    Receiving(u32),
    Resting,
}

/// A connection with the request it carries.
pub(super) struct Connection {
    pub(super) wire: Wire,
    pub(super) interest: EventFlags,
    request: Request,
    stage: Stage,
    must_resume: bool,
    /// Goes before the first request.
    hello: Vec<u8>,
}

impl Connection {
    /// Begins to connect.
    pub(super) fn open(
        target: SocketAddr,
        mut request: Request,
        start: Start,
    ) -> Result<Self, Fault> {
        let socket = non_blocking_socket(target).map_err(|_| Fault::Connect)?;
        match connect(&socket, &target) {
            // Whether it has come about is told by the first event.
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
            Err(_) => return Err(Fault::Connect),
        }
        let (tls, must_resume, hello) = match start {
            Start::Plain => (None, false, Vec::new()),
            Start::Tls { tls, must_resume } => (Some(tls), must_resume, Vec::new()),
            Start::Hello(hello) => {
                let digest = hello::digest(&hello).ok_or(Fault::Tls)?;
                request.phase = digest.wrapping_sub(PHASE_STEP);
                (None, false, hello)
            }
        };
        Ok(Self {
            wire: Wire::new(socket, tls),
            interest: EventFlags::empty(),
            request,
            stage: Stage::Connecting,
            must_resume,
            hello,
        })
    }

    /// Begins the next request of a connection that rests. Its pattern begins elsewhere than that of
    /// the last one, so that an answer given twice is wrong.
    pub(super) fn ask(&mut self) -> Result<Progress, Fault> {
        self.request.phase = self.request.phase.wrapping_add(PHASE_STEP);
        self.stage = Stage::Sending(0);
        self.send()
    }

    /// Whether a request is under way.
    pub(super) fn is_busy(&self) -> bool {
        !matches!(self.stage, Stage::Resting)
    }

    /// Does what the socket allows.
    pub(super) fn advance(
        &mut self,
        flags: EventFlags,
        scratch: &mut [u8],
    ) -> Result<Progress, Fault> {
        match self.stage {
            Stage::Connecting => self.finish_connecting(flags, scratch),
            Stage::Handshaking => self.shake(scratch),
            Stage::Sending(_) => self.send(),
            Stage::Receiving(_) | Stage::Resting => self.receive(scratch),
        }
    }

    /// Closes it as a client does that has what it wanted.
    pub(super) fn close(self) {
        self.wire.close();
    }

    fn finish_connecting(
        &mut self,
        flags: EventFlags,
        scratch: &mut [u8],
    ) -> Result<Progress, Fault> {
        if flags.is_empty() {
            return Ok(Progress::Waits(EventFlags::OUT));
        }
        match sockopt::socket_error(&self.wire.socket) {
            Ok(Ok(())) => {
                self.stage = Stage::Handshaking;
                self.shake(scratch)
            }
            Ok(Err(_)) | Err(_) => Err(Fault::Connect),
        }
    }

    fn shake(&mut self, scratch: &mut [u8]) -> Result<Progress, Fault> {
        match self.wire.shake(scratch) {
            Ok(Some(kind)) if self.must_resume && kind != HandshakeKind::Resumed => {
                Err(Fault::NotResumed)
            }
            Ok(_) => self.ask(),
            Err(stop) => waits(stop),
        }
    }

    fn send(&mut self) -> Result<Progress, Fault> {
        while let Stage::Sending(position) = self.stage {
            if position == self.request.length {
                match self.wire.flush() {
                    Ok(()) => self.stage = Stage::Receiving(0),
                    Err(stop) => return waits(stop),
                }
                continue;
            }
            let mut first = [0; 2048];
            let piece = if position == 0 {
                first_piece(self.request, &mut first)
            } else {
                self.request.padding(position)
            };
            let sent = if self.hello.is_empty() {
                self.wire.send(piece)
            } else {
                let length = self.hello.len();
                self.hello.extend_from_slice(piece);
                let sent = self.wire.send(&self.hello);
                self.hello.truncate(length);
                // As below, the buffer of a new socket has room for all of it.
                sent.map(|sent| sent.saturating_sub(length))
            };
            match sent {
                Ok(sent) => {
                    self.hello = Vec::new();
                    // The socket buffer is never so full that part of the header stays behind: only
                    // the first bytes on an idle connection carry it.
                    let sent = u32::try_from(sent).expect("at most one chunk");
                    self.stage = Stage::Sending(position + sent);
                }
                Err(stop) => return waits(stop),
            }
        }
        Ok(Progress::Waits(EventFlags::IN))
    }

    fn receive(&mut self, scratch: &mut [u8]) -> Result<Progress, Fault> {
        let received = match self.wire.receive(scratch) {
            Ok(received) => received,
            Err(stop) => return waits(stop),
        };
        // Bytes that nobody asked for are as wrong as bytes that differ.
        let Stage::Receiving(position) = self.stage else {
            return Err(Fault::WrongBytes);
        };
        if !self.request.response_at(position).starts_with(received) {
            return Err(Fault::WrongBytes);
        }
        let position = position + u32::try_from(received.len()).expect("at most one chunk");
        if position < self.request.response {
            self.stage = Stage::Receiving(position);
            return Ok(Progress::Waits(EventFlags::IN));
        }
        self.stage = Stage::Resting;
        Ok(Progress::Complete)
    }
}

fn waits(stop: Stop) -> Result<Progress, Fault> {
    match stop {
        Stop::Blocked(ready) => Ok(Progress::Waits(ready)),
        Stop::Broken(fault) => Err(fault),
    }
}

fn non_blocking_socket(target: SocketAddr) -> Result<TcpStream, Errno> {
    let family = if target.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(TcpStream::from(socket))
}

/// Header and padding in one piece, so that a small request is one segment.
fn first_piece(request: Request, buffer: &mut [u8]) -> &[u8] {
    let start = u32::try_from(HEADER).expect("a small constant");
    let padding = request.padding(start);
    let end = (HEADER + padding.len()).min(buffer.len());
    buffer[..HEADER].copy_from_slice(&request.header());
    buffer[HEADER..end].copy_from_slice(&padding[..end - HEADER]);
    &buffer[..end]
}
