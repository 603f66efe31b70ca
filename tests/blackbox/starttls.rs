//! PostgreSQL clients whose TLS ends at ringlane, and what its servers are asked for in turn.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use crate::support::tls::{Authority, Caller, Identity, Talk, quoted, serve, terminating};
use crate::support::{Echo, PATIENCE, Ringlane, address, loopback};

/// A client's request for TLS.
const SSL: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A listener for PostgreSQL that ends TLS, and a pool with these settings.
fn database(front: SocketAddr, web: &Identity, backend: SocketAddr, tls: &str) -> String {
    let settings = "starttls = \"postgres\"\n\
                    route = [{ sni = \"a.example\", terminate = true, pool = \"back\" }]";
    terminating(front, &[web], settings, backend) + tls
}

/// A client that has asked for TLS and was told to go on.
fn asking(front: SocketAddr, authority: &Authority) -> Talk {
    let config = Caller::new(authority).config();
    let mut talk = Talk::before(front, &config, "a.example");
    talk.socket.write_all(&SSL).unwrap();
    let mut answer = [0; 1];
    talk.socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"S");
    talk
}

/// A server that takes the request for TLS, and goes on like this.
fn server(answer: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((loopback(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 8];
            stream.read_exact(&mut request).unwrap();
            assert_eq!(request, SSL);
            answer(stream);
        }
    });
    address
}

#[test]
fn servers_behind_ended_tls_get_the_plain_stream_or_tls_of_our_own() {
    let authority = Authority::new();
    let web = authority.issue("web", &["a.example"]);
    let front = address();
    let ringlane = Ringlane::start(&database(front, &web, Echo::start().address, ""));
    let talk = asking(front, &authority).shake_hands().unwrap();
    assert_eq!(talk.exchange(b"startup").unwrap(), b"startup");
    let line = ringlane.session_lines(1).remove(0);
    assert_eq!(
        (&line["reason"], &line["bytes_up"]),
        (&"eof".into(), &7.into()),
        "{line}"
    );

    let config = authority.server(&web, None);
    let backend = server(move |mut stream| {
        stream.write_all(b"S").unwrap();
        serve(stream, config.clone());
    });
    let front = address();
    let tls = format!(
        "tls = {{ ca = {}, sni = \"client\" }}\n",
        quoted(&authority.file())
    );
    let ringlane = Ringlane::start(&database(front, &web, backend, &tls));
    let talk = asking(front, &authority).shake_hands().unwrap();
    let answer = String::from_utf8(talk.exchange(b"startup").unwrap()).unwrap();
    assert_eq!(answer, "sni=a.example alpn= shown=0 resumed=false\nstartup");
    let line = ringlane.session_lines(1).remove(0);
    assert_eq!(
        (&line["reason"], &line["bytes_up"]),
        (&"eof".into(), &7.into()),
        "{line}"
    );
}

#[test]
fn servers_are_asked_for_tls_of_our_own_by_whomever_the_client_is() {
    let authority = Authority::new();
    let web = authority.issue("web", &["a.example"]);
    let config = authority.server(&web, None);
    // It asserts that it is asked.
    let backend = server(move |mut stream| {
        stream.write_all(b"S").unwrap();
        serve(stream, config.clone());
    });
    let front = address();
    let tls = format!(
        "tls = {{ ca = {}, sni = \"a.example\" }}\n",
        quoted(&authority.file())
    );
    let text = database(front, &web, backend, &tls);
    let ringlane = Ringlane::start(&text.replace("starttls =", "plain = \"back\"\nstarttls ="));

    // One that asks for nothing, as an older libpq that cancels.
    let mut plain = TcpStream::connect(front).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(b"\0\0\0\x10cancel this!").unwrap();
    plain.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).unwrap();
    assert!(answer.ends_with(b"cancel this!"), "{answer:?}");

    // One that speaks TLS at once.
    let direct = Talk::to(front, &Caller::new(&authority).config(), "a.example").unwrap();
    let answer = direct.exchange(b"startup").unwrap();
    assert!(answer.ends_with(b"startup"), "{answer:?}");

    for line in ringlane.session_lines(2) {
        assert_eq!(line["reason"], "eof", "{line}");
    }
}

#[test]
fn a_server_without_tls_is_to_blame() {
    let authority = Authority::new();
    let web = authority.issue("web", &["a.example"]);
    let tls = format!(
        "tls = {{ ca = {}, sni = \"client\" }}\nbreaker = {{ min_samples = 1 }}\n",
        quoted(&authority.file())
    );
    for answer in [&b"N"[..], b"E...", b""] {
        let backend = server(move |mut stream| drop(stream.write_all(answer)));
        let front = address();
        let ringlane = Ringlane::start(&database(front, &web, backend, &tls));
        let talk = asking(front, &authority).shake_hands().unwrap();
        let cut = talk.exchange(b"startup").unwrap_err();
        assert_ne!(cut.kind(), ErrorKind::UnexpectedEof);
        let line = ringlane.session_lines(1).remove(0);
        assert_eq!(
            (&line["reason"], &line["side"]),
            (&"tls_error".into(), &"backend".into()),
            "{line}"
        );
        assert!(
            line["cause"].as_str().unwrap().contains("does not agree"),
            "{line}"
        );
        let state = ringlane.metric("ringlane_breaker_state{pool=\"back\"}");
        assert_eq!(state, Some(2.0), "the pool has failed");
    }
}

#[test]
fn clients_that_break_while_a_server_thinks_are_not_kept() {
    let authority = Authority::new();
    let web = authority.issue("web", &["a.example"]);
    let (asked, was_asked) = std::sync::mpsc::channel();
    let backend = server(move |mut stream| {
        asked.send(()).unwrap();
        // Never answers.
        let _ = stream.read(&mut [0; 1]);
    });
    let front = address();
    let tls = format!(
        "tls = {{ ca = {}, sni = \"client\" }}\n",
        quoted(&authority.file())
    );
    let mut text = database(front, &web, backend, &tls);
    text = text.replace(
        "starttls =",
        "timeouts = { handshake = \"1h\" }\nstarttls =",
    );
    let ringlane = Ringlane::start(&text);
    let talk = asking(front, &authority).shake_hands().unwrap();
    was_asked.recv_timeout(PATIENCE).unwrap();
    SockRef::from(&talk.socket)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(talk);
    let line = ringlane.session_lines(1).remove(0);
    assert_eq!(
        (&line["reason"], &line["side"]),
        (&"client_reset".into(), &"client".into()),
        "{line}"
    );
}
