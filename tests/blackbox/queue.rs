//! Limits on the connections of a backend, and the line of those who wait for one.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::load::{Named, Visit};
use crate::support::{PATIENCE, Ringlane, address, eventually, loopback};

/// Two workers and one pool with a backend for each address.
fn configuration(front: SocketAddr, settings: &str, backends: &[(SocketAddr, &str)]) -> String {
    let mut text = format!(
        "[global]\nworkers = 2\n[[listener]]\nname = \"l\"\nlisten = \"{front}\"\npool = \"p\"\n\
         [pool.p]\n{settings}\n"
    );
    for (address, more) in backends {
        writeln!(
            text,
            "[[pool.p.backend]]\naddress = \"{address}\"\n{more}\n"
        )
        .unwrap();
    }
    text
}

/// A backend that takes a line from whoever connects, answers it, notes it and closes first, so that none
/// of its connections outlives its slot.
struct Clerk {
    address: SocketAddr,
    most: Arc<AtomicUsize>,
    served: Arc<Mutex<Vec<String>>>,
}

impl Clerk {
    fn start(takes: Duration) -> Self {
        let listener = TcpListener::bind((loopback(), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (present, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let served = Arc::<Mutex<Vec<String>>>::default();
        let clerk = Self {
            address,
            most: Arc::clone(&most),
            served: Arc::clone(&served),
        };
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let now = present.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                let (present, served) = (Arc::clone(&present), Arc::clone(&served));
                thread::spawn(move || {
                    let mut line = String::new();
                    let _ = BufReader::new(&stream).read_line(&mut line);
                    served.lock().unwrap().push(line.trim_end().to_owned());
                    thread::sleep(takes);
                    present.fetch_sub(1, Ordering::SeqCst);
                    let _ = (&stream).write_all(line.as_bytes());
                });
            }
        });
        clerk
    }
}

/// Asks a clerk; returns its answer, empty where the connection was reset.
fn ask(front: SocketAddr, line: &str) -> String {
    let mut stream = match TcpStream::connect(front) {
        // The reset was here before this thread was.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return String::new(),
        connected => connected.unwrap(),
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    let _ = stream.write_all(format!("{line}\n").as_bytes());
    let _ = stream.read_to_string(&mut answer);
    answer.trim_end().to_owned()
}

fn waiting(ringlane: &Ringlane) -> f64 {
    ringlane.metric("ringlane_pool_queue{pool=\"p\"}").unwrap()
}

fn until_waiting(ringlane: &Ringlane, count: f64) {
    eventually("so many clients wait", || {
        (waiting(ringlane) == count).then_some(())
    });
}

#[test]
fn a_backend_never_has_more_than_it_may_and_nobody_is_left_out() {
    let clerks = [
        Clerk::start(Duration::from_millis(3)),
        Clerk::start(Duration::from_millis(5)),
    ];
    let front = address();
    let ringlane = Ringlane::start(&configuration(
        front,
        "queue = 100\nqueue_timeout = \"30s\"",
        &[
            (clerks[0].address, "max_connections = 3"),
            (clerks[1].address, "max_connections = 2"),
        ],
    ));
    thread::scope(|scope| {
        for client in 0..40 {
            scope.spawn(move || {
                for visit in 0..10 {
                    let line = format!("{client}-{visit}");
                    assert_eq!(ask(front, &line), line);
                }
            });
        }
    });
    for (clerk, limit) in clerks.iter().zip([3, 2]) {
        let most = clerk.most.load(Ordering::SeqCst);
        assert_eq!(most, limit, "all that it may have, and not one more");
    }
    let lines = ringlane.session_lines(400);
    assert!(lines.iter().all(|line| line["reason"] == "eof"));
    assert!(lines.iter().any(|line| line["queue_ms"].is_number()));
    assert_eq!(waiting(&ringlane), 0.0);
    let queued = ringlane.metric("ringlane_pool_queued_total{pool=\"p\"}");
    assert!(queued.unwrap() > 100.0, "{queued:?}");
}

#[test]
fn clients_are_served_in_the_order_of_their_coming_whichever_worker_they_are_on() {
    let clerk = Clerk::start(Duration::ZERO);
    let front = address();
    let ringlane = Ringlane::start(&configuration(
        front,
        "queue = 100\nqueue_timeout = \"30s\"",
        &[(clerk.address, "max_connections = 1")],
    ));
    let mut holder = TcpStream::connect(front).unwrap();
    eventually("the holder has the slot", || {
        (clerk.most.load(Ordering::SeqCst) == 1).then_some(())
    });
    let clients: Vec<_> = (0..30)
        .map(|client| {
            let asking = thread::spawn(move || ask(front, &client.to_string()));
            until_waiting(&ringlane, f64::from(client + 1));
            asking
        })
        .collect();
    holder.write_all(b"holder\n").unwrap();
    holder.read_to_end(&mut Vec::new()).unwrap();
    drop(holder);
    for (client, asking) in clients.into_iter().enumerate() {
        assert_eq!(asking.join().unwrap(), client.to_string());
    }
    let served = clerk.served.lock().unwrap().clone();
    let expected: Vec<_> = std::iter::once("holder".to_owned())
        .chain((0..30).map(|client: u32| client.to_string()))
        .collect();
    assert_eq!(served, expected);
    let lines = ringlane.session_lines(31);
    let on = |worker: u64| lines.iter().filter(|line| line["worker"] == worker).count();
    assert!(on(0) > 0 && on(1) > 0, "both workers had clients");
}

#[test]
fn who_waits_too_long_or_finds_the_line_full_is_told_at_once() {
    let backend = Named::start("a");
    let front = address();
    let ringlane = Ringlane::start(&configuration(
        front,
        "queue = 1\nqueue_timeout = \"600ms\"",
        &[(backend.address, "max_connections = 1")],
    ));
    let held = Visit::to(front);
    let begun = Instant::now();
    let late = thread::spawn(move || ask(front, "late"));
    until_waiting(&ringlane, 1.0);
    assert_eq!(ask(front, "full"), "");
    assert!(begun.elapsed() < Duration::from_millis(550));
    assert_eq!(late.join().unwrap(), "");
    let waited = begun.elapsed();
    assert!((600..1_500).contains(&waited.as_millis()), "{waited:?}");
    let lines = ringlane.session_lines(2);
    assert_eq!(
        (&lines[0]["reason"], &lines[0]["side"]),
        (&"pool_full".into(), &"us".into())
    );
    assert_eq!(lines[1]["reason"], "queue_timeout");
    let queued = lines[1]["queue_ms"].as_f64().unwrap();
    assert!((600.0..800.0).contains(&queued), "{queued}");
    let rejected =
        |reason| ringlane.metric(&format!("ringlane_rejected_total{{reason=\"{reason}\"}}"));
    assert_eq!(rejected("pool_full"), Some(1.0));
    assert_eq!(rejected("queue_timeout"), Some(1.0));
    held.finish().unwrap();
    assert_eq!(Visit::to(front).backend, "a");
}

#[test]
fn without_a_line_the_next_backend_or_nobody() {
    let (a, b) = (Named::start("a"), Named::start("b"));
    let front = address();
    let ringlane = Ringlane::start(&configuration(
        front,
        "balance = \"first\"",
        &[
            (a.address, "max_connections = 2"),
            (b.address, "max_connections = 1\ntier = 1"),
        ],
    ));
    let held = [Visit::to(front), Visit::to(front), Visit::to(front)];
    let backends = held.each_ref().map(|visit| visit.backend.as_str());
    assert_eq!(backends, ["a", "a", "b"]);
    assert_eq!(ask(front, "no"), "");
    let lines = ringlane.session_lines(1);
    assert_eq!(lines[0]["reason"], "pool_full");
    assert_eq!(lines[0]["attempts"], 0);
    assert!(lines[0]["queue_ms"].is_null());
}

#[test]
fn a_client_that_leaves_frees_its_place_at_once() {
    let backend = Named::start("a");
    let front = address();
    let ringlane = Ringlane::start(&configuration(
        front,
        "queue = 1\nqueue_timeout = \"30s\"",
        &[(backend.address, "max_connections = 1")],
    ));
    let held = Visit::to(front);
    for _ in 0..3 {
        let mut leaving = TcpStream::connect(front).unwrap();
        // More than is read before there is a backend.
        leaving.write_all(&[b'x'; 20_000]).unwrap();
        until_waiting(&ringlane, 1.0);
        drop(leaving);
        let begun = Instant::now();
        until_waiting(&ringlane, 0.0);
        assert!(begun.elapsed() < Duration::from_millis(200));
    }
    let lines = ringlane.session_lines(3);
    for line in &lines {
        assert_eq!(
            (&line["reason"], &line["side"]),
            (&"client_reset".into(), &"client".into())
        );
    }
    let next = thread::spawn(move || Visit::to(front));
    until_waiting(&ringlane, 1.0);
    held.finish().unwrap();
    assert_eq!(next.join().unwrap().backend, "a");
}

#[test]
fn a_reload_that_raises_the_limit_lets_those_go_who_wait() {
    let (a, b) = (Named::start("a"), Named::start("b"));
    let front = address();
    let settings = "queue = 10\nqueue_timeout = \"30s\"";
    let limited = |limit: u32| {
        let limit = format!("max_connections = {limit}");
        configuration(front, settings, &[(a.address, &limit)])
    };
    let ringlane = Ringlane::start(&limited(1));
    let _held = Visit::to(front);
    let visits: Vec<_> = (1..=4)
        .map(|count| {
            let visit = thread::spawn(move || Visit::to(front));
            until_waiting(&ringlane, f64::from(count));
            visit
        })
        .collect();
    assert!(ringlane.reload(&limited(3)).status.success());
    until_waiting(&ringlane, 2.0);
    let mut visits = visits.into_iter();
    let passed: Vec<_> = visits.by_ref().take(2).collect();
    let _passed: Vec<_> = passed.into_iter().map(|it| it.join().unwrap()).collect();
    // The rest goes to a backend that was added.
    let both = [(a.address, "max_connections = 3"), (b.address, "")];
    assert!(
        ringlane
            .reload(&configuration(front, settings, &both))
            .status
            .success()
    );
    for visit in visits {
        assert_eq!(visit.join().unwrap().backend, "b");
    }
    until_waiting(&ringlane, 0.0);
}

#[test]
fn a_stop_serves_those_who_wait_as_long_as_it_drains() {
    let backend = Named::start("a");
    let front = address();
    let text = configuration(
        front,
        "queue = 10\nqueue_timeout = \"30s\"",
        &[(backend.address, "max_connections = 1")],
    );
    let text = text.replace(
        "workers = 2\n",
        "workers = 2\nshutdown = { drain = \"2s\" }\n",
    );
    let mut ringlane = Ringlane::start(&text);
    let held = Visit::to(front);
    let first = thread::spawn(move || Visit::to(front));
    until_waiting(&ringlane, 1.0);
    let second = thread::spawn(move || ask(front, "second"));
    until_waiting(&ringlane, 2.0);
    ringlane.signal(Signal::TERM);
    held.finish().unwrap();
    let first = first.join().unwrap();
    assert_eq!(first.backend, "a");
    assert_eq!(second.join().unwrap(), "", "reset at the end of the drain");
    assert!(ringlane.wait().success());
    let lines = ringlane.lines_so_far();
    let reasons: Vec<_> = lines
        .iter()
        .map(|line| line["reason"].as_str().unwrap())
        .collect();
    assert_eq!(reasons, ["eof", "drain", "drain"]);
}

#[test]
fn a_full_pool_is_waited_for_beside_a_backend_that_fails_and_that_one_helps_once_it_is_back() {
    let closed = address();
    let backend = Named::start("b");
    let front = address();
    let ringlane = Ringlane::start(&configuration(
        front,
        "queue = 10\nqueue_timeout = \"30s\"",
        &[(closed, ""), (backend.address, "max_connections = 1")],
    ));
    let held = Visit::to(front);
    assert_eq!(held.backend, "b");
    let clients: Vec<_> = (1..=4)
        .map(|count| {
            let visit = thread::spawn(move || Visit::to(front));
            until_waiting(&ringlane, f64::from(count));
            visit
        })
        .collect();
    // The slot goes on to the first; nobody is told that the other backend refuses.
    held.finish().unwrap();
    until_waiting(&ringlane, 3.0);
    let mut clients = clients.into_iter();
    let first = clients.next().unwrap().join().unwrap();
    assert_eq!(first.backend, "b");
    let _back = Named::start_at("a", closed).unwrap();
    // Longer than a failure is remembered: the next client tries it.
    thread::sleep(Duration::from_millis(1_200));
    assert_eq!(Visit::to(front).backend, "a");
    for client in clients {
        assert_eq!(client.join().unwrap().backend, "a");
    }
    until_waiting(&ringlane, 0.0);
}

#[test]
fn who_has_no_attempt_left_does_not_wait() {
    let closed = address();
    let backend = Named::start("b");
    let front = address();
    let ringlane = Ringlane::start(&configuration(
        front,
        "balance = \"first\"\nqueue = 10\nqueue_timeout = \"30s\"\nconnect = { attempts = 1 }",
        &[
            (closed, "max_connections = 1"),
            (backend.address, "max_connections = 1"),
        ],
    ));
    // The first finds out that nobody is there; the second then has the other one for itself.
    assert_eq!(ask(front, "first"), "");
    let _held = Visit::to(front);
    // A failure is forgotten after a second, and the next client looks again while the other one is full.
    let begun = Instant::now();
    let refused = eventually("a client tries the closed backend", || {
        let asking = thread::spawn(move || ask(front, "next"));
        thread::sleep(Duration::from_millis(1_100));
        asking.is_finished().then(|| asking.join().unwrap())
    });
    assert_eq!(refused, "");
    assert!(begun.elapsed() < Duration::from_secs(10));
    let lines = ringlane.session_lines(2);
    assert!(lines.iter().all(|line| line["reason"] == "connect_refused"));
}

#[test]
fn nobody_who_may_be_tried_is_not_the_same_as_no_room() {
    let closed = address();
    let front = address();
    let ringlane = Ringlane::start(&configuration(
        front,
        "queue = 10\nqueue_timeout = \"30s\"\nall_down = \"closed\"\n[pool.p.health]\ninitial = \"down\"",
        &[(closed, "max_connections = 1")],
    ));
    assert_eq!(ask(front, "nobody"), "");
    let lines = ringlane.session_lines(1);
    assert_eq!(lines[0]["reason"], "no_backend");
    assert!(lines[0]["queue_ms"].is_null());
}
