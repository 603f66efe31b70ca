//! What a worker pays for a session's line.

use std::net::SocketAddr;
use std::time::Duration;

use ringlane::base::address::Endpoint;
use ringlane::base::random::Random;
use ringlane::base::reason::{Reason, Side};
use ringlane::config::model::{self, Format, Level, LogOn};
use ringlane::log::session::{Asked, Client, Closed, Event, SessionIds, SessionLine, TcpFacts};
use ringlane::log::writer::{SessionLog, Writer};

use super::{Case, seeded};

/// Sessions whose lines are written in turn; a power of two.
const SESSIONS: usize = 256;

/// How long the writer's thread may take to end.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("session_log/close_json", || close(Format::Json)),
        Case::new("session_log/close_text", || close(Format::Text)),
    ]
}

/// The line of a session that ended, written into the worker's buffer, with reading the time of day.
fn close(format: Format) -> impl FnMut() {
    let mut log = log(format);
    let mut random = seeded();
    let sessions: Vec<Session> = (0..SESSIONS).map(|_| Session::new(&mut random)).collect();
    let mut ids = SessionIds::for_worker(1);
    let mut turn = 0;
    move || {
        turn = (turn + 1) % SESSIONS;
        let session = &sessions[turn];
        let line = SessionLine {
            session: ids.next_id(),
            listener: "web",
            client: Client::Inet(session.client),
            pool: Some("web"),
            worker: 1,
            snapshot: 12,
            event: Event::Close(&session.closed()),
        };
        log.push(&line);
    }
}

/// A log whose writer has ended: it refuses every full buffer, so the worker's share is all there is.
fn log(format: Format) -> SessionLog {
    let log = model::Log {
        level: Level::Info,
        sessions: model::SessionLog::File("/dev/null".into()),
        format,
        on: LogOn::Close,
    };
    let writer = Writer::start(&log).expect("/dev/null takes what is written");
    let session_log = writer.session_log();
    assert!(writer.stop(PATIENCE), "the writer has nothing left to do");
    session_log
}

/// What differs between sessions.
struct Session {
    client: SocketAddr,
    backend: String,
    endpoint: Endpoint,
    connect: Duration,
    first_byte: Duration,
    duration: Duration,
    bytes_up: u64,
    bytes_down: u64,
}

impl Session {
    fn new(random: &mut Random) -> Self {
        let [a, b, high, low, ..] = random.next_u64().to_be_bytes();
        let port = u16::from_be_bytes([high | 0x80, low]);
        Self {
            client: SocketAddr::from(([192, 0, a, b], port)),
            backend: format!("backend-{a}"),
            endpoint: Endpoint::Inet(SocketAddr::from(([10, 1, 0, a], 8080))),
            connect: Duration::from_micros(random.below(1_000)),
            first_byte: Duration::from_micros(random.below(100_000)),
            duration: Duration::from_micros(random.below(100_000_000)),
            bytes_up: random.below(10_000),
            bytes_down: random.below(10_000_000),
        }
    }

    fn closed(&self) -> Closed<'_> {
        let tcp = TcpFacts {
            rtt: self.connect,
            retransmits: 0,
        };
        Closed {
            asked: Asked::default(),
            backend: Some(&self.backend),
            endpoint: Some(&self.endpoint),
            attempts: 1,
            queued: None,
            held: None,
            connect: Some(self.connect),
            first_byte: Some(self.first_byte),
            duration: self.duration,
            bytes_up: self.bytes_up,
            bytes_down: self.bytes_down,
            client_tcp: Some(tcp),
            backend_tcp: Some(tcp),
            reason: Reason::Eof,
            side: Side::Client,
            cause: None,
        }
    }
}
