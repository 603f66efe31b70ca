//! The end of the process: in stages, with every session accounted for; and the service manager.

use std::fs;
use std::io::{self, Read};
use std::net::TcpStream;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::hanging::Hanging;
use crate::support::load::{Load, Named, Visit, service};
use crate::support::{PATIENCE, Ringlane, address, eventually};

const SHUTDOWN: &str = "[global.shutdown]\n";

fn clean(status: ExitStatus) {
    assert_eq!(status.code(), Some(0), "{status}");
}

/// Session lines, which are whole once the process has ended.
fn reasons(ringlane: &Ringlane) -> Vec<String> {
    let lines = ringlane.lines_so_far();
    let word = |line: &serde_json::Value| line["reason"].as_str().unwrap().to_owned();
    lines.iter().map(word).collect()
}

#[test]
fn readiness_fails_before_accepting_ends() {
    let backend = Named::start("one");
    let front = address();
    let mut configuration = service("a", front, &[backend.address]);
    configuration += &format!("{SHUTDOWN}pre_stop = \"1s\"\n");
    let mut ringlane = Ringlane::start(&configuration);
    let load = Load::start(front, 1, Duration::from_millis(2));
    load.more(1);
    let begun = Instant::now();
    ringlane.signal(Signal::TERM);
    eventually("readiness fails", || {
        (ringlane.ask("GET", "/ready").unwrap().0 == 503).then_some(())
    });
    assert_eq!(ringlane.ask("GET", "/healthz").unwrap().0, 200);
    let refused = ringlane.ask("POST", "/reload").unwrap();
    assert_eq!(refused, (503, "ringlane is stopping\n".to_owned()));
    load.more(20);
    assert!(begun.elapsed() < Duration::from_secs(1), "too slow to tell");
    assert_eq!(load.end(), Vec::<String>::new());
    clean(ringlane.wait());
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[test]
fn sessions_go_on_and_finish_while_new_ones_are_refused() {
    let backend = Named::start("one");
    let front = address();
    let mut ringlane = Ringlane::start(&service("a", front, &[backend.address]));
    let sessions: Vec<_> = (0..20).map(|_| Visit::to(front)).collect();
    ringlane.signal(Signal::TERM);
    eventually("connections are refused", || {
        let outcome = TcpStream::connect_timeout(&front, Duration::from_millis(100));
        let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        outcome.as_ref().is_err_and(refused).then_some(())
    });
    for session in sessions {
        session.echo().unwrap();
        session.finish().unwrap();
    }
    clean(ringlane.wait());
    let reasons = reasons(&ringlane);
    // Connections that were tried before the signal had its effect are sessions as well.
    assert!(reasons.len() >= 20, "{reasons:?}");
    assert!(reasons.iter().all(|reason| reason == "eof"), "{reasons:?}");
}

#[test]
fn queued_connections_are_served_after_the_signal() {
    let backend = Named::start("one");
    let front = address();
    let mut ringlane = Ringlane::start(&service("a", front, &[backend.address]));
    ringlane.signal(Signal::STOP);
    let queued: Vec<_> = (0..50)
        .map(|_| TcpStream::connect(front).unwrap())
        .collect();
    ringlane.signal(Signal::TERM);
    ringlane.signal(Signal::CONT);
    for stream in queued {
        let visit = Visit::over(stream).unwrap();
        visit.echo().unwrap();
        visit.finish().unwrap();
    }
    clean(ringlane.wait());
    assert_eq!(reasons(&ringlane), vec!["eof"; 50]);
}

#[test]
fn what_is_left_after_the_drain_is_reset_on_both_sides() {
    let listener = std::net::TcpListener::bind(address()).unwrap();
    let front = address();
    let mut configuration = service("a", front, &[listener.local_addr().unwrap()]);
    configuration += &format!("{SHUTDOWN}drain = \"300ms\"\n");
    let mut ringlane = Ringlane::start(&configuration);
    let pairs: Vec<_> = (0..10)
        .map(|_| {
            let client = TcpStream::connect(front).unwrap();
            let (backend, _) = listener.accept().unwrap();
            (client, backend)
        })
        .collect();
    let begun = Instant::now();
    ringlane.signal(Signal::TERM);
    clean(ringlane.wait());
    assert!(begun.elapsed() >= Duration::from_millis(300));
    for (client, backend) in pairs {
        for mut side in [client, backend] {
            side.set_read_timeout(Some(PATIENCE)).unwrap();
            let error = side.read(&mut [0; 1]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
    }
    assert_eq!(reasons(&ringlane), vec!["drain"; 10]);
}

#[test]
fn sessions_without_a_backend_yet_are_reset_and_logged_too() {
    let hanging = Hanging::start();
    let front = address();
    let mut configuration = service("a", front, &[hanging.address]);
    configuration += "connect = { timeout = \"60s\", total = \"60s\" }\n";
    configuration += &format!("{SHUTDOWN}drain = \"300ms\"\n");
    let mut ringlane = Ringlane::start(&configuration);
    let mut client = TcpStream::connect(front).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    eventually("the session has begun", || {
        let begun = ringlane.metric("ringlane_accepted_total{listener=\"a\"}");
        (begun == Some(1.0)).then_some(())
    });
    ringlane.signal(Signal::TERM);
    let error = client.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    clean(ringlane.wait());
    assert_eq!(reasons(&ringlane), ["drain"]);
}

#[test]
fn without_sessions_the_end_comes_within_a_second() {
    let backend = Named::start("one");
    let front = address();
    let mut ringlane = Ringlane::start(&service("a", front, &[backend.address]));
    Visit::to(front).finish().unwrap();
    let begun = Instant::now();
    ringlane.signal(Signal::INT);
    clean(ringlane.wait());
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(reasons(&ringlane), ["eof"]);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM)] {
        let backend = Named::start("one");
        let front = address();
        let mut configuration = service("a", front, &[backend.address]);
        configuration += &format!("{SHUTDOWN}pre_stop = \"1m\"\ndrain = \"1h\"\n");
        let mut ringlane = Ringlane::start(&configuration);
        let session = Visit::to(front);
        ringlane.signal(first);
        eventually("readiness fails", || {
            (ringlane.ask("GET", "/ready").unwrap().0 == 503).then_some(())
        });
        ringlane.signal(second);
        clean(ringlane.wait());
        let error = (&session.stream).read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(reasons(&ringlane), ["drain"]);
    }
}

#[test]
fn the_files_of_unix_sockets_go_with_the_process() {
    let backend = Named::start("one");
    let directory = std::env::temp_dir();
    let path = |what: &str| directory.join(format!("ringlane-{}-{what}", std::process::id()));
    let (front, admin) = (path("front"), path("admin"));
    let mut configuration = service("a", format!("unix:{}", front.display()), &[backend.address]);
    // The session log is given here, so that the admin listener is on TCP for the test.
    let mut ringlane = Ringlane::start(&configuration);
    assert!(front.exists());
    let mut stream = UnixStream::connect(&front).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut greeting = String::new();
    stream.read_to_string(&mut greeting).unwrap();
    assert_eq!(greeting, "one\n");
    configuration += &format!("[admin]\nlisten = \"unix:{}\"\n", admin.display());
    ringlane.write(&configuration);
    assert_eq!(ringlane.ask("POST", "/reload").unwrap().0, 200);
    assert!(admin.exists());
    ringlane.signal(Signal::TERM);
    clean(ringlane.wait());
    assert!(!front.exists() && !admin.exists());
}

#[test]
fn a_renamed_session_log_is_opened_anew() {
    let backend = Named::start("one");
    let front = address();
    let ringlane = Ringlane::start(&service("a", front, &[backend.address]));
    let (log, old) = (
        ringlane.directory().join("sessions"),
        ringlane.directory().join("sessions.1"),
    );
    Visit::to(front).finish().unwrap();
    ringlane.session_lines(1);
    fs::rename(&log, &old).unwrap();
    ringlane.signal(Signal::USR1);
    eventually("the log exists again", || log.exists().then_some(()));
    Visit::to(front).finish().unwrap();
    ringlane.session_lines(1);
    assert_eq!(fs::read_to_string(&old).unwrap().lines().count(), 1);
    assert!(ringlane.stop().success());
}

#[test]
fn the_service_manager_is_told() {
    let backend = Named::start("one");
    let front = address();
    let path = std::env::temp_dir().join(format!("ringlane-notify-{}", std::process::id()));
    let _ = fs::remove_file(&path);
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = |word: &str| {
        let begun = Instant::now();
        loop {
            let mut datagram = [0; 1024];
            let length = manager.recv(&mut datagram).unwrap();
            let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
            if text.lines().any(|line| line == word) {
                return text;
            }
            assert!(begun.elapsed() < PATIENCE, "{word} was not told");
        }
    };
    let mut configuration = service("a", front, &[backend.address]);
    configuration += &format!("{SHUTDOWN}pre_stop = \"100ms\"\n");
    let mut ringlane = Ringlane::start_as(&configuration, |command| {
        command.env("NOTIFY_SOCKET", &path);
        command.env("WATCHDOG_USEC", "200000");
    });
    heard("READY=1");
    heard("WATCHDOG=1");
    heard("WATCHDOG=1");
    ringlane.signal(Signal::HUP);
    let reloading = heard("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    heard("READY=1");
    ringlane.signal(Signal::TERM);
    heard("STOPPING=1");
    clean(ringlane.wait());
    fs::remove_file(&path).unwrap();
}
