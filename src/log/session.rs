//! The session line: what is known of one client connection, as JSON or as `key=value` pairs.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::text;
use crate::base::address::Endpoint;
use crate::base::reason::{Reason, Side};
use crate::config::model::Format;

/// The most of a cause that is written, bytes.
const CAUSE_BYTES_MAX: usize = 512;

/// Names one session within the process; shown as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(u64);

/// Gives the sessions of one worker their names.
#[derive(Debug)]
pub struct SessionIds(u64);

/// One line of the session log.
#[derive(Clone, Copy, Debug)]
pub struct SessionLine<'a> {
    /// The session.
    pub session: SessionId,
    /// The listener's name.
    pub listener: &'a str,
    /// Who connected.
    pub client: Client,
    /// The pool's name, once one is chosen.
    pub pool: Option<&'a str>,
    /// The worker's index.
    pub worker: usize,
    /// The version of the snapshot that the session has used.
    pub snapshot: u64,
    /// What the line tells.
    pub event: Event<'a>,
}

/// Who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// From an address.
    Inet(SocketAddr),
    /// Over a unix socket; shown as `unix`.
    Unix,
}

/// What a line tells.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The session has begun.
    Open,
    /// The session has ended.
    Close(&'a Closed<'a>),
}

/// What a client asked for, where its listener goes by that.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The route that took it.
    pub route: Option<&'a str>,
    /// The server's name.
    pub sni: Option<&'a str>,
    /// The application protocol that was negotiated, or offered first.
    pub alpn: Option<&'a str>,
    /// The version of TLS, where it ends here.
    pub tls: Option<&'a str>,
    /// The fingerprint of its ClientHello.
    pub ja4: Option<&'a str>,
}

/// What is known of a session that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Closed<'a> {
    /// What the client asked for.
    pub asked: Asked<'a>,
    /// The name of the last backend tried.
    pub backend: Option<&'a str>,
    /// Where that backend was tried.
    pub endpoint: Option<&'a Endpoint>,
    /// Backends tried.
    pub attempts: u32,
    /// How long the client waited for a backend with room, if it had to.
    pub queued: Option<Duration>,
    /// How long it was held back because its source was above `bytes_per_source`; `None`: it was not.
    pub held: Option<Duration>,
    /// From the start of the successful attempt to the established connection.
    pub connect: Option<Duration>,
    /// From the established connection to the backend's first byte.
    pub first_byte: Option<Duration>,
    /// From accept to close.
    pub duration: Duration,
    /// Bytes from the client to the backend.
    pub bytes_up: u64,
    /// Bytes from the backend to the client.
    pub bytes_down: u64,
    /// What the kernel said of the client's connection at its end.
    pub client_tcp: Option<TcpFacts>,
    /// What the kernel said of the backend's connection at its end.
    pub backend_tcp: Option<TcpFacts>,
    /// Why the session ended.
    pub reason: Reason,
    /// Who ended it.
    pub side: Side,
    /// The text of the error, if there was one; only its first 512 bytes are written.
    pub cause: Option<&'a str>,
}

/// A connection's `TCP_INFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFacts {
    /// The smoothed round trip time.
    pub rtt: Duration,
    /// Segments sent again in all.
    pub retransmits: u32,
}

impl SessionIds {
    /// Names for the worker at `index`, different from those of every other worker below 65,536.
    pub const fn for_worker(index: usize) -> Self {
        Self((index as u64) << 48)
    }

    /// A new name; they repeat after 2^48.
    pub const fn next_id(&mut self) -> SessionId {
        let id = self.0;
        self.0 += 1;
        SessionId(id)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl SessionLine<'_> {
    /// Appends the line and its line feed to `out`; `now` is the time of the event.
    pub(super) fn write(&self, format: Format, now: SystemTime, out: &mut Vec<u8>) {
        let mut fields = Fields::begin(format, out);
        match self.event {
            Event::Open => {
                fields.time("open_time", now);
                fields.word("event", "open");
            }
            Event::Close(closed) => {
                let open = now
                    .checked_sub(closed.duration)
                    .unwrap_or(SystemTime::UNIX_EPOCH);
                fields.time("open_time", open);
                fields.time("close_time", now);
                fields.word("event", "close");
            }
        }
        fields.session(self.session);
        fields.string("listener", self.listener);
        match self.client {
            Client::Inet(address) => fields.address("client", address),
            Client::Unix => fields.word("client", "unix"),
        }
        fields.number("worker", self.worker as u64);
        fields.number("snapshot", self.snapshot);
        if let Some(pool) = self.pool {
            fields.string("pool", pool);
        }
        if let Event::Close(closed) = self.event {
            closed.write(&mut fields);
        }
        fields.end();
    }
}

impl Asked<'_> {
    fn write(&self, fields: &mut Fields<'_>) {
        fields.known("route", self.route);
        fields.known("sni", self.sni);
        fields.known("alpn", self.alpn);
        fields.known("tls", self.tls);
        fields.known("ja4", self.ja4);
    }
}

impl Closed<'_> {
    fn write(&self, fields: &mut Fields<'_>) {
        self.asked.write(fields);
        if let Some(backend) = self.backend {
            fields.string("backend", backend);
        }
        match self.endpoint {
            Some(Endpoint::Inet(address)) => fields.address("endpoint", *address),
            Some(unix @ Endpoint::Unix(_)) => fields.string("endpoint", &unix.to_string()),
            None => {}
        }
        fields.number("attempts", u64::from(self.attempts));
        if let Some(queued) = self.queued {
            fields.millis("queue_ms", queued);
        }
        if let Some(connect) = self.connect {
            fields.millis("connect_ms", connect);
        }
        if let Some(first_byte) = self.first_byte {
            fields.millis("first_byte_ms", first_byte);
        }
        if let Some(held) = self.held {
            fields.millis("held_ms", held);
        }
        fields.millis("duration_ms", self.duration);
        fields.number("bytes_up", self.bytes_up);
        fields.number("bytes_down", self.bytes_down);
        if let Some(tcp) = self.client_tcp {
            fields.millis("client_rtt_ms", tcp.rtt);
            fields.number("client_retransmits", u64::from(tcp.retransmits));
        }
        if let Some(tcp) = self.backend_tcp {
            fields.millis("backend_rtt_ms", tcp.rtt);
            fields.number("backend_retransmits", u64::from(tcp.retransmits));
        }
        fields.word("reason", self.reason.as_str());
        fields.word("side", self.side.as_str());
        if let Some(cause) = self.cause {
            let end = cause.floor_char_boundary(CAUSE_BYTES_MAX);
            fields.string("cause", &cause[..end]);
        }
    }
}

/// The fields of one line, appended one after the other. Written out here, and not through serde,
/// for both formats at once and for the cost on the data path.
struct Fields<'a> {
    format: Format,
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Fields<'a> {
    fn begin(format: Format, out: &'a mut Vec<u8>) -> Self {
        if format == Format::Json {
            out.push(b'{');
        }
        let start = out.len();
        Self { format, out, start }
    }

    fn end(self) {
        match self.format {
            Format::Json => self.out.extend_from_slice(b"}\n"),
            Format::Text => self.out.push(b'\n'),
        }
    }

    fn string(&mut self, key: &str, value: &str) {
        self.key(key);
        let is_bare = self.format == Format::Text && is_plain(value);
        if is_bare {
            self.out.extend_from_slice(value.as_bytes());
        } else {
            text::quoted(self.out, value);
        }
    }

    /// A value that is left out where it is not known.
    fn known(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.string(key, value);
        }
    }

    /// A value that never needs escaping.
    fn word(&mut self, key: &str, value: &str) {
        self.unescaped(key, |out| out.extend_from_slice(value.as_bytes()));
    }

    fn session(&mut self, session: SessionId) {
        self.unescaped("session", |out| text::hex(out, session.0));
    }

    fn address(&mut self, key: &str, address: SocketAddr) {
        self.unescaped(key, |out| text::address(out, address));
    }

    fn time(&mut self, key: &str, time: SystemTime) {
        self.unescaped(key, |out| text::time(out, time));
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        text::number(self.out, value);
    }

    fn millis(&mut self, key: &str, duration: Duration) {
        self.key(key);
        text::millis(self.out, duration);
    }

    fn unescaped(&mut self, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.key(key);
        match self.format {
            Format::Json => {
                self.out.push(b'"');
                write(self.out);
                self.out.push(b'"');
            }
            Format::Text => write(self.out),
        }
    }

    fn key(&mut self, key: &str) {
        let is_first = self.out.len() == self.start;
        match self.format {
            Format::Json => {
                let opening: &[u8] = if is_first { b"\"" } else { b",\"" };
                self.out.extend_from_slice(opening);
                self.out.extend_from_slice(key.as_bytes());
                self.out.extend_from_slice(b"\":");
            }
            Format::Text => {
                if !is_first {
                    self.out.push(b' ');
                }
                self.out.extend_from_slice(key.as_bytes());
                self.out.push(b'=');
            }
        }
    }
}

/// Whether `value` can stand without quotes in `key=value`.
fn is_plain(value: &str) -> bool {
    let must_quote = |c: char| c.is_whitespace() || c == '=' || text::must_escape(c);
    !value.is_empty() && !value.contains(must_quote)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::UNIX_EPOCH;

    use super::*;

    const NOW: Duration = Duration::from_millis(1_767_323_045_678);

    fn endpoint() -> Endpoint {
        Endpoint::Inet("10.0.0.7:5432".parse().unwrap())
    }

    fn closed(endpoint: &Endpoint) -> Closed<'_> {
        Closed {
            asked: Asked::default(),
            backend: Some("db-1"),
            endpoint: Some(endpoint),
            attempts: 2,
            queued: Some(Duration::from_micros(1_500)),
            held: Some(Duration::from_micros(2_500)),
            connect: Some(Duration::from_micros(345)),
            first_byte: Some(Duration::from_micros(1_234)),
            duration: Duration::from_millis(61_500),
            bytes_up: 1_024,
            bytes_down: 7,
            client_tcp: Some(TcpFacts {
                rtt: Duration::from_micros(81),
                retransmits: 3,
            }),
            backend_tcp: Some(TcpFacts {
                rtt: Duration::from_millis(12),
                retransmits: 0,
            }),
            reason: Reason::ClientReset,
            side: Side::Client,
            cause: Some("recv: connection reset by peer"),
        }
    }

    fn line(event: Event<'_>) -> SessionLine<'_> {
        SessionLine {
            session: SessionId(0x0001_0000_0000_002a),
            listener: "postgres",
            client: Client::Inet("192.0.2.9:40000".parse().unwrap()),
            pool: Some("main pool"),
            worker: 1,
            snapshot: 12,
            event,
        }
    }

    fn written(line: &SessionLine<'_>, format: Format) -> String {
        let mut out = Vec::new();
        line.write(format, UNIX_EPOCH + NOW, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_closed_session_as_json() {
        let endpoint = endpoint();
        let text = written(&line(Event::Close(&closed(&endpoint))), Format::Json);
        assert_eq!(
            text,
            concat!(
                r#"{"open_time":"2026-01-02T03:03:04.178Z","close_time":"2026-01-02T03:04:05.678Z","#,
                r#""event":"close","session":"000100000000002a","listener":"postgres","#,
                r#""client":"192.0.2.9:40000","worker":1,"snapshot":12,"pool":"main pool","#,
                r#""backend":"db-1","endpoint":"10.0.0.7:5432","attempts":2,"queue_ms":1.500,"connect_ms":0.345,"#,
                r#""first_byte_ms":1.234,"held_ms":2.500,"duration_ms":61500.000,"bytes_up":1024,"bytes_down":7,"#,
                r#""client_rtt_ms":0.081,"client_retransmits":3,"backend_rtt_ms":12.000,"#,
                r#""backend_retransmits":0,"reason":"client_reset","side":"client","#,
                r#""cause":"recv: connection reset by peer"}"#,
                "\n"
            )
        );
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }

    #[test]
    fn a_closed_session_as_text() {
        let endpoint = endpoint();
        let text = written(&line(Event::Close(&closed(&endpoint))), Format::Text);
        assert_eq!(
            text,
            concat!(
                "open_time=2026-01-02T03:03:04.178Z close_time=2026-01-02T03:04:05.678Z ",
                "event=close session=000100000000002a listener=postgres client=192.0.2.9:40000 ",
                "worker=1 snapshot=12 pool=\"main pool\" backend=db-1 endpoint=10.0.0.7:5432 ",
                "attempts=2 queue_ms=1.500 connect_ms=0.345 first_byte_ms=1.234 held_ms=2.500 duration_ms=61500.000 ",
                "bytes_up=1024 bytes_down=7 client_rtt_ms=0.081 client_retransmits=3 ",
                "backend_rtt_ms=12.000 backend_retransmits=0 reason=client_reset side=client ",
                "cause=\"recv: connection reset by peer\"\n"
            )
        );
    }

    #[test]
    fn an_opened_session_says_only_what_is_known() {
        let mut line = line(Event::Open);
        line.client = Client::Unix;
        assert_eq!(
            written(&line, Format::Json),
            concat!(
                r#"{"open_time":"2026-01-02T03:04:05.678Z","event":"open","#,
                r#""session":"000100000000002a","listener":"postgres","client":"unix","#,
                r#""worker":1,"snapshot":12,"pool":"main pool"}"#,
                "\n"
            )
        );
        assert!(
            written(&line, Format::Text)
                .starts_with("open_time=2026-01-02T03:04:05.678Z event=open ")
        );
    }

    #[test]
    fn a_rejected_session_leaves_out_what_it_never_had() {
        let tried = endpoint();
        let closed = Closed {
            backend: None,
            endpoint: None,
            connect: None,
            first_byte: None,
            held: None,
            client_tcp: None,
            backend_tcp: None,
            cause: None,
            ..closed(&tried)
        };
        let text = written(&line(Event::Close(&closed)), Format::Json);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
        for absent in [
            "backend",
            "endpoint",
            "connect_ms",
            "first_byte_ms",
            "held_ms",
            "cause",
        ] {
            assert!(!keys.contains(&&absent.to_owned()), "{absent} in {text}");
        }
        assert!(!text.contains("rtt") && !text.contains("null"), "{text}");
    }

    #[test]
    fn a_line_never_holds_a_raw_line_feed() {
        let endpoint = Endpoint::Unix(PathBuf::from("/run/a b\n\"c\""));
        let mut closed = closed(&endpoint);
        closed.cause = Some("bad\r\nthing\u{1b}[2J");
        closed.backend = Some("");
        let mut line = line(Event::Close(&closed));
        line.listener = "x=y";
        for format in [Format::Json, Format::Text] {
            let text = written(&line, format);
            assert!(
                !text.trim_end_matches('\n').contains(char::is_control),
                "{text:?}"
            );
            assert!(text.contains(r#""unix:/run/a b\n\"c\"""#), "{text}");
            assert!(text.contains(r#""bad\r\nthing\u001b[2J""#), "{text}");
            assert!(text.contains(r#""x=y""#), "{text}");
        }
        assert!(written(&line, Format::Text).contains(" backend=\"\" "));
    }

    #[test]
    fn a_long_cause_is_cut_between_characters() {
        let endpoint = endpoint();
        let mut closed = closed(&endpoint);
        let long = "é".repeat(10_000);
        closed.cause = Some(&long[..]);
        let odd = format!("x{long}");
        let cut = written(&line(Event::Close(&closed)), Format::Text);
        assert!(cut.len() < 1_024, "{}", cut.len());
        closed.cause = Some(&odd);
        let cut = written(&line(Event::Close(&closed)), Format::Text);
        assert_eq!(cut.matches('é').count(), 255);
    }

    #[test]
    fn session_ids_of_two_workers_differ() {
        let (mut first, mut second) = (SessionIds::for_worker(0), SessionIds::for_worker(1));
        let ids = [
            first.next_id(),
            first.next_id(),
            second.next_id(),
            second.next_id(),
        ];
        for (index, id) in ids.iter().enumerate() {
            assert!(!ids[..index].contains(id), "{ids:?}");
        }
    }
}
