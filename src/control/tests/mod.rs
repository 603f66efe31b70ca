//! The control thread as the main thread sees it, against real sockets.

mod admin;
mod dns;
mod resolve;
mod services;
mod signals;
mod watchdog;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crossbeam::channel::Receiver;
use parking_lot::RwLock;

use super::{Event, Resolved, Strain};
use crate::admin::{Reloaded, Surface};
use crate::metrics::Registry;

/// Longer than anything here takes; only a test that fails waits for it.
const DEADLINE: Duration = Duration::from_secs(20);

fn surface(reload: impl Fn() -> Reloaded + Send + Sync + 'static) -> Arc<Surface> {
    Arc::new(Surface {
        metrics: Box::new(|| "ringlane_up 1\n".to_owned()),
        healthy: Box::new(|| Ok(())),
        ready: AtomicBool::new(true),
        signal: Arc::default(),
        reload: Box::new(reload),
        token: RwLock::new(None),
        source: None,
    })
}

/// What measures nothing.
fn strain() -> Strain {
    Strain::new(Arc::new(Registry::new(1)))
}

/// The next table; signals that other tests raise are skipped.
fn next_answers(events: &Receiver<Event>) -> HashMap<Arc<str>, Vec<IpAddr>> {
    next_resolved(events).table.hosts
}

fn next_resolved(events: &Receiver<Event>) -> Resolved {
    loop {
        if let Event::Resolved(resolved) = events.recv_timeout(DEADLINE).unwrap() {
            return resolved;
        }
    }
}
