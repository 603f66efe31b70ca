//! The worker's end of the session log: lines gather in a buffer that is handed over when it is full
//! or has waited long enough, and never waited for.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crossbeam::channel::{Receiver, Sender};

use super::session::{Event, SessionLine};
use super::wall_clock;
use crate::config::model::{self, Format, LogOn};

/// The size of a buffer, bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// A buffer is handed over once less than this is free, bytes; longer lines make it grow.
const LINE_BYTES: usize = 2 * 1024;

const CLOSE: u8 = 1;
const OPEN: u8 = 2;
const TEXT: u8 = 4;

/// One worker's session log. It belongs to the worker's thread; to be dropped there, or flushed.
#[derive(Debug)]
pub struct SessionLog {
    shared: Arc<Shared>,
    full: Sender<Batch>,
    empty: Receiver<Vec<u8>>,
    buffer: Vec<u8>,
    lines: u64,
}

/// Whole lines on their way.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) lines: u64,
}

/// What all ends of the session log share.
#[derive(Debug)]
pub(super) struct Shared {
    /// What is logged and how, as bits. Written by the control thread, read by workers; relaxed,
    /// because a line more or less in the old manner is no harm.
    settings: AtomicU8,
    /// Lines lost. Added to by workers and the writer for a whole batch at once, read by the control
    /// thread; relaxed, because nothing else depends on it.
    dropped: AtomicU64,
}

impl SessionLog {
    pub(super) fn new(shared: Arc<Shared>, full: Sender<Batch>, empty: Receiver<Vec<u8>>) -> Self {
        Self {
            shared,
            full,
            empty,
            buffer: Vec::new(),
            lines: 0,
        }
    }

    /// Whether a line is wanted when a session begins.
    pub fn wants_open(&self) -> bool {
        self.shared.has(OPEN)
    }

    /// Whether a line is wanted when a session ends.
    pub fn wants_close(&self) -> bool {
        self.shared.has(CLOSE)
    }

    /// Adds `line`, with the time of day as the time of its event, if such lines are wanted.
    pub fn push(&mut self, line: &SessionLine<'_>) {
        let is_wanted = match line.event {
            Event::Open => self.wants_open(),
            Event::Close(_) => self.wants_close(),
        };
        if !is_wanted {
            return;
        }
        if self.buffer.capacity() == 0 {
            self.buffer.reserve(BUFFER_BYTES);
        }
        line.write(self.shared.format(), wall_clock(), &mut self.buffer);
        self.lines += 1;
        if self.buffer.len() + LINE_BYTES > BUFFER_BYTES {
            self.flush();
        }
    }

    /// Whether lines wait for [`SessionLog::flush`].
    pub const fn pending(&self) -> bool {
        self.lines > 0
    }

    /// Hands over what has gathered; if the writer is too far behind, the lines are dropped and
    /// counted.
    pub fn flush(&mut self) {
        if !self.pending() {
            return;
        }
        let batch = Batch {
            bytes: mem::take(&mut self.buffer),
            lines: mem::take(&mut self.lines),
        };
        match self.full.try_send(batch) {
            Ok(()) => self.buffer = self.empty.try_recv().unwrap_or_default(),
            Err(refused) => {
                let batch = refused.into_inner();
                self.shared.drop_lines(batch.lines);
                self.buffer = batch.recycle();
            }
        }
    }

    /// Whether so many buffers wait that a few more workers might not find room.
    #[cfg(test)]
    pub(super) fn is_backed_up(&self) -> bool {
        self.full.len() * 2 > self.full.capacity().unwrap_or(0)
    }
}

impl Drop for SessionLog {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Batch {
    /// The buffer, empty; one that a long line has made too large is given back.
    pub(super) fn recycle(mut self) -> Vec<u8> {
        if self.bytes.capacity() > 2 * BUFFER_BYTES {
            return Vec::new();
        }
        self.bytes.clear();
        self.bytes
    }
}

impl Shared {
    pub(super) const fn new() -> Self {
        Self {
            settings: AtomicU8::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    pub(super) fn set(&self, log: &model::Log) {
        let events = match (&log.sessions, log.on) {
            (model::SessionLog::Off, _) => 0,
            (_, LogOn::Close) => CLOSE,
            (_, LogOn::OpenAndClose) => CLOSE | OPEN,
        };
        let format = match log.format {
            Format::Json => 0,
            Format::Text => TEXT,
        };
        self.settings.store(events | format, Ordering::Relaxed);
    }

    pub(super) fn drop_lines(&self, lines: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn has(&self, bit: u8) -> bool {
        self.settings.load(Ordering::Relaxed) & bit != 0
    }

    fn format(&self) -> Format {
        if self.has(TEXT) {
            Format::Text
        } else {
            Format::Json
        }
    }
}
