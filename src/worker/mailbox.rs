//! How the process speaks to a worker.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::backend::Backend;
use crate::base::address::Endpoint;
use crate::base::reason::Reason;
use crate::snapshot::{ListenerId, Snapshot};
use crate::sys::wake::Wake;

/// Messages that may wait; a worker reads all of them each time it wakes.
const MESSAGES_MAX: usize = 256;

/// A message to one worker.
pub enum Message {
    /// There is a new snapshot; the sockets to accept from change with it.
    Adopt(Adoption),
    /// Reset every session.
    ResetAll(Reason),
    /// Return from the worker's thread.
    End,
}

/// A new snapshot and the change of accepting that goes with it.
pub struct Adoption {
    /// What new sessions live by.
    pub snapshot: Arc<Snapshot>,
    /// Sockets to accept from until nothing waits any more, by the snapshot before this one.
    pub withdraw: Vec<Endpoint>,
    /// Sockets that now belong to another listener.
    pub reassign: Vec<(Endpoint, ListenerId)>,
    /// New sockets to accept from.
    pub listen: Vec<Listening>,
}

/// A socket that queues connections for one worker.
pub struct Listening {
    /// Where it is bound.
    pub endpoint: Endpoint,
    /// The listener it belongs to.
    pub listener: ListenerId,
    /// The descriptor to accept from, the worker's own.
    pub descriptor: OwnedFd,
    /// The same socket; the process keeps it too, to change its settings.
    pub socket: Arc<OwnedFd>,
}

/// Backends whose orders have changed, by their numbers; each once, however often they change. Written by
/// the main thread and the control thread, emptied by the worker when it wakes: nobody holds the lock for
/// longer than that takes.
type Changed = Arc<Mutex<HashMap<u32, Arc<Backend>>>>;

/// The process's end.
#[derive(Clone, Debug)]
pub struct Mailbox {
    messages: Sender<Message>,
    changed: Changed,
    wake: Wake,
}

/// The worker's end.
pub struct Inbox {
    pub(super) messages: Receiver<Message>,
    changed: Changed,
    pub(super) wake: Wake,
}

/// A new mailbox, both ends.
///
/// # Errors
/// What eventfd(2) says.
pub fn mailbox() -> io::Result<(Mailbox, Inbox)> {
    let (sender, receiver) = bounded(MESSAGES_MAX);
    let wake = Wake::new()?;
    let changed = Changed::default();
    let mailbox = Mailbox {
        messages: sender,
        changed: Arc::clone(&changed),
        wake: wake.clone(),
    };
    let inbox = Inbox {
        messages: receiver,
        changed,
        wake,
    };
    Ok((mailbox, inbox))
}

impl Mailbox {
    /// Sends a message; waits where too many are unread. A worker that is gone gets nothing.
    pub fn send(&self, message: Message) {
        if self.messages.send(message).is_ok() {
            self.wake.wake();
        }
    }

    /// Has the worker look at the orders of these backends. Never waits: the latest orders stand in the
    /// backend itself.
    pub fn tell_of(&self, backends: &[Arc<Backend>]) {
        if backends.is_empty() {
            return;
        }
        let named = backends.iter().map(|it| (it.number(), Arc::clone(it)));
        self.changed.lock().extend(named);
        self.wake.wake();
    }
}

impl Inbox {
    /// Backends whose orders have changed since the last call.
    pub(super) fn changed(&self) -> HashMap<u32, Arc<Backend>> {
        mem::take(&mut *self.changed.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::BackendId;
    use crate::base::address::Endpoint;

    #[test]
    fn backends_that_flap_take_one_place_each_and_nobody_waits() {
        let (mailbox, inbox) = mailbox().unwrap();
        let backend = |name: &str| {
            Arc::new(Backend::new(BackendId {
                pool: "p".into(),
                name: name.into(),
                endpoint: Endpoint::Unix("/run/p".into()),
            }))
        };
        let backends = [backend("a"), backend("b")];
        // The worker is busy meanwhile; more messages than this would stop the sender.
        for _ in 0..10 * MESSAGES_MAX {
            mailbox.tell_of(&backends);
        }
        mailbox.tell_of(&backends[..1]);
        let changed = inbox.changed();
        let mut numbers: Vec<u32> = changed.keys().copied().collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [backends[0].number(), backends[1].number()]);
        assert!(inbox.changed().is_empty());
    }
}
