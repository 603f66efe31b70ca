//! Makes the probes that are due, one prober for the whole process.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::sleep;

use super::probe::probe;
use crate::backend::{Backend, State};
use crate::base::clock::{Instant, now};
use crate::base::seldom::Seldom;
use crate::health::{Change, Due, Failure, PROBES_MAX, Schedule, Target, Ticket};
use crate::worker::mailbox::Mailbox;

/// What came of a probe.
type Outcome = Result<(), Failure>;

/// All probes of the process.
pub(super) struct Prober {
    schedule: Schedule,
    running: JoinSet<Outcome>,
    begun: HashMap<Id, Begun>,
    workers: Vec<Mailbox>,
    /// When a lack of ours was last said.
    lacking: Seldom,
}

struct Begun {
    ticket: Ticket,
    at: Instant,
}

impl Prober {
    /// Probes nobody yet.
    pub(super) fn new() -> Self {
        Self {
            schedule: Schedule::new(now().as_nanos()),
            running: JoinSet::new(),
            begun: HashMap::new(),
            workers: Vec::new(),
            lacking: Seldom::default(),
        }
    }

    /// Probes exactly these from now on.
    pub(super) fn set(&mut self, targets: Vec<Target>) {
        let gone = self.schedule.reconcile(targets, now());
        self.tell_workers(gone);
    }

    /// Tells these of what the probes come to.
    pub(super) fn introduce(&mut self, workers: Vec<Mailbox>) {
        self.workers = workers;
    }

    /// These may have gone down or come back; their sessions are to know.
    fn tell_workers(&self, mut turned: Vec<Arc<Backend>>) {
        let time = now();
        turned.retain(|backend| backend.reconsider(time));
        for worker in &self.workers {
            worker.tell_of(&turned);
        }
    }

    /// Waits for the next probe to be due or to end, and deals with it. May be dropped while waiting.
    pub(super) async fn turn(&mut self) {
        let next_due = match self.running.len() {
            0..PROBES_MAX => self.schedule.next_due(),
            _ => None,
        };
        tokio::select! {
            Some(ended) = self.running.join_next_with_id() => self.end(ended),
            () = until(next_due) => self.begin(),
        }
    }

    fn begin(&mut self) {
        let time = now();
        while self.running.len() < PROBES_MAX
            && let Some(Due { ticket, target }) = self.schedule.begin(time)
        {
            let task = self.running.spawn(async move { probe(&target).await });
            self.begun.insert(task.id(), Begun { ticket, at: time });
        }
    }

    fn end(&mut self, ended: Result<(Id, Outcome), JoinError>) {
        let (id, outcome) = ended.unwrap_or_else(|panic| {
            let why = Failure::Ours(format!("the probe has panicked: {panic}"));
            (panic.id(), Err(why))
        });
        let Some(Begun { ticket, at }) = self.begun.remove(&id) else {
            return;
        };
        if let Err(Failure::Ours(why)) = &outcome
            && self.lacking.is_due(now())
        {
            tracing::error!("health checks cannot be made: {why}");
        }
        if let Some(change) = self.schedule.end(ticket, &outcome, now() - at) {
            if change.state == State::Up {
                change.target.backend.became_usable(now());
            }
            tell(&change, &outcome);
            self.tell_workers(vec![change.target.backend]);
        }
    }
}

fn tell(change: &Change, outcome: &Outcome) {
    let id = change.target.backend.id();
    let (pool, name, endpoint) = (&id.pool, &id.name, change.target.endpoint());
    match (change.state, outcome) {
        (State::Up, _) => {
            tracing::info!("pool {pool}: backend {name} is up, checked at {endpoint}")
        }
        (_, Err(why)) => {
            tracing::warn!("pool {pool}: backend {name} is down, checked at {endpoint}: {why}");
        }
        (_, Ok(())) => {}
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep(due - now()).await,
        None => pending().await,
    }
}
