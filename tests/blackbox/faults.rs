//! Peers that refuse, vanish or break off, and a ringlane that runs out of descriptors.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use ringlane::base::clock::now;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, Signal, pidfd_getfd, pidfd_open, prlimit,
};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::hanging::Hanging;
use crate::support::{Echo, PATIENCE, Ringlane, address, eventually, loopback};

/// One worker, one listener, one pool with these backends.
fn start(relay: &str, backends: &[SocketAddr], pool: &str) -> (Ringlane, SocketAddr) {
    let front = address();
    let backends: Vec<String> = backends.iter().map(|one| format!("\"{one}\"")).collect();
    let ringlane = Ringlane::start(&format!(
        r#"
        [global]
        workers = 1
        [[listener]]
        name = "front"
        listen = "{front}"
        relay = "{relay}"
        pool = "back"
        [pool.back]
        balance = "first"
        backends = [{}]
        {pool}
        "#,
        backends.join(", ")
    ));
    (ringlane, front)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((loopback(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn connect(front: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(front).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Closes with a reset.
fn break_off(stream: TcpStream) {
    let socket = Socket::from(stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

fn is_reset(mut stream: &TcpStream) -> bool {
    let outcome = stream.read(&mut [0; 64]);
    outcome.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

/// The time until the connection is known to be broken, without reading what is left in it.
fn time_until_broken(stream: &TcpStream) -> Duration {
    let begun = now();
    let limit = Timespec::try_from(PATIENCE).unwrap();
    let mut polled = [PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::empty())];
    poll(&mut polled, Some(&limit)).unwrap();
    assert!(polled[0].revents().contains(PollFlags::ERR), "not broken");
    now() - begun
}

#[test]
fn client_is_reset_at_once_when_every_backend_refuses() {
    let (closed, nobody) = listener();
    let (closed_too, nobody_either) = listener();
    drop((closed, closed_too));
    let (ringlane, front) = start("auto", &[nobody, nobody_either], "");
    let begun = now();
    assert!(is_reset(&connect(front)));
    assert!(now() - begun < Duration::from_millis(500));
    let line = ringlane.session_lines(1).remove(0);
    assert_eq!(line["reason"], "connect_refused");
    assert_eq!(line["attempts"], 2);
    assert!(line["duration_ms"].as_f64().unwrap() < 50.0, "{line}");
}

#[test]
fn backend_that_answers_no_handshake_is_given_up_and_the_next_is_tried() {
    let hanging = Hanging::start();
    let silent = hanging.address;
    let connect_limits = r#"connect = { timeout = "300ms", attempts = 2, total = "2s" }"#;
    let echo = Echo::start();
    let (ringlane, front) = start("auto", &[silent, echo.address], connect_limits);
    let mut client = connect(front);
    client.write_all(b"patience").unwrap();
    client.read_exact(&mut [0; 8]).unwrap();
    drop(client);
    let line = ringlane.session_lines(1).remove(0);
    assert_eq!(line["attempts"], 2);
    assert_eq!(line["reason"], "eof");
    let duration = line["duration_ms"].as_f64().unwrap();
    assert!((290.0..900.0).contains(&duration), "{line}");

    let (ringlane, front) = start("auto", &[silent], connect_limits);
    assert!(is_reset(&connect(front)));
    let line = ringlane.session_lines(1).remove(0);
    assert_eq!(line["reason"], "connect_timeout");
    let duration = line["duration_ms"].as_f64().unwrap();
    assert!((290.0..900.0).contains(&duration), "{line}");
}

#[test]
fn what_the_client_says_first_reaches_one_backend_once_and_in_order() {
    // More than is read before there is a backend, and less.
    for length in [1, 700, 4_096, 4_097, 300_000] {
        let opening: Vec<u8> = pattern(length);
        let (refusing, refuses) = listener();
        drop(refusing);
        let (listener, backend) = listener();
        let (ringlane, front) = start("auto", &[refuses, backend], "");
        let mut client = connect(front);
        thread::scope(|scope| {
            scope.spawn(|| {
                client.write_all(&opening).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
            });
            let mut got = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut got).unwrap();
            assert!(got == opening, "{} of {length} bytes", got.len());
        });
        let line = ringlane.session_lines(1).remove(0);
        assert_eq!(line["attempts"], 2);
        assert_eq!(line["bytes_up"], length);
    }
}

#[test]
fn what_the_client_says_first_waits_for_a_backend_that_is_slow_to_answer() {
    let hanging = Hanging::start();
    let (ringlane, front) = start("auto", &[hanging.address], "");
    let opening: Vec<u8> = pattern(20_000);
    let mut client = connect(front);
    client.write_all(&opening).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    eventually("the session waits for its backend", || {
        (ringlane.sessions_active().0 > 0.0).then_some(())
    });
    assert!(hanging.streams().any(|mut stream| {
        let mut got = Vec::new();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.read_to_end(&mut got).is_ok() && got == opening
    }));
    let line = ringlane.session_lines(1).remove(0);
    assert_eq!(line["bytes_up"], 20_000);
}

#[test]
fn client_that_leaves_while_its_backend_is_dialled_leaves_nothing_behind() {
    let hanging = Hanging::start();
    let silent = hanging.address;
    let limits = r#"connect = { timeout = "300ms", attempts = 1, total = "2s" }"#;
    let (ringlane, front) = start("auto", &[silent], limits);
    let sockets_before = ringlane.sockets();
    for number in 0..40 {
        let client = connect(front);
        if number % 2 == 0 {
            break_off(client);
        }
    }
    assert_eq!(ringlane.session_lines(40).len(), 40);
    eventually("all is closed", || {
        (ringlane.sockets() <= sockets_before).then_some(())
    });
    assert_eq!(ringlane.sessions_active(), (0.0, 0.0));
}

#[test]
fn client_that_resets_ends_the_connect_under_way() {
    let hanging = Hanging::start();
    let limits = r#"connect = { timeout = "60s", total = "60s" }"#;
    let (ringlane, front) = start("auto", &[hanging.address], limits);
    for _ in 0..5 {
        break_off(connect(front));
    }
    let lines = ringlane.session_lines(5);
    assert!(lines.iter().all(|line| line["reason"] == "client_reset"));
    assert_eq!(ringlane.sessions_active(), (0.0, 0.0));
}

fn reset_reaches_a_backend_that_does_not_read(relay: &str) {
    let (backend, backend_address) = listener();
    let (ringlane, front) = start(relay, &[backend_address], "");
    let client = connect(front);
    let (backend, _) = backend.accept().unwrap();
    client.set_nonblocking(true).unwrap();
    let piece = vec![1; 256 * 1024];
    let mut full_since = now();
    // Until nothing has been taken for a while: then ringlane waits for room at the backend.
    while now() - full_since < Duration::from_millis(400) {
        match (&client).write(&piece) {
            Ok(_) => full_since = now(),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        thread::sleep(Duration::from_millis(2));
    }
    assert!(ringlane.processor_is_idle(), "it spins");
    break_off(client);
    let took = time_until_broken(&backend);
    assert!(took < Duration::from_millis(1_200), "{took:?}");
    assert_eq!(ringlane.session_lines(1)[0]["reason"], "client_reset");
}

#[test]
fn reset_of_a_stalled_upload_reaches_the_backend_when_adapting() {
    reset_reaches_a_backend_that_does_not_read("auto");
}

#[test]
fn reset_of_a_stalled_upload_reaches_the_backend_when_copying() {
    reset_reaches_a_backend_that_does_not_read("copy");
}

#[test]
fn reset_after_a_finished_half_reaches_a_silent_other_side() {
    let (backend, backend_address) = listener();
    let (ringlane, front) = start("auto", &[backend_address], "");
    for (number, client_breaks) in [true, false].into_iter().enumerate() {
        let client = connect(front);
        let (backend, _) = backend.accept().unwrap();
        let (breaker, other) = if client_breaks {
            (client, backend)
        } else {
            (backend, client)
        };
        (&breaker).write_all(b"all there is").unwrap();
        breaker.shutdown(Shutdown::Write).unwrap();
        let mut got = String::new();
        (&other).read_to_string(&mut got).unwrap();
        assert_eq!(got, "all there is");
        break_off(breaker);
        let took = time_until_broken(&other);
        assert!(took < Duration::from_millis(1_200), "{took:?}");
        let reason = if client_breaks {
            "client_reset"
        } else {
            "backend_reset"
        };
        assert_eq!(ringlane.session_lines(number + 1)[number]["reason"], reason);
    }
}

#[test]
fn lack_of_descriptors_stops_nobody_and_is_over_when_some_are_free() {
    let echo = Echo::start();
    let (ringlane, front) = start("auto", &[echo.address], "");
    let echoes = |mut stream: &TcpStream| {
        stream.write_all(b"served").unwrap();
        stream.read_exact(&mut [0; 6]).is_ok()
    };
    let early: Vec<TcpStream> = (0..8).map(|_| connect(front)).collect();
    assert!(early.iter().all(echoes));

    limit_descriptors(&ringlane, 4);
    let late: Vec<TcpStream> = (0..30).map(|_| connect(front)).collect();
    for mut stream in &late {
        stream.write_all(b"served").unwrap();
    }
    let used = ringlane.processor_time();
    // A second of lack; the admin listener may have no descriptor to answer with, so it is not asked.
    thread::sleep(Duration::from_secs(1));
    assert!(early.iter().all(echoes), "an old session died");
    let used = ringlane.processor_time() - used;
    assert!(
        used < Duration::from_millis(200),
        "{used:?} used in waiting"
    );

    drop(early);
    // Each session that ends makes room for another, in no order of ours.
    thread::scope(|scope| {
        for mut stream in late {
            scope.spawn(move || stream.read_exact(&mut [0; 6]).unwrap());
        }
    });
    let paused = ringlane.metric_sum("ringlane_accept_paused_total");
    assert!(paused >= 5.0, "{paused} pauses");
    let lines = ringlane.session_lines(38);
    let well = lines.iter().filter(|line| line["reason"] == "eof");
    assert_eq!(well.count(), 38);
}

#[test]
fn burst_larger_than_the_descriptors_left_is_served_one_after_the_other() {
    let echo = Echo::start();
    let (ringlane, front) = start("auto", &[echo.address], "");
    limit_descriptors(&ringlane, 31);
    // All of them wait when ringlane looks.
    ringlane.signal(Signal::STOP);
    let clients: Vec<TcpStream> = (0..60).map(|_| connect(front)).collect();
    for mut stream in &clients {
        stream.write_all(b"served").unwrap();
    }
    ringlane.signal(Signal::CONT);
    thread::scope(|scope| {
        for mut stream in clients {
            scope.spawn(move || stream.read_exact(&mut [0; 6]).unwrap());
        }
    });
    let lines = ringlane.session_lines(60);
    assert!(lines.iter().all(|line| line["reason"] == "eof"));
    // Nobody had to wait for an attempt's time to run out.
    let longest = lines.iter().filter_map(|line| line["duration_ms"].as_f64());
    let longest = longest.fold(0.0, f64::max);
    assert!(longest < 9_000.0, "{longest} ms");
}

/// Leaves the running ringlane room for so many more descriptors.
fn limit_descriptors(ringlane: &Ringlane, more: u64) {
    let open: Vec<u64> = fs::read_dir(format!("/proc/{}/fd", ringlane.pid()))
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    let pid = Pid::from_raw(i32::try_from(ringlane.pid()).unwrap());
    // The kernel gives the lowest number that is free, and none from the limit on.
    let limit = (0_u64..)
        .filter(|number| !open.contains(number))
        .nth(usize::try_from(more).unwrap())
        .unwrap();
    let limit = Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    prlimit(pid, Resource::Nofile, limit).unwrap();
}

#[test]
fn answer_of_a_backend_that_closes_with_the_request_unread_arrives() {
    let (listener, backend) = listener();
    let (ringlane, front) = start("auto", &[backend], "");
    for _ in 0..20 {
        let mut client = connect(front);
        let (mut served, _) = listener.accept().unwrap();
        // While ringlane stands still, the backend answers, closes, and is sent more.
        ringlane.signal(Signal::STOP);
        served.write_all(b"413 too large").unwrap();
        client.write_all(&[1; 100_000]).unwrap();
        drop(served);
        ringlane.signal(Signal::CONT);
        let mut answer = Vec::new();
        // The end may be a reset, once the answer is there.
        let _ = client.read_to_end(&mut answer);
        assert_eq!(answer, b"413 too large");
    }
}

#[test]
fn unix_backend_with_a_full_queue_is_waited_for() {
    let path = std::env::temp_dir().join(format!("ringlane-queue-{}.sock", std::process::id()));
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    listener.listen(2).unwrap();
    let front = address();
    let ringlane = Ringlane::start(&format!(
        "[[listener]]\nlisten = \"{front}\"\npool = \"p\"\n[pool.p]\nbackends = [\"unix:{}\"]\n",
        path.display()
    ));
    let clients: Vec<_> = (0..30).map(|_| connect(front)).collect();
    eventually("all have been accepted", || {
        (ringlane.metric_sum("ringlane_accepted_total") == 30.0).then_some(())
    });
    for _ in &clients {
        let (served, _) = listener.accept().unwrap();
        served.send(b"welcome").unwrap();
    }
    for mut client in clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "welcome");
    }
    fs::remove_file(&path).unwrap();
}

#[test]
fn backends_get_small_messages_at_once_in_every_mode() {
    for relay in ["auto", "copy", "splice"] {
        for greeting in [true, false] {
            let (backend, backend_address) = listener();
            let (ringlane, front) = start(relay, &[backend_address], "");
            let mut client = connect(front);
            if greeting {
                client.write_all(b"first").unwrap();
            }
            let (mut served, _) = backend.accept().unwrap();
            if greeting {
                served.read_exact(&mut [0; 5]).unwrap();
            }
            for _ in 0..2 {
                client.write_all(b"next").unwrap();
                served.read_exact(&mut [0; 4]).unwrap();
            }
            let found = sockets_to(&ringlane, backend_address);
            assert_eq!(found.len(), 1, "{relay}");
            assert!(found[0].tcp_nodelay().unwrap(), "{relay}, {greeting}");
        }
    }
}

/// Ringlane's own connections to `peer`.
fn sockets_to(ringlane: &Ringlane, peer: SocketAddr) -> Vec<Socket> {
    let pid = Pid::from_raw(i32::try_from(ringlane.pid()).unwrap()).unwrap();
    let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    fs::read_dir(format!("/proc/{}/fd", ringlane.pid()))
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|number| pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok())
        .map(Socket::from)
        .filter(|socket| {
            let connected = socket
                .peer_addr()
                .ok()
                .and_then(|address| address.as_socket());
            connected == Some(peer)
        })
        .collect()
}
