//! One client connection: connects, sends a request, checks the response byte by byte.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
    sockopt,
};

use crate::pattern::{HEADER, Request};

use super::Errors;

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
}

impl Errors {
    pub(super) fn count(&mut self, fault: Fault) {
        let kind = match fault {
            Fault::Connect => &mut self.connect,
            Fault::Reset => &mut self.reset,
            Fault::EarlyClose => &mut self.early_close,
            Fault::WrongBytes => &mut self.wrong_bytes,
            Fault::Timeout => &mut self.timeout,
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

#[derive(Clone, Copy, Debug)]
enum Stage {
    Connecting,
    Sending(u32),
    Receiving(u32),
    Resting,
}

/// A connection with the request it carries.
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    pub(super) interest: EventFlags,
    request: Request,
    stage: Stage,
}

impl Connection {
    /// Begins to connect.
    pub(super) fn open(target: SocketAddr, request: Request) -> Result<Self, Fault> {
        let socket = non_blocking_socket(target).map_err(|_| Fault::Connect)?;
        let stage = match connect(&socket, &target) {
            Ok(()) => Stage::Sending(0),
            Err(Errno::INPROGRESS | Errno::INTR) => Stage::Connecting,
            Err(_) => return Err(Fault::Connect),
        };
        Ok(Self {
            socket,
            interest: EventFlags::empty(),
            request,
            stage,
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
            Stage::Connecting => self.finish_connecting(flags),
            Stage::Sending(_) => self.send(),
            Stage::Receiving(_) | Stage::Resting => self.receive(scratch),
        }
    }

    fn finish_connecting(&mut self, flags: EventFlags) -> Result<Progress, Fault> {
        if flags.is_empty() {
            return Ok(Progress::Waits(EventFlags::OUT));
        }
        match sockopt::socket_error(&self.socket) {
            Ok(Ok(())) => self.ask(),
            Ok(Err(_)) | Err(_) => Err(Fault::Connect),
        }
    }

    fn send(&mut self) -> Result<Progress, Fault> {
        while let Stage::Sending(position) = self.stage {
            let mut first = [0; 2048];
            let piece = if position == 0 {
                first_piece(self.request, &mut first)
            } else {
                self.request.padding(position)
            };
            match send(&self.socket, piece, SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    let position = position + u32::try_from(sent).expect("at most one chunk");
                    // The socket buffer is never so full that part of the header stays behind: only
                    // the first bytes on an idle connection carry it.
                    self.stage = if position < self.request.length {
                        Stage::Sending(position)
                    } else {
                        Stage::Receiving(0)
                    };
                }
                Err(Errno::AGAIN) => return Ok(Progress::Waits(EventFlags::OUT)),
                Err(Errno::INTR) => {}
                Err(_) => return Err(Fault::Reset),
            }
        }
        Ok(Progress::Waits(EventFlags::IN))
    }

    fn receive(&mut self, scratch: &mut [u8]) -> Result<Progress, Fault> {
        let length = match recv(&self.socket, &mut *scratch, RecvFlags::empty()) {
            Ok((0, _)) => return Err(Fault::EarlyClose),
            Ok((length, _)) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Progress::Waits(EventFlags::IN)),
            Err(_) => return Err(Fault::Reset),
        };
        // Bytes that nobody asked for are as wrong as bytes that differ.
        let Stage::Receiving(position) = self.stage else {
            return Err(Fault::WrongBytes);
        };
        let received = scratch.get(..length).ok_or(Fault::WrongBytes)?;
        if !self.request.response_at(position).starts_with(received) {
            return Err(Fault::WrongBytes);
        }
        let position = position + u32::try_from(length).expect("at most one chunk");
        if position < self.request.response {
            self.stage = Stage::Receiving(position);
            return Ok(Progress::Waits(EventFlags::IN));
        }
        self.stage = Stage::Resting;
        Ok(Progress::Complete)
    }
}

fn non_blocking_socket(target: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if target.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(socket)
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
