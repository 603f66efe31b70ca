//! Backends by SRV records, and host names with addresses of both families.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use crate::reload::applied;
use crate::support::dns::{Dns, Said};
use crate::support::load::{Named, Visit};
use crate::support::tls::{Authority, Caller, Talk, quoted, secure_echo};
use crate::support::{PATIENCE, Ringlane, address, binary, eventually, loopback};

const NAME: &str = "_db._tcp.test";

fn v4(address: SocketAddr) -> Ipv4Addr {
    match address.ip() {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(_) => panic!("a loopback address of IPv4"),
    }
}

/// A listener and a pool `p` that stands for a service.
fn text(front: SocketAddr, dns: &Dns, pool: &str) -> String {
    format!(
        "[global]\nworkers = 2\n[global.resolver]\nnameservers = [\"{}\"]\n\
         [[listener]]\nname = \"l\"\nlisten = \"{front}\"\npool = \"p\"\n\
         [pool.p]\nbalance = \"round_robin\"\n{pool}\n",
        dns.address
    )
}

fn short() -> String {
    format!("backends = [\"srv:{NAME}\"]")
}

fn usable(ringlane: &Ringlane, wanted: f64) {
    eventually("the pool has its backends", || {
        (ringlane.metric("ringlane_pool_usable{pool=\"p\"}") == Some(wanted)).then_some(())
    });
}

fn shares(front: SocketAddr, count: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..count {
        *shares.entry(Visit::to(front).backend).or_insert(0) += 1;
    }
    shares
}

fn until_shares(front: SocketAddr, count: usize, wanted: &[(&str, usize)]) {
    let wanted = wanted
        .iter()
        .map(|(name, count)| ((*name).to_owned(), *count));
    let wanted: BTreeMap<_, _> = wanted.collect();
    let begun = Instant::now();
    loop {
        let shares = shares(front, count);
        if shares == wanted {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{shares:?}, not {wanted:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_service_stands_for_its_hosts_with_their_ports_and_shares() {
    let (a, b, c) = (Named::start("a"), Named::start("b"), Named::start("c"));
    let dns = Dns::start();
    for (name, backend) in [("a.test", &a), ("b.test", &b), ("c.test", &c)] {
        dns.host(name, v4(backend.address));
    }
    let ports = [&a, &b, &c].map(|it| it.address.port());
    let records = |weights: [u16; 2], priorities: [u16; 3]| {
        [
            (priorities[0], weights[0], ports[0], "a.test"),
            (priorities[1], weights[1], ports[1], "b.test"),
            (priorities[2], 0, ports[2], "c.test"),
        ]
    };
    dns.service(NAME, &records([3, 1], [10, 10, 20]));
    let front = address();
    let ringlane = Ringlane::start(&text(front, &dns, &short()));
    usable(&ringlane, 3.0);
    assert_eq!(
        shares(front, 40),
        BTreeMap::from([("a".to_owned(), 30), ("b".to_owned(), 10)])
    );
    // By name, port and address, the same whatever the order.
    let active = |host: &str, backend: &Named| {
        let (ip, port) = (v4(backend.address), backend.address.port());
        let name = format!("srv:{NAME}/{host}:{port}/{ip}");
        ringlane.metric(&format!(
            "ringlane_backend_connections_active{{pool=\"p\",backend=\"{name}\"}}"
        ))
    };
    let held = Visit::to(front);
    let of_held = match &*held.backend {
        "a" => ("a.test", &a),
        _ => ("b.test", &b),
    };
    eventually("the others have ended", || {
        (active(of_held.0, of_held.1) == Some(1.0)).then_some(())
    });

    // Other weights and tiers arrive like other addresses, and sessions stay counted.
    let mut turned = records([1, 3], [10, 10, 20]);
    turned.reverse();
    dns.service(NAME, &turned);
    until_shares(front, 40, &[("a", 10), ("b", 30)]);
    applied(&ringlane.reload(&text(
        front,
        &dns,
        &format!("retry_budget = \"30%\"\n{}", short()),
    )));
    assert_eq!(active(of_held.0, of_held.1), Some(1.0));
    held.echo().unwrap();
    dns.service(NAME, &records([1, 3], [30, 30, 20]));
    until_shares(front, 10, &[("c", 10)]);
    c.close();
    until_shares(front, 40, &[("a", 10), ("b", 30)]);
}

#[test]
fn old_answers_serve_until_there_are_better_ones() {
    let (a, b) = (Named::start("a"), Named::start("b"));
    let dns = Dns::start();
    dns.host("a.test", v4(a.address));
    dns.host("b.test", v4(b.address));
    let of_a = (0, 0, a.address.port(), "a.test");
    let of_b = (0, 0, b.address.port(), "b.test");
    dns.service(NAME, &[of_a, of_b]);
    let front = address();
    let ringlane = Ringlane::start(&text(front, &dns, &short()));
    usable(&ringlane, 2.0);
    // One host fails, then the service, too.
    dns.say("b.test", None);
    dns.await_questions(6);
    assert_eq!(shares(front, 10).len(), 2);
    dns.say(NAME, None);
    dns.await_questions(6);
    assert_eq!(shares(front, 10).len(), 2);
    // A host that nobody can find does not replace one that serves.
    dns.service(NAME, &[(0, 0, 1, "missing.test")]);
    dns.await_questions(6);
    assert_eq!(shares(front, 10).len(), 2);
    dns.service(NAME, &[of_b]);
    dns.host("b.test", v4(b.address));
    until_shares(front, 10, &[("b", 10)]);
    // The service is decidedly not there.
    dns.service(NAME, &[(0, 0, 0, ".")]);
    usable(&ringlane, 0.0);
    assert!(Visit::try_to(front, None).is_err());
    dns.service(NAME, &[of_a]);
    usable(&ringlane, 1.0);
    until_shares(front, 10, &[("a", 10)]);
}

#[test]
fn sessions_leave_a_host_that_is_not_offered_any_more() {
    let (a, b) = (Named::start("a"), Named::start("b"));
    let dns = Dns::start();
    dns.host("a.test", v4(a.address));
    dns.host("b.test", v4(b.address));
    let of_a = (0, 0, a.address.port(), "a.test");
    let of_b = (0, 0, b.address.port(), "b.test");
    dns.service(NAME, &[of_a, of_b]);
    let front = address();
    let ringlane = Ringlane::start(&text(
        front,
        &dns,
        &format!("on_remove = \"reset\"\n{}", short()),
    ));
    usable(&ringlane, 2.0);
    let visits: Vec<Visit> = (0..10).map(|_| Visit::to(front)).collect();
    dns.service(NAME, &[of_b]);
    let lines = ringlane.session_lines(5);
    assert!(lines.iter().all(|it| it["reason"] == "backend_removed"));
    for visit in visits {
        assert_eq!(visit.echo().is_ok(), visit.backend == "b");
    }
}

#[test]
fn certificates_are_checked_against_the_hosts_own_name() {
    let authority = Authority::new();
    let server = authority.issue("server", &["back.test"]);
    let mine = authority.issue("mine", &["front.test"]);
    let backend = secure_echo(authority.server(&server, None));
    let dns = Dns::start();
    dns.host("back.test", v4(backend));
    dns.service(NAME, &[(0, 0, backend.port(), "back.test")]);
    let front = address();
    let pool = format!(
        "{}\ntls = {{ ca = {} }}",
        short(),
        quoted(&authority.file())
    );
    let text = text(front, &dns, &pool).replace(
        "pool = \"p\"\n",
        &format!("pool = \"p\"\ntls.certificates = [{}]\n", mine.toml()),
    );
    let ringlane = Ringlane::start(&text);
    usable(&ringlane, 1.0);
    let config = Caller::new(&authority).config();
    let talk = Talk::to(front, &config, "front.test").unwrap();
    let answer = String::from_utf8(talk.exchange(b"q").unwrap()).unwrap();
    assert!(answer.starts_with("sni=back.test "), "{answer}");
    assert!(answer.ends_with("\nq"), "{answer}");
}

#[test]
fn both_families_of_a_name_are_used_and_answers_hold_for_a_second_at_least() {
    let port = address().port();
    let first = Named::start_at("v4", (loopback(), port).into()).unwrap();
    // Without IPv6 there is nothing to see.
    let Ok(second) = Named::start_at("v6", ("::1".parse::<IpAddr>().unwrap(), port).into()) else {
        return;
    };
    let dns = Dns::start();
    let both = Said {
        v4: vec![v4(first.address)],
        v6: vec!["::1".parse().unwrap()],
        ..Said::default()
    };
    dns.say("both.test", Some(both));
    let front = address();
    let pool = format!("backends = [\"both.test:{port}\"]");
    let ringlane = Ringlane::start(&text(front, &dns, &pool));
    usable(&ringlane, 2.0);
    assert_eq!(
        shares(front, 10),
        BTreeMap::from([("v4".to_owned(), 5), ("v6".to_owned(), 5)])
    );
    // Two questions each time, and a TTL of one second.
    let before = dns.questions();
    thread::sleep(Duration::from_secs(3));
    let asked = dns.questions() - before;
    assert!((2..=8).contains(&asked), "{asked}");
    drop(second);
}

#[test]
fn check_print_and_explain_know_services() {
    let dns = Dns::start();
    let front = address();
    let long = format!("[[pool.p.backend]]\nname = \"db\"\naddress = \"srv:{NAME}.\"\ntier = 1\n");
    let text = text(front, &dns, &long);
    let file = std::env::temp_dir().join(format!("ringlane-srv-{}.toml", std::process::id()));
    std::fs::write(&file, &text).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = binary();
        command.args(arguments).arg(&file);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let printed = run(&["check", "--print"]);
    assert!(
        printed.contains(&format!("address = \"srv:{NAME}\"\n")),
        "{printed}"
    );
    let shown = run(&["explain", "--listener", "l", "-c"]);
    assert!(shown.contains(&format!("db  srv:{NAME}")), "{shown}");
    assert!(shown.contains("host names are not looked up"), "{shown}");
    std::fs::remove_file(&file).unwrap();
}
