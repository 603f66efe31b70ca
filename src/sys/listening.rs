//! Listening sockets: made, bound and set up, not yet accepting anything.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
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
    let socket = open_tcp(address, birth)?;
    socket.set_reuse_port(true)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket.into())
}

/// Whether nobody listens on `address`. Sockets that share it would not tell: another process of
/// the same user could bind it as well, and the two would take each other's connections.
///
/// # Errors
/// `AddrInUse` where somebody listens; otherwise what socket(2), setsockopt(2) or bind(2) say.
pub fn must_be_free(address: SocketAddr, birth: BirthSettings) -> io::Result<()> {
    open_tcp(address, birth)?.bind(&SockAddr::from(address))
}

fn open_tcp(address: SocketAddr, birth: BirthSettings) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let kind = Type::STREAM.nonblocking().cloexec();
    let plain = || Socket::new(domain, kind, Some(Protocol::TCP));
    let socket = if birth.mptcp {
        Socket::new(domain, kind, Some(Protocol::MPTCP)).or_else(|_| plain())?
    } else {
        plain()?
    };
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(birth.v6only)?;
    }
    match (birth.transparent, address.is_ipv6()) {
        (true, true) => socket.set_ip_transparent_v6(true)?,
        (true, false) => socket.set_ip_transparent_v4(true)?,
        (false, _) => {}
    }
    Ok(socket)
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

/// The file of a unix socket, removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode, so that a file that somebody else has put there since is left alone.
    identity: (u64, u64),
}

/// A unix socket bound to `path` with the permission bits `mode`, and its file.
///
/// A file that is left over from a process that is gone is replaced; one on which somebody answers is
/// `AddrInUse`, and a file that is no socket is never touched.
///
/// # Errors
/// As said, and what the calls say.
pub fn bind_unix(path: &Path, mode: u32) -> io::Result<(OwnedFd, SocketFile)> {
    remove_stale(path)?;
    let socket = unix_socket()?;
    socket.bind(&SockAddr::unix(path)?)?;
    let metadata = fs::symlink_metadata(path)?;
    let file = SocketFile {
        path: path.to_owned(),
        identity: (metadata.dev(), metadata.ino()),
    };
    // Nobody can connect before `listen`, so there is no moment at which the mode is too wide.
    set_unix_mode(path, mode)?;
    Ok((socket.into(), file))
}

/// Sets the permission bits of a unix socket's file.
///
/// # Errors
/// What chmod(2) says.
pub fn set_unix_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is not a socket is in the way",
        ));
    }
    // Non-blocking, so that a full backlog does not hold up the start.
    match unix_socket()?.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Connected, or a full backlog, or no leave to connect: somebody is there.
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

fn unix_socket() -> io::Result<Socket> {
    Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)
}

impl SocketFile {
    /// Whether it is still there for clients to find.
    pub fn is_in_place(&self) -> bool {
        fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_in_place() {
            // Whoever finds the file left over replaces it, so a failure here harms nobody.
            let _ = fs::remove_file(&self.path);
        }
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
