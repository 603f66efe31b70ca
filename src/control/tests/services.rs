//! Names that stand for services.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{self, Receiver};

use super::dns::{Server, Zone};
use super::{DEADLINE, next_resolved, strain, surface};
use crate::admin::Reloaded;
use crate::control::{Control, Event, Wanted};
use crate::snapshot::Answers;

const NAME: &str = "_db._tcp.test";

fn start(server: &Server) -> (Control, Receiver<Event>) {
    let (sender, events) = channel::bounded(64);
    let surface = surface(|| Reloaded::Busy);
    let control = Control::start(&[server.address], surface, strain(), sender).unwrap();
    (control, events)
}

fn wanted() -> Wanted {
    Wanted {
        hosts: BTreeSet::new(),
        services: BTreeSet::from([Arc::from(NAME)]),
    }
}

fn service(records: &[(u16, u16, u16, &str)]) -> Zone {
    let records = records.iter();
    let records = records.map(|&(priority, weight, port, target)| {
        let target = target.to_owned();
        (priority, weight, port, target)
    });
    Zone::Service(records.collect(), 1)
}

fn host(ip: &str) -> Zone {
    Zone::Addresses(vec![ip.parse().unwrap()], 1)
}

/// Priority, weight, port and host of each offer, with the addresses of the host.
fn offers(answers: &Answers) -> Vec<(u16, u16, u16, String, Vec<IpAddr>)> {
    let offers = answers.services[NAME].iter();
    let offers = offers.map(|it| {
        let ips = answers.of_host(&it.host).to_vec();
        (it.priority, it.weight, it.port, it.host.to_string(), ips)
    });
    offers.collect()
}

/// The hosts that are offered, one letter each, and how many addresses they have.
fn summary(answers: &Answers) -> String {
    let offers = offers(answers).into_iter();
    offers
        .map(|(.., host, ips)| format!("{}{}", &host[..1], ips.len()))
        .collect()
}

fn until(events: &Receiver<Event>, wanted: &str) {
    while summary(&next_resolved(events).table) != wanted {}
}

#[test]
fn records_are_read_ordered_and_their_hosts_resolved() {
    let server = Server::start();
    let both = ["10.0.0.1", "fd00::1"].map(|ip| ip.parse().unwrap());
    server.set("a.test", Zone::Addresses(both.to_vec(), 60));
    server.set("b.test", host("10.0.0.2"));
    server.set(
        NAME,
        service(&[
            (20, 1, 5433, "b.test"),
            (10, 5, 5432, "B.Test"),
            (10, 7, 5432, "a.test"),
            // Twice, worse; for nobody; no host at all.
            (30, 9, 5432, "a.test"),
            (10, 1, 0, "a.test"),
            (10, 1, 1, "a b.test"),
        ]),
    );
    let (control, _events) = start(&server);
    let found = control.resolve(wanted(), DEADLINE).table;
    let (a, b) = ("a.test".to_owned(), "b.test".to_owned());
    let second = vec!["10.0.0.2".parse().unwrap()];
    assert_eq!(
        offers(&found),
        [
            (10, 7, 5432, a, both.to_vec()),
            (10, 5, 5432, b.clone(), second.clone()),
            (20, 1, 5433, b, second),
        ]
    );
    control.stop();
}

#[test]
fn new_records_are_told_once_their_hosts_are_known() {
    let server = Server::start();
    server.set("a.test", host("10.0.0.1"));
    server.set("b.test", Zone::Silent);
    server.set(NAME, service(&[(0, 0, 1, "a.test")]));
    let (control, events) = start(&server);
    let found = control.resolve(wanted(), DEADLINE).table;
    assert_eq!(summary(&found), "a1");
    server.set(NAME, service(&[(0, 0, 1, "b.test")]));
    server.wait_for("b.test");
    // The only host of the new answer cannot be found: the old one serves.
    server.set("b.test", Zone::Broken);
    server.wait_for("b.test");
    server.wait_for(NAME);
    let found = control.resolve(wanted(), Duration::ZERO).table;
    assert_eq!(summary(&found), "a1");
    server.set("b.test", host("10.0.0.2"));
    until(&events, "b1");
    // A change of weight alone is a change.
    server.set(NAME, service(&[(0, 3, 1, "b.test")]));
    while offers(&next_resolved(&events).table)[0].1 != 3 {}
    // "." takes the service away.
    server.set(NAME, service(&[(0, 0, 0, "")]));
    until(&events, "");
    control.stop();
}

#[test]
fn failures_keep_what_was_known_of_the_service_and_of_each_host() {
    let server = Server::start();
    server.set("a.test", host("10.0.0.1"));
    server.set("b.test", host("10.0.0.2"));
    let both = service(&[(0, 0, 1, "a.test"), (0, 0, 1, "b.test")]);
    server.set(NAME, both);
    let (control, events) = start(&server);
    control.resolve(wanted(), DEADLINE);
    for broken in [&["b.test"][..], &["b.test", NAME], &["a.test"]] {
        for name in broken {
            server.set(name, Zone::Broken);
        }
        server.wait_for(broken[0]);
        server.wait_for(broken[0]);
        let found = control.resolve(wanted(), Duration::ZERO).table;
        assert_eq!(summary(&found), "a1b1", "{broken:?}");
    }
    assert!(
        !events
            .try_iter()
            .any(|event| matches!(event, Event::Resolved { .. }))
    );
    // One that was never found does not keep the other back.
    server.set("a.test", host("10.0.0.1"));
    server.set(NAME, service(&[(0, 0, 1, "a.test"), (0, 0, 1, "c.test")]));
    until(&events, "a1c0");
    server.set("c.test", host("10.0.0.3"));
    until(&events, "a1c1");
    control.stop();
}
