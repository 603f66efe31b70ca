//! Says which backends are ejected and which breakers open, and notices when an ejection is over or somebody
//! waits for nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

use crate::backend::{Breaker, EjectionCause, Ejector, Notice, Phase, Queue, Return, Turn};
use crate::base::clock::now;
use crate::snapshot::Pool;

/// How soon the end of an ejection is noticed by those who wait for a backend; balancers see it at once.
const INTERVAL: Duration = Duration::from_millis(100);

/// The pools that are looked after.
pub(super) struct Outcomes {
    pools: Vec<Watched>,
    /// It goes on beside whatever else the thread does.
    interval: Interval,
}

/// What of a pool is looked after.
#[derive(Debug)]
pub(super) struct Watched {
    name: Arc<str>,
    ejector: Arc<Ejector>,
    breaker: Option<Arc<Breaker>>,
    /// Those may wait whose configuration had a queue.
    queue: Arc<Queue>,
}

impl Watched {
    pub(super) fn of(pool: &Pool) -> Self {
        Self {
            name: Arc::clone(&pool.name),
            ejector: Arc::clone(&pool.live.ejector),
            breaker: pool.breaker.map(|_| Arc::clone(&pool.live.breaker)),
            queue: Arc::clone(&pool.live.queue),
        }
    }
}

impl Outcomes {
    /// Looks after nobody yet.
    pub(super) fn new() -> Self {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            pools: Vec::new(),
            interval,
        }
    }

    /// Looks after exactly these from now on.
    pub(super) fn set(&mut self, pools: Vec<Watched>) {
        self.pools = pools;
    }

    /// Waits until it is time to look, and looks. May be dropped while waiting.
    pub(super) async fn turn(&mut self) {
        self.interval.tick().await;
        for pool in &self.pools {
            pool.ejector.look_after(now()).iter().for_each(tell);
            pool.queue.look_after();
            if let Some(breaker) = &pool.breaker {
                let turns = breaker.news();
                turns.iter().for_each(|turn| tell_turn(&pool.name, *turn));
            }
        }
    }
}

fn tell(notice: &Notice) {
    match notice {
        Notice::Ejected {
            backend,
            cause,
            failed,
            all,
            time,
        } => {
            let (pool, name, endpoint) = (&backend.pool, &backend.name, &backend.endpoint);
            let why = match cause {
                EjectionCause::ConnectFailures => {
                    format!("{failed} connects to {endpoint} failed in a row")
                }
                EjectionCause::FailureRate => {
                    format!("{failed} of the last {all} sessions with {endpoint} failed at once")
                }
            };
            tracing::warn!("pool {pool}: backend {name} is ejected for {time:?}: {why}");
        }
        Notice::Returned { backend, why } => {
            let (pool, name) = (&backend.pool, &backend.name);
            let why = match why {
                Return::Connected => "a connect succeeded",
                Return::Probed => "a check succeeded",
                Return::Elapsed => "its time is over",
                Return::Replaced => "another one is ejected, and no more may be",
                Return::Reloaded => "by a reload",
            };
            tracing::info!("pool {pool}: backend {name} is no longer ejected: {why}");
        }
    }
}

fn tell_turn(name: &str, turn: Turn) {
    match (turn.phase, turn.failed) {
        (Phase::Open, Some((failed, all))) => {
            tracing::warn!(
                "pool {name}: the breaker is open: {failed} of the last {all} connects failed"
            );
        }
        (Phase::Open, None) => {
            tracing::warn!("pool {name}: the breaker is open again: a connect failed");
        }
        (Phase::HalfOpen, _) => {
            tracing::info!("pool {name}: the breaker lets a few connects through");
        }
        (Phase::Closed, _) => tracing::info!("pool {name}: the breaker is closed"),
    }
}
