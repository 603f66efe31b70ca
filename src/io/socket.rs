//! A descriptor whose readiness a worker can wait for; the bytes are moved by direct calls.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::sys::room::{has_room, watch};
use crate::sys::socket::{descriptor_of, reset, take_descriptor};

/// How often to look for room that cannot be waited for.
const ROOM_INTERVAL: Duration = Duration::from_millis(100);

/// A non-blocking descriptor registered with this thread's runtime.
///
/// A wait is a poll operation of the runtime. It owns no buffer, so nothing is lost when it ends
/// for another reason than readiness.
pub struct Socket {
    // The runtime offers readiness on its streams only, and a unix stream is the one that carries
    // nothing but a descriptor; what kind of socket it really is does not matter to a poll.
    stream: Option<monoio::net::UnixStream>,
    waits: Cell<u32>,
}

impl Socket {
    /// Registers `descriptor`, which must be non-blocking, with the runtime of this thread.
    ///
    /// # Errors
    /// What epoll_ctl(2) says; io_uring registers nothing.
    pub fn new(descriptor: OwnedFd) -> io::Result<Self> {
        let stream = monoio::net::UnixStream::from_std(UnixStream::from(descriptor))?;
        Ok(Self {
            stream: Some(stream),
            waits: Cell::new(0),
        })
    }

    /// Waits until receiving would not block: bytes, the end of the stream or an error.
    pub async fn readable(&self) {
        self.waits.set(self.waits.get() + 1);
        // An error of the poll itself shows again, and is handled, at the call that follows.
        let _ = self.stream().readable(false).await;
        self.waits.set(self.waits.get() - 1);
    }

    /// Waits until sending would not block: room, or an error.
    pub async fn writable(&self) {
        self.connected().await;
        // io_uring's poll completes at once, room or not, where the peer has sent its FIN: the kernel
        // adds EPOLLRDHUP to whatever is asked for. Going by that spins until the peer reads.
        if !has_room(self.as_fd()) {
            Box::pin(self.room()).await;
        }
    }

    /// Waits until a connect under way is over.
    pub async fn connected(&self) {
        self.waits.set(self.waits.get() + 1);
        let _ = self.stream().writable(false).await;
        self.waits.set(self.waits.get() - 1);
    }

    /// Waits for room by way of an epoll instance, which reports no FIN that it was not asked for.
    async fn room(&self) {
        match watch(self.as_fd())
            .map_err(io::Error::from)
            .and_then(Self::new)
        {
            Ok(watch) => watch.readable().await,
            // Descriptors are scarce: look again after a while.
            Err(_) => monoio::time::sleep(ROOM_INTERVAL).await,
        }
    }

    /// Whether a wait has begun that is not over.
    pub const fn is_waited_for(&self) -> bool {
        self.waits.get() > 0
    }

    fn stream(&self) -> &monoio::net::UnixStream {
        self.stream.as_ref().expect("only drop takes it")
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        descriptor_of(self.stream())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let abandoned = self.waits.get() > 0;
        if abandoned {
            // Only after a panic: let the poll complete, the runtime closes the descriptor then.
            reset(self.as_fd());
        }
        let stream = self.stream.take();
        if !abandoned {
            // Dropping the stream itself would queue a close and a cancel with the runtime.
            drop(stream.map(take_descriptor));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::pin::pin;
    use std::thread;

    use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};
    use rustix::io::Errno;

    use super::*;
    use crate::io::join::both;
    use crate::sys::socket::send;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        ours.set_nonblocking(true).unwrap();
        (ours, listener.accept().unwrap().0)
    }

    /// Sends until the kernel takes nothing more, now and a while later: it goes on moving bytes to the
    /// peer for a moment.
    async fn fill(socket: &Socket) {
        let mut refused = 0;
        while refused < 5 {
            match send(socket.as_fd(), &[7; 65536]) {
                Ok(_) => refused = 0,
                Err(refusal) => {
                    assert_eq!(refusal, Errno::AGAIN);
                    refused += 1;
                    monoio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// A wait for room that ends with the socket still full would be gone round without end.
    async fn waits_for_room() {
        for finished in [false, true] {
            let (ours, mut theirs) = pair();
            let socket = Socket::new(OwnedFd::from(ours)).unwrap();
            if finished {
                theirs.shutdown(Shutdown::Write).unwrap();
            }
            fill(&socket).await;
            let reader = thread::spawn(move || {
                // Long enough for a wait that does not wait to be found out.
                thread::park_timeout(Duration::from_millis(200));
                // It wants more than the sockets hold.
                let _ = theirs.read_exact(&mut vec![0; 1 << 26]);
            });
            socket.writable().await;
            let sent = send(socket.as_fd(), &[7]);
            reset(socket.as_fd());
            reader.join().unwrap();
            assert_eq!(sent, Ok(1), "finished: {finished}");
        }
    }

    async fn ends_with_the_connection() {
        let (ours, theirs) = pair();
        let socket = Socket::new(OwnedFd::from(ours)).unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        fill(&socket).await;
        let end = async {
            monoio::time::sleep(Duration::from_millis(50)).await;
            reset(socket.as_fd());
        };
        both(pin!(socket.writable()), pin!(end)).await;
        assert!(send(socket.as_fd(), &[7]).is_err());
    }

    #[test]
    fn a_full_socket_is_waited_for_even_if_its_peer_has_finished() {
        let mut ring = RuntimeBuilder::<IoUringDriver>::new()
            .enable_timer()
            .build()
            .unwrap();
        ring.block_on(waits_for_room());
        let mut epoll = RuntimeBuilder::<LegacyDriver>::new()
            .enable_timer()
            .build()
            .unwrap();
        epoll.block_on(waits_for_room());
    }

    #[test]
    fn a_wait_for_room_ends_with_the_connection() {
        let mut ring = RuntimeBuilder::<IoUringDriver>::new()
            .enable_timer()
            .build()
            .unwrap();
        ring.block_on(ends_with_the_connection());
    }
}
