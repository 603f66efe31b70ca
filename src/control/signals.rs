//! Signals to events.

use std::io;

use crossbeam::channel;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{EVENTS_RETRY, Event, deliver};

/// Every signal that ringlane listens to, caught from the moment this exists.
pub(super) struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    user1: Signal,
}

impl Signals {
    /// Must be called inside the runtime that will wait for the signals.
    pub(super) fn register() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            user1: signal(SignalKind::user_defined1())?,
        })
    }

    /// Turns signals into events for as long as the runtime lives.
    pub(super) fn spawn(self, events: &channel::Sender<Event>) {
        tokio::spawn(reloads(self.hangup, events.clone()));
        tokio::spawn(forward(self.terminate, events.clone(), || Event::Stop));
        tokio::spawn(forward(self.interrupt, events.clone(), || Event::Stop));
        tokio::spawn(forward(self.user1, events.clone(), || Event::ReopenLogs));
    }
}

/// A storm of SIGHUP becomes few reloads: at most one waits in the channel, and all that arrive
/// while it waits become one more, since [`Signal`] merges what nobody has received yet.
async fn reloads(mut hangup: Signal, events: channel::Sender<Event>) {
    while hangup.recv().await.is_some() {
        while !events.is_empty() {
            tokio::time::sleep(EVENTS_RETRY).await;
        }
        if !deliver(&events, Event::Reload { reply: None }).await {
            return;
        }
    }
}

async fn forward(mut signal: Signal, events: channel::Sender<Event>, event: fn() -> Event) {
    while signal.recv().await.is_some() {
        if !deliver(&events, event()).await {
            return;
        }
    }
}
