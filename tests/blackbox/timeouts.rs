//! Every time limit of a session: its reason, and that it comes neither early nor very late.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::hanging::Hanging;
use crate::support::load::{Named, Visit, service};
use crate::support::{PATIENCE, Ringlane, address, eventually};

/// How much later than due something may be on a busy machine, ms.
const LATE: f64 = 3_000.0;

fn with_timeouts(front: SocketAddr, backend: SocketAddr, timeouts: &str) -> String {
    let line = format!("pool = \"p\"\ntimeouts = {{ {timeouts} }}\n");
    service("p", front, &[backend]).replace("pool = \"p\"\n", &line)
}

/// The one line of the one session, whose reason and duration are as said.
fn ended(ringlane: &Ringlane, reason: &str, after: f64) -> Value {
    let line = ringlane.session_lines(1).remove(0);
    assert_eq!(line["reason"], reason, "{line}");
    assert_eq!(line["side"], "us", "{line}");
    let duration = line["duration_ms"].as_f64().unwrap();
    assert!((after..after + LATE).contains(&duration), "{line}");
    line
}

fn pair(front: SocketAddr, backend: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(front).unwrap();
    let (backend, _) = backend.accept().unwrap();
    for side in [&client, &backend] {
        side.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    (client, backend)
}

fn at_end(mut stream: &TcpStream) {
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "not an orderly end");
}

#[test]
fn silence_ends_a_session_in_an_orderly_way() {
    let (listener, front) = (TcpListener::bind(address()).unwrap(), address());
    let backend = listener.local_addr().unwrap();
    let ringlane = Ringlane::start(&with_timeouts(front, backend, "idle = \"300ms\""));
    let (client, backend) = pair(front, &listener);
    at_end(&client);
    at_end(&backend);
    ended(&ringlane, "idle", 300.0);
}

#[test]
fn a_byte_now_and_then_in_either_direction_is_no_silence() {
    let (listener, front) = (TcpListener::bind(address()).unwrap(), address());
    let backend = listener.local_addr().unwrap();
    let ringlane = Ringlane::start(&with_timeouts(front, backend, "idle = \"1s\""));
    let (client, backend) = pair(front, &listener);
    let begun = Instant::now();
    for (mut from, mut to) in [(&client, &backend), (&backend, &client)] {
        for _ in 0..15 {
            from.write_all(b".").unwrap();
            to.read_exact(&mut [0; 1]).unwrap();
            // The pace of the trickle.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    let active = begun.elapsed().as_millis() as f64;
    assert!(active >= 3_000.0);
    at_end(&client);
    // The last byte was a tenth of a second before the trickle's end.
    ended(&ringlane, "idle", active - 100.0 + 1_000.0 - 100.0);
}

#[test]
fn a_standstill_of_ringlane_is_nobodys_silence() {
    for driver in ["io_uring", "epoll"] {
        let (listener, front) = (TcpListener::bind(address()).unwrap(), address());
        let backend = listener.local_addr().unwrap();
        let configuration = with_timeouts(front, backend, "idle = \"1s\"");
        let configuration = format!("global = {{ driver = \"{driver}\" }}\n{configuration}");
        let ringlane = Ringlane::start(&configuration);
        let (mut client, mut backend) = pair(front, &listener);
        client.write_all(b"a").unwrap();
        backend.read_exact(&mut [0; 1]).unwrap();
        ringlane.signal(Signal::STOP);
        std::thread::sleep(Duration::from_millis(1_100));
        client.write_all(b"b").unwrap();
        ringlane.signal(Signal::CONT);
        backend.read_exact(&mut [0; 1]).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        backend.write_all(b"z").unwrap();
        client.read_exact(&mut [0; 1]).unwrap();
    }
}

#[test]
fn a_side_that_has_finished_leaves_the_other_little_time_to_be_silent() {
    let (listener, front) = (TcpListener::bind(address()).unwrap(), address());
    let backend = listener.local_addr().unwrap();
    let ringlane = Ringlane::start(&with_timeouts(front, backend, "half_closed = \"400ms\""));
    let (mut client, mut backend) = pair(front, &listener);
    client.shutdown(Shutdown::Write).unwrap();
    at_end(&backend);
    let begun = Instant::now();
    for _ in 0..8 {
        backend.write_all(b".").unwrap();
        client.read_exact(&mut [0; 1]).unwrap();
        // The pace of an answer that comes in pieces.
        std::thread::sleep(Duration::from_millis(100));
    }
    let active = begun.elapsed().as_millis() as f64;
    at_end(&client);
    ended(&ringlane, "half_closed", active + 200.0);
}

#[test]
fn a_backend_must_say_its_first_byte_in_time() {
    let (listener, front) = (TcpListener::bind(address()).unwrap(), address());
    let backend = listener.local_addr().unwrap();
    let ringlane = Ringlane::start(&with_timeouts(front, backend, "first_byte = \"300ms\""));
    let (client, mut backend) = pair(front, &listener);
    (&client).write_all(b"are you there").unwrap();
    backend.read_exact(&mut [0; 13]).unwrap();
    at_end(&client);
    ended(&ringlane, "first_byte", 300.0);

    // One that has spoken in time has no such limit any more.
    let (mut client, mut backend) = pair(front, &listener);
    backend.write_all(b".").unwrap();
    client.read_exact(&mut [0; 1]).unwrap();
    client
        .set_read_timeout(Some(Duration::from_millis(800)))
        .unwrap();
    assert_eq!(
        client.read(&mut [0; 1]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
}

#[test]
fn sessions_of_one_age_end_within_the_jitter_and_not_together() {
    let backend = Named::start("one");
    let front = address();
    let limits = "max_lifetime = \"600ms\", lifetime_jitter = \"50%\"";
    let ringlane = Ringlane::start(&with_timeouts(front, backend.address, limits));
    let visits: Vec<_> = (0..40).map(|_| Visit::to(front)).collect();
    for visit in &visits {
        at_end(&visit.stream);
    }
    let lines = ringlane.session_lines(40);
    assert!(
        lines.iter().all(|line| line["reason"] == "lifetime"),
        "{lines:?}"
    );
    let duration = |line: &Value| line["duration_ms"].as_f64().unwrap();
    let mut durations: Vec<_> = lines.iter().map(duration).collect();
    durations.sort_by(f64::total_cmp);
    assert!(
        durations[0] >= 300.0 && durations[39] < 900.0 + LATE,
        "{durations:?}"
    );
    // Forty draws from a range of 600 ms that all fall within 150 ms: never.
    assert!(durations[39] - durations[0] > 150.0, "{durations:?}");
}

#[test]
fn activity_does_not_prolong_a_life() {
    let backend = Named::start("one");
    let front = address();
    let limits = "max_lifetime = \"500ms\", lifetime_jitter = \"0%\"";
    let ringlane = Ringlane::start(&with_timeouts(front, backend.address, limits));
    let visit = Visit::to(front);
    eventually("it ends under load", || visit.echo().err());
    ended(&ringlane, "lifetime", 500.0);
}

fn reset(front: SocketAddr) {
    let mut client = TcpStream::connect(front).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let error: io::Error = client.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_backend_that_does_not_answer_is_given_up_and_another_tried() {
    let hanging = Hanging::start();
    let silent = hanging.address;
    let backend = Named::start("one");
    let front = address();
    let configuration = |backends: &[SocketAddr]| {
        let mut text = service("p", front, backends);
        text += "balance = \"first\"\nconnect = { timeout = \"300ms\", attempts = 2 }\n";
        text
    };
    let ringlane = Ringlane::start(&configuration(&[silent]));
    reset(front);
    let line = ended(&ringlane, "connect_timeout", 300.0);
    assert_eq!(line["attempts"], 1);
    let output = ringlane.reload(&configuration(&[silent, backend.address]));
    assert!(output.status.success(), "{output:?}");
    let visit = Visit::to(front);
    assert_eq!(visit.backend, "one");
    visit.finish().unwrap();
    assert_eq!(ringlane.session_lines(2)[1]["reason"], "eof");
}

#[test]
fn a_backend_that_hangs_holds_up_a_client_a_second_and_not_all() {
    let hanging = Hanging::start();
    let silent = hanging.address;
    let backend = Named::start("one");
    let front = address();
    let mut text = service("p", front, &[silent, backend.address]);
    text += "balance = \"first\"\nconnect = { timeout = \"1500ms\" }\n";
    let _ringlane = Ringlane::start(&text);
    Visit::to(front).finish().unwrap();
    let begun = Instant::now();
    let held_up: usize = std::thread::scope(|scope| {
        let client = || {
            let mut held_up = 0;
            while begun.elapsed() < Duration::from_secs(3) {
                let begun = Instant::now();
                Visit::to(front).finish().unwrap();
                held_up += usize::from(begun.elapsed() > Duration::from_millis(1_400));
                // The pace of the client.
                std::thread::sleep(Duration::from_millis(100));
            }
            held_up
        };
        let clients: Vec<_> = (0..40).map(|_| scope.spawn(client)).collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum()
    });
    // Three seconds, and a few that came at the same moment on different workers.
    assert!((1..=12).contains(&held_up), "{held_up} of 40");
}

#[test]
fn all_attempts_together_have_a_limit() {
    let silent = [Hanging::start(), Hanging::start(), Hanging::start()];
    let backends = [silent[0].address, silent[1].address, silent[2].address];
    let front = address();
    let mut text = service("p", front, &backends);
    text += "connect = { timeout = \"300ms\", attempts = 3, total = \"700ms\" }\n";
    let ringlane = Ringlane::start(&text);
    reset(front);
    let line = ended(&ringlane, "connect_timeout", 700.0);
    // Three times 300 ms would have been 900 ms.
    assert_eq!(line["attempts"], 3);
}

#[test]
fn a_life_that_ends_in_the_middle_of_a_stream_ends_in_a_reset() {
    let listener = TcpListener::bind(address()).unwrap();
    let backend = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        while stream.write_all(&[7; 65_536]).is_ok() {}
    });
    let front = address();
    let limits = "max_lifetime = \"400ms\", lifetime_jitter = \"0%\"";
    let ringlane = Ringlane::start(&with_timeouts(front, backend, limits));
    let mut client = TcpStream::connect(front).unwrap();
    let error = io::copy(&mut client, &mut io::sink()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    ended(&ringlane, "lifetime", 400.0);
}
