//! Which backend gets a connection: every balancing, backups, failures and names.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::thread;

use crate::support::dns::Dns;
use crate::support::load::{Named, Visit, connect, service};
use crate::support::{PATIENCE, Ringlane, address, eventually, loopback};

/// A `[[pool.p.backend]]` for each.
fn backends(list: &[(&str, SocketAddr, &str)]) -> String {
    let mut text = String::new();
    for (name, address, more) in list {
        write!(
            text,
            "[[pool.p.backend]]\nname = \"{name}\"\naddress = \"{address}\"\n{more}\n"
        )
        .unwrap();
    }
    text
}

fn pool(front: SocketAddr, settings: &str, list: &[(&str, SocketAddr, &str)]) -> String {
    format!(
        "[[listener]]\nname = \"l\"\nlisten = \"{front}\"\npool = \"p\"\n[pool.p]\n{settings}\n{}",
        backends(list)
    )
}

/// How many of so many connections, one after the other, each backend gets.
fn shares(front: SocketAddr, count: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..count {
        let visit = Visit::to(front);
        *shares.entry(visit.backend.clone()).or_insert(0) += 1;
        visit.finish().unwrap();
    }
    shares
}

#[test]
fn round_robin_keeps_to_the_weights() {
    let (a, b, c) = (Named::start("a"), Named::start("b"), Named::start("c"));
    let front = address();
    let _ringlane = Ringlane::start(&pool(
        front,
        "balance = \"round_robin\"",
        &[
            ("a", a.address, "weight = 5"),
            ("b", b.address, ""),
            ("c", c.address, ""),
        ],
    ));
    let shares = shares(front, 700);
    for (name, wanted) in [("a", 500), ("b", 100), ("c", 100)] {
        assert!(shares[name].abs_diff(wanted) <= 7, "{shares:?}");
    }
}

#[test]
fn least_connections_evens_out_over_workers_and_reloads() {
    let (a, b) = (Named::start("a"), Named::start("b"));
    let front = address();
    let ringlane = Ringlane::start(&service("p", front, &[a.address]));
    let pinned: Vec<_> = (0..100).map(|_| Visit::to(front)).collect();
    let both = service("p", front, &[a.address, b.address]);
    assert!(ringlane.reload(&both).status.success());
    let next: Vec<_> = (0..100).map(|_| Visit::to(front)).collect();
    assert!(next.iter().all(|visit| visit.backend == "b"));
    let last: Vec<_> = (0..100).map(|_| Visit::to(front)).collect();
    let of_a = last.iter().filter(|visit| visit.backend == "a").count();
    assert!(of_a.abs_diff(50) <= 2, "{of_a}");
    drop((pinned, next, last));
}

#[test]
fn source_hash_keeps_a_source_at_its_backend_over_reload_and_restart() {
    let named: Vec<_> = (0..10)
        .map(|index| Named::start(&format!("b{index}")))
        .collect();
    let names: Vec<_> = (0..10).map(|index| format!("b{index}")).collect();
    let list: Vec<_> = named
        .iter()
        .zip(&names)
        .map(|(backend, name)| (&**name, backend.address, ""))
        .collect();
    let front = address();
    let settings = "balance = \"source_hash\"";
    let configuration = pool(front, settings, &list);
    let ringlane = Ringlane::start(&configuration);
    let sources: Vec<_> = (0..200).map(|_| loopback()).collect();
    let chosen = || -> Vec<String> {
        let visit = |source: &_| Visit::from(*source, front).backend;
        sources.iter().map(visit).collect()
    };
    let before = chosen();
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 10);
    assert_eq!(chosen(), before);
    let longer = configuration.clone() + &service("other", address(), &[list[0].1]);
    assert!(ringlane.reload(&longer).status.success());
    assert_eq!(chosen(), before);

    // One of ten is removed: the others keep nearly all of theirs.
    assert!(
        ringlane
            .reload(&pool(front, settings, &list[1..]))
            .status
            .success()
    );
    let after = chosen();
    let kept = before.iter().zip(&after).filter(|(was, _)| *was != "b0");
    let moved = kept.filter(|(was, is)| was != is).count();
    assert!(moved <= 12, "{moved} of 200 moved without need");
    assert!(ringlane.stop().success());

    let _again = Ringlane::start(&configuration);
    assert_eq!(chosen(), before);
}

#[test]
fn first_takes_the_first_that_answers() {
    let (a, b) = (Named::start("a"), Named::start("b"));
    let front = address();
    let list = [("a", a.address, ""), ("b", b.address, "")];
    let _ringlane = Ringlane::start(&pool(front, "balance = \"first\"", &list));
    assert_eq!(shares(front, 20), BTreeMap::from([("a".to_owned(), 20)]));
    a.close();
    assert_eq!(shares(front, 20), BTreeMap::from([("b".to_owned(), 20)]));
}

#[test]
fn random_two_uses_all_and_prefers_the_less_loaded() {
    let named: Vec<_> = ["a", "b", "c"]
        .map(|name| (name, Named::start(name)))
        .into();
    let front = address();
    let list: Vec<_> = named
        .iter()
        .map(|(name, at)| (*name, at.address, ""))
        .collect();
    let _ringlane = Ringlane::start(&pool(front, "balance = \"random_two\"", &list));
    let visits: Vec<_> = (0..150).map(|_| Visit::to(front)).collect();
    let mut shares = BTreeMap::new();
    for visit in &visits {
        *shares.entry(visit.backend.as_str()).or_insert(0_usize) += 1;
    }
    let shares: Vec<_> = shares.into_values().collect();
    assert!(
        shares.len() == 3 && shares.iter().all(|share| share.abs_diff(50) <= 10),
        "{shares:?}"
    );
}

#[test]
fn backups_serve_only_when_every_primary_refuses() {
    let (a, b, spare) = (Named::start("a"), Named::start("b"), Named::start("spare"));
    let idle = Named::start("idle");
    let front = address();
    let _ringlane = Ringlane::start(&pool(
        front,
        "balance = \"round_robin\"",
        &[
            ("a", a.address, ""),
            ("b", b.address, ""),
            ("idle", idle.address, "weight = 0"),
            ("spare", spare.address, "tier = 1"),
        ],
    ));
    let names = |shares: BTreeMap<String, usize>| shares.into_keys().collect::<Vec<_>>();
    assert_eq!(names(shares(front, 30)), ["a", "b"]);
    a.close();
    assert_eq!(names(shares(front, 30)), ["b"]);
    b.close();
    // More of them than the pool could make retries for.
    assert_eq!(names(shares(front, 100)), ["spare"]);
}

#[test]
fn one_closed_backend_of_two_costs_no_client_anything() {
    let (a, b) = (Named::start("a"), Named::start("b"));
    let front = address();
    let ringlane = Ringlane::start(&service("p", front, &[a.address, b.address]));
    a.close();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..125 {
                    let visit = Visit::to(front);
                    assert_eq!(visit.backend, "b");
                    visit.finish().unwrap();
                }
            });
        }
    });
    let ended = r#"ringlane_connections_total{listener="p",result="eof"}"#;
    eventually("all are counted", || {
        (ringlane.metric(ended) == Some(500.0)).then_some(())
    });
    let retried = ringlane.metric(r#"ringlane_retries_total{pool="p",outcome="ok"}"#);
    assert!(retried.is_some_and(|retried| retried > 0.0), "{retried:?}");
}

#[test]
fn clients_are_reset_at_once_when_every_backend_refuses() {
    let closed = [address(), address()];
    let front = address();
    let configuration = service("p", front, &closed) + "outliers = { connect_failures = 0 }\n";
    let ringlane = Ringlane::start(&configuration);
    for _ in 0..100 {
        let mut stream = TcpStream::connect(front).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let error = stream.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    let lines = ringlane.session_lines(100);
    for line in &lines {
        assert_eq!(line["reason"], "connect_refused", "{line}");
        assert_eq!(line["side"], "us");
        assert!(line["duration_ms"].as_f64().unwrap() < 1_000.0, "{line}");
    }
    // 30 retries are always allowed, and 20 % of 100 are fewer than that.
    let metric = |series: &str| ringlane.metric(series).unwrap();
    assert_eq!(
        metric(r#"ringlane_retries_total{pool="p",outcome="failed"}"#),
        30.0
    );
    assert_eq!(
        metric(r#"ringlane_retries_total{pool="p",outcome="denied"}"#),
        70.0
    );
    assert_eq!(
        metric(r#"ringlane_rejected_total{reason="connect_refused"}"#),
        100.0
    );
}

#[test]
fn the_retry_budget_is_a_share_of_the_connections() {
    let closed = [address(), address()];
    let front = address();
    let configuration = service("p", front, &closed)
        + "retry_budget = \"100%\"\noutliers = { connect_failures = 0 }\n";
    let ringlane = Ringlane::start(&configuration);
    for _ in 0..60 {
        let mut stream = TcpStream::connect(front).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.read(&mut [0; 1]).unwrap_err();
    }
    let metric = |series: &str| ringlane.metric(series).unwrap();
    let denied = metric(r#"ringlane_retries_total{pool="p",outcome="denied"}"#);
    assert_eq!(denied, 0.0, "one retry each is within 100 %");
    let failed = metric(r#"ringlane_retries_total{pool="p",outcome="failed"}"#);
    assert_eq!(failed, 60.0);
}

#[test]
fn a_pool_without_a_usable_backend_resets() {
    let idle = Named::start("idle");
    let front = address();
    let list = [("idle", idle.address, "weight = 0")];
    let ringlane = Ringlane::start(&pool(front, "", &list));
    let mut stream = TcpStream::connect(front).unwrap();
    let error = stream.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(ringlane.session_lines(1)[0]["reason"], "no_backend");
}

#[test]
fn connections_come_from_the_source_that_is_configured() {
    let listener = TcpListener::bind(address()).unwrap();
    let (front, source) = (address(), loopback());
    let mut text = service("p", front, &[listener.local_addr().unwrap()]);
    writeln!(text, "source = \"{source}\"").unwrap();
    let _ringlane = Ringlane::start(&text);
    let _client = TcpStream::connect(front).unwrap();
    let (_, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), source);
}

#[test]
fn a_backend_may_be_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("ringlane-backend-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"from unix").unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).unwrap();
        stream.write_all(told.as_bytes()).unwrap();
    });
    let front = address();
    let ringlane = Ringlane::start(&format!(
        "[[listener]]\nname = \"l\"\nlisten = \"{front}\"\npool = \"p\"\n\
         [pool.p]\nbackends = [\"unix:{}\"]\n",
        path.display()
    ));
    let mut client = connect(front, None).unwrap();
    client.write_all(b" and back").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "from unix and back");
    let line = ringlane.session_lines(1).remove(0);
    assert_eq!(line["endpoint"], format!("unix:{}", path.display()));
    std::fs::remove_file(&path).unwrap();
}

/// Two backends on one port, at addresses that a name can have.
fn on_one_port() -> (Named, Named, u16) {
    // Somebody may hold the first one's port on all addresses of the machine.
    eventually("two addresses have the same port free", || {
        let first = Named::start("first");
        let port = first.address.port();
        let second = Named::start_at("second", (loopback(), port).into()).ok()?;
        Some((first, second, port))
    })
}

fn v4(backend: &Named) -> Ipv4Addr {
    match backend.address {
        SocketAddr::V4(address) => *address.ip(),
        SocketAddr::V6(_) => panic!("a loopback address of IPv4"),
    }
}

fn by_name(front: SocketAddr, dns: &Dns, port: u16) -> String {
    format!(
        "[[listener]]\nname = \"l\"\nlisten = \"{front}\"\npool = \"p\"\n\
         [pool.p]\nbalance = \"round_robin\"\nbackends = [\"backend.test:{port}\"]\n\
         [global.resolver]\nnameservers = [\"{}\"]\n",
        dns.address
    )
}

fn usable(ringlane: &Ringlane, wanted: f64) {
    eventually("the pool has its backends", || {
        (ringlane.metric("ringlane_pool_usable{pool=\"p\"}") == Some(wanted)).then_some(())
    });
}

#[test]
fn every_answer_for_a_name_is_a_backend_and_answers_are_refreshed() {
    let (first, second, port) = on_one_port();
    let dns = Dns::start();
    dns.answer(&[v4(&first), v4(&second)]);
    let front = address();
    let ringlane = Ringlane::start(&by_name(front, &dns, port));
    usable(&ringlane, 2.0);
    let both = shares(front, 20);
    assert_eq!(both["first"], 10, "{both:?}");
    assert_eq!(both["second"], 10, "{both:?}");

    dns.answer(&[v4(&second)]);
    usable(&ringlane, 1.0);
    assert_eq!(shares(front, 5), BTreeMap::from([("second".to_owned(), 5)]));

    // Old answers hold while the server fails.
    dns.fail();
    dns.await_questions(2);
    usable(&ringlane, 1.0);
    assert_eq!(shares(front, 5), BTreeMap::from([("second".to_owned(), 5)]));

    // They hold over a reload, too.
    let longer = by_name(front, &dns, port).replace("round_robin", "first");
    assert!(ringlane.reload(&longer).status.success());
    assert_eq!(shares(front, 5), BTreeMap::from([("second".to_owned(), 5)]));

    dns.answer(&[v4(&first), v4(&second)]);
    usable(&ringlane, 2.0);
}

#[test]
fn it_starts_while_names_fail_and_serves_once_they_answer() {
    let (first, _second, port) = on_one_port();
    let dns = Dns::start();
    dns.fail();
    let front = address();
    let ringlane = Ringlane::start(&by_name(front, &dns, port));
    let mut stream = TcpStream::connect(front).unwrap();
    let error = stream.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(ringlane.session_lines(1)[0]["reason"], "no_backend");
    dns.answer(&[v4(&first)]);
    usable(&ringlane, 1.0);
    assert_eq!(Visit::to(front).backend, "first");
    assert!(
        ringlane.messages().contains("backend.test"),
        "{}",
        ringlane.messages()
    );
}

#[test]
fn names_of_the_hosts_file_need_no_server() {
    let backend = Named::start_at("local", (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let front = address();
    let _ringlane = Ringlane::start(&format!(
        "[[listener]]\nname = \"l\"\nlisten = \"{front}\"\npool = \"p\"\n\
         [pool.p]\nbackends = [\"localhost:{}\"]\n",
        backend.address.port()
    ));
    assert_eq!(Visit::to(front).backend, "local");
}

#[test]
fn dead_backends_cost_no_client_once_they_are_known() {
    let alive = Named::start("alive");
    let front = address();
    let backends = [address(), address(), address(), alive.address];
    let ringlane = Ringlane::start(&service("p", front, &backends));
    let begun = std::time::Instant::now();
    let mut failed = 0;
    // Long enough for the memory of the failures to run out three times.
    while begun.elapsed() < std::time::Duration::from_millis(3_500) {
        match Visit::try_to(front, None) {
            Ok(visit) => visit.finish().unwrap(),
            Err(_) => failed += 1,
        }
        thread::sleep(std::time::Duration::from_millis(10));
    }
    // The first client may meet all three.
    assert!(failed <= 1, "{failed} clients failed");
    let denied = ringlane.metric(r#"ringlane_retries_total{pool="p",outcome="denied"}"#);
    assert_eq!(denied, Some(0.0));
}

#[test]
fn a_backend_that_a_reload_brings_starts_slowly() {
    let named = ["a", "b", "c"].map(Named::start);
    let front = address();
    let settings = "balance = \"round_robin\"\nslow_start = \"1h\"";
    let list = [
        ("a", named[0].address, ""),
        ("b", named[1].address, ""),
        ("c", named[2].address, ""),
    ];
    let ringlane = Ringlane::start(&pool(front, settings, &list[..2]));
    // Those of the start have their whole share, exactly.
    let before = shares(front, 100);
    assert_eq!((before["a"], before["b"]), (50, 50));
    assert!(
        ringlane
            .reload(&pool(front, settings, &list))
            .status
            .success()
    );
    let after = shares(front, 630);
    // A tenth of a share beside two whole ones: 30 of 630.
    let new = after.get("c").copied().unwrap_or(0);
    assert!((8..=60).contains(&new), "{after:?}");
    assert!(after["a"].abs_diff(after["b"]) < 120, "{after:?}");
    // Known already, so a reload does not begin again; without the setting it has all at once.
    let settings = "balance = \"round_robin\"";
    assert!(
        ringlane
            .reload(&pool(front, settings, &list))
            .status
            .success()
    );
    let all = shares(front, 90);
    assert_eq!((all["a"], all["b"], all["c"]), (30, 30, 30));
}

#[test]
fn peak_ewma_uses_all_that_are_near_and_leaves_one_that_fails() {
    let (a, b) = (Named::start("a"), Named::start("b"));
    let front = address();
    let list = [("a", a.address, ""), ("b", b.address, "")];
    let _ringlane = Ringlane::start(&pool(front, "balance = \"peak_ewma\"", &list));
    // How many each gets is up to how busy this machine is: a connect of some milliseconds counts.
    let both = shares(front, 300);
    assert!(both["a"] + both["b"] == 300, "{both:?}");
    b.close();
    let left = shares(front, 100);
    assert_eq!(left["a"], 100);
}
