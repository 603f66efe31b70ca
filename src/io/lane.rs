//! The memory that all bytes of one worker pass through.

use std::cell::RefCell;

use super::pipes::PipePool;
use crate::base::limits::{PIPE_BYTES, PIPE_BYTES_ALL, SCRATCH_BYTES};

/// One worker's buffer and pipes, shared by all its sessions one after the other.
pub struct Lane {
    /// What a copy reads into and sends from within one turn; never borrowed across a wait.
    pub scratch: RefCell<Box<[u8]>>,
    /// What a splice moves through.
    pub pipes: PipePool,
}

impl Lane {
    /// The lane of one of `workers` workers.
    pub fn new(workers: usize) -> Self {
        let pipes = PIPE_BYTES_ALL / PIPE_BYTES / workers.max(1);
        Self {
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice()),
            pipes: PipePool::new(pipes.max(2)),
        }
    }
}
