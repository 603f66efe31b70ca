//! Signals, raised at this very process; every other test's control thread hears them, too.

use crossbeam::channel::{self, Receiver, Select};
use rustix::process::{Signal, getpid, kill_process};

use super::{DEADLINE, strain, surface};
use crate::admin::Reloaded;
use crate::control::{Control, Event};

fn raise(signal: Signal) {
    kill_process(getpid(), signal).unwrap();
}

fn wait(events: &Receiver<Event>, wanted: impl Fn(&Event) -> bool) {
    while !wanted(&events.recv_timeout(DEADLINE).unwrap()) {}
}

/// What waits at this moment, at least one event; not what arrives while these are taken.
fn queued(events: &Receiver<Event>) -> Vec<Event> {
    let mut select = Select::new();
    select.recv(events);
    select.ready_timeout(DEADLINE).unwrap();
    let now_waiting = events.len();
    events.try_iter().take(now_waiting).collect()
}

#[test]
fn each_signal_becomes_its_event_and_a_storm_of_hangups_a_few_reloads() {
    let (sender, events) = channel::bounded(64);
    let surface = surface(|| Reloaded::Busy);
    let control = Control::start(&[], surface, strain(), sender).unwrap();
    for signal in [Signal::TERM, Signal::INT, Signal::TERM] {
        raise(signal);
        wait(&events, |event| matches!(event, Event::Stop));
    }
    raise(Signal::USR1);
    wait(&events, |event| matches!(event, Event::ReopenLogs));
    for _ in 0..1000 {
        raise(Signal::HUP);
    }
    // Fences the storm. The last of it may come later: each signal takes its own way through the runtime.
    raise(Signal::USR1);
    let mut reloads = 0;
    let mut fenced = false;
    while !fenced || reloads == 0 {
        let mut together = 0;
        for event in queued(&events) {
            match event {
                Event::Reload { reply } => {
                    assert!(reply.is_none());
                    together += 1;
                }
                Event::ReopenLogs => fenced = true,
                _ => {}
            }
        }
        assert!(together <= 1, "{together} reloads were queued");
        reloads += together;
    }
    // One is queued, one waits to be queued, the rest have merged; those that a late thread has caught
    // come apart from them.
    assert!(reloads <= 100, "{reloads} reloads for one storm");
    control.stop();
}
