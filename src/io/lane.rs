//! The memory that all bytes of one worker pass through.

use std::cell::{Cell, RefCell};

use super::pipes::PipePool;
use super::turns::Turns;
use crate::base::clock::Instant;
use crate::base::limits::{PIPE_BYTES, PIPE_BYTES_ALL, SCRATCH_BYTES};

/// One worker's buffer and pipes, shared by all its sessions one after the other.
pub struct Lane {
    /// What a copy reads into and sends from within one turn; never borrowed across a wait.
    pub scratch: RefCell<Box<[u8]>>,
    /// What a splice moves through.
    pub pipes: PipePool,
    /// The time as of the worker's last tick, at most 25 ms behind in a worker that keeps up: for
    /// stamps that each message makes.
    pub time: Cell<Instant>,
    /// Where a wait does not let others run by itself.
    pub turns: Option<Turns>,
}

impl Lane {
    /// The lane of one of `workers` workers.
    pub fn new(workers: usize, turns: Option<Turns>, now: Instant) -> Self {
        let pipes = PIPE_BYTES_ALL / PIPE_BYTES / workers.max(1);
        Self {
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice()),
            pipes: PipePool::new(pipes.max(2)),
            time: Cell::new(now),
            turns,
        }
    }

    /// Lets others have their turn, unless the next wait does so anyway.
    pub async fn end_turn(&self) {
        if let Some(turns) = &self.turns {
            turns.over().await;
        }
    }
}
