//! Measures how busy the process is, and tells the workers when it is too much.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::base::clock::{Instant, now};
use crate::base::seldom::Seldom;
use crate::config::model::{Memory, Overload as Settings, OverloadAction};
use crate::io::wheel::SLOT;
use crate::limits::overload::{
    Cause, Change, INTERVAL, Lags, Load, Overload, Signal, Thresholds, Ticks,
};
use crate::metrics::Registry;
use crate::sys::memory::{resident, room};

/// What measuring reads, and what it moves.
pub struct Strain {
    /// The workers' ticks.
    pub workers: Arc<Registry>,
    /// What everybody else sees.
    pub signal: Arc<Signal>,
}

impl Strain {
    /// Of these workers; nothing is too much yet.
    pub fn new(workers: Arc<Registry>) -> Self {
        Self {
            workers,
            signal: Arc::default(),
        }
    }
}

/// All measuring of the process.
pub(super) struct Watch {
    strain: Strain,
    settings: Option<Settings>,
    overload: Overload,
    lags: Lags,
    due: Instant,
    /// When it was last said that memory cannot be measured.
    blind: Seldom,
}

impl Watch {
    /// Measures nothing yet.
    pub(super) fn new(strain: Strain) -> Self {
        Self {
            strain,
            settings: None,
            overload: Overload::default(),
            lags: Lags::default(),
            due: now(),
            blind: Seldom::default(),
        }
    }

    /// Goes by these settings from now on. A state that lasts goes on until its end is measured.
    pub(super) fn set(&mut self, settings: Option<Settings>) {
        if self.settings == settings {
            return;
        }
        let measured = self
            .settings
            .is_some_and(|before| before.loop_lag.is_some());
        self.settings = settings;
        // What was seen goes on to count, or the lag that is the reason would pass for over.
        if !measured || settings.is_none() {
            self.lags = Lags::default();
        }
        self.due = now();
        match settings {
            Some(settings) if self.overload.cause().is_some() => {
                self.strain.signal.raise(settings.action, settings.ready);
            }
            Some(_) => {}
            None => {
                if self.overload.cause().is_some() {
                    tracing::info!("overload is not looked for any more");
                }
                self.overload = Overload::default();
                self.strain.signal.lower();
                self.strain.signal.show(Load::default(), Load::default());
            }
        }
    }

    /// Waits for the next measurement and goes by it. May be dropped while waiting.
    pub(super) async fn turn(&mut self) {
        let Some(settings) = self.settings else {
            return pending().await;
        };
        sleep(self.due - now()).await;
        self.due = now() + INTERVAL;
        self.look(&settings);
    }

    fn look(&mut self, settings: &Settings) {
        let (memory, memory_limit) = settings.memory.map_or((None, None), measure);
        if settings.memory.is_some() && memory.is_none() && self.blind.is_due(now()) {
            tracing::error!("memory cannot be measured, so it is no overload");
        }
        let load = Load {
            memory,
            lag: settings
                .loop_lag
                .and_then(|_| self.lags.see(&self.ticks(), now())),
        };
        let limit = Load {
            memory: memory_limit,
            lag: settings.loop_lag,
        };
        let signal = &self.strain.signal;
        signal.show(load, limit);
        let thresholds = Thresholds {
            limit,
            resume: settings.resume,
        };
        match self.overload.see(load, &thresholds, now()) {
            Some(Change::Begun(cause)) => {
                signal.count(cause);
                signal.raise(settings.action, settings.ready);
                let what = match settings.action {
                    OverloadAction::Pause => "accepting pauses",
                    OverloadAction::Reject => "new clients are reset",
                };
                tracing::warn!("overloaded, {what}: {}", shown(cause, load, limit));
            }
            Some(Change::Ended(lasted)) => {
                signal.lower();
                let seconds = lasted.as_secs_f64();
                tracing::info!("not overloaded any more after {seconds:.1} s");
            }
            None => {}
        }
    }

    fn ticks(&self) -> Vec<Ticks> {
        let time = now();
        let workers = self.strain.workers.workers().all();
        // One that has not begun to tick says nothing yet.
        let begun = |last: Instant| last != Instant::ZERO;
        let ticks = workers.map(|cells| Ticks {
            weighed: cells.lag.read(),
            overdue: if begun(cells.last()) {
                (time - cells.last()).saturating_sub(SLOT)
            } else {
                Duration::ZERO
            },
        });
        ticks.collect()
    }
}

/// The memory taken and the threshold that it is measured by, bytes.
fn measure(threshold: Memory) -> (Option<u64>, Option<u64>) {
    match threshold {
        Memory::Bytes(bytes) => (resident(), Some(bytes)),
        Memory::Percent(percent) => {
            let room = room();
            let part = |total: u64| total / 100 * u64::from(percent);
            let taken = room.as_ref().and_then(|room| room.taken());
            (taken, room.map(|room| part(room.total())))
        }
    }
}

fn shown(cause: Cause, load: Load, limit: Load) -> String {
    let mebibytes = |bytes: Option<u64>| bytes.unwrap_or(0) >> 20;
    let millis = |lag: Option<Duration>| lag.unwrap_or_default().as_millis();
    match cause {
        Cause::Memory => {
            let (taken, most) = (mebibytes(load.memory), mebibytes(limit.memory));
            format!("{taken} MiB of memory, threshold {most} MiB")
        }
        Cause::LoopLag => {
            let (lag, most) = (millis(load.lag), millis(limit.lag));
            format!("a worker is {lag} ms late, threshold {most} ms")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::OverloadReady;

    const SETTINGS: Settings = Settings {
        memory: None,
        loop_lag: Some(Duration::from_millis(100)),
        resume: 80,
        action: OverloadAction::Pause,
        ready: OverloadReady::Keep,
    };

    /// A lag that nobody knows would pass for none, and end an overload that lasts.
    #[test]
    fn new_thresholds_do_not_forget_the_lag() {
        let mut watch = Watch::new(Strain::new(Arc::new(Registry::new(1))));
        watch.set(Some(SETTINGS));
        let earlier = Instant::from_nanos(now().as_nanos() - 1_500_000_000);
        let ticks = watch.ticks();
        assert_eq!(watch.lags.see(&ticks, earlier), None);
        watch.set(Some(Settings {
            resume: 70,
            ..SETTINGS
        }));
        assert!(watch.lags.see(&ticks, now()).is_some());
        // What was seen before it was switched off says nothing of what comes after.
        watch.set(None);
        watch.set(Some(SETTINGS));
        assert_eq!(watch.lags.see(&ticks, now()), None);
    }
}
