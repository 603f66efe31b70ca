//! Backends that fail their clients are ejected, and pools that fail are given a rest.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, Ringlane, address, eventually, loopback};

/// Two workers and one pool `p`.
fn configuration(front: SocketAddr, settings: &str, backends: &[SocketAddr]) -> String {
    let mut text = format!(
        "[global]\nworkers = 2\n[[listener]]\nname = \"l\"\nlisten = \"{front}\"\npool = \"p\"\n\
         [pool.p]\nbalance = \"round_robin\"\n{settings}\n"
    );
    for (number, address) in backends.iter().enumerate() {
        writeln!(
            text,
            "[[pool.p.backend]]\nname = \"b{number}\"\naddress = \"{address}\""
        )
        .unwrap();
    }
    text
}

const ANSWERS: u8 = 0;
const RESETS: u8 = 1;
const ENDS: u8 = 2;
const LISTENS: u8 = 3;

/// A backend that greets whoever connects with its name, or does not.
struct Moody {
    address: SocketAddr,
    mood: Arc<AtomicU8>,
}

impl Moody {
    fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind((loopback(), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let mood = Arc::<AtomicU8>::default();
        let moody = Self {
            address,
            mood: Arc::clone(&mood),
        };
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mood = mood.load(Ordering::SeqCst);
                thread::spawn(move || greet(&stream, name, mood));
            }
        });
        moody
    }

    fn becomes(&self, mood: u8) {
        self.mood.store(mood, Ordering::SeqCst);
    }
}

fn greet(mut stream: &TcpStream, name: &str, mood: u8) {
    match mood {
        ANSWERS => {
            let _ = stream.write_all(name.as_bytes());
            let _ = stream.read(&mut [0; 64]);
        }
        // A close with bytes unread resets.
        RESETS => {
            let _ = stream.peek(&mut [0; 1]);
        }
        LISTENS => {
            let _ = stream.read_to_end(&mut Vec::new());
        }
        _ => {
            let _ = stream.read(&mut [0; 64]);
            let _ = stream.shutdown(Shutdown::Write);
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Greets and returns what comes back; empty: the connection was reset or ended.
fn visit(front: SocketAddr) -> String {
    let mut stream = match TcpStream::connect(front) {
        // The reset was here before this thread was.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return String::new(),
        connected => connected.unwrap(),
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(b"hello");
    let mut answer = [0; 16];
    let read = stream.read(&mut answer).unwrap_or(0);
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

fn series(name: &str, backend: &str) -> String {
    format!("{name}{{pool=\"p\",backend=\"{backend}\"}}")
}

fn is_ejected(ringlane: &Ringlane, backend: &str) -> bool {
    ringlane.metric(&series("ringlane_backend_ejected", backend)) == Some(1.0)
}

fn ejections(ringlane: &Ringlane, backend: &str, reason: &str) -> f64 {
    let labels = format!("pool=\"p\",backend=\"{backend}\",reason=\"{reason}\"");
    let series = format!("ringlane_ejections_total{{{labels}}}");
    ringlane.metric(&series).unwrap()
}

fn breaker(ringlane: &Ringlane, what: &str) -> f64 {
    let series = format!("ringlane_breaker_{what}{{pool=\"p\"}}");
    ringlane.metric(&series).unwrap()
}

fn says(ringlane: &Ringlane, what: &str) {
    eventually(what, || ringlane.messages().contains(what).then_some(()));
}

#[test]
fn a_backend_that_refuses_is_ejected_and_comes_back_when_its_time_is_over() {
    let (sound, refusing) = (Moody::start("sound"), address());
    let front = address();
    let settings = "connect = { attempts = 2 }\n\
                    outliers = { connect_failures = 2, eject = \"3s\" }";
    let text = configuration(front, settings, &[refusing, sound.address]);
    let ringlane = Ringlane::start(&text);
    eventually("it is ejected", || {
        assert_eq!(visit(front), "sound", "nobody notices");
        is_ejected(&ringlane, "b0").then_some(())
    });
    let begun = Instant::now();
    says(&ringlane, "backend b0 is ejected for 3s");
    says(&ringlane, "connects to");
    assert_eq!(ejections(&ringlane, "b0", "connect_failures"), 1.0);
    let metric = |name: &str, backend: &str| ringlane.metric(&series(name, backend)).unwrap();
    assert_eq!(metric("ringlane_backend_up", "b0"), 0.0);
    assert_eq!(metric("ringlane_backend_up", "b1"), 1.0);
    let usable = ringlane.metric("ringlane_pool_usable{pool=\"p\"}");
    assert_eq!(usable, Some(1.0));
    // A reload keeps it out, and nobody is sent there meanwhile.
    let tried = || {
        let labels = "pool=\"p\",backend=\"b0\",result=\"failed\"";
        ringlane.metric(&format!("ringlane_backend_connects_total{{{labels}}}"))
    };
    let before = tried();
    let reloaded = ringlane.reload(&(text.clone() + "tier = 0\n"));
    assert!(reloaded.status.success(), "{reloaded:?}");
    assert!(is_ejected(&ringlane, "b0"));
    while begun.elapsed() < Duration::from_millis(2_500) {
        assert_eq!(visit(front), "sound");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(tried(), before);
    let listener = TcpListener::bind(refusing).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            greet(&stream, "back", ANSWERS);
        }
    });
    eventually("it serves again", || (visit(front) == "back").then_some(()));
    says(
        &ringlane,
        "backend b0 is no longer ejected: its time is over",
    );
    assert!(!is_ejected(&ringlane, "b0"));
}

#[test]
fn a_check_that_succeeds_ends_an_ejection_early() {
    let (sound, refusing) = (Moody::start("sound"), address());
    let front = address();
    let settings = "outliers = { connect_failures = 1 }\n\
                    health = { interval = \"300ms\", timeout = \"300ms\", fall = 1000 }";
    let ringlane = Ringlane::start(&configuration(front, settings, &[refusing, sound.address]));
    eventually("it is ejected", || {
        assert_eq!(visit(front), "sound");
        is_ejected(&ringlane, "b0").then_some(())
    });
    let _listener = TcpListener::bind(refusing).unwrap();
    says(
        &ringlane,
        "backend b0 is no longer ejected: a check succeeded",
    );
    assert!(!is_ejected(&ringlane, "b0"));
}

#[test]
fn a_backend_that_takes_clients_and_fails_them_is_ejected_by_its_rate() {
    for (mood, reload) in [(RESETS, false), (ENDS, true)] {
        let backends = [Moody::start("b0"), Moody::start("b1"), Moody::start("b2")];
        let front = address();
        let settings = "outliers = { failure_rate = \"50%\", min_samples = 5, eject = \"2s\" }";
        let list = backends.each_ref().map(|backend| backend.address);
        let text = configuration(front, settings, &list);
        let ringlane = Ringlane::start(&text);
        (0..30).for_each(|_| assert!(!visit(front).is_empty()));
        backends[1].becomes(mood);
        eventually("it is ejected", || {
            visit(front);
            is_ejected(&ringlane, "b1").then_some(())
        });
        assert_eq!(ejections(&ringlane, "b1", "failure_rate"), 1.0);
        says(&ringlane, "sessions with");
        if reload {
            let text = text.replace("eject = \"2s\"", "eject = \"3s\"");
            assert!(ringlane.reload(&text).status.success());
            assert!(is_ejected(&ringlane, "b1"), "a reload keeps it out");
        }
        for _ in 0..20 {
            assert!(!visit(front).is_empty(), "nobody else is failed");
        }
        backends[1].becomes(ANSWERS);
        eventually("it serves again", || (visit(front) == "b1").then_some(()));
    }
}

#[test]
fn clients_that_leave_before_the_first_byte_eject_nobody() {
    let backends = [Moody::start("b0"), Moody::start("b1")];
    for backend in &backends {
        backend.becomes(LISTENS);
    }
    let front = address();
    let settings = "outliers = { failure_rate = \"1%\", min_samples = 1 }";
    let list = backends.each_ref().map(|backend| backend.address);
    let ringlane = Ringlane::start(&configuration(front, settings, &list));
    for client in 0..20 {
        let stream = TcpStream::connect(front).unwrap();
        let socket = socket2::SockRef::from(&stream);
        if client % 2 == 0 {
            // It resets instead of finishing.
            socket.set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
    ringlane.session_lines(20);
    assert!(!is_ejected(&ringlane, "b0") && !is_ejected(&ringlane, "b1"));
    backends[0].becomes(ENDS);
    visit(front);
    eventually("somebody is once a backend ends first", || {
        visit(front);
        is_ejected(&ringlane, "b0").then_some(())
    });
}

#[test]
fn no_more_than_max_eject_are_ejected_and_then_all_down_does_not_hold() {
    let refusing = [address(), address(), address(), address()];
    let front = address();
    let settings = "outliers = { connect_failures = 1 }\nall_down = \"closed\"";
    let text = configuration(front, settings, &refusing);
    let ringlane = Ringlane::start(&text);
    let all = ["b0", "b1", "b2", "b3"];
    let count = || {
        let ejected = all.iter().filter(|name| is_ejected(&ringlane, name));
        ejected.count()
    };
    for _ in 0..50 {
        assert_eq!(visit(front), "");
        assert!(count() <= 2);
    }
    assert_eq!(count(), 2);
    let lines = ringlane.session_lines(50);
    assert!(lines.iter().all(|line| line["reason"] == "connect_refused"));
    let text = text.replace(
        "connect_failures = 1",
        "connect_failures = 1, max_eject = \"100%\"",
    );
    assert!(ringlane.reload(&text).status.success());
    eventually("all are ejected", || {
        visit(front);
        (count() == 4).then_some(())
    });
    visit(front);
    eventually("nobody is tried", || {
        let lines = ringlane.lines_so_far();
        let mut reasons = lines.iter().map(|line| &line["reason"]);
        reasons.any(|reason| reason == "no_backend").then_some(())
    });
    let fewer = text.replace("100%", "25%");
    assert!(ringlane.reload(&fewer).status.success());
    assert_eq!(count(), 1);
    says(&ringlane, "is no longer ejected: by a reload");
}

#[test]
fn a_breaker_opens_for_a_failing_pool_and_closes_again() {
    let refusing = address();
    let front = address();
    let settings = "breaker = { min_samples = 4, open = \"2s\", probes = 3 }";
    let text = configuration(front, settings, &[refusing]);
    let ringlane = Ringlane::start(&text);
    (0..4).for_each(|_| assert_eq!(visit(front), ""));
    let opened = Instant::now();
    assert_eq!(breaker(&ringlane, "state"), 2.0);
    says(
        &ringlane,
        "the breaker is open: 4 of the last 4 connects failed",
    );
    (0..3).for_each(|_| assert_eq!(visit(front), ""));
    let lines = ringlane.session_lines(7);
    // Each worker writes lines of its own.
    let count = |reason: &str| lines.iter().filter(|line| line["reason"] == reason).count();
    assert_eq!((count("connect_refused"), count("breaker_open")), (4, 3));
    let rejected = ringlane.metric("ringlane_rejected_total{reason=\"breaker_open\"}");
    assert_eq!(rejected, Some(3.0));
    // It is open over a reload, too.
    assert!(
        ringlane
            .reload(&text.replace("probes = 3", "probes = 4"))
            .status
            .success()
    );
    assert_eq!(breaker(&ringlane, "state"), 2.0);
    visit(front);
    eventually("it is still open", || {
        let lines = ringlane.lines_so_far();
        let refused = lines.iter().filter(|it| it["reason"] == "breaker_open");
        (refused.count() == 4).then_some(())
    });
    thread::sleep(Duration::from_millis(2_050).saturating_sub(opened.elapsed()));
    visit(front);
    says(&ringlane, "the breaker is open again");
    let listener = TcpListener::bind(refusing).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || greet(&stream, "back", ANSWERS));
        }
    });
    eventually("it serves again", || (visit(front) == "back").then_some(()));
    (0..3).for_each(|_| assert_eq!(visit(front), "back"));
    assert_eq!(breaker(&ringlane, "state"), 0.0);
    says(&ringlane, "the breaker is closed");
    assert_eq!(breaker(&ringlane, "pending"), 0.0);
    let turned = |to: &str| {
        let series = format!("ringlane_breaker_turns_total{{pool=\"p\",to=\"{to}\"}}");
        ringlane.metric(&series)
    };
    assert_eq!(turned("open"), Some(2.0));
    assert_eq!(turned("closed"), Some(1.0));
}

#[test]
fn a_pool_has_no_more_connections_than_its_breaker_allows() {
    let backends = [Moody::start("b0"), Moody::start("b1")];
    let front = address();
    let settings = "breaker = { max_connections = 5 }";
    let list = backends.each_ref().map(|backend| backend.address);
    let text = configuration(front, settings, &list);
    let ringlane = Ringlane::start(&text);
    let visitors = |count: usize| -> Vec<TcpStream> {
        let visitors = (0..count).filter_map(|_| {
            let mut stream = TcpStream::connect(front).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut answer = [0; 16];
            matches!(stream.read(&mut answer), Ok(1..)).then_some(stream)
        });
        visitors.collect()
    };
    let mut held = visitors(20);
    assert_eq!(held.len(), 5);
    assert_eq!(breaker(&ringlane, "connections"), 5.0);
    let lines = ringlane.session_lines(15);
    assert!(lines.iter().all(|line| line["reason"] == "pool_full"));
    let reloaded = ringlane.reload(&text.replace("= 5", "= 7"));
    assert!(reloaded.status.success(), "{reloaded:?}");
    held.extend(visitors(10));
    assert_eq!(held.len(), 7, "those of before the reload count");
    drop(held);
    eventually("every slot is given back", || {
        (breaker(&ringlane, "connections") == 0.0).then_some(())
    });
    assert_eq!(visitors(20).len(), 7);
}

#[test]
fn no_more_connects_are_under_way_than_the_breaker_allows() {
    let front = address();
    let hanging = crate::support::hanging::Hanging::start();
    let settings = "connect = { timeout = \"1s\", attempts = 1 }\nbreaker = { max_pending = 3 }";
    let ringlane = Ringlane::start(&configuration(front, settings, &[hanging.address]));
    let clients: Vec<_> = (0..10)
        .map(|_| thread::spawn(move || visit(front)))
        .collect();
    for client in clients {
        assert_eq!(client.join().unwrap(), "");
    }
    let lines = ringlane.session_lines(10);
    let count = |reason: &str| lines.iter().filter(|line| line["reason"] == reason).count();
    assert_eq!((count("connect_timeout"), count("pool_full")), (3, 7));
    assert_eq!(breaker(&ringlane, "pending"), 0.0);
    assert_eq!(breaker(&ringlane, "connections"), 0.0);
}

#[test]
fn clients_that_leave_while_they_are_dialled_give_everything_back() {
    let front = address();
    let hanging = crate::support::hanging::Hanging::start();
    let settings = "connect = { timeout = \"20s\", total = \"20s\" }\n\
                    breaker = { max_pending = 3, max_connections = 3, min_samples = 1 }";
    let ringlane = Ringlane::start(&configuration(front, settings, &[hanging.address]));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let stream = TcpStream::connect(front).unwrap();
            let socket = socket2::SockRef::from(&stream);
            socket.set_linger(Some(Duration::ZERO)).unwrap();
            stream
        })
        .collect();
    eventually("they are dialled", || {
        (breaker(&ringlane, "pending") == 3.0).then_some(())
    });
    assert_eq!(visit(front), "", "there is no room for another");
    drop(clients);
    eventually("they have left", || {
        let held = breaker(&ringlane, "pending") + breaker(&ringlane, "connections");
        (held == 0.0).then_some(())
    });
    assert_eq!(
        breaker(&ringlane, "state"),
        0.0,
        "that speaks against nobody"
    );
    let lines = ringlane.session_lines(4);
    let count = |reason: &str| lines.iter().filter(|line| line["reason"] == reason).count();
    assert_eq!((count("client_reset"), count("pool_full")), (3, 1));
}

#[test]
fn handshakes_that_fail_eject_backends_and_open_the_breaker() {
    let backends = [Moody::start("this is no TLS"), Moody::start("nor is this")];
    let front = address();
    let list = backends.each_ref().map(|backend| backend.address);
    let settings = "tls = { verify = \"none\" }\n\
                    outliers = { failure_rate = \"50%\", min_samples = 3 }\n\
                    breaker = { min_samples = 8 }";
    let ringlane = Ringlane::start(&configuration(front, settings, &list));
    (0..8).for_each(|_| assert_eq!(visit(front), ""));
    eventually("it is open", || {
        (breaker(&ringlane, "state") == 2.0).then_some(())
    });
    let ejected = ["b0", "b1"].map(|name| ejections(&ringlane, name, "failure_rate"));
    assert_eq!(ejected[0] + ejected[1], 1.0, "one of two at a time");
    assert_eq!(breaker(&ringlane, "pending"), 0.0);
    visit(front);
    eventually("nobody is let through", || {
        let lines = ringlane.lines_so_far();
        let refused = lines.iter().filter(|it| it["reason"] == "breaker_open");
        (refused.count() == 1).then_some(())
    });
}
