//! How sessions end whose TLS ends at ringlane, and handshakes that never do.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use socket2::SockRef;

use crate::support::tls::{Authority, Caller, Talk, terminating};
use crate::support::{Echo, PATIENCE, Ringlane, address, loopback};

/// A session whose backend's end the test holds.
struct Held {
    client: Talk,
    backend: TcpStream,
    ringlane: Ringlane,
    _authority: Authority,
}

impl Held {
    fn open(settings: &str) -> Self {
        let authority = Authority::new();
        let web = authority.issue("web", &["a.example"]);
        let listener = TcpListener::bind((loopback(), 0)).unwrap();
        let front = address();
        let text = format!("pool = \"back\"\n{settings}");
        let ringlane = Ringlane::start(&terminating(
            front,
            &[&web],
            &text,
            listener.local_addr().unwrap(),
        ));
        let config = Caller::new(&authority).config();
        let mut client = Talk::to(front, &config, "a.example").unwrap();
        client.say(b"up").unwrap();
        let (backend, _) = listener.accept().unwrap();
        backend.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut held = Self {
            client,
            backend,
            ringlane,
            _authority: authority,
        };
        let mut got = [0; 2];
        held.backend.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"up");
        held
    }

    fn ends_with(&self, reason: &str, side: &str) {
        let line = self.ringlane.session_lines(1).remove(0);
        assert_eq!(
            (&line["reason"], &line["side"]),
            (&reason.into(), &side.into()),
            "{line}"
        );
    }
}

#[test]
fn either_side_may_finish_first() {
    let mut held = Held::open("");
    held.client.finish();
    assert_eq!(held.backend.read(&mut [0; 1]).unwrap(), 0);
    held.backend.write_all(b"late answer").unwrap();
    assert_eq!(held.client.hear(11).unwrap(), b"late answer");
    held.backend.shutdown(Shutdown::Write).unwrap();
    assert_eq!(held.client.hear_all().unwrap(), b"");
    held.ends_with("eof", "client");

    let mut held = Held::open("");
    held.backend.write_all(b"bye").unwrap();
    held.backend.shutdown(Shutdown::Write).unwrap();
    assert_eq!(held.client.hear_all().unwrap(), b"bye");
    held.client.say(b"still here").unwrap();
    held.client.finish();
    let mut got = Vec::new();
    held.backend.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"still here");
    held.ends_with("eof", "backend");
}

#[test]
fn truncation_and_resets_never_look_like_an_end() {
    // A FIN without a close_notify: the backend must not take it for the end.
    let mut held = Held::open("");
    held.client.socket.shutdown(Shutdown::Write).unwrap();
    let cut = held.backend.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(cut.kind(), ErrorKind::ConnectionReset);
    held.ends_with("tls_truncated", "client");

    let mut held = Held::open("");
    let socket = SockRef::from(&held.client.socket);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    held.client.socket = TcpStream::connect(held.ringlane.admin).unwrap();
    let cut = held.backend.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(cut.kind(), ErrorKind::ConnectionReset);
    held.ends_with("client_reset", "client");

    let mut held = Held::open("");
    SockRef::from(&held.backend)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(std::mem::replace(
        &mut held.backend,
        TcpStream::connect(held.ringlane.admin).unwrap(),
    ));
    let cut = held.client.hear_all().unwrap_err();
    assert_eq!(cut.kind(), ErrorKind::ConnectionReset);
    held.ends_with("backend_reset", "backend");
}

#[test]
fn idle_sessions_end_with_a_close_notify() {
    let mut held = Held::open("timeouts = { idle = \"300ms\" }");
    assert_eq!(held.client.hear_all().unwrap(), b"");
    assert_eq!(held.backend.read(&mut [0; 1]).unwrap(), 0);
    held.ends_with("idle", "us");
}

/// The client's first flight.
fn hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let mut talk = Talk::before(Echo::start().address, config, "a.example");
    let mut bytes = Vec::new();
    talk.tls.write_tls(&mut bytes).unwrap();
    bytes
}

/// A client that said its hello, heard the answer, and says no more.
fn stall(front: SocketAddr, hello: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(front).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(hello).unwrap();
    stream.read_exact(&mut [0; 1]).unwrap();
    stream
}

#[test]
fn handshakes_have_a_time_limit() {
    let authority = Authority::new();
    let web = authority.issue("web", &["a.example"]);
    let front = address();
    let settings = "pool = \"back\"\ntimeouts = { handshake = \"300ms\" }";
    let ringlane = Ringlane::start(&terminating(
        front,
        &[&web],
        settings,
        Echo::start().address,
    ));
    let mut stalled = stall(front, &hello(&Caller::new(&authority).config()));
    let cut = stalled.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(cut.kind(), ErrorKind::ConnectionReset);
    let line = ringlane.session_lines(1).remove(0);
    assert_eq!(
        (&line["reason"], &line["side"]),
        (&"tls_error".into(), &"client".into()),
        "{line}"
    );
    assert!(
        line["cause"]
            .as_str()
            .unwrap_or_default()
            .contains("handshake"),
        "{line}"
    );
    assert_eq!(line["sni"], "a.example");
}

#[test]
fn handshakes_beyond_the_limits_are_dropped_before_any_of_their_cost() {
    let authority = Authority::new();
    let web = authority.issue("web", &["a.example"]);
    let config = Caller::new(&authority).config();
    for settings in ["tls.handshakes_max = 1", "tls.handshake_rate = \"1/h\""] {
        let front = address();
        let text = terminating(
            front,
            &[&web],
            &format!("pool = \"back\"\n{settings}"),
            Echo::start().address,
        );
        let ringlane = Ringlane::start(&text.replace("workers = 2", "workers = 1"));
        let stalled = stall(front, &hello(&config));
        let refused = Talk::to(front, &config, "a.example").err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::ConnectionReset, "{settings}");
        let line = ringlane.session_lines(1).remove(0);
        assert_eq!(line["reason"], "limit_handshakes", "{line}");
        assert!(
            line["cause"].as_str().unwrap().contains("handshake"),
            "{line}"
        );
        drop(stalled);
        ringlane.session_lines(2);
        let after = Talk::to(front, &config, "a.example");
        assert_eq!(after.is_ok(), settings.contains("max"), "{settings}");
    }
}
