//! Two ringlanes as a pair: the first takes plain TCP and speaks mutual TLS to the second, which hands
//! plain TCP to the service. Clients and services see what they would see without them.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use aws_lc_rs::digest::{Context, SHA256};
use ringlane::base::random::Random;
use rustix::io::Errno;
use serde_json::Value;

use crate::schedules::{LANES, Lane, Lines, SCHEDULES, nothing_is_left};
use crate::support::peer::{End, Outcome};
use crate::support::schedule::{Family, Schedule, judge};
use crate::support::tls::{Authority, Identity, quoted};
use crate::support::{PATIENCE, Ringlane, address, eventually, loopback};

/// The certificates of a pair: each side shows one, and trusts whom the authority vouches for.
struct Papers {
    authority: Authority,
    ingress: Identity,
    egress: Identity,
}

impl Papers {
    fn issue() -> Self {
        let authority = Authority::new();
        Self {
            ingress: authority.issue_of(
                crate::support::tls::Kind::Ecdsa,
                "in",
                &["ingress.example"],
                2,
            ),
            egress: authority.issue("out", &["egress.example"]),
            authority,
        }
    }

    /// From plain TCP to mutual TLS.
    fn ingress(&self, name: &str, front: &str, towards: SocketAddr, more: &str) -> String {
        let Identity { chain, key } = &self.ingress;
        format!(
            r#"
            [[listener]]
            name = "{name}"
            listen = "{front}"
            pool = "{name}"
            [pool.{name}]
            backends = ["{towards}"]
            tls = {{ ca = {}, sni = "egress.example", certificate = {}, key = {} {more} }}
            "#,
            quoted(&self.authority.file()),
            quoted(chain),
            quoted(key),
        )
    }

    /// From mutual TLS to plain TCP.
    fn egress(&self, name: &str, front: SocketAddr, towards: &str, more: &str) -> String {
        format!(
            r#"
            [[listener]]
            name = "{name}"
            listen = "{front}"
            tls.certificates = [{}]
            tls.client_auth = {{ mode = "require", ca = {} }}
            {more}
            route = [{{
                sni = "egress.example", client_names = ["ingress.example"],
                terminate = true, pool = "{name}",
            }}]
            [pool.{name}]
            backends = ["{towards}"]
            "#,
            self.egress.toml(),
            quoted(&self.authority.file()),
        )
    }
}

/// Sends so many bytes, finishes, and hears the other side to its end; the digests of both.
fn swap(stream: &TcpStream, seed: u64, bytes: usize) -> (Vec<u8>, Vec<u8>) {
    thread::scope(|scope| {
        let heard = scope.spawn(|| {
            let (mut digest, mut buffer) = (Context::new(&SHA256), vec![0; 65_536]);
            let mut from = stream;
            loop {
                match from.read(&mut buffer).unwrap() {
                    0 => break digest.finish().as_ref().to_vec(),
                    got => digest.update(&buffer[..got]),
                }
            }
        });
        let (mut random, mut digest) = (Random::new(seed), Context::new(&SHA256));
        let (mut to, mut left) = (stream, bytes);
        while left > 0 {
            let words = std::iter::repeat_with(|| random.next_u64().to_le_bytes());
            let piece: Vec<u8> = words.take(4096).flatten().take(left).collect();
            digest.update(&piece);
            to.write_all(&piece).unwrap();
            left -= piece.len();
        }
        stream.shutdown(Shutdown::Write).unwrap();
        (digest.finish().as_ref().to_vec(), heard.join().unwrap())
    })
}

#[test]
fn megabytes_pass_both_ways_at_once_and_whole() {
    const BYTES: usize = 9_000_001;
    let papers = Papers::issue();
    let listener = TcpListener::bind((loopback(), 0)).unwrap();
    let service = listener.local_addr().unwrap().to_string();
    let (front, between) = (address(), address());
    let egress = Ringlane::start(&papers.egress("out", between, &service, ""));
    let ingress = Ringlane::start(&papers.ingress("in", &front.to_string(), between, ""));
    for visit in 0..3 {
        thread::scope(|scope| {
            let served = scope.spawn(|| swap(&listener.accept().unwrap().0, 2 * visit, BYTES));
            let client = TcpStream::connect(front).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            let (sent, heard) = swap(&client, 2 * visit + 1, BYTES);
            let (answer, request) = served.join().unwrap();
            assert!(sent == request && heard == answer, "visit {visit}");
        });
    }
    for ringlane in [&ingress, &egress] {
        for line in ringlane.session_lines(3) {
            assert_eq!(line["reason"], "eof", "{line}");
            let counted = (&line["bytes_up"], &line["bytes_down"]);
            assert_eq!(counted, (&BYTES.into(), &BYTES.into()), "{line}");
        }
    }
    let resumed = r#"ringlane_tls_handshakes_total{listener="out",result="resumed"}"#;
    assert_eq!(
        egress.metric(resumed),
        Some(2.0),
        "the ingress resumes its sessions"
    );
}

#[test]
fn strangers_are_not_let_through() {
    let (papers, strangers) = (Papers::issue(), Papers::issue());
    let listener = TcpListener::bind((loopback(), 0)).unwrap();
    let service = listener.local_addr().unwrap().to_string();
    let (front, between) = (address(), address());
    let egress = Ringlane::start(&papers.egress("out", between, &service, ""));
    // Trusts the egress, and shows what another authority vouches for.
    let mut text = papers.ingress("in", &front.to_string(), between, "");
    for (ours, theirs) in [
        (&papers.ingress.chain, &strangers.ingress.chain),
        (&papers.ingress.key, &strangers.ingress.key),
    ] {
        text = text.replace(&quoted(ours), &quoted(theirs));
    }
    let ingress = Ringlane::start(&text);
    let mut client = TcpStream::connect(front).unwrap();
    client.write_all(b"let me in").unwrap();
    assert!(client.read(&mut [0; 1]).is_err(), "not reset");
    let line = egress.session_lines(1).remove(0);
    assert_eq!(
        (&line["reason"], &line["side"]),
        (&"tls_error".into(), &"client".into()),
        "{line}"
    );
    let line = ingress.session_lines(1).remove(0);
    assert_eq!(line["side"], "backend", "{line}");
    assert!(line["cause"].as_str().unwrap().contains("alert"), "{line}");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "the service was reached");
}

struct Mode {
    name: &'static str,
    number: u64,
    driver: &'static str,
    version: &'static str,
}

macro_rules! modes {
    ($($number:literal $name:ident: $driver:literal $version:literal;)*) => {$(
        #[test]
        fn $name() {
            run(&Mode {
                name: stringify!($name),
                number: $number,
                driver: $driver,
                version: $version,
            });
        }
    )*};
}

modes! {
    21 streams_survive_a_pair_over_tls13_on_the_ring: "io_uring" "1.3";
    22 streams_survive_a_pair_over_tls12_on_the_ring: "io_uring" "1.2";
    23 streams_survive_a_pair_over_tls13_on_epoll: "epoll" "1.3";
    24 streams_survive_a_pair_over_tls12_on_epoll: "epoll" "1.2";
}

/// The two ringlanes, and what they log.
struct Pair {
    ingress: Ringlane,
    egress: Ringlane,
    ingress_lines: Mutex<Lines>,
    egress_lines: Mutex<Lines>,
}

fn run(mode: &Mode) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let count = number("RINGLANE_SCHEDULES").unwrap_or(SCHEDULES);
    let first = number("RINGLANE_SEED").unwrap_or(mode.number * 1_000_000);
    let papers = Papers::issue();
    let lanes: Vec<Lane> = (0..LANES.min(usize::try_from(count).unwrap()))
        .map(|number| Lane::of(number, Family::Tcp, std::path::Path::new("")))
        .collect();
    let pair = Pair::start(mode, &papers, &lanes);
    let sockets = [pair.ingress.sockets(), pair.egress.sockets()];

    let next = AtomicU64::new(first);
    let faults = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for (lane, number) in lanes.iter().zip(0..) {
            let (pair, next, faults) = (&pair, &next, &faults);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || faults.lock().unwrap().len() > 5 {
                        break;
                    }
                    let found = pair.play((lane, number), &Schedule::draw(seed));
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
    nothing_is_left(&pair.ingress, sockets[0]);
    nothing_is_left(&pair.egress, sockets[1]);
}

impl Pair {
    fn start(mode: &Mode, papers: &Papers, lanes: &[Lane]) -> Self {
        let global = format!("[global]\nworkers = 2\ndriver = \"{}\"\n", mode.driver);
        let (mut ingress, mut egress) = (global.clone(), global);
        for (lane, number) in lanes.iter().zip(0..) {
            let (name, between) = (lane_name(number), address());
            ingress += &papers.ingress(&name, &lane.front_address, between, "");
            let only = format!("tls.max_version = \"{}\"", mode.version);
            egress += &papers.egress(&name, between, &lane.backend_address, &only);
        }
        let egress = Ringlane::start(&egress);
        let ingress = Ringlane::start(&ingress);
        Self {
            ingress_lines: Mutex::new(Lines::of(&ingress)),
            egress_lines: Mutex::new(Lines::of(&egress)),
            ingress,
            egress,
        }
    }

    /// Plays one schedule; returns what was wrong.
    fn play(&self, (lane, number): (&Lane, usize), schedule: &Schedule) -> Option<String> {
        let name = lane_name(number);
        let lines = Mutex::new((None, None));
        let look = || self.look(&name, &mut lines.lock().unwrap());
        let (client, backend) = thread::scope(|scope| {
            let client = scope.spawn(|| lane.play_client(schedule));
            let backend = lane.play_backend_unless(schedule, || {
                look();
                nobody_comes(&lines.lock().unwrap())
            });
            (client.join().unwrap(), backend)
        });
        // A client that breaks its connection before the handshakes are over never gets as far.
        let backend = backend.unwrap_or_else(|| Outcome {
            sent: 0,
            received: 0,
            finished: false,
            end: End::Reset(Errno::CONNRESET),
            ended: client.ended,
            fault: (client.end != End::OwnReset).then(|| "nobody came".to_owned()),
        });
        eventually("both session lines are written", || {
            look();
            is_over(&lines.lock().unwrap()).then_some(())
        });
        let (ingress, egress) = lines.into_inner().unwrap();
        let mut faults = Vec::new();
        for line in [&ingress, &egress].into_iter().flatten() {
            faults.extend(judge(schedule, (&client, &backend), line, Family::Tcp));
        }
        let (all, seed) = (faults.join("\n  "), schedule.seed);
        (!faults.is_empty()).then(|| {
            format!(
                "seed {seed}:\n  {all}\n  client {:?}\n    {client:?}\n  backend {:?}\n    {backend:?}\n  {ingress:?}\n  {egress:?}",
                schedule.client, schedule.backend
            )
        })
    }

    fn look(&self, name: &str, (ingress, egress): &mut (Option<Value>, Option<Value>)) {
        if ingress.is_none() {
            *ingress = self.ingress_lines.lock().unwrap().next_of(name);
        }
        if egress.is_none() {
            *egress = self.egress_lines.lock().unwrap().next_of(name);
        }
    }
}

/// Whether both have said all there is to say: the egress says nothing of what never reached it.
fn is_over((ingress, egress): &(Option<Value>, Option<Value>)) -> bool {
    ingress
        .as_ref()
        .is_some_and(|line| egress.is_some() || !is_connected(line))
}

/// Whether it is settled that the backend gets no connection.
fn nobody_comes(lines: &(Option<Value>, Option<Value>)) -> bool {
    is_over(lines) && !lines.1.as_ref().is_some_and(is_connected)
}

fn is_connected(line: &Value) -> bool {
    line.get("connect_ms").is_some_and(Value::is_number)
}

fn lane_name(number: usize) -> String {
    format!("lane-{number}")
}
