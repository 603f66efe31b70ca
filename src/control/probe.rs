//! One probe: connects, says what is to be said, and judges the answer.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, UnixStream};
use tokio::time::timeout;

use crate::base::address::Endpoint;
use crate::config::model::{Exchange, HttpProbe, Probe};
use crate::health::{ANSWER_BYTES_MAX, Failure, Judged, Target, http, judge};
use crate::proxy_protocol::write_probe;
use crate::sys::socket::{is_connected_to_itself, local_address, open};

use super::probe_tls::Secured;

/// Asks one backend whether it is well.
pub(super) async fn probe(target: &Target) -> Result<(), Failure> {
    let within = target.plan.health.timeout;
    let asked = timeout(within, ask(target)).await;
    asked.unwrap_or(Err(Failure::Timeout))
}

async fn ask(target: &Target) -> Result<(), Failure> {
    let endpoint = target.endpoint();
    let (mut stream, header) = connect(target, &endpoint).await?;
    if !header.is_empty() {
        stream.write_all(&header).await?;
    }
    match &target.plan.health.probe {
        Probe::Tcp => Ok(()),
        Probe::Tls => Secured::handshake(target, stream).await?.close().await,
        Probe::Http(probe) => line(target, stream).await?.ask_http(target, probe).await,
        Probe::Exchange(probe) => line(target, stream).await?.exchange(probe).await,
    }
}

/// A connection of any kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Connects as sessions do; returns what has to be said first, too.
async fn connect(
    target: &Target,
    endpoint: &Endpoint,
) -> Result<(Box<dyn Stream>, Vec<u8>), Failure> {
    let plan = &target.plan;
    let header = |addresses: Option<(SocketAddr, SocketAddr)>| {
        let mut header = Vec::new();
        if let Some(send) = &plan.proxy_protocol {
            write_probe(send, addresses, &mut header);
        }
        header
    };
    match endpoint {
        Endpoint::Inet(address) => {
            let socket = open(endpoint, plan.source).map_err(|error| failure(&error.into()))?;
            let stream = TcpSocket::from_std_stream(socket.into())
                .connect(*address)
                .await?;
            if is_connected_to_itself(stream.as_fd(), endpoint) {
                return Err(Failure::Refused);
            }
            // The header and what follows are small and must not wait for each other.
            stream.set_nodelay(true)?;
            let local = local_address(stream.as_fd());
            Ok((
                Box::new(stream),
                header(local.map(|local| (local, *address))),
            ))
        }
        Endpoint::Unix(path) => Ok((Box::new(UnixStream::connect(path).await?), header(None))),
    }
}

/// What a probe talks through.
pub(super) enum Line {
    Plain(Box<dyn Stream>),
    Secured(Box<Secured>),
}

/// Encrypted, if the connections of sessions are.
async fn line(target: &Target, stream: Box<dyn Stream>) -> Result<Line, Failure> {
    Ok(match target.plan.tls {
        None => Line::Plain(stream),
        Some(_) => Line::Secured(Box::new(Secured::handshake(target, stream).await?)),
    })
}

impl Line {
    async fn ask_http(mut self, target: &Target, probe: &HttpProbe) -> Result<(), Failure> {
        let request = http::request(probe, &target.host());
        self.send(&request).await?;
        self.judge_by(|answer| http::judge(probe, answer), Failure::NotHttp)
            .await
    }

    async fn exchange(mut self, probe: &Exchange) -> Result<(), Failure> {
        self.send(&probe.send).await?;
        self.judge_by(
            |answer| Ok(judge(&probe.expect, answer)),
            Failure::Unexpected,
        )
        .await
    }

    /// Reads until the answer is judged; `bad` is what a bad one is called.
    async fn judge_by(
        mut self,
        judge: impl Fn(&[u8]) -> Result<Judged, Failure>,
        bad: Failure,
    ) -> Result<(), Failure> {
        let mut answer = Vec::new();
        loop {
            let is_over = self.receive(&mut answer).await? == 0;
            answer.truncate(ANSWER_BYTES_MAX);
            match judge(&answer)? {
                Judged::Good => return Ok(()),
                Judged::Bad => return Err(bad),
                Judged::Open if is_over => return Err(Failure::Closed),
                Judged::Open => {}
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            _ if bytes.is_empty() => Ok(()),
            Self::Plain(stream) => Ok(stream.write_all(bytes).await?),
            Self::Secured(secured) => secured.send(bytes).await,
        }
    }

    /// Appends what comes next; 0 bytes are the end.
    async fn receive(&mut self, answer: &mut Vec<u8>) -> Result<usize, Failure> {
        match self {
            Self::Plain(stream) => Ok(stream.read_buf(answer).await?),
            Self::Secured(secured) => secured.receive(answer).await,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        failure(&error)
    }
}

/// In the words of the session log, where there are any.
fn failure(error: &io::Error) -> Failure {
    match Errno::from_io_error(error) {
        Some(Errno::CONNREFUSED | Errno::NOENT) => Failure::Refused,
        Some(Errno::TIMEDOUT) => Failure::Timeout,
        Some(Errno::CONNRESET | Errno::CONNABORTED | Errno::PIPE) => Failure::Reset,
        Some(
            Errno::HOSTUNREACH
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::NETDOWN
            | Errno::ACCESS
            | Errno::PERM,
        ) => Failure::Unreachable,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL) => {
            Failure::Ours(error.to_string())
        }
        _ => Failure::Other(error.to_string()),
    }
}
