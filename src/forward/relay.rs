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
}

/// What the client had said before it had its backend.
#[derive(Debug)]
pub struct Opening {
    /// All of it.
    pub bytes: Box<[u8]>,
    /// How many of them the backend has.
    pub sent: usize,
}

/// Relays until both directions are over; the link has its backend.
pub async fn relay(link: &Link, opening: Opening, mode: model::Relay, loan: Loan<'_>) -> Ending {
    if let Some(backend) = link.backend() {
        let client = link.client();
        let up = Pump::new(link, Direction::Up, (client, backend), mode, loan);
        let down = Pump::new(link, Direction::Down, (backend, client), mode, loan);
        let rest = up.opened(opening);
        // What a backend has said goes out before a client's bytes that it may not want any more.
        both(pin!(down.run(Vec::new())), pin!(up.run(rest))).await;
    }
    link.ending().unwrap_or(Ending::ours(Reason::Internal))
}
