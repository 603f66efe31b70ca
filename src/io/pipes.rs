//! The worker's pipes: directions in bulk borrow one, idle sessions hold none.

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};

use crate::sys::pipe::Pipe;

/// A bounded set of pipes, opened on demand and used again.
pub struct PipePool {
    idle: RefCell<Vec<Pipe>>,
    open: Cell<usize>,
    open_max: usize,
}

impl PipePool {
    /// A pool that never has more than `open_max` pipes open.
    pub const fn new(open_max: usize) -> Self {
        Self {
            idle: RefCell::new(Vec::new()),
            open: Cell::new(0),
            open_max,
        }
    }

    /// An empty pipe; `None` when all are in use or the kernel grants no more.
    pub fn borrow(&self) -> Option<PipeLoan<'_>> {
        let pipe = match self.idle.borrow_mut().pop() {
            Some(pipe) => pipe,
            None => self.open_another()?,
        };
        Some(PipeLoan {
            pool: self,
            pipe: Some(pipe),
        })
    }

    fn open_another(&self) -> Option<Pipe> {
        if self.open.get() >= self.open_max {
            return None;
        }
        let pipe = Pipe::open().ok()?;
        self.open.set(self.open.get() + 1);
        Some(pipe)
    }
}

/// A borrowed pipe; goes back when dropped empty, is closed when dropped with bytes in it.
pub struct PipeLoan<'a> {
    pool: &'a PipePool,
    pipe: Option<Pipe>,
}

impl Deref for PipeLoan<'_> {
    type Target = Pipe;

    fn deref(&self) -> &Pipe {
        self.pipe.as_ref().expect("only drop takes it")
    }
}

impl DerefMut for PipeLoan<'_> {
    fn deref_mut(&mut self) -> &mut Pipe {
        self.pipe.as_mut().expect("only drop takes it")
    }
}

impl Drop for PipeLoan<'_> {
    fn drop(&mut self) {
        match self.pipe.take() {
            Some(pipe) if pipe.held() == 0 => self.pool.idle.borrow_mut().push(pipe),
            _ => self.pool.open.set(self.pool.open.get() - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn pool_is_bounded_and_returns_only_empty_pipes() {
        let pool = PipePool::new(2);
        let first = pool.borrow().unwrap();
        let mut second = pool.borrow().unwrap();
        assert!(pool.borrow().is_none());

        let (mut source, sink) = UnixStream::pair().unwrap();
        source.write_all(b"left in the pipe").unwrap();
        assert_eq!(second.fill(sink.as_fd(), 100), Ok(16));
        drop(first);
        drop(second);
        assert_eq!(pool.open.get(), 1);
        assert_eq!(pool.idle.borrow().len(), 1);
        assert_eq!(pool.borrow().unwrap().held(), 0);
    }
}
