//! Name resolution.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{self, Receiver};

use super::dns::{Server, Zone};
use super::{DEADLINE, next_answers, next_resolved, strain, surface};
use crate::admin::Reloaded;
use crate::base::clock;
use crate::control::{Control, Event, Wanted};

fn start(server: &Server) -> (Control, Receiver<Event>) {
    let (sender, events) = channel::bounded(64);
    let surface = surface(|| Reloaded::Busy);
    let control = Control::start(&[server.address], surface, strain(), sender).unwrap();
    (control, events)
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn names(texts: &[&str]) -> Wanted {
    Wanted {
        hosts: texts.iter().map(|text| Arc::from(*text)).collect(),
        services: BTreeSet::new(),
    }
}

#[test]
fn all_addresses_of_both_families_are_found_once_and_in_order() {
    let server = Server::start();
    let mixed = ips(&["10.0.0.9", "10.0.0.1", "10.0.0.9", "fd00::2", "fd00::1"]);
    server.set("both.test", Zone::Addresses(mixed, 60));
    server.set("six.test", Zone::Addresses(ips(&["fd00::3"]), 60));
    let (control, _events) = start(&server);
    let found = control
        .resolve(names(&["both.test", "six.test", "no.test"]), DEADLINE)
        .table
        .hosts;
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(
        found["both.test"],
        ips(&["10.0.0.1", "10.0.0.9", "fd00::1", "fd00::2"])
    );
    assert_eq!(found["six.test"], ips(&["fd00::3"]));
    control.stop();
}

#[test]
fn a_change_is_told_with_the_whole_table_when_the_ttl_is_over() {
    let server = Server::start();
    server.set("moves.test", Zone::Addresses(ips(&["10.0.0.1"]), 1));
    server.set("stays.test", Zone::Addresses(ips(&["10.0.0.2"]), 300));
    let (control, events) = start(&server);
    control.resolve(names(&["moves.test", "stays.test"]), DEADLINE);
    server.set("moves.test", Zone::Addresses(ips(&["10.0.0.3"]), 1));
    let answers = next_answers(&events);
    assert_eq!(answers["moves.test"], ips(&["10.0.0.3"]));
    assert_eq!(answers["stays.test"], ips(&["10.0.0.2"]));
    // The same set in another order is no change.
    server.set(
        "moves.test",
        Zone::Addresses(ips(&["10.0.0.4", "10.0.0.3"]), 1),
    );
    assert_eq!(
        next_answers(&events)["moves.test"],
        ips(&["10.0.0.3", "10.0.0.4"])
    );
    server.set(
        "moves.test",
        Zone::Addresses(ips(&["10.0.0.3", "10.0.0.4"]), 1),
    );
    server.wait_for("moves.test");
    server.wait_for("moves.test");
    assert!(
        !events
            .try_iter()
            .any(|event| matches!(event, Event::Resolved { .. }))
    );
    control.stop();
}

#[test]
fn old_answers_outlive_a_failure_and_give_way_to_new_ones() {
    let server = Server::start();
    server.set("db.test", Zone::Addresses(ips(&["10.0.0.1"]), 1));
    let (control, events) = start(&server);
    control.resolve(names(&["db.test"]), DEADLINE);
    server.set("db.test", Zone::Broken);
    server.wait_for("db.test");
    server.wait_for("db.test");
    let kept = control
        .resolve(names(&["db.test"]), Duration::ZERO)
        .table
        .hosts;
    assert_eq!(kept["db.test"], ips(&["10.0.0.1"]));
    assert!(
        !events
            .try_iter()
            .any(|event| matches!(event, Event::Resolved { .. }))
    );
    server.set("db.test", Zone::Addresses(ips(&["10.0.0.2"]), 1));
    assert_eq!(next_answers(&events)["db.test"], ips(&["10.0.0.2"]));
    control.stop();
}

#[test]
fn one_family_that_fails_does_not_hide_the_other() {
    let server = Server::start();
    let both = ips(&["10.0.0.1", "fd00::1"]);
    server.set("half.test", Zone::OnlyV4(ips(&["10.0.0.1"]), 1));
    let (control, events) = start(&server);
    let found = control.resolve(names(&["half.test"]), DEADLINE).table.hosts;
    assert_eq!(found["half.test"], ips(&["10.0.0.1"]));
    server.set("half.test", Zone::Addresses(both, 1));
    assert_eq!(
        next_answers(&events)["half.test"],
        ips(&["10.0.0.1", "fd00::1"])
    );
    server.set("half.test", Zone::OnlyV4(ips(&["10.0.0.2"]), 1));
    assert_eq!(
        next_answers(&events)["half.test"],
        ips(&["10.0.0.2", "fd00::1"])
    );
    control.stop();
}

#[test]
fn a_silent_server_holds_up_nobody_longer_than_asked() {
    let server = Server::start();
    server.set("quick.test", Zone::Addresses(ips(&["10.0.0.1"]), 60));
    server.set("slow.test", Zone::Silent);
    let (control, events) = start(&server);
    control.resolve(names(&["quick.test"]), DEADLINE);
    let began = clock::now();
    let found = control
        .resolve(
            names(&["quick.test", "slow.test"]),
            Duration::from_millis(300),
        )
        .table
        .hosts;
    let took = clock::now() - began;
    assert!(took >= Duration::from_millis(300), "{took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(found["quick.test"], ips(&["10.0.0.1"]));
    assert!(!found.contains_key("slow.test"));
    // It is told when it answers at last.
    server.set("slow.test", Zone::Addresses(ips(&["10.0.0.2"]), 60));
    assert_eq!(next_answers(&events)["slow.test"], ips(&["10.0.0.2"]));
    control.stop();
}

#[test]
fn known_names_are_answered_from_memory_and_others_forgotten() {
    let server = Server::start();
    server.set("a.test", Zone::Addresses(ips(&["10.0.0.1"]), 300));
    server.set("b.test", Zone::Addresses(ips(&["10.0.0.2"]), 300));
    let (control, _events) = start(&server);
    control.resolve(names(&["a.test", "b.test"]), DEADLINE);
    server.set("a.test", Zone::Silent);
    let found = control.resolve(names(&["a.test"]), DEADLINE).table.hosts;
    assert_eq!(found.len(), 1);
    assert_eq!(found["a.test"], ips(&["10.0.0.1"]));
    assert!(control.resolve(names(&[]), DEADLINE).table.hosts.is_empty());
    control.stop();
}

#[test]
fn other_name_servers_are_asked_at_once() {
    let (old, new) = (Server::start(), Server::start());
    old.set("db.test", Zone::Addresses(ips(&["10.0.0.1"]), 300));
    new.set("db.test", Zone::Addresses(ips(&["10.0.0.2"]), 300));
    let (control, events) = start(&old);
    control.resolve(names(&["db.test"]), DEADLINE);
    control.set_nameservers(&[new.address]);
    assert_eq!(next_answers(&events)["db.test"], ips(&["10.0.0.2"]));
    control.stop();
}

#[test]
fn a_table_that_finds_the_channel_full_is_sent_later() {
    let server = Server::start();
    server.set("db.test", Zone::Addresses(ips(&["10.0.0.1"]), 1));
    let (sender, events) = channel::bounded(1);
    let surface = surface(|| Reloaded::Busy);
    let control = Control::start(&[server.address], surface, strain(), sender.clone()).unwrap();
    control.resolve(names(&["db.test"]), DEADLINE);
    // Another test may have filled it with a signal already.
    let _ = sender.try_send(Event::ReopenLogs);
    server.set("db.test", Zone::Addresses(ips(&["10.0.0.2"]), 1));
    server.wait_for("db.test");
    server.wait_for("db.test");
    // The thread is not stuck on the channel: it still takes commands.
    control.resolve(names(&["db.test", "no.test"]), DEADLINE);
    server.set("db.test", Zone::Addresses(ips(&["10.0.0.3"]), 1));
    assert_eq!(next_answers(&events)["db.test"], ips(&["10.0.0.3"]));
    control.stop();
}

#[test]
fn an_event_that_waited_does_not_undo_a_later_answer() {
    let server = Server::start();
    server.set("db.test", Zone::Addresses(ips(&["10.0.0.1"]), 1));
    let (control, events) = start(&server);
    let mut known = control.resolve(names(&["db.test"]), DEADLINE);
    server.set("db.test", Zone::Addresses(ips(&["10.0.0.2"]), 1));
    let waited = next_resolved(&events);
    // Meanwhile a reload is told of the third address.
    server.set("db.test", Zone::Addresses(ips(&["10.0.0.3"]), 1));
    while known.table.hosts["db.test"] != ips(&["10.0.0.3"]) {
        server.wait_for("db.test");
        known = control.resolve(names(&["db.test"]), DEADLINE);
    }
    assert!(!known.renew(waited));
    assert_eq!(known.table.hosts["db.test"], ips(&["10.0.0.3"]));
    server.set("db.test", Zone::Addresses(ips(&["10.0.0.4"]), 1));
    // An event of the third address may still be waiting.
    while !known.renew(next_resolved(&events)) {}
    assert_eq!(known.table.hosts["db.test"], ips(&["10.0.0.4"]));
    control.stop();
}
