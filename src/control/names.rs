//! The names that are kept resolved: who is asked again when, and what the main thread hears of it.

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam::channel::{self, TrySendError};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::directory::{Directory, Family, Found};
use super::{EVENTS_RETRY, Event, Resolved};

/// Names that are looked up at once; the others wait their turn.
pub(super) const LOOKUPS_MAX: usize = 64;

/// All names, one task each.
pub(super) struct Names {
    shared: Arc<Shared>,
    nameservers: Vec<SocketAddr>,
    entries: HashMap<Arc<str>, Entry>,
    updates: mpsc::Receiver<Update>,
    /// The call of the main thread that is waiting.
    waiting: Option<Waiting>,
    /// When to send the table that has changed.
    publish_at: Option<Instant>,
    /// Tables made so far.
    sequence: u64,
    events: channel::Sender<Event>,
}

struct Entry {
    /// Sorted, without duplicates; empty: never resolved.
    addresses: Vec<IpAddr>,
    /// Whether a look-up has ended since the last call that wanted one.
    settled: bool,
    /// Asks for a look-up before its time.
    wake: Arc<Notify>,
    task: AbortHandle,
}

struct Waiting {
    until: Instant,
    reply: channel::Sender<Resolved>,
}

/// What the tasks share.
struct Shared {
    directory: ArcSwap<Directory>,
    turns: Semaphore,
    updates: mpsc::Sender<Update>,
}

/// A task's look-up has ended.
struct Update {
    name: Arc<str>,
    /// `None`: it failed, and the old addresses hold.
    addresses: Option<Vec<IpAddr>>,
}

impl Names {
    /// No names so far.
    pub(super) fn new(nameservers: Vec<SocketAddr>, events: channel::Sender<Event>) -> Self {
        let (sender, updates) = mpsc::channel(LOOKUPS_MAX);
        let shared = Shared {
            directory: ArcSwap::from_pointee(Directory::new(&nameservers)),
            turns: Semaphore::new(LOOKUPS_MAX),
            updates: sender,
        };
        Self {
            shared: Arc::new(shared),
            nameservers,
            entries: HashMap::new(),
            updates,
            waiting: None,
            publish_at: None,
            sequence: 0,
            events,
        }
    }

    /// Forgets all names but `wanted`, looks up those that have no address yet, and answers when each
    /// has been looked up or `within` is over.
    pub(super) fn resolve(
        &mut self,
        wanted: Vec<Arc<str>>,
        within: Duration,
        reply: channel::Sender<Resolved>,
    ) {
        let kept: HashSet<&Arc<str>> = wanted.iter().collect();
        self.entries.retain(|name, _| kept.contains(name));
        for name in wanted {
            if let Some(entry) = self.entries.get_mut(&name) {
                if entry.addresses.is_empty() {
                    entry.settled = false;
                    entry.wake.notify_one();
                }
            } else {
                let entry = Entry::new(&self.shared, &name);
                self.entries.insert(name, entry);
            }
        }
        self.waiting = Some(Waiting {
            until: Instant::now() + within,
            reply,
        });
        self.answer_if_settled();
    }

    /// Looks names up there from now on, and all of them at once where the servers are others.
    pub(super) fn set_nameservers(&mut self, nameservers: Vec<SocketAddr>) {
        let directory = Arc::new(Directory::new(&nameservers));
        self.shared.directory.store(directory);
        if self.nameservers != nameservers {
            self.nameservers = nameservers;
            for entry in self.entries.values() {
                entry.wake.notify_one();
            }
        }
    }

    /// Waits for the next thing to happen to a name and deals with it. May be dropped while waiting.
    pub(super) async fn turn(&mut self) {
        let waits_until = self.waiting.as_ref().map(|waiting| waiting.until);
        tokio::select! {
            Some(update) = self.updates.recv() => self.take(update),
            () = until(waits_until) => self.answer(),
            () = until(self.publish_at) => self.publish(),
        }
    }

    fn take(&mut self, update: Update) {
        // The name may have been forgotten while it was looked up.
        let Some(entry) = self.entries.get_mut(&update.name) else {
            return;
        };
        entry.settled = true;
        if let Some(addresses) = update.addresses
            && addresses != entry.addresses
        {
            entry.addresses = addresses;
            self.publish_at
                .get_or_insert_with(|| Instant::now() + PUBLISH_DELAY);
        }
        self.answer_if_settled();
    }

    fn answer_if_settled(&mut self) {
        if self.waiting.is_some() && self.entries.values().all(Entry::is_answered) {
            self.answer();
        }
    }

    fn answer(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            // The caller holds the other end until it is answered. What it is told now need not be
            // sent again.
            let _ = waiting.reply.send(self.table());
            self.publish_at = None;
        }
    }

    fn publish(&mut self) {
        if self.waiting.is_some() {
            // The main thread waits for this very table.
            self.publish_at = None;
            return;
        }
        let resolved = self.table();
        self.publish_at = match self.events.try_send(Event::Resolved(resolved)) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => None,
            Err(TrySendError::Full(_)) => Some(Instant::now() + EVENTS_RETRY),
        };
    }

    fn table(&mut self) -> Resolved {
        self.sequence += 1;
        let known = self.entries.iter();
        let known = known.filter(|(_, entry)| !entry.addresses.is_empty());
        Resolved {
            sequence: self.sequence,
            table: known
                .map(|(name, entry)| (Arc::clone(name), entry.addresses.clone()))
                .collect(),
        }
    }
}

/// Names that change together are told together.
const PUBLISH_DELAY: Duration = Duration::from_millis(20);

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

impl Entry {
    fn new(shared: &Arc<Shared>, name: &Arc<str>) -> Self {
        let wake = Arc::new(Notify::new());
        let task = keep_fresh(Arc::clone(shared), Arc::clone(name), Arc::clone(&wake));
        Self {
            addresses: Vec::new(),
            settled: false,
            wake,
            task: tokio::spawn(task).abort_handle(),
        }
    }

    const fn is_answered(&self) -> bool {
        self.settled || !self.addresses.is_empty()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Looks one name up again and again.
async fn keep_fresh(shared: Arc<Shared>, name: Arc<str>, wake: Arc<Notify>) {
    let mut freshness = Freshness::default();
    loop {
        let outcome = {
            // Never closed, so always granted.
            let _turn = shared.turns.acquire().await;
            let directory = shared.directory.load_full();
            directory.look_up(&name).await
        };
        let (next, told) = freshness.settle(outcome);
        match told {
            Some(Told::Fails(error)) => tracing::warn!("resolve {name}: {error}"),
            Some(Told::Recovered) => tracing::info!("resolve {name}: answered again"),
            None => {}
        }
        let update = Update {
            name: Arc::clone(&name),
            addresses: next.addresses,
        };
        if shared.updates.send(update).await.is_err() {
            return;
        }
        tokio::select! {
            () = sleep(next.after) => {}
            () = wake.notified() => {}
        }
    }
}

/// What is known of one name, and how its look-ups go.
#[derive(Default)]
struct Freshness {
    addresses: Vec<IpAddr>,
    /// Failed look-ups in a row.
    failures: u32,
}

/// What follows from a look-up.
#[derive(Debug, PartialEq, Eq)]
struct Next {
    /// `None`: it failed.
    addresses: Option<Vec<IpAddr>>,
    after: Duration,
}

/// What the operator is told, once each time.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Fails(String),
    Recovered,
}

const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_secs(300);
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

impl Freshness {
    fn settle(&mut self, outcome: Result<Found, String>) -> (Next, Option<Told>) {
        match outcome {
            Ok(found) => {
                let recovered = self.failures > 0;
                self.failures = 0;
                let mut after = found.ttl.clamp(TTL_MIN, TTL_MAX);
                if found.missing.is_some() {
                    after = after.min(RETRY_MAX);
                }
                self.addresses = merge(&self.addresses, found);
                let next = Next {
                    addresses: Some(self.addresses.clone()),
                    after,
                };
                (next, recovered.then_some(Told::Recovered))
            }
            Err(error) => {
                // Five doublings go past the maximum.
                let after = (RETRY_FIRST * 2_u32.pow(self.failures.min(5))).min(RETRY_MAX);
                self.failures = self.failures.saturating_add(1);
                let next = Next {
                    addresses: None,
                    after,
                };
                (next, (self.failures == 1).then_some(Told::Fails(error)))
            }
        }
    }
}

/// The addresses found, and the old ones of a family that was not answered for.
fn merge(old: &[IpAddr], found: Found) -> Vec<IpAddr> {
    let mut addresses = found.addresses;
    addresses.extend(old.iter().filter(|address| match found.missing {
        Some(Family::V4) => address.is_ipv4(),
        Some(Family::V6) => address.is_ipv6(),
        None => false,
    }));
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(addresses: &[&str], ttl: u64, missing: Option<Family>) -> Result<Found, String> {
        Ok(Found {
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            ttl: Duration::from_secs(ttl),
            missing,
        })
    }

    #[test]
    fn a_name_is_asked_for_again_after_its_ttl_within_bounds() {
        for (ttl, seconds) in [(0, 1), (1, 1), (60, 60), (86_400, 300)] {
            let (next, told) = Freshness::default().settle(found(&["10.0.0.1"], ttl, None));
            assert_eq!((next.after.as_secs(), told), (seconds, None), "{ttl}");
        }
        let half = found(&["10.0.0.1"], 300, Some(Family::V6));
        let (next, _) = Freshness::default().settle(half);
        assert_eq!(next.after.as_secs(), 30);
    }

    #[test]
    fn failures_back_off_and_are_told_once_like_the_recovery() {
        let mut freshness = Freshness::default();
        freshness.settle(found(&["10.0.0.1"], 60, None));
        let mut told = Vec::new();
        let mut waits = Vec::new();
        for _ in 0..8 {
            let (next, message) = freshness.settle(Err("timeout".to_owned()));
            assert_eq!(next.addresses, None);
            waits.push(next.after.as_secs());
            told.extend(message);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(told, [Told::Fails("timeout".to_owned())]);
        let (_, message) = freshness.settle(found(&["10.0.0.1"], 60, None));
        assert_eq!(message, Some(Told::Recovered));
        let (_, message) = freshness.settle(found(&["10.0.0.1"], 60, None));
        assert_eq!(message, None);
        let (next, message) = freshness.settle(Err("refused".to_owned()));
        assert_eq!(next.after.as_secs(), 1);
        assert_eq!(message, Some(Told::Fails("refused".to_owned())));
    }

    #[test]
    fn old_addresses_of_an_unanswered_family_are_kept() {
        let old: Vec<IpAddr> = vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let merged = |missing| merge(&old, found(&["10.0.0.2"], 1, missing).unwrap());
        assert_eq!(merged(Some(Family::V6)).len(), 2);
        assert_eq!(merged(None).len(), 1);
    }
}
