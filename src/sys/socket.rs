//! Non-blocking calls on connected and connecting sockets.

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};
use socket2::{SockRef, TcpKeepalive};

use crate::base::address::Endpoint;

/// What a new socket is opened with: it never blocks and no child process inherits it.
pub const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// The next waiting connection and its peer's address; `None` for the address of a unix client.
///
/// # Errors
/// `Errno::AGAIN` when nothing waits; otherwise what accept4(2) says.
pub fn accept(listener: BorrowedFd<'_>) -> Result<(OwnedFd, Option<SocketAddr>), Errno> {
    let (socket, peer) = rustix::net::acceptfrom_with(listener, FLAGS)?;
    Ok((
        socket,
        peer.and_then(|peer| SocketAddr::try_from(peer).ok()),
    ))
}

/// Bytes received into the front of `buffer`; 0 is the end of the stream.
///
/// # Errors
/// `Errno::AGAIN` when nothing is there yet; otherwise what recv(2) says.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        match rustix::net::recv(socket, &mut *buffer, RecvFlags::empty()) {
            Err(Errno::INTR) => {}
            received => return received.map(|(bytes, _)| bytes),
        }
    }
}

/// How many bytes from the front of `bytes` the kernel took.
///
/// # Errors
/// `Errno::AGAIN` when it has no room; otherwise what send(2) says.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    loop {
        match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => return sent,
        }
    }
}

/// Ends the sending half: the peer reads all that was sent, then the end of the stream.
pub fn finish_sending(socket: BorrowedFd<'_>) {
    // ENOTCONN is a peer that is gone already: the next receive says so.
    let _ = rustix::net::shutdown(socket, Shutdown::Write);
}

/// Ends both halves in an orderly way, and with that every wait on the socket.
pub fn finish(socket: BorrowedFd<'_>) {
    let _ = rustix::net::shutdown(socket, Shutdown::Both);
}

/// Resets a TCP connection at once, and with that ends every wait on the socket.
///
/// A close would reset it only with SO_LINGER set and no FIN sent before; dissolving the association
/// (connect(2) to AF_UNSPEC) does it in every state and keeps the descriptor. Unix sockets have no
/// reset and are finished instead.
pub fn reset(socket: BorrowedFd<'_>) {
    if rustix::net::connect_unspec(socket).is_err() {
        finish(socket);
    }
}

/// Ends a connection that nobody has read from: the peer gets the end of the stream, and a reset only if
/// what it had sent by now was more than a few kilobytes.
pub fn finish_gently(socket: BorrowedFd<'_>) {
    finish_sending(socket);
    // A close resets where bytes were not read (RFC 2525 §2.17).
    let _ = receive(socket, &mut [0; 4096]);
}

/// Ends a connection without a word, as far as that can be had: with CAP_NET_ADMIN nothing is sent; else a
/// reset that the first router drops, so that a peer on the same network gets it.
pub fn vanish(socket: BorrowedFd<'_>) {
    if set_option(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, 1).is_ok() {
        return;
    }
    let _ = set_option(socket, libc::IPPROTO_IP, libc::IP_TTL, 1);
    let _ = set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, 1);
    reset(socket);
}

/// Whether the peer has reset the connection or it broke, although nobody has read that yet.
pub fn is_broken(socket: BorrowedFd<'_>) -> bool {
    let mut waits = [PollFd::from_borrowed_fd(socket, PollFlags::empty())];
    let at_once = Timespec::default();
    poll(&mut waits, Some(&at_once)).is_ok_and(|_| waits[0].revents().contains(PollFlags::ERR))
}

/// A non-blocking socket for connecting to `endpoint`, from the local address `source` if given.
///
/// # Errors
/// What socket(2), setsockopt(2) or bind(2) say.
pub fn open(endpoint: &Endpoint, source: Option<IpAddr>) -> Result<OwnedFd, Errno> {
    let family = match endpoint {
        Endpoint::Inet(SocketAddr::V4(_)) => AddressFamily::INET,
        Endpoint::Inet(SocketAddr::V6(_)) => AddressFamily::INET6,
        Endpoint::Unix(_) => AddressFamily::UNIX,
    };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, FLAGS, None)?;
    if let Some(source) = source
        && family != AddressFamily::UNIX
    {
        // The port is chosen at connect, so that one local port serves many destinations.
        set_option(
            socket.as_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            1,
        )?;
        rustix::net::bind(&socket, &SocketAddr::new(source, 0))?;
    }
    Ok(socket)
}

/// Sends small segments at once, although earlier ones are not acknowledged yet (TCP_NODELAY).
pub fn send_promptly(socket: BorrowedFd<'_>) {
    // A unix socket has no such option and never waits.
    let _ = sockopt::set_tcp_nodelay(socket, true);
}

/// Whether the kernel acknowledges what comes first at once, as it does by itself, or leaves the
/// acknowledgement to the next segment that is sent (TCP_QUICKACK).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledge {
    /// In a segment of its own.
    AtOnce,
    /// Together with what is sent next.
    WithData,
}

/// Chooses how the next segment is acknowledged.
pub fn acknowledge(socket: BorrowedFd<'_>, how: Acknowledge) {
    // A unix socket has no such option and needs none.
    let _ = sockopt::set_tcp_quickack(socket, how == Acknowledge::AtOnce);
}

/// How far a connect has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connecting {
    /// Established.
    Done,
    /// To be asked again once the socket is writable.
    Wait,
    /// To be begun again a little later: the queue of a unix socket is full.
    Full,
}

/// Begins or goes on connecting; asked again, it gives the outcome of the attempt.
///
/// # Errors
/// What connect(2) says of the attempt.
pub fn connect(socket: BorrowedFd<'_>, endpoint: &Endpoint) -> Result<Connecting, Errno> {
    let outcome = match endpoint {
        Endpoint::Inet(address) => rustix::net::connect(socket, address),
        Endpoint::Unix(path) => {
            SocketAddrUnix::new(path).and_then(|path| rustix::net::connect(socket, &path))
        }
    };
    match outcome {
        Ok(()) | Err(Errno::ISCONN) => Ok(Connecting::Done),
        Err(Errno::INPROGRESS | Errno::ALREADY | Errno::INTR) => Ok(Connecting::Wait),
        Err(Errno::AGAIN) if matches!(endpoint, Endpoint::Unix(_)) => Ok(Connecting::Full),
        Err(error) => Err(error),
    }
}

/// Whether a connect to a port of this machine has met itself: TCP's simultaneous open, where the
/// kernel's choice of the local port was the port that nobody listens on (RFC 9293 §3.5).
pub fn is_connected_to_itself(socket: BorrowedFd<'_>, endpoint: &Endpoint) -> bool {
    // The kernel chooses local ports from here up, unless told otherwise.
    const EPHEMERAL: u16 = 32_768;
    let Endpoint::Inet(address) = endpoint else {
        return false;
    };
    let possible = address.ip().is_loopback() && address.port() >= EPHEMERAL;
    possible
        && rustix::net::getsockname(socket)
            .is_ok_and(|local| SocketAddr::try_from(local) == Ok(*address))
}

/// The local address of a connection; `None`: it is no internet address.
pub fn local_address(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    SocketAddr::try_from(rustix::net::getsockname(socket).ok()?).ok()
}

/// Asks the kernel to probe a silent peer: first after `idle`, then each `interval`, `count` times.
///
/// # Errors
/// What setsockopt(2) says; a unix socket has no such probes.
pub fn keep_alive(
    socket: BorrowedFd<'_>,
    idle: Duration,
    interval: Duration,
    count: u32,
) -> io::Result<()> {
    let probes = TcpKeepalive::new()
        .with_time(idle)
        .with_interval(interval)
        .with_retries(count);
    SockRef::from(&socket).set_tcp_keepalive(&probes)
}

/// What the kernel knows of a TCP connection's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSummary {
    /// The smoothed round-trip time, microseconds.
    pub rtt_micros: u32,
    /// Segments sent again over the connection's life.
    pub retransmits: u32,
}

/// The kernel's view of a TCP connection; `None` for other sockets, and for one that was reset from
/// here, of which the kernel keeps nothing.
pub fn tcp_summary(socket: BorrowedFd<'_>) -> Option<TcpSummary> {
    const TCP_CLOSE: u8 = 7;
    // SAFETY: `tcp_info` is a plain C struct of integers, for which all zeroes is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
    // SAFETY: the pointers are to locals that live through the call, and `length` is the first
    // one's size, which the kernel does not write beyond.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    let forgotten = info.tcpi_rtt == 0 && info.tcpi_state == TCP_CLOSE;
    (result == 0 && !forgotten).then_some(TcpSummary {
        rtt_micros: info.tcpi_rtt,
        retransmits: info.tcpi_total_retrans,
    })
}

/// Sets an integer socket option that has no safe wrapper elsewhere.
///
/// # Errors
/// What setsockopt(2) says.
pub fn set_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> Result<(), Errno> {
    // SAFETY: the pointer is to a local that lives through the call, and the length is its size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(4),
        )
    };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
}

/// Takes the descriptor out of something that owns it.
pub fn take_descriptor(owner: impl IntoRawFd) -> OwnedFd {
    // SAFETY: `into_raw_fd` hands over the ownership of an open descriptor.
    unsafe { OwnedFd::from_raw_fd(owner.into_raw_fd()) }
}

/// The descriptor of something that owns it but does not say so in its type.
pub fn descriptor_of(owner: &impl AsRawFd) -> BorrowedFd<'_> {
    // SAFETY: the owner keeps the descriptor open for as long as the borrow of it lasts.
    unsafe { BorrowedFd::borrow_raw(owner.as_raw_fd()) }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (ours, listener.accept().unwrap().0)
    }

    #[test]
    fn reset_reaches_the_peer_even_after_a_fin() {
        for finished_before in [false, true] {
            let (ours, mut theirs) = pair();
            if finished_before {
                finish_sending(ours.as_fd());
                assert_eq!(theirs.read(&mut [0; 8]).unwrap(), 0);
            }
            assert!(!is_broken(theirs.as_fd()));
            reset(ours.as_fd());
            assert!(is_broken(theirs.as_fd()));
            if !finished_before {
                // After a FIN the kernel answers reads with the end of the stream for ever.
                let error = theirs.read(&mut [0; 8]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            }
        }
    }

    #[test]
    fn tcp_summary_is_for_tcp_only() {
        let (ours, _theirs) = pair();
        assert!(tcp_summary(ours.as_fd()).is_some());
        let (unix, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(tcp_summary(unix.as_fd()), None);
    }

    #[test]
    fn connect_tells_refusal_from_success() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open_port = Endpoint::Inet(listener.local_addr().unwrap());
        let socket = open(&open_port, Some([127, 0, 0, 9].into())).unwrap();
        while connect(socket.as_fd(), &open_port).unwrap() == Connecting::Wait {}
        assert_eq!(listener.accept().unwrap().1.ip().to_string(), "127.0.0.9");

        drop(listener);
        let socket = open(&open_port, None).unwrap();
        let refused = loop {
            match connect(socket.as_fd(), &open_port) {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(refused, Errno::CONNREFUSED);
    }
}
