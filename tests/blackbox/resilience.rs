//! One of three backends is killed, stopped, cut off or slowed down under load, and comes back: clients see
//! no error beyond the sessions that were on it, and then it has its share again.

use std::fs;
use std::io::{self, Write};
use std::net::Shutdown;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::reload::applied;
use crate::support::load::{Load, Named, Visit, service};
use crate::support::victim::Victim;
use crate::support::{Ringlane, address, eventually};

/// Clients at a time, each of which has one session after the other.
const CLIENTS: usize = 4;

/// Sessions that last, a quarter of which the first backend has.
const LASTING: usize = 12;

/// What happens to the backend `b`, which has half of the pool's weight.
struct Trouble {
    begins: fn(&mut Victim),
    ends: fn(&mut Victim),
    /// The cause that ringlane gives.
    cause: &'static str,
}

#[test]
fn killed_backend_costs_its_own_sessions_and_comes_back() {
    overcome(
        Victim::start("b"),
        &Trouble {
            begins: Victim::kill,
            ends: Victim::start_again,
            cause: "refused",
        },
    );
}

#[test]
fn stopped_backend_costs_its_own_sessions_and_comes_back() {
    overcome(
        Victim::start("b"),
        &Trouble {
            begins: |victim| victim.stop(),
            ends: Victim::go_on,
            cause: "timeout",
        },
    );
}

#[test]
fn blackholed_backend_costs_its_own_sessions_and_comes_back() {
    overcome(
        Victim::start_apart("b"),
        &Trouble {
            begins: Victim::cut_off,
            ends: Victim::reconnect,
            cause: "timeout",
        },
    );
}

fn overcome(mut victim: Victim, trouble: &Trouble) {
    let others = ["a", "c"].map(Named::start);
    let front = address();
    let text = format!(
        "[global]\nworkers = 2\n\
         [[listener]]\nname = \"l\"\nlisten = \"{front}\"\npool = \"p\"\n\
         [pool.p]\nbalance = \"round_robin\"\non_down = \"reset\"\nslow_start = \"1s\"\n\
         connect = {{ timeout = \"1s\" }}\n\
         [pool.p.health]\ntype = \"exchange\"\ninterval = \"100ms\"\ntimeout = \"400ms\"\n\
         exchange = {{ expect_regex = '^[abc]\\n' }}\n\
         [[pool.p.backend]]\nname = \"a\"\naddress = \"{}\"\n\
         [[pool.p.backend]]\nname = \"b\"\naddress = \"{}\"\nweight = 2\n\
         [[pool.p.backend]]\nname = \"c\"\naddress = \"{}\"\n",
        others[0].address, victim.address, others[1].address
    );
    let ringlane = Ringlane::start(&text);
    let load = Load::start(front, CLIENTS, Duration::from_millis(5));
    let lasting: Vec<_> = (0..LASTING).map(|_| Visit::to(front)).collect();
    let (lost, kept): (Vec<_>, Vec<_>) = lasting.into_iter().partition(|it| it.backend == "b");
    assert!(lost.len() >= LASTING / 4, "{}", lost.len());
    load.more(100);

    (trouble.begins)(&mut victim);
    is_up(&ringlane, 0.0);
    eventually("the cause is told", || {
        let messages = ringlane.messages();
        let mut lines = messages.lines();
        let told = lines.any(|line| line.contains("backend b is ") && line.contains(trouble.cause));
        told.then_some(())
    });
    is_left_alone(&ringlane, &load);
    for reloaded in [
        format!("{text}\n{}", service("more", address(), &[address()])),
        text.clone(),
    ] {
        applied(&ringlane.reload(&reloaded));
        assert_eq!(up(&ringlane), 0.0, "a reload does not bring it back");
        is_left_alone(&ringlane, &load);
    }
    for visit in &lost {
        assert!(visit.echo().is_err(), "its sessions are reset");
    }
    for visit in &kept {
        visit.echo().unwrap();
    }

    (trouble.ends)(&mut victim);
    is_up(&ringlane, 1.0);
    applied(&ringlane.reload(&text.replace("timeout = \"1s\"", "timeout = \"2s\"")));
    // A session more or less at either end of the count, of 200.
    let half = 0.48..=0.52;
    eventually("it has its share again", || {
        half.contains(&share(&ringlane, &load)).then_some(())
    });
    let share = share(&ringlane, &load);
    assert!(half.contains(&share), "{share}");

    let lost = lost.len();
    for visit in kept {
        visit.finish().unwrap();
    }
    nobody_else_was_harmed(&ringlane, load, lost);
}

/// Every session that failed was on `b`: those that lasted, and at most one of each client.
fn nobody_else_was_harmed(ringlane: &Ringlane, load: Load, lost: usize) {
    let (served, failures) = load.end_counted();
    assert!(failures.len() <= CLIENTS, "{failures:?}");
    let all = served + failures.len() + LASTING;
    let lines = ringlane.session_lines(all);
    assert_eq!(lines.len(), all);
    let failed: Vec<_> = lines
        .iter()
        .filter(|line| line["reason"] != "eof")
        .collect();
    assert!(
        failed.iter().all(|line| line["backend"] == "b"),
        "{failed:?}"
    );
    assert_eq!(
        failed.len(),
        failures.len() + lost,
        "{failures:?} {failed:?}"
    );
    let count = |reason: &str| failed.iter().filter(|it| it["reason"] == reason).count();
    let known = count("backend_reset") + count("backend_down");
    assert_eq!(known, failed.len(), "{failed:?}");
}

fn up(ringlane: &Ringlane) -> f64 {
    let series = r#"ringlane_backend_up{pool="p",backend="b"}"#;
    ringlane.metric(series).unwrap()
}

fn is_up(ringlane: &Ringlane, state: f64) {
    eventually("the backend's state is told", || {
        (up(ringlane) == state).then_some(())
    });
}

/// Connects to a backend, those that failed included.
fn connects(ringlane: &Ringlane, backend: &str) -> f64 {
    let of = |result: &str| {
        let labels = format!("pool=\"p\",backend=\"{backend}\",result=\"{result}\"");
        let series = format!("ringlane_backend_connects_total{{{labels}}}");
        ringlane.metric(&series).unwrap()
    };
    of("ok") + of("failed")
}

/// Once what was under way is over, nobody goes to `b`.
fn is_left_alone(ringlane: &Ringlane, load: &Load) {
    let active = r#"ringlane_backend_connections_active{pool="p",backend="b"}"#;
    eventually("its sessions are over", || {
        (ringlane.metric(active) == Some(0.0)).then_some(())
    });
    let before = connects(ringlane, "b");
    load.more(100);
    assert_eq!(connects(ringlane, "b"), before, "a new session went there");
}

/// The part of the next 200 sessions or more that goes to `b`.
fn share(ringlane: &Ringlane, load: &Load) -> f64 {
    let all = || ["a", "b", "c"].map(|name| connects(ringlane, name));
    let before = all();
    load.more(200);
    let after = all();
    let [a, b, c] = [0, 1, 2].map(|place| after[place] - before[place]);
    b / (a + b + c)
}

#[test]
fn slow_backend_is_left_by_distance_and_found_again() {
    let others = ["a", "c"].map(Named::start);
    let reluctant = Reluctant::start("b");
    let front = address();
    let text = format!(
        "[global]\nworkers = 2\n\
         [[listener]]\nname = \"l\"\nlisten = \"{front}\"\npool = \"p\"\n\
         [pool.p]\nbalance = \"peak_ewma\"\n[pool.p.health]\ninterval = \"100ms\"\n\
         [[pool.p.backend]]\nname = \"a\"\naddress = \"{}\"\n\
         [[pool.p.backend]]\nname = \"b\"\naddress = \"unix:{}\"\nweight = 100\n\
         [[pool.p.backend]]\nname = \"c\"\naddress = \"{}\"\n",
        others[0].address,
        reluctant.path.display(),
        others[1].address
    );
    let ringlane = Ringlane::start(&text);
    let load = Load::start(front, CLIENTS, Duration::from_millis(5));
    eventually("it has its share", || {
        (share(&ringlane, &load) > 0.8).then_some(())
    });
    reluctant.is_slow.store(true, Ordering::Relaxed);
    eventually("it is left", || {
        (share(&ringlane, &load) < 0.03).then_some(())
    });
    applied(&ringlane.reload(&text.replace("100ms", "200ms")));
    let share_after = share(&ringlane, &load);
    assert!(share_after < 0.03, "a reload forgot it: {share_after}");
    assert_eq!(up(&ringlane), 1.0, "it is slow and no more");

    reluctant.is_slow.store(false, Ordering::Relaxed);
    // Sessions that stay make the others, which have less weight, as far away as it feels.
    let mut held = Vec::new();
    let mut next = || {
        held.push(Visit::to(front));
        held.last().is_some_and(|visit| visit.backend == "b")
    };
    eventually("it is found again", || next().then_some(()));
    let found = (0..60).filter(|_| next()).count();
    assert!(found >= 20, "less than its share of 60: {found}");
    for visit in held {
        visit.finish().unwrap();
    }
    assert_eq!(load.end(), Vec::<String>::new());
}

/// A backend at a unix socket whose queue is full for half of the time, while it is slow.
struct Reluctant {
    path: PathBuf,
    is_slow: Arc<AtomicBool>,
}

impl Reluctant {
    fn start(name: &'static str) -> Self {
        let file = format!("ringlane-reluctant-{}.sock", std::process::id());
        let path = std::env::temp_dir().join(file);
        let at = SockAddr::unix(&path).unwrap();
        let is_slow = Arc::<AtomicBool>::default();
        let listener = unix();
        listener.bind(&at).unwrap();
        listener.listen(8).unwrap();
        let slow = Arc::clone(&is_slow);
        thread::spawn(move || {
            loop {
                if slow.load(Ordering::Relaxed) {
                    let waiting = filled(&at);
                    thread::sleep(Duration::from_millis(30));
                    drop(waiting);
                }
                for _ in 0..30 {
                    while let Ok((stream, _)) = listener.accept() {
                        thread::spawn(move || greet(&stream, name));
                    }
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        Self { path, is_slow }
    }
}

impl Drop for Reluctant {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn unix() -> Socket {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// As many connections as the queue of a socket holds.
fn filled(at: &SockAddr) -> Vec<Socket> {
    let clients = std::iter::repeat_with(unix);
    clients
        .take_while(|client| client.connect(at).is_ok())
        .collect()
}

fn greet(stream: &Socket, name: &str) {
    let (mut from, mut to) = (stream, stream);
    let _ = stream.set_nonblocking(false);
    let _ = to.write_all(format!("{name}\n").as_bytes());
    let _ = io::copy(&mut from, &mut to);
    let _ = stream.shutdown(Shutdown::Write);
}
