//! A socket filter that lets a listening socket run dry without losing a connection.

use std::io;
use std::os::fd::BorrowedFd;

use socket2::{SockFilter, SockRef};

/// Makes a listening TCP socket ignore new connections, while handshakes under way complete.
///
/// Closing a listening socket resets what waits in its queue, and a connection may enter the queue
/// between the last accept and the close. With SYN segments dropped the queue can only get shorter;
/// clients that come meanwhile try again a second later and find the socket gone.
///
/// # Errors
/// What setsockopt(2) says.
pub fn ignore_new_connections(listener: BorrowedFd<'_>) -> io::Result<()> {
    // A listener's filter sees segments from the TCP header on; its flags are byte 13 (RFC 9293 §3.1).
    const LOAD_BYTE_ABSOLUTE: u16 = 0x30;
    const JUMP_IF_ANY_BIT: u16 = 0x45;
    const RETURN: u16 = 0x06;
    const FLAGS_OFFSET: u32 = 13;
    const SYN: u32 = 0x02;
    SockRef::from(&listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE_ABSOLUTE, 0, 0, FLAGS_OFFSET),
        SockFilter::new(JUMP_IF_ANY_BIT, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::Duration;

    use super::*;

    #[test]
    fn queued_connections_survive_and_new_ones_do_not_enter() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _queued = TcpStream::connect(address).unwrap();
        ignore_new_connections(listener.as_fd()).unwrap();
        let late = TcpStream::connect_timeout(&address, Duration::from_millis(100));
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);

        listener.accept().unwrap();
        listener.set_nonblocking(true).unwrap();
        assert_eq!(
            listener.accept().unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    }
}
