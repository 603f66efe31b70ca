//! The backend server: one thread that checks every byte of a request and answers with the pattern.
//!
//! A long request makes it a checked sink, a long response a source, so bulk needs no other mode.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, accept_with, bind, listen, recv,
    send, socket_with, sockopt,
};
use serde::{Deserialize, Serialize};

use crate::hello::Record;
use crate::pattern::{CHUNK, HEADER, Request};
use crate::poll;

/// What a backend process listens on.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Plan {
    /// The first port of 127.0.0.1; 0 takes a free one, for one port only.
    pub port: u16,
    /// How many ports, one after the other.
    pub ports: u16,
    /// What connections begin with.
    pub opening: Opening,
}

/// What connections begin with.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub enum Opening {
    /// The first request.
    Request,
    /// A ClientHello, and then the first request, whose phase is the ClientHello's digest.
    Hello,
}

/// Marks the tokens that are listening sockets; the rest number connections.
const LISTENER: u64 = 1 << 63;

/// Connections accepted at one go, so that those already open are not kept waiting.
const ACCEPTED_AT_ONCE: usize = 64;

/// A server that listens.
pub struct Backend {
    epoll: OwnedFd,
    listeners: Vec<OwnedFd>,
    connections: Vec<Option<Connection>>,
    vacant: Vec<usize>,
    scratch: Vec<u8>,
    opening: Opening,
}

impl Backend {
    /// Listens on every port of the plan.
    pub fn listen(plan: Plan) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut listeners = Vec::new();
        for port in plan.port..=plan.port + plan.ports.saturating_sub(1) {
            let listener = listening_socket(port)
                .with_context(|| format!("backend cannot listen on 127.0.0.1:{port}"))?;
            let token = EventData::new_u64(LISTENER | listeners.len() as u64);
            epoll::add(&epoll, &listener, token, EventFlags::IN)?;
            listeners.push(listener);
        }
        Ok(Self {
            epoll,
            listeners,
            connections: Vec::new(),
            vacant: Vec::new(),
            scratch: vec![0; CHUNK],
            opening: plan.opening,
        })
    }

    /// Where the first listener is.
    pub fn address(&self) -> Result<SocketAddr> {
        let first = self.listeners.first().context("a backend without ports")?;
        Ok(SocketAddr::try_from(rustix::net::getsockname(first)?)?)
    }

    /// Serves until the process is ended.
    pub fn serve(mut self) -> Result<()> {
        let mut events = poll::events();
        loop {
            for (token, _) in poll::wait(&self.epoll, &mut events, Duration::MAX)? {
                if token & LISTENER != 0 {
                    self.accept(token & !LISTENER)?;
                } else {
                    self.advance(token)?;
                }
            }
        }
    }

    fn accept(&mut self, listener: u64) -> Result<()> {
        let listener = usize::try_from(listener).expect("numbered by a usize");
        for _ in 0..ACCEPTED_AT_ONCE {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let socket = match accept_with(&self.listeners[listener], flags) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::CONNABORTED | Errno::INTR) => continue,
                Err(error) => return Err(error).context("backend cannot accept"),
            };
            sockopt::set_tcp_nodelay(&socket, true)?;
            let place = self.vacant.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let token = EventData::new_u64(place as u64);
            epoll::add(&self.epoll, &socket, token, EventFlags::IN)?;
            self.connections[place] = Some(Connection::new(socket, self.opening));
        }
        Ok(())
    }

    fn advance(&mut self, token: u64) -> Result<()> {
        let place = usize::try_from(token).expect("numbered by a usize");
        let Some(connection) = self.connections[place].as_mut() else {
            // An event of a connection that an earlier event of the same batch has closed.
            return Ok(());
        };
        let interest = match connection.advance(&mut self.scratch) {
            Step::Wait(interest) => interest,
            Step::Close => {
                self.connections[place] = None;
                self.vacant.push(place);
                return Ok(());
            }
        };
        if interest != connection.interest {
            connection.interest = interest;
            let data = EventData::new_u64(token);
            epoll::modify(&self.epoll, &connection.socket, data, interest)?;
        }
        Ok(())
    }
}

fn listening_socket(port: u16) -> Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    listen(&socket, 4096)?;
    Ok(socket)
}

enum Step {
    Wait(EventFlags),
    Close,
}

struct Connection {
    socket: OwnedFd,
    interest: EventFlags,
    stage: Stage,
    /// The phase that the first request must have.
    digest: Option<u32>,
}

enum Stage {
    Hello(Record),
    Header([u8; HEADER], usize),
    Padding(Request, u32),
    Response(Request, u32),
}

impl Connection {
    fn new(socket: OwnedFd, opening: Opening) -> Self {
        Self {
            socket,
            interest: EventFlags::IN,
            stage: match opening {
                Opening::Request => Stage::Header([0; HEADER], 0),
                Opening::Hello => Stage::Hello(Record::default()),
            },
            digest: None,
        }
    }

    fn advance(&mut self, scratch: &mut [u8]) -> Step {
        if !matches!(self.stage, Stage::Response(..)) {
            let length = match recv(&self.socket, &mut *scratch, RecvFlags::empty()) {
                Ok((0, _)) => return Step::Close,
                Ok((length, _)) => length,
                Err(Errno::AGAIN | Errno::INTR) => return Step::Wait(EventFlags::IN),
                Err(_) => return Step::Close,
            };
            let Some(received) = scratch.get(..length) else {
                return Step::Close;
            };
            if self.take(received).is_none() {
                // A reset tells the client that its bytes did not arrive as they were sent.
                return self.reset();
            }
        }
        self.answer()
    }

    /// None if a byte is not what it should be.
    fn take(&mut self, mut bytes: &[u8]) -> Option<()> {
        if let Stage::Hello(record) = &mut self.stage {
            bytes = record.take(bytes)?;
            if let Some(digest) = record.digest() {
                self.digest = Some(digest);
                self.stage = Stage::Header([0; HEADER], 0);
            }
        }
        if let Stage::Header(header, filled) = &mut self.stage {
            let length = bytes.len().min(HEADER - *filled);
            header[*filled..*filled + length].copy_from_slice(&bytes[..length]);
            *filled += length;
            bytes = &bytes[length..];
            if *filled == HEADER {
                let start = u32::try_from(HEADER).expect("a small constant");
                let request = Request::parse(*header)?;
                let expected = self.digest.take().unwrap_or(request.phase);
                if request.phase != expected {
                    return None;
                }
                self.stage = Stage::Padding(request, start);
            }
        }
        if let Stage::Padding(request, position) = &mut self.stage {
            if !request.padding(*position).starts_with(bytes) {
                return None;
            }
            *position += u32::try_from(bytes.len()).ok()?;
            if *position == request.length {
                self.stage = Stage::Response(*request, 0);
            }
        }
        Some(())
    }

    fn answer(&mut self) -> Step {
        while let Stage::Response(request, position) = &mut self.stage {
            let piece = request.response_at(*position);
            if piece.is_empty() {
                self.stage = Stage::Header([0; HEADER], 0);
                break;
            }
            match send(self.socket.as_fd(), piece, SendFlags::NOSIGNAL) {
                Ok(sent) => *position += u32::try_from(sent).expect("at most one chunk"),
                Err(Errno::AGAIN) => return Step::Wait(EventFlags::OUT),
                Err(Errno::INTR) => {}
                Err(_) => return Step::Close,
            }
        }
        Step::Wait(EventFlags::IN)
    }

    fn reset(&self) -> Step {
        // Should this fail, the close becomes an ordinary one: the client then counts an early close.
        let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
        Step::Close
    }
}
