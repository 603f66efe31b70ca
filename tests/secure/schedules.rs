//! Seeded schedules through TLS: whatever two ends do to each other, each sees what it would see
//! without ringlane in between.
//!
//! `RINGLANE_SCHEDULES=N` runs N schedules in every mode, `RINGLANE_SEED=S` begins with that seed;
//! both with N = 1 replay one.

use std::env;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use ringlane::base::random::Random;
use ringlane::config::model::TlsVersion;
use ringlane::tls::{ClientConfig, ServerConfig};
use serde_json::{Value, json};
use socket2::{Domain, SockRef, Socket, Type};

use crate::peer::{End, Goodbye, Habits, Outcome, Peer, Speaks};
use crate::schedule::{Close, Family, Reading, Schedule, Script, judge};
use crate::settings::{Server, calling};
use crate::stage::{Cast, Driver, LIMITS, PATIENCE, Played, Worker, connection_to};

/// Sessions at a time.
const LANES: usize = 8;

/// Schedules of each mode in an ordinary run.
const SCHEDULES: u64 = 40;

/// What one side sends at most byte by byte.
const DRIBBLE_MAX: usize = 8 * 1024;

/// What TLS may hold for a side that has broken, of which it is not known how much arrived.
const IN_FLIGHT_MAX: usize = 128 * 1024;

#[derive(Clone, Copy)]
struct Mode {
    name: &'static str,
    number: u64,
    driver: Driver,
    client: bool,
    backend: bool,
}

macro_rules! modes {
    ($($number:literal $name:ident: $driver:ident $client:literal $backend:literal;)*) => {$(
        #[test]
        fn $name() {
            run(Mode {
                name: stringify!($name),
                number: $number,
                driver: Driver::$driver,
                client: $client,
                backend: $backend,
            });
        }
    )*};
}

modes! {
    1 streams_survive_from_tls_clients_on_the_ring: Ring true false;
    2 streams_survive_to_tls_backends_on_the_ring: Ring false true;
    3 streams_survive_between_two_of_tls_on_the_ring: Ring true true;
    4 streams_survive_from_tls_clients_on_epoll: Epoll true false;
    5 streams_survive_to_tls_backends_on_epoll: Epoll false true;
    6 streams_survive_between_two_of_tls_on_epoll: Epoll true true;
}

/// A schedule, and what else its ends do.
struct Act {
    schedule: Schedule,
    client: Habits,
    backend: Habits,
    versions: [TlsVersion; 2],
    sniffed: usize,
}

impl Act {
    fn draw(seed: u64, mode: Mode) -> Self {
        let mut schedule = Schedule::draw(seed);
        let mut random = Random::new(seed ^ 0x5ec0_7e00);
        let mut client = Habits::draw(&mut random, mode.client);
        let mut backend = Habits::draw(&mut random, mode.backend);
        let resets = schedule.client.close.is_reset() || schedule.backend.close.is_reset();
        if !resets && random.below(6) == 0 {
            let first = random.below(2) == 0;
            let cut = if mode.client && (first || !mode.backend) {
                &mut client
            } else {
                &mut backend
            };
            cut.goodbye = Goodbye::FinOnly;
        }
        if client.dribbles {
            limit(&mut schedule.client, &mut schedule.backend);
        }
        if backend.dribbles {
            limit(&mut schedule.backend, &mut schedule.client);
        }
        let mut version = || match random.below(3) {
            0 => TlsVersion::Tls12,
            _ => TlsVersion::Tls13,
        };
        let versions = [version(), version()];
        Self {
            schedule,
            client,
            backend,
            versions,
            sniffed: [0, 3, 100, 4096][usize::try_from(random.below(4)).unwrap()],
        }
    }
}

impl Habits {
    fn draw(random: &mut Random, tls: bool) -> Self {
        Self {
            dribbles: tls && random.below(5) == 0,
            new_keys_every: random.below(2) * random.below(8),
            goodbye: match random.below(3) {
                0 => Goodbye::NoFin,
                _ => Goodbye::Whole,
            },
        }
    }
}

/// Has one end send no more than it can byte by byte.
fn limit(sender: &mut Script, receiver: &mut Script) {
    sender.sends = sender.sends.min(DRIBBLE_MAX);
    if let Close::Reset { sent, .. } = &mut sender.close {
        *sent = (*sent).min(DRIBBLE_MAX);
    }
    if let Close::Reset { received, .. } = &mut receiver.close {
        *received = (*received).min(DRIBBLE_MAX);
    }
}

/// The settings that all sessions of a mode share, by version.
struct Both {
    server: [Arc<ServerConfig>; 2],
    client: Arc<ClientConfig>,
}

impl Both {
    fn new() -> Self {
        let server = |version| Server::new().version(version).config();
        Self {
            server: [server(TlsVersion::Tls12), server(TlsVersion::Tls13)],
            client: calling(TlsVersion::Tls12, &[]),
        }
    }

    fn server(&self, version: TlsVersion) -> Arc<ServerConfig> {
        self.server[usize::from(version == TlsVersion::Tls13)].clone()
    }
}

fn run(mode: Mode) {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse().ok());
    let count = number("RINGLANE_SCHEDULES").unwrap_or(SCHEDULES);
    let first = number("RINGLANE_SEED").unwrap_or(mode.number * 1_000_000);
    let next = AtomicU64::new(first);
    let faults = Mutex::new(Vec::new());
    let (worker, both) = (Mutex::new(Worker::start(mode.driver)), Both::new());
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || faults.lock().unwrap().len() > 5 {
                        break;
                    }
                    let found = play(&Act::draw(seed, mode), mode, (&worker, &both));
                    faults.lock().unwrap().extend(found);
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(
        faults.is_empty(),
        "\n{}\nreplay: RINGLANE_SCHEDULES=1 RINGLANE_SEED=<seed> cargo test --test secure {}",
        faults.join("\n"),
        mode.name
    );
}

fn play(act: &Act, mode: Mode, (worker, both): (&Mutex<Worker>, &Both)) -> Option<String> {
    let schedule = &act.schedule;
    let (client, ours) = connect(&schedule.client);
    let (backend, backends) = connect(&schedule.backend);
    let [front, back] = act.versions.map(|version| both.server(version));
    let cast = Cast {
        client: ours,
        backend: backends,
        terminate: mode.client.then_some(front),
        originate: mode.backend.then(|| both.client.clone()),
        handshake: PATIENCE,
        limits: LIMITS,
        sniffed: act.sniffed,
    };
    let played = worker.lock().unwrap().serve(cast);
    let calls = || Speaks::As(both.client.clone());
    let speaks = if mode.client { calls() } else { Speaks::Plain };
    let answers = if mode.backend {
        Speaks::For(back)
    } else {
        Speaks::Plain
    };
    let (client, backend) = thread::scope(|scope| {
        let client = scope.spawn(|| {
            let script = &schedule.client;
            Peer::new(client, speaks, script, act.client, schedule.backend.stream).play()
        });
        let script = &schedule.backend;
        let backend = Peer::new(
            backend,
            answers,
            script,
            act.backend,
            schedule.client.stream,
        );
        let backend = backend.play();
        (client.join().unwrap(), backend)
    });
    let played = played.recv_timeout(PATIENCE).unwrap();
    let faults = faults(act, (&client, &backend), &played);
    let all = faults.join("\n  ");
    (!faults.is_empty()).then(|| {
        format!(
            "seed {}:\n  {all}\n  client {:?} {:?}\n    {client:?}\n  backend {:?} {:?}\n    {backend:?}\n  {played:?}",
            schedule.seed, schedule.client, act.client, schedule.backend, act.backend
        )
    })
}

/// A connection whose peer's end has the buffer that its script asks for.
fn connect(script: &Script) -> (TcpStream, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        if let Reading::Slowly { buffer, .. } = script.reading {
            SockRef::from(&socket).set_recv_buffer_size(buffer).unwrap();
        }
        socket
            .connect(&listener.local_addr().unwrap().into())
            .unwrap();
        socket.into()
    };
    connection_to(&listener, connected)
}

fn faults(act: &Act, (client, backend): (&Outcome, &Outcome), played: &Played) -> Vec<String> {
    if act.client.truncates() || act.backend.truncates() {
        return judge_truncated(act, (client, backend), played);
    }
    let resets = act.schedule.client.close.is_reset() || act.schedule.backend.close.is_reset();
    let counted = |bytes: u64, to: &Outcome| {
        let bytes = usize::try_from(bytes).unwrap();
        // A broken connection may have taken more than its whole writes.
        let unsure = resets && bytes < to.received && to.received <= bytes + IN_FLIGHT_MAX;
        if unsure { to.received } else { bytes }
    };
    let line: Value = json!({
        "reason": played.ending.reason.as_str(),
        "side": played.ending.side.as_str(),
        "bytes_up": counted(played.up, backend),
        "bytes_down": counted(played.down, client),
    });
    judge(&act.schedule, (client, backend), &line, Family::Tcp)
}

fn judge_truncated(
    act: &Act,
    (client, backend): (&Outcome, &Outcome),
    played: &Played,
) -> Vec<String> {
    let mut faults: Vec<String> = [client, backend]
        .iter()
        .filter_map(|outcome| outcome.fault.clone())
        .collect();
    let (side, cut, other_side, other) = if act.client.truncates() {
        ("client", client, "backend", backend)
    } else {
        ("backend", backend, "client", client)
    };
    let (reason, by) = (played.ending.reason.as_str(), played.ending.side.as_str());
    // A side to which all was said may leave without a word.
    let all_was_said = other.finished && cut.received == other.sent;
    let left = all_was_said && (reason, by) == ("eof", other_side);
    if !left && (reason, by) != ("tls_truncated", side) {
        faults.push(format!("{side} cut its stream off"));
    }
    if left == played.fault.is_some() {
        faults.push("no word of what was wrong, or one too many".to_owned());
    }
    if !matches!(other.end, End::Reset(_)) {
        faults.push(format!("the other side saw {:?}", other.end));
    }
    faults
}

/// A batch of acts is long enough only if it has some of each kind.
#[test]
fn acts_differ() {
    let mode = Mode {
        name: "acts_differ",
        number: 0,
        driver: Driver::Ring,
        client: true,
        backend: true,
    };
    let acts: Vec<Act> = (0..400).map(|seed| Act::draw(seed, mode)).collect();
    let some = |what: &dyn Fn(&Act) -> bool| acts.iter().filter(|act| what(act)).count() > 15;
    assert!(some(&|act| act.client.truncates()) && some(&|act| act.backend.truncates()));
    assert!(some(&|act| act.client.dribbles) && some(&|act| act.backend.dribbles));
    assert!(some(&|act| act.client.new_keys_every > 0));
    assert!(some(&|act| act.schedule.client.close.is_reset()));
}
