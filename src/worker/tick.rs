//! The worker's clock: looks at sessions that are due, passes on the log, shows that it lives.

use std::rc::Rc;
use std::time::Duration;

use super::Worker;
use crate::base::clock::now;
use crate::io::wheel::SLOT;
use crate::limits::overload::{Stance, weighed};

/// Ticks between two looks at the session log: a line reaches its writer within 100 ms.
const TICKS_PER_FLUSH: u32 = 4;

/// A tick that comes so long after the last one has been held up: a worker that could not run, a
/// machine that stood still.
const LATE: Duration = Duration::from_millis(250);

pub(super) async fn run(worker: Rc<Worker>) {
    let mut ticks = 0_u32;
    loop {
        monoio::time::sleep(SLOT).await;
        let time = now();
        let last = worker.lane.time.replace(time);
        if time - last > LATE {
            let sessions = worker.sessions.borrow();
            sessions
                .values()
                .for_each(|link| link.excuse(time - last, time));
        }
        let late = (time - last).saturating_sub(SLOT);
        let cells = worker.cells();
        cells.lag.add(weighed(late));
        cells.beat(time);
        if !worker.pause.is_empty() && worker.signal.stance() != Stance::Pause {
            worker.pause.look();
        }
        while !worker.check_sessions(time) {
            // A timer's least time: those who are served do not wait for those who are looked at.
            monoio::time::sleep(Duration::from_millis(1)).await;
            worker.cells().beat(now());
        }
        ticks = ticks.wrapping_add(1);
        if ticks.is_multiple_of(TICKS_PER_FLUSH) {
            let mut log = worker.log.borrow_mut();
            if log.pending() {
                log.flush();
            }
        }
    }
}
