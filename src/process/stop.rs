//! The end of the process, in stages: not ready, no new connections, no old ones.

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::Process;
use crate::admin::Reloaded;
use crate::base::clock::now;
use crate::base::reason::Reason;
use crate::config::model::Shutdown;
use crate::control::Event;
use crate::worker::mailbox::Message;

/// How often a stage looks whether it is over.
const LOOK: Duration = Duration::from_millis(10);

/// How long sessions that were reset may take to end.
const LAST_MOMENTS: Duration = Duration::from_secs(1);

/// How long the last session lines may take to be written.
const LOG_PATIENCE: Duration = Duration::from_secs(2);

/// Whether a second signal came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Haste {
    Orderly,
    AtOnce,
}

impl Process {
    /// Goes through the stages; a second signal skips what is left of them.
    pub(super) fn stop(mut self, events: &Receiver<Event>) -> ExitCode {
        let Shutdown { pre_stop, drain } = self.current.load().model.global.shutdown;
        // No service manager: nothing to tell.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        tracing::info!(
            "stopping: {} sessions, drain {drain:?}",
            self.metrics.sessions()
        );
        self.surface.ready.store(false, Ordering::Release);

        let haste = self.wait(events, pre_stop, |_| false);
        let moves = self.sockets.withdraw_all();
        let snapshot = self.current.load_full();
        self.tell(&snapshot, moves);
        if haste == Haste::Orderly {
            self.wait(events, drain, |process| {
                process.sockets.all_dry() && process.metrics.sessions() == 0
            });
        }
        let left = self.metrics.sessions();
        if left > 0 {
            tracing::info!("{left} sessions are reset");
        }
        for worker in &self.workers {
            worker.mailbox.send(Message::ResetAll(Reason::Drain));
        }
        // In haste, too: it takes milliseconds, and without it their lines would be missing.
        self.wait(events, LAST_MOMENTS, |process| {
            process.metrics.sessions() == 0
        });
        self.end();
        ExitCode::SUCCESS
    }

    /// Waits until `over` or the time is up.
    fn wait(
        &mut self,
        events: &Receiver<Event>,
        limit: Duration,
        over: impl Fn(&mut Self) -> bool,
    ) -> Haste {
        let begun = now();
        while now() - begun < limit && !over(self) {
            match events.recv_timeout(LOOK) {
                Ok(Event::Stop) => return Haste::AtOnce,
                Ok(Event::ReopenLogs) => self.log.reopen(),
                Ok(Event::Reload { reply: Some(reply) }) => {
                    // Who asked may have gone.
                    let _ = reply.try_send(Reloaded::Stopping);
                }
                Ok(Event::Reload { reply: None } | Event::Resolved { .. })
                | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::park_timeout(LOOK),
            }
        }
        Haste::Orderly
    }

    fn end(self) {
        for worker in &self.workers {
            worker.mailbox.send(Message::End);
        }
        for worker in self.workers {
            if worker.thread.join().is_err() {
                tracing::error!("a worker had panicked");
            }
        }
        self.control.stop();
        if !self.log.stop(LOG_PATIENCE) {
            tracing::warn!("the session log's target blocks: its last lines are lost");
        }
    }
}
