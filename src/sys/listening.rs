//! Listening sockets: made, bound and set up, not yet accepting anything.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::socket::{keep_alive, set_option};

/// TCP settings of a listening socket that accepted sockets inherit or that govern its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSettings {
    /// Send small segments at once.
    pub nodelay: bool,
    /// Silence before the first probe, time between probes, probes; `None`: off.
    pub keepalive: Option<(Duration, Duration, u32)>,
    /// Wake only when the client has sent something, for so long.
    pub defer_accept: Option<Duration>,
    /// Connections with data in their SYN that may wait.
    pub fastopen: Option<u32>,
}

/// Settings that only a new socket can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches of the kernel"
)]
pub struct BirthSettings {
    /// Accept connections to addresses that are not ours.
    pub transparent: bool,
    /// Multipath TCP where the kernel has it.
    pub mptcp: bool,
    /// An IPv6 address takes no IPv4 connections.
    pub v6only: bool,
}

/// A TCP socket bound to `address` that shares it with others of this process (SO_REUSEPORT).
///
/// # Errors
/// What socket(2), setsockopt(2) or bind(2) say.
pub fn bind_tcp(address: SocketAddr, birth: BirthSettings) -> io::Result<OwnedFd> {
    let domain = Domain::for_address(address);
    let kind = Type::STREAM.nonblocking().cloexec();
    let plain = || Socket::new(domain, kind, Some(Protocol::TCP));
    let socket = if birth.mptcp {
        Socket::new(domain, kind, Some(Protocol::MPTCP)).or_else(|_| plain())?
    } else {
        plain()?
    };
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(birth.v6only)?;
    }
    match (birth.transparent, address.is_ipv6()) {
        (true, true) => socket.set_ip_transparent_v6(true)?,
        (true, false) => socket.set_ip_transparent_v4(true)?,
        (false, _) => {}
    }
    socket.bind(&SockAddr::from(address))?;
    Ok(socket.into())
}

/// Gives a TCP socket its settings; those already given are changed for connections to come.
///
/// # Errors
/// What setsockopt(2) says.
pub fn set_up_tcp(socket: BorrowedFd<'_>, settings: &TcpSettings) -> io::Result<()> {
    let reference = SockRef::from(&socket);
    reference.set_tcp_nodelay(settings.nodelay)?;
    match settings.keepalive {
        Some((idle, interval, count)) => keep_alive(socket, idle, interval, count)?,
        None => reference.set_keepalive(false)?,
    }
    let whole_seconds = |time: Duration| i32::try_from(time.as_secs()).unwrap_or(i32::MAX);
    let defer_accept = settings.defer_accept.map_or(0, whole_seconds);
    let fastopen = settings
        .fastopen
        .map_or(0, |queue| i32::try_from(queue).unwrap_or(i32::MAX));
    set_tcp(socket, libc::TCP_DEFER_ACCEPT, defer_accept)?;
    match set_tcp(socket, libc::TCP_FASTOPEN, fastopen) {
        // Multipath sockets of older kernels have no fast open; asking for none is then granted.
        Err(Errno::OPNOTSUPP | Errno::NOPROTOOPT) if fastopen == 0 => Ok(()),
        outcome => Ok(outcome?),
    }
}

fn set_tcp(socket: BorrowedFd<'_>, name: i32, value: i32) -> Result<(), Errno> {
    set_option(socket, libc::IPPROTO_TCP, name, value)
}

/// A unix socket bound to `path` with the permission bits `mode`; replaces a socket file that nobody
/// answers on.
///
/// # Errors
/// `AddrInUse` where somebody answers or the path is no socket; otherwise what the calls say.
pub fn bind_unix(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    remove_stale_socket(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    set_unix_mode(path, mode)?;
    Ok(socket.into())
}

/// Sets the permission bits of a unix socket's file.
///
/// # Errors
/// What chmod(2) says.
pub fn set_unix_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn remove_stale_socket(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type().is_socket(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let stale = is_socket
        && UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if stale {
        fs::remove_file(path)
    } else {
        Err(io::ErrorKind::AddrInUse.into())
    }
}

/// Starts queueing connections, at most `backlog`; called again, it changes the bound.
///
/// # Errors
/// What listen(2) says.
pub fn listen(socket: BorrowedFd<'_>, backlog: u32) -> io::Result<()> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    Ok(rustix::net::listen(socket.as_fd(), backlog)?)
}
