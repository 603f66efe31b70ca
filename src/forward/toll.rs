//! What a direction may read where the client's source may move so many bytes in a second.

use std::time::Duration;

use rustix::io::Errno;

use super::link::metered::{Grant, Held, Noted};
use super::pump::{Broken, Pump};
use crate::base::clock::now;

/// Whether bytes count against what the client's source may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Toll {
    /// They do.
    Due,
    /// Last words, which nobody waits with.
    Waived,
}

impl Pump<'_> {
    /// Waits until the client's source may move more; nobody reads the direction's source meanwhile.
    pub(super) async fn hold(&self, wait: Duration) -> Result<(), Broken> {
        let begun = now();
        self.link.set_held(self.direction, Held::Begins);
        self.note();
        self.look_soon();
        monoio::time::sleep(wait).await;
        let time = now();
        let ended = Held::Ended(time - begun, time);
        self.link.set_held(self.direction, ended);
        if self.link.has_ended_early() {
            // Both sides have been reset, which a read would find out, once there is one again.
            return Err(self.source_broke(Errno::CONNRESET));
        }
        Ok(())
    }

    /// How many of `most` bytes may be read.
    pub(super) fn grant(&self, most: usize) -> Grant {
        if self.is_free() {
            return Grant::Bytes(most);
        }
        let grant = self.link.grant(most);
        self.note();
        grant
    }

    /// Gives back what was granted and not there.
    pub(super) fn give_back(&self, bytes: usize) {
        if !self.is_free() {
            self.link.give_back(bytes);
        }
    }

    /// Whether its bytes do not count against what the client's source may move.
    fn is_free(&self) -> bool {
        !self.link.is_metered() || self.toll == Toll::Waived
    }

    /// Counts a session that is slowed, or would be.
    fn note(&self) {
        match self.link.noted() {
            Some(Noted::Slowed) => self.loan.listener.slowed.inc(),
            Some(Noted::Logged) => self.loan.listener.over_bytes.inc(),
            None => {}
        }
    }
}
