//! The worker's clock: looks at sessions that are due, passes on the log, shows that it lives.

use std::rc::Rc;
use std::time::Duration;

use super::Worker;
use crate::base::clock::{Instant, now};
use crate::io::wheel::SLOT;
use crate::limits::overload::{Stance, weighed};

/// The time between two looks at the session log, less what a tick may be early: a line reaches its writer
/// within 100 ms.
const FLUSH_INTERVAL: Duration = Duration::from_millis(90);

/// A tick that comes so long after the last one has been held up: a worker that could not run, a
/// machine that stood still.
const LATE: Duration = Duration::from_millis(250);

/// A timer's least time.
const LEAST: Duration = Duration::from_millis(1);

pub(super) async fn run(worker: Rc<Worker>) {
    let mut flushed = now();
    loop {
        let time = worker.rest(SLOT, &mut flushed).await;
        while !worker.check_sessions(time) {
            // Those who are served do not wait for those who are looked at.
            worker.rest(LEAST, &mut flushed).await;
        }
    }
}

impl Worker {
    /// Lets others run for so long, then does what is due by the clock; returns the time.
    async fn rest(&self, length: Duration, flushed: &mut Instant) -> Instant {
        monoio::time::sleep(length).await;
        let time = now();
        let last = self.lane.time.replace(time);
        if time - last > LATE {
            let sessions = self.sessions.borrow();
            sessions
                .values()
                .for_each(|link| link.excuse(time - last, time));
        }
        let cells = self.cells();
        let late = (time - last).saturating_sub(length);
        cells.lag.add(weighed(late, length));
        cells.beat(time);
        if !self.pause.is_empty() && self.signal.stance() != Stance::Pause {
            self.pause.look();
        }
        if time - *flushed >= FLUSH_INTERVAL {
            *flushed = time;
            let mut log = self.log.borrow_mut();
            if log.pending() {
                log.flush();
            }
        }
        time
    }
}
