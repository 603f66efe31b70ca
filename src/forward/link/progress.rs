//! What the relay tells the link of its progress.

use std::os::fd::AsFd;

use rustix::io::Errno;

use super::{Direction, Ending, Link, broken_side};
use crate::backend::Beginning;
use crate::base::clock::{Instant, now};
use crate::base::reason::{Reason, Side};
use crate::sys::socket::finish_sending;

impl Link {
    /// Keeps bytes that were received for their destination, which has no room for them yet.
    pub fn set_unsent(&self, direction: Direction, bytes: &[u8]) {
        self.progress(direction).unsent.set(bytes.into());
    }

    /// Has the backend told of how the session begins.
    pub fn set_beginning(&self, beginning: Beginning) {
        self.beginning.set(Some(beginning));
    }

    /// The backend failed the client before its first byte.
    pub fn begin_badly(&self) {
        if let Some(beginning) = self.beginning.take() {
            beginning.failed(now());
        }
    }

    pub(in crate::forward) fn has_unsent(&self, direction: Direction) -> bool {
        self.unsent(direction) > 0
    }

    /// Bytes that were received and not sent yet.
    pub(super) fn unsent(&self, direction: Direction) -> usize {
        let unsent = self.take_unsent(direction);
        let bytes = unsent.len();
        self.progress(direction).unsent.set(unsent);
        bytes
    }

    pub(in crate::forward) fn take_unsent(&self, direction: Direction) -> Box<[u8]> {
        self.progress(direction).unsent.take()
    }

    /// Notes bytes that the destination's kernel has taken.
    pub(in crate::forward) fn delivered(&self, direction: Direction, bytes: usize, at: Instant) {
        let progress = self.progress(direction);
        progress.bytes.set(progress.bytes.get() + bytes as u64);
        self.active.set(at);
        if direction == Direction::Down && self.first_byte.get().is_none() {
            let time = now();
            self.first_byte.set(Some(time));
            if let Some(beginning) = self.beginning.take() {
                beginning.succeeded(time);
            }
        }
    }

    /// Notes that bytes moved of which it is not known yet how much they are to the destination.
    pub(in crate::forward) fn stirred(&self, at: Instant) {
        self.active.set(at);
    }

    /// Whether a source has ended, and all its bytes are delivered.
    pub(in crate::forward) fn is_finished(&self, direction: Direction) -> bool {
        self.progress(direction).finished.get()
    }

    /// Whether a direction is over, or owns bytes that wait for room.
    pub(in crate::forward) fn is_engaged(&self, direction: Direction) -> bool {
        let progress = self.progress(direction);
        progress.finished.get() || progress.stalled.get()
    }

    /// Notes that nobody reads the direction's source for now, or that it is read again.
    pub fn set_stalled(&self, direction: Direction, stalled: bool) {
        self.progress(direction).stalled.set(stalled);
    }

    /// A source has ended, and all its bytes are delivered.
    pub(in crate::forward) fn finished(&self, direction: Direction) {
        self.progress(direction).finished.set(true);
        let (other, side, destination) = match direction {
            Direction::Up => (&self.down, Side::Client, self.backend()),
            Direction::Down => (&self.up, Side::Backend, Some(&self.client)),
        };
        if other.finished.get() {
            // Both sockets are closed at once, which says the same in fewer calls.
            return;
        }
        self.note_said(direction);
        self.note(Ending {
            reason: Reason::Eof,
            side,
            cause: None,
        });
        if let Some(destination) = destination {
            // The destination may go on sending after this (RFC 9293 §3.6): end one half only.
            finish_sending(destination.as_fd());
        }
    }

    /// Ends a session whose client has finished or broken while it waited for a backend.
    pub(in crate::forward) fn client_left(&self) {
        self.note(Ending {
            reason: Reason::ClientReset,
            side: Side::Client,
            cause: None,
        });
        self.reset_all();
    }

    /// A side broke: the other is reset, so that it cannot take what it got for the whole.
    pub(in crate::forward) fn broken(&self, side: Side, cause: Errno) {
        self.note(Ending {
            reason: broken_side(side),
            side,
            cause: Some(cause),
        });
        self.reset_all();
    }
}
