//! The memory that all bytes of one worker pass through.

use std::cell::{Cell, RefCell};

use super::pipes::PipePool;
use super::turns::Turns;
use crate::base::clock::Instant;
use crate::base::limits::{
    PIPE_BYTES, PIPE_BYTES_ALL, PLAIN_BYTES, SCRATCH_BYTES, SEALED_BYTES, SECURED_BYTES,
};

/// One worker's buffers and pipes, shared by all its sessions one after the other.
pub struct Lane {
    /// What a copy reads into and sends from within one turn; never borrowed across a wait.
    pub scratch: RefCell<Box<[u8]>>,
    /// What a relay with TLS receives into; like `scratch` never borrowed across a wait.
    pub secured: RefCell<Box<[u8]>>,
    /// What such a relay decrypts into, empty in between.
    pub plain: RefCell<Vec<u8>>,
    /// What it seals into, and sends from.
    pub sealed: RefCell<Box<[u8]>>,
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
            // Without TLS nobody touches them, and they take no memory.
            secured: RefCell::new(vec![0; SECURED_BYTES].into_boxed_slice()),
            plain: RefCell::new(Vec::with_capacity(PLAIN_BYTES)),
            sealed: RefCell::new(vec![0; SEALED_BYTES].into_boxed_slice()),
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
