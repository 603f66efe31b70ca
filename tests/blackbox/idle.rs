//! Idle connections cost two descriptors and little memory each, and no thread.
//!
//! `RINGLANE_IDLE=N` sets how many; 10,000 is what is promised.

use std::env;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{Ringlane, address, eventually, loopback};

/// Connections in an ordinary run.
const CONNECTIONS: usize = 2_000;

/// Resident memory of one idle connection, bytes.
const RESIDENT_MAX: usize = 4 * 1024;

/// What each connection moves once, so that it has been spliced.
const MOVED: usize = 200 * 1024;

/// Descriptors besides the connections' own: pipes kept for later, listeners, the admin's.
const OTHER_DESCRIPTORS: usize = 200;

#[test]
fn idle_connections_cost_little_before_and_after_they_moved_bulk() {
    let connections = env::var("RINGLANE_IDLE")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(CONNECTIONS);
    if !raise_limit(2 * connections + 2 * OTHER_DESCRIPTORS) {
        eprintln!("skipped: the limit of open files is too low for {connections} connections");
        return;
    }
    let backend = TcpListener::bind((loopback(), 0)).unwrap();
    let front = address();
    let ringlane = Ringlane::start(&format!(
        r#"
        [global]
        workers = 2
        [[listener]]
        name = "idle"
        listen = "{front}"
        pool = "idle"
        [pool.idle]
        backends = ["{}"]
        "#,
        backend.local_addr().unwrap()
    ));
    let accepted = hold_all(backend);
    let before = (ringlane.resident(), ringlane.sockets());

    let mut clients = Vec::new();
    while clients.len() < connections {
        clients.push(TcpStream::connect(front).unwrap());
        // The backend's queue holds 128; beyond that handshakes are answered a second later.
        if clients.len() % 64 == 0 || clients.len() == connections {
            eventually("every client has a backend", || {
                (accepted.lock().unwrap().len() == clients.len()).then_some(())
            });
        }
    }
    check("fresh", &ringlane, before, connections);

    move_bulk_once(&clients, &mut accepted.lock().unwrap());
    check("used", &ringlane, before, connections);

    drop(clients);
    eventually("all sessions are over", || {
        accepted.lock().unwrap().clear();
        (ringlane.sessions_active() == (0.0, 0.0)).then_some(())
    });
    eventually("all sockets are closed", || {
        (ringlane.sockets() <= before.1).then_some(())
    });
}

/// Moves bulk through each connection, one after the other.
fn move_bulk_once(clients: &[TcpStream], backends: &mut Vec<TcpStream>) {
    for (number, mut client) in clients.iter().enumerate() {
        client.write_all(&number.to_le_bytes()).unwrap();
    }
    // Two workers dial in an order of their own.
    let number_of = |mut backend: &TcpStream| {
        let mut number = [0; size_of::<usize>()];
        backend.read_exact(&mut number).unwrap();
        usize::from_le_bytes(number)
    };
    backends.sort_by_cached_key(number_of);
    let piece = vec![7; MOVED];
    let mut room = vec![0; MOVED];
    for (mut client, mut backend) in clients.iter().zip(&*backends) {
        thread::scope(|scope| {
            scope.spawn(|| backend.write_all(&piece).unwrap());
            client.read_exact(&mut room).unwrap();
        });
    }
}

/// Accepts and keeps; never reads or writes by itself.
fn hold_all(listener: TcpListener) -> Arc<Mutex<Vec<TcpStream>>> {
    let accepted = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&accepted);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            kept.lock().unwrap().push(stream);
        }
    });
    accepted
}

fn check(what: &str, ringlane: &Ringlane, before: (usize, usize), connections: usize) {
    let grown = ringlane.resident().saturating_sub(before.0);
    let sockets = ringlane.sockets() - before.1;
    let (threads, pipe_ends) = (ringlane.threads(), ringlane.pipe_ends());
    eprintln!(
        "{connections} {what} idle connections: {} bytes each, {sockets} sockets, \
         {pipe_ends} pipe ends, {threads} threads",
        grown / connections
    );
    assert!(threads <= 2 + 4, "{threads} threads");
    // An admin connection may be closing.
    assert!(sockets <= 2 * connections + 4, "{sockets} sockets");
    // The pool may keep a few that were in use at the same moment; sessions hold none.
    assert!(pipe_ends <= 24, "{pipe_ends} pipe ends");
    assert!(grown / connections <= RESIDENT_MAX, "{grown} bytes");
}

/// Raises this process's limit of open files, which ringlane inherits.
fn raise_limit(wanted: usize) -> bool {
    let wanted = wanted as u64;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return true;
    }
    let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    let raised = Rlimit {
        current: Some(wanted),
        maximum,
    };
    setrlimit(Resource::Nofile, raised).is_ok()
}
