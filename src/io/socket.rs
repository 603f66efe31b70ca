//! A descriptor whose readiness a worker can wait for; the bytes are moved by direct calls.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::sys::socket::{descriptor_of, reset, take_descriptor};

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
        self.waits.set(self.waits.get() + 1);
        let _ = self.stream().writable(false).await;
        self.waits.set(self.waits.get() - 1);
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
