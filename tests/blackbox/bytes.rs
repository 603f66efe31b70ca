//! Limits of bytes: a source is slowed, nothing is lost, nobody is cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::peer::bytes_at;
use crate::support::tls::{Authority, Caller, Talk, quoted, secure_echo, terminating};
use crate::support::{Echo, PATIENCE, Ringlane, address, eventually};

fn configuration(front: SocketAddr, settings: &str, echo: &Echo) -> String {
    let backend = echo.address;
    format!(
        "[global]\nworkers = 2\n[[listener]]\nname = \"web\"\nlisten = \"{front}\"\npool = \"web\"\n\
         {settings}\n[pool.web]\nbackends = [\"{backend}\"]\n"
    )
}

fn connect(front: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(front).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends so many bytes, ends its half, and gets every one of them back.
fn converse(front: SocketAddr, bytes: usize) {
    let stream = connect(front);
    let mut sender = stream.try_clone().unwrap();
    let writing = thread::spawn(move || {
        let mut sent = 0;
        while sent < bytes {
            let piece = bytes_at(0, sent);
            let piece = &piece[..piece.len().min(bytes - sent)];
            sender.write_all(piece).unwrap();
            sent += piece.len();
        }
        sender.shutdown(Shutdown::Write).unwrap();
    });
    let (mut stream, mut got, mut buffer) = (stream, 0, vec![0; 65_536]);
    loop {
        let read = stream.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        let mut checked = 0;
        while checked < read {
            let expected = bytes_at(0, got + checked);
            let size = expected.len().min(read - checked);
            assert!(buffer[checked..checked + size] == expected[..size]);
            checked += size;
        }
        got += read;
    }
    assert_eq!(got, bytes);
    writing.join().unwrap();
}

fn slowed(ringlane: &Ringlane) -> f64 {
    let series = "ringlane_slowed_total{listener=\"web\"}";
    ringlane.metric(series).unwrap()
}

#[test]
fn who_moves_more_is_slowed_and_loses_nothing() {
    for relay in ["auto", "splice", "copy"] {
        let (front, echo) = (address(), Echo::start());
        let settings = format!("relay = \"{relay}\"\nlimits = {{ bytes_per_source = \"2m/s\" }}");
        let ringlane = Ringlane::start(&configuration(front, &settings, &echo));
        let begun = Instant::now();
        // Both ways together twice as much, of which a second's worth may come at once.
        converse(front, 3 << 20);
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(1_900), "{relay}: {took:?}");
        assert_eq!(slowed(&ringlane), 1.0, "{relay}");
        let lines = ringlane.session_lines(1);
        assert_eq!(lines[0]["reason"], "eof", "{lines:?}");
        assert_eq!(lines[0]["bytes_up"], 3 << 20);
        assert_eq!(lines[0]["bytes_down"], 3 << 20);
        assert!(lines[0]["held_ms"].as_f64().unwrap() > 0.0, "{lines:?}");
    }
}

#[test]
fn all_connections_of_a_source_share_what_it_may_move() {
    let (front, echo) = (address(), Echo::start());
    let settings = "limits = { bytes_per_source = \"2m/s\" }";
    let ringlane = Ringlane::start(&configuration(front, settings, &echo));
    let begun = Instant::now();
    let clients: Vec<_> = (0..8)
        .map(|_| thread::spawn(move || converse(front, 3 << 17)))
        .collect();
    clients.into_iter().for_each(|it| it.join().unwrap());
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(1_900), "{took:?}");
    assert!(slowed(&ringlane) >= 2.0);
    let lines = ringlane.session_lines(8);
    assert!(
        lines.iter().all(|line| line["reason"] == "eof"),
        "{lines:?}"
    );
}

#[test]
fn who_is_exempt_or_only_logged_is_not_slowed() {
    let both = [
        ("exempt = [\"127.0.0.0/8\"]", 0.0),
        ("log_only = true", 1.0),
    ];
    for (setting, logged) in both {
        let (front, echo) = (address(), Echo::start());
        let settings = format!("limits = {{ bytes_per_source = \"1k/s\", {setting} }}");
        let ringlane = Ringlane::start(&configuration(front, &settings, &echo));
        // At its rate it would take an hour.
        converse(front, 4 << 20);
        let series = "ringlane_limits_logged_total{listener=\"web\",reason=\"limit_bytes\"}";
        assert_eq!(ringlane.metric(series), Some(logged), "{setting}");
        assert_eq!(slowed(&ringlane), 0.0);
        let lines = ringlane.session_lines(1);
        let cause = lines[0]["cause"].as_str().unwrap_or_default();
        assert_eq!(
            cause.contains("bytes_per_source"),
            logged > 0.0,
            "{lines:?}"
        );
        assert!(lines[0].get("held_ms").is_none());
    }
}

/// Twelve connections share so little that most wait for longer than they may be silent.
#[test]
fn time_that_a_session_is_held_back_is_not_silence() {
    let (front, echo) = (address(), Echo::start());
    let settings = "limits = { bytes_per_source = \"8k/s\" }\n\
                    timeouts = { idle = \"500ms\", half_closed = \"500ms\", first_byte = \"500ms\" }";
    let ringlane = Ringlane::start(&configuration(front, settings, &echo));
    let clients: Vec<_> = (0..12)
        .map(|_| thread::spawn(move || converse(front, 2 << 10)))
        .collect();
    clients.into_iter().for_each(|it| it.join().unwrap());
    let lines = ringlane.session_lines(12);
    assert!(
        lines.iter().all(|line| line["reason"] == "eof"),
        "{lines:?}"
    );
    assert!(slowed(&ringlane) >= 6.0);
}

#[test]
fn a_session_that_is_held_back_can_be_reset_by_either_side_and_by_a_stop() {
    let (front, echo) = (address(), Echo::start());
    let settings = "limits = { bytes_per_source = \"1k/s\" }";
    let text = configuration(front, settings, &echo).replace(
        "workers = 2",
        "workers = 2\nshutdown = { drain = \"100ms\" }",
    );
    let mut ringlane = Ringlane::start(&text);
    let begin = || {
        let mut stream = connect(front);
        stream.write_all(&[7; 20_000]).unwrap();
        stream
    };
    let (leaves, _stays) = (begin(), begin());
    eventually("both are held back", || {
        (slowed(&ringlane) == 2.0).then_some(())
    });
    socket2::SockRef::from(&leaves)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(leaves);
    let lines = ringlane.session_lines(1);
    assert_eq!(lines[0]["reason"], "client_reset", "{lines:?}");
    ringlane.signal(Signal::TERM);
    assert!(ringlane.wait().success());
    let lines = ringlane.session_lines(2);
    assert_eq!(lines[1]["reason"], "drain", "{lines:?}");
}

#[test]
fn a_reload_changes_what_new_sessions_may_move() {
    let (front, echo) = (address(), Echo::start());
    let off = configuration(front, "", &echo);
    let ringlane = Ringlane::start(&off);
    let mut before = connect(front);
    before.write_all(b"ping").unwrap();
    before.read_exact(&mut [0; 4]).unwrap();
    let on = configuration(front, "limits = { bytes_per_source = \"64k/s\" }", &echo);
    assert!(ringlane.reload(&on).status.success());
    converse(front, 64 << 10);
    assert_eq!(slowed(&ringlane), 1.0);
    assert!(ringlane.reload(&off).status.success());
    converse(front, 4 << 20);
    assert_eq!(slowed(&ringlane), 1.0);
    before.write_all(b"ping").unwrap();
    before.read_exact(&mut [0; 4]).unwrap();
}

/// What a client says before its backend's handshake is over counts like all that follows.
#[test]
fn the_opening_counts_where_the_backend_speaks_tls() {
    let authority = Authority::new();
    let server = authority.issue("server", &["back.example"]);
    let backend = secure_echo(authority.server(&server, None));
    let front = address();
    let ca = quoted(&authority.file());
    let ringlane = Ringlane::start(&format!(
        "[[listener]]\nname = \"web\"\nlisten = \"{front}\"\npool = \"back\"\n\
         limits = {{ bytes_per_source = \"2k/s\" }}\n\
         [pool.back]\nbackends = [\"{backend}\"]\n\
         tls = {{ ca = {ca}, sni = \"back.example\" }}\n"
    ));
    let begun = Instant::now();
    let mut stream = connect(front);
    stream.write_all(&[7; 4096]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.ends_with(&[7; 4096]), "{} bytes", answer.len());
    // Both ways it is 8 KiB, of which a second's worth may come at once.
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(2_900), "{took:?}");
    assert_eq!(slowed(&ringlane), 1.0);
}

/// What was said in TLS comes back whole, with the end that is due, at the rate of what went over the wire.
#[test]
fn a_session_whose_tls_ends_here_is_slowed_alike() {
    let (front, echo) = (address(), Echo::start());
    let authority = Authority::new();
    let identity = authority.issue("web", &["a.example"]);
    let settings = "pool = \"back\"\nlimits = { bytes_per_source = \"512k/s\" }\nrelay = \"auto\"";
    let ringlane = Ringlane::start(&terminating(front, &[&identity], settings, echo.address));
    let config = Caller::new(&authority).config();
    let mut talk = Talk::to(front, &config, "a.example").unwrap();
    let begun = Instant::now();
    for round in 0..12 {
        let bytes = &bytes_at(0, round * 50_003)[..65_536];
        talk.say(bytes).unwrap();
        assert!(talk.hear(bytes.len()).unwrap() == bytes);
    }
    // 1.5 MiB, of which a second's worth may come at once.
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(1_900), "{took:?}");
    talk.finish();
    assert!(talk.hear_all().unwrap().is_empty());
    let slowed = ringlane.metric("ringlane_slowed_total{listener=\"tls\"}");
    assert_eq!(slowed, Some(1.0));
    let lines = ringlane.session_lines(1);
    assert_eq!(lines[0]["reason"], "eof", "{lines:?}");
    assert_eq!(lines[0]["bytes_up"], 12 * 65_536, "{lines:?}");
    assert!(lines[0]["held_ms"].as_f64().unwrap() > 0.0, "{lines:?}");
}
