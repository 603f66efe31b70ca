//! The end of a turn: others go on first.
//!
//! A wait for readiness that is there already goes through the ring on io_uring, and with that lets
//! everybody else run. On epoll the runtime answers it at once, and a busy stream would keep its worker
//! to itself: measured, 540 MB in 4 s without a look at anything else. So there a turn ends with a
//! message to ourselves through the driver, about three system calls each MiB.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::task::{Poll, Waker};

use super::socket::Socket;
use crate::sys::wake::Wake;

/// Those of one worker who have had their turn.
pub struct Turns {
    wake: Wake,
    waiting: RefCell<Vec<Waker>>,
    rounds: Cell<u64>,
}

impl Turns {
    /// Nobody waits.
    ///
    /// # Errors
    /// What eventfd(2) says.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            wake: Wake::new()?,
            waiting: RefCell::default(),
            rounds: Cell::new(0),
        })
    }

    /// Waits until the driver has been asked what else there is to do.
    pub async fn over(&self) {
        let round = self.rounds.get();
        poll_fn(|context| {
            if self.rounds.get() != round {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if waiting.is_empty() {
                self.wake.wake();
            }
            // A session polls its other direction, too, whenever it wakes.
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Begins one round after the other; for a task of its own.
    ///
    /// # Errors
    /// What registering with the driver says.
    pub async fn run(&self) -> io::Result<()> {
        let socket = Socket::new(self.wake.as_fd().try_clone_to_owned()?)?;
        loop {
            socket.readable().await;
            self.wake.clear();
            self.rounds.set(self.rounds.get() + 1);
            for waker in self.waiting.take() {
                waker.wake();
            }
        }
    }
}
