//! Seeded schedules: whatever two ends do to each other, each sees what it would see without
//! ringlane in between.
//!
//! `RINGLANE_SCHEDULES=N` runs N schedules in every mode, `RINGLANE_SEED=S` begins with that seed;
//! both with N = 1 replay one.

use std::collections::HashMap;
use std::env;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::peer::{Outcome, Peer, limit_buffer};
use crate::support::schedule::{Family, Schedule, judge};
use crate::support::{PATIENCE, Ringlane, address, eventually, loopback};

/// Sessions at a time.
pub(crate) const LANES: usize = 16;

/// Schedules of each mode in an ordinary run.
pub(crate) const SCHEDULES: u64 = 40;

/// Ends of pipes that are none of the workers'.
const PIPE_ENDS_ELSEWHERE: usize = 4;

struct Mode {
    /// As the test is called.
    name: &'static str,
    number: u64,
    driver: &'static str,
    relay: &'static str,
    family: Family,
}

macro_rules! modes {
    ($($number:literal $name:ident: $driver:literal $relay:literal $family:ident;)*) => {$(
        #[test]
        fn $name() {
            run(&Mode {
                name: stringify!($name),
                number: $number,
                driver: $driver,
                relay: $relay,
                family: Family::$family,
            });
        }
    )*};
}

modes! {
    1 streams_survive_auto_on_the_ring: "io_uring" "auto" Tcp;
    2 streams_survive_splicing_on_the_ring: "io_uring" "splice" Tcp;
    3 streams_survive_copying_on_the_ring: "io_uring" "copy" Tcp;
    4 streams_survive_auto_on_epoll: "epoll" "auto" Tcp;
    5 streams_survive_splicing_on_epoll: "epoll" "splice" Tcp;
    6 streams_survive_copying_on_epoll: "epoll" "copy" Tcp;
    7 streams_survive_from_unix_clients: "io_uring" "auto" UnixClients;
    8 streams_survive_to_unix_backends: "io_uring" "auto" UnixBackends;
    9 streams_survive_splicing_to_unix_backends: "epoll" "splice" UnixBackends;
}

/// One place for sessions, one at a time, with a listener and a backend of its own.
pub(crate) struct Lane {
    number: usize,
    front: SockAddr,
    backend: Socket,
    pub(crate) backend_address: String,
    pub(crate) front_address: String,
}

fn run(mode: &Mode) {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse().ok());
    let count = number("RINGLANE_SCHEDULES").unwrap_or(SCHEDULES);
    let first = number("RINGLANE_SEED").unwrap_or(mode.number * 1_000_000);
    let directory = env::temp_dir().join(format!("rl-{}-{}", std::process::id(), mode.number));
    std::fs::create_dir_all(&directory).unwrap();
    let lanes: Vec<Lane> = (0..LANES.min(usize::try_from(count).unwrap()))
        .map(|number| Lane::open(number, mode, &directory))
        .collect();
    let ringlane = Ringlane::start(&configuration(mode, &lanes));
    let sockets_before = ringlane.sockets();

    let next = AtomicU64::new(first);
    let faults = Mutex::new(Vec::new());
    let lines = Mutex::new(Lines::of(&ringlane));
    thread::scope(|scope| {
        for lane in &lanes {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || faults.lock().unwrap().len() > 5 {
                        break;
                    }
                    let found = lane.play(&Schedule::draw(seed), mode, &lines);
                    faults.lock().unwrap().extend(found);
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(
        faults.is_empty(),
        "\n{}\nreplay: RINGLANE_SCHEDULES=1 RINGLANE_SEED=<seed> cargo test --test blackbox {}",
        faults.join("\n"),
        mode.name
    );
    nothing_is_left(&ringlane, sockets_before);
    std::fs::remove_dir_all(&directory).unwrap();
}

pub(crate) fn nothing_is_left(ringlane: &Ringlane, sockets_before: usize) {
    eventually("all sessions are over", || {
        (ringlane.sessions_active() == (0.0, 0.0)).then_some(())
    });
    eventually("all sockets are closed", || {
        (ringlane.sockets() <= sockets_before).then_some(())
    });
    let pipe_ends = ringlane.pipe_ends();
    assert!(pipe_ends <= 2 * 64 + PIPE_ENDS_ELSEWHERE, "{pipe_ends}");
    assert_eq!(ringlane.metric_sum("ringlane_session_panics_total"), 0.0);
    assert!(ringlane.threads() <= 2 + 4, "{}", ringlane.threads());
}

fn configuration(mode: &Mode, lanes: &[Lane]) -> String {
    let mut text = format!("[global]\nworkers = 2\ndriver = \"{}\"\n", mode.driver);
    for lane in lanes {
        let Lane {
            number,
            front_address,
            backend_address,
            ..
        } = lane;
        text += &format!(
            r#"
            [[listener]]
            name = "lane-{number}"
            listen = "{front_address}"
            relay = "{}"
            pool = "lane-{number}"
            [pool.lane-{number}]
            backends = ["{backend_address}"]
            "#,
            mode.relay
        );
    }
    text
}

impl Lane {
    fn open(number: usize, mode: &Mode, directory: &std::path::Path) -> Self {
        Self::of(number, mode.family, directory)
    }

    pub(crate) fn of(number: usize, family: Family, directory: &std::path::Path) -> Self {
        let path = |name: &str| directory.join(format!("{name}-{number}"));
        let (front, front_address) = if family == Family::UnixClients {
            let path = path("front");
            (
                SockAddr::unix(&path).unwrap(),
                format!("unix:{}", path.display()),
            )
        } else {
            let address = address();
            (address.into(), address.to_string())
        };
        let (bound, mut backend_address) = if family == Family::UnixBackends {
            let path = path("backend");
            (
                SockAddr::unix(&path).unwrap(),
                format!("unix:{}", path.display()),
            )
        } else {
            let address = std::net::SocketAddr::new(loopback(), 0);
            (address.into(), String::new())
        };
        let backend = Socket::new(bound.domain(), Type::STREAM, None).unwrap();
        backend.bind(&bound).unwrap();
        backend.listen(16).unwrap();
        // accept(2) heeds it.
        backend.set_read_timeout(Some(PATIENCE)).unwrap();
        if let Some(address) = backend.local_addr().unwrap().as_socket() {
            backend_address = address.to_string();
        }
        Self {
            number,
            front,
            backend,
            backend_address,
            front_address,
        }
    }

    /// Plays one schedule; returns what was wrong.
    fn play(&self, schedule: &Schedule, mode: &Mode, lines: &Mutex<Lines>) -> Option<String> {
        let (client, backend) = thread::scope(|scope| {
            let client = scope.spawn(|| self.play_client(schedule));
            let backend = self.play_backend(schedule);
            (client.join().unwrap(), backend)
        });
        let key = format!("lane-{}", self.number);
        let line = eventually("a session line is written", || {
            lines.lock().unwrap().next_of(&key)
        });
        let faults = judge(schedule, (&client, &backend), &line, mode.family);
        let all = faults.join("\n  ");
        let seed = schedule.seed;
        (!faults.is_empty()).then(|| {
            format!(
                "seed {seed}:\n  {all}\n  client {:?}\n    {client:?}\n  backend {:?}\n    {backend:?}\n  {line}",
                schedule.client, schedule.backend
            )
        })
    }

    pub(crate) fn play_client(&self, schedule: &Schedule) -> Outcome {
        let socket = Socket::new(self.front.domain(), Type::STREAM, None).unwrap();
        limit_buffer(&socket, &schedule.client).unwrap();
        socket.connect(&self.front).unwrap();
        if self.front.domain() != Domain::UNIX {
            socket.set_tcp_nodelay(true).unwrap();
        }
        Peer::new(socket, &schedule.client, schedule.backend.stream).play()
    }

    fn play_backend(&self, schedule: &Schedule) -> Outcome {
        limit_buffer(&self.backend, &schedule.backend).unwrap();
        let (socket, _) = self.backend.accept().unwrap();
        Peer::new(socket, &schedule.backend, schedule.client.stream).play()
    }

    /// The same, unless it turns out that nobody comes.
    pub(crate) fn play_backend_unless(
        &self,
        schedule: &Schedule,
        nobody_comes: impl Fn() -> bool,
    ) -> Option<Outcome> {
        limit_buffer(&self.backend, &schedule.backend).unwrap();
        self.backend.set_nonblocking(true).unwrap();
        let accepted = eventually("the backend is reached, or known not to be", || {
            // Asked first: whoever came before that is there.
            let nobody = nobody_comes();
            match self.backend.accept() {
                Ok((socket, _)) => Some(Some(socket)),
                Err(_) if nobody => Some(None),
                Err(_) => None,
            }
        });
        let peer = |socket| Peer::new(socket, &schedule.backend, schedule.client.stream);
        accepted.map(|socket| peer(socket).play())
    }
}

/// The session lines, read as they are written.
pub(crate) struct Lines {
    path: PathBuf,
    read: u64,
    rest: String,
    waiting: HashMap<String, Vec<Value>>,
}

impl Lines {
    pub(crate) fn of(ringlane: &Ringlane) -> Self {
        Self {
            path: ringlane.directory().join("sessions"),
            read: 0,
            rest: String::new(),
            waiting: HashMap::new(),
        }
    }

    /// The next line of this listener, if it is there.
    pub(crate) fn next_of(&mut self, listener: &str) -> Option<Value> {
        self.read_on();
        self.waiting.get_mut(listener)?.pop()
    }

    fn read_on(&mut self) {
        let Ok(mut file) = File::open(&self.path) else {
            return;
        };
        file.seek(SeekFrom::Start(self.read)).unwrap();
        let read = file.read_to_string(&mut self.rest).unwrap();
        self.read += read as u64;
        let Some(end) = self.rest.rfind('\n') else {
            return;
        };
        let rest = self.rest.split_off(end + 1);
        for line in std::mem::replace(&mut self.rest, rest).lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let listener = line["listener"].as_str().unwrap().to_owned();
            self.waiting.entry(listener).or_default().push(line);
        }
    }
}

/// A batch of schedules is long enough only if it has some of each kind.
#[test]
fn schedules_differ() {
    let schedules: Vec<Schedule> = (0..400).map(Schedule::draw).collect();
    let resets = schedules.iter().filter(|one| one.client.close.is_reset());
    assert!((20..120).contains(&resets.count()));
    let bulk = schedules.iter().filter(|one| one.client.sends > 1 << 20);
    assert!((4..60).contains(&bulk.count()));
    let silent = schedules.iter().filter(|one| one.client.sends == 0);
    assert!((10..90).contains(&silent.count()));
}
