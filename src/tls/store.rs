//! Everything about TLS that the control plane keeps: made of files for one configuration, watched,
//! and renewed beneath the sessions that use it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::TimeProvider;
use super::client::Trust;
use super::live::Settings;
use super::load::Loading;
use super::tickets::TicketKeys;
use super::watch::{Renewed, Seen, Watched};
use crate::base::clock::Instant;
use crate::config::model::Model;
use crate::config::{Places, Report};

/// How often files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Files looked at each time, some 2 µs each; of more, as many in turn.
const LOOKS_MAX: usize = 4096;

/// How soon keys are changed again that could not be changed for want of random bytes.
const ROTATE_AGAIN: Duration = Duration::from_secs(10);

/// What is in force, and what it was made of. Belongs to the main thread.
pub struct Store {
    settings: Arc<Settings>,
    watched: Vec<Watched>,
    /// Where the next look begins.
    turn: usize,
    next_look: Instant,
    /// Keys are not changed before.
    next_rotation: Instant,
    clock: Arc<dyn TimeProvider>,
    counts: Arc<Counts>,
}

/// What has been made for a configuration that is not in force yet; dropped, it leaves no trace.
pub struct Prepared {
    pub(super) settings: Arc<Settings>,
    pub(super) watched: Vec<Watched>,
    /// What is allowed but probably not meant.
    pub warnings: Report,
    /// Each certificate in a line, with the days that are left.
    pub certificates: Vec<String>,
    /// Certificates that were not taken because those before are better.
    pub(super) kept: u64,
    /// Certificates that others take the place of.
    pub(super) renewed: u64,
}

/// Changes of files so far: written by the main thread, read for the metrics; plain counts, so relaxed.
#[derive(Debug, Default)]
pub struct Counts {
    /// Certificates, keys and lists that were read again and are in use.
    pub applied: AtomicU64,
    /// Those that could not be used.
    pub rejected: AtomicU64,
}

impl Prepared {
    /// What a snapshot is to be built with.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }
}

impl Store {
    /// Nothing yet. `clock` tells what has expired.
    pub fn new(clock: Arc<dyn TimeProvider>) -> Self {
        Self {
            settings: Arc::default(),
            watched: Vec::new(),
            turn: 0,
            next_look: Instant::ZERO,
            next_rotation: Instant::ZERO,
            clock,
            counts: Arc::default(),
        }
    }

    /// What is in force.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// How changes of files went.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Reads and checks every file that `model` names; changes nothing.
    ///
    /// What need not change is taken over from what is in force: keys of tickets, and sessions with
    /// backends that can be resumed. A certificate that has expired does not replace one that holds.
    pub fn prepare(
        &self,
        model: &Model,
        places: &Places,
        now: Instant,
    ) -> Result<Prepared, Report> {
        let trust = Trust::new(Arc::clone(&self.clock));
        Loading::new(self, &trust, now).load(model, places)
    }

    /// Puts in force what was prepared; the snapshot has been built with it.
    pub fn commit(&mut self, prepared: Prepared, now: Instant) {
        self.settings = prepared.settings;
        self.watched = prepared.watched;
        self.turn = 0;
        self.next_look = now + LOOK_INTERVAL;
        let Counts { applied, rejected } = &*self.counts;
        applied.fetch_add(prepared.renewed, Ordering::Relaxed);
        rejected.fetch_add(prepared.kept, Ordering::Relaxed);
    }

    /// When [`look`](Self::look) is to be called again; `None`: there is nothing to look at.
    pub fn due(&self) -> Option<Instant> {
        let look = Some(self.next_look).filter(|_| !self.watched.is_empty());
        let keys = self.tickets().filter_map(|(_, keys)| keys.due()).min();
        // Keys that could not be changed are due at once, still.
        let keys = keys.map(|due| due.max(self.next_rotation));
        look.into_iter().chain(keys).min()
    }

    /// Changes ticket keys and takes up changed files, as far as either is due.
    pub fn look(&mut self, now: Instant) {
        if now >= self.next_rotation {
            self.rotate(now);
        }
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK_INTERVAL;
        let trust = Trust::new(Arc::clone(&self.clock));
        let mut renewed = Vec::new();
        let mut looks_left = LOOKS_MAX;
        for _ in 0..self.watched.len() {
            self.turn = (self.turn + 1) % self.watched.len();
            let Some(watched) = self.watched.get_mut(self.turn) else {
                continue;
            };
            let seen = watched.look(now, &trust, &mut renewed);
            self.counts.note(&watched.owner, seen);
            looks_left = looks_left.saturating_sub(watched.files());
            if looks_left == 0 {
                break;
            }
        }
        put_in_force(renewed);
    }

    fn rotate(&mut self, now: Instant) {
        let mut next = now;
        for (listener, keys) in self.tickets() {
            match keys.rotate(now) {
                Ok(true) => tracing::debug!("listener {listener}: the next ticket key is in use"),
                Ok(false) => {}
                Err(fault) => {
                    tracing::warn!("listener {listener}: ticket keys: {fault}");
                    next = now + ROTATE_AGAIN;
                }
            }
        }
        self.next_rotation = next;
    }

    /// Ticket keys with the names of their listeners.
    fn tickets(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<TicketKeys>)> {
        let listeners = self.settings.listeners.iter();
        listeners.filter_map(|(name, terminating)| Some((name, terminating.tickets.as_ref()?)))
    }

    pub(super) fn watched(&self) -> &[Watched] {
        &self.watched
    }

    pub(super) fn clock(&self) -> &Arc<dyn TimeProvider> {
        &self.clock
    }
}

/// Each listener's certificates together: replacing one costs as much as replacing all.
fn put_in_force(mut renewed: Vec<Renewed>) {
    for warning in renewed.iter().flat_map(|one| &one.certificate.warnings) {
        tracing::warn!("{warning}");
    }
    renewed.sort_by_key(|one| Arc::as_ptr(&one.terminating));
    let same = |one: &Renewed, other: &Renewed| Arc::ptr_eq(&one.terminating, &other.terminating);
    for chunk in renewed.chunk_by(same) {
        if let Some(first) = chunk.first() {
            let places = chunk.iter().map(|one| (one.place, one.certificate.clone()));
            first.terminating.replace(places.collect());
        }
    }
}

impl Counts {
    fn note(&self, owner: &str, seen: Seen) {
        match seen {
            Seen::Nothing => {}
            Seen::Replaced => {
                self.applied.fetch_add(1, Ordering::Relaxed);
                tracing::info!("{owner}: changed files are in use");
            }
            Seen::Unusable(fault) => {
                self.rejected.fetch_add(1, Ordering::Relaxed);
                tracing::error!("{owner}: what was there before stays in use: {fault}");
            }
        }
    }
}
