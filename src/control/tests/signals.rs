//! Signals, raised at this very process; every other test's control thread hears them, too.

use crossbeam::channel::{self, Receiver};
use rustix::process::{Signal, getpid, kill_process};

use super::{DEADLINE, surface};
use crate::admin::Reloaded;
use crate::control::{Control, Event};

fn raise(signal: Signal) {
    kill_process(getpid(), signal).unwrap();
}

fn wait(events: &Receiver<Event>, wanted: impl Fn(&Event) -> bool) {
    while !wanted(&events.recv_timeout(DEADLINE).unwrap()) {}
}

#[test]
fn each_signal_becomes_its_event_and_a_storm_of_hangups_a_few_reloads() {
    let (sender, events) = channel::bounded(64);
    let surface = surface(|| Reloaded::Busy);
    let control = Control::start(&[], surface, sender).unwrap();
    for signal in [Signal::TERM, Signal::INT, Signal::TERM] {
        raise(signal);
        wait(&events, |event| matches!(event, Event::Stop));
    }
    raise(Signal::USR1);
    wait(&events, |event| matches!(event, Event::ReopenLogs));
    for _ in 0..1000 {
        raise(Signal::HUP);
    }
    // Fences the storm: one reload waits at the most while nobody takes it.
    raise(Signal::USR1);
    let mut reloads = 0;
    loop {
        match events.recv_timeout(DEADLINE).unwrap() {
            Event::Reload { reply } => {
                assert!(reply.is_none());
                reloads += 1;
            }
            Event::ReopenLogs => break,
            _ => {}
        }
    }
    assert!(reloads <= 1, "{reloads} reloads were queued");
    if reloads == 0 {
        wait(&events, |event| matches!(event, Event::Reload { .. }));
    }
    control.stop();
}
