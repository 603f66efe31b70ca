//! A pipe for splicing, and the splice calls themselves.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};

use crate::base::limits::PIPE_BYTES;

/// A pipe that knows how many bytes it holds.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
}

impl Pipe {
    /// A pipe of [`PIPE_BYTES`], or of 256 KiB or the default size where the kernel grants no more.
    ///
    /// # Errors
    /// What pipe2(2) says.
    pub fn open() -> Result<Self, Errno> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        let _ = rustix::pipe::fcntl_setpipe_size(&write, PIPE_BYTES)
            .or_else(|_| rustix::pipe::fcntl_setpipe_size(&write, PIPE_BYTES / 4));
        Ok(Self {
            read,
            write,
            held: 0,
        })
    }

    /// Bytes put in and not yet taken out; may exceed the pipe's nominal size.
    pub const fn held(&self) -> usize {
        self.held
    }

    /// Moves up to `most` bytes from a socket into the pipe; 0 is the end of the stream.
    ///
    /// # Errors
    /// `Errno::AGAIN` when the socket has nothing or the pipe has no room, `Errno::INVAL` where the
    /// socket cannot be spliced, otherwise what splice(2) says.
    pub fn fill(&mut self, from: BorrowedFd<'_>, most: usize) -> Result<usize, Errno> {
        let moved =
            splice(|flags| rustix::pipe::splice(from, None, &self.write, None, most, flags))?;
        self.held += moved;
        Ok(moved)
    }

    /// Moves what the pipe holds to a socket, as far as the socket has room.
    ///
    /// # Errors
    /// `Errno::AGAIN` when the socket has no room, otherwise what splice(2) says.
    pub fn drain(&mut self, to: BorrowedFd<'_>) -> Result<usize, Errno> {
        let held = self.held;
        let moved = splice(|flags| rustix::pipe::splice(&self.read, None, to, None, held, flags))?;
        self.held -= moved.min(held);
        Ok(moved)
    }
}

fn splice(call: impl Fn(SpliceFlags) -> Result<usize, Errno>) -> Result<usize, Errno> {
    loop {
        match call(SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
            Err(Errno::INTR) => {}
            outcome => return outcome,
        }
    }
}
