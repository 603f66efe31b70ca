//! Bytes both ways, until both directions are over.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;

use super::link::{Direction, Ending, Link};
use super::pump::Pump;
use crate::base::reason::Reason;
use crate::config::model;
use crate::io::join::both;
use crate::io::lane::Lane;
use crate::io::socket::Socket;
use crate::io::wheel::Wheel;
use crate::metrics::{ListenerCells, WorkerCells};

/// What a worker lends to the relays of its sessions.
#[derive(Clone, Copy)]
pub struct Loan<'a> {
    /// Buffer and pipes.
    pub lane: &'a Lane,
    /// When each session is looked at next.
    pub sessions: &'a RefCell<Wheel<Rc<Link>>>,
    /// Counters of the listener.
    pub listener: &'a ListenerCells,
    /// Counters of the worker.
    pub worker: &'a WorkerCells,
    /// How bytes are moved.
    pub mode: model::Relay,
}

impl Loan<'_> {
    /// Counts bytes that a destination's kernel has taken.
    pub fn delivered(&self, link: &Link, direction: Direction, bytes: usize) {
        link.delivered(direction, bytes, self.lane.time.get());
        let counter = match direction {
            Direction::Up => &self.listener.bytes_up,
            Direction::Down => &self.listener.bytes_down,
        };
        counter.add(bytes as u64);
    }
}

/// Relays between the link's client and its `backend` until both directions are over.
pub async fn relay(link: &Link, backend: &Socket, loan: &Loan<'_>) -> Ending {
    let down = Pump::new(link, backend, loan, Direction::Down);
    let up = Pump::new(link, backend, loan, Direction::Up);
    // What a backend has said goes out before a client's bytes that it may not want any more.
    both(pin!(down.run()), pin!(up.run())).await;
    link.ending().unwrap_or(Ending::ours(Reason::Internal))
}
