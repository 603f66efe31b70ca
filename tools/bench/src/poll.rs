//! Waiting for sockets, with a timeout in nanoseconds.

use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;

/// Events taken from the kernel at one go.
const EVENTS: usize = 256;

/// Room for one batch.
pub(crate) fn events() -> Vec<Event> {
    vec![
        Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        };
        EVENTS
    ]
}

/// Waits until something happens or `timeout` passes; gives the token and the flags of each event.
pub(crate) fn wait<'a>(
    epoll: &OwnedFd,
    events: &'a mut [Event],
    timeout: Duration,
) -> Result<impl Iterator<Item = (u64, EventFlags)> + 'a> {
    // A timeout too long to be expressed waits for ever.
    let timeout = Timespec::try_from(timeout).ok();
    let count = match epoll::wait(epoll, &mut *events, timeout.as_ref()) {
        Ok(count) => count,
        Err(Errno::INTR) => 0,
        Err(error) => return Err(error).context("epoll_pwait2, which needs Linux 5.11"),
    };
    Ok(events
        .iter()
        .take(count)
        .map(|event| (event.data.u64(), event.flags)))
}
