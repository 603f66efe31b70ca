//! TLS that begins at ringlane: what backends see, and how it ends when they cannot be trusted.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use ringlane::proxy_protocol::{self, Read as Header, kind};
use rustls::{ServerConnection, Stream};

use crate::support::tls::{
    Authority, Caller, TLS13, Talk, quoted, secure_echo, secure_echo_at, terminating,
};
use crate::support::{PATIENCE, Ringlane, address, loopback};

/// A plain listener, and a pool that speaks TLS.
fn encrypting(front: SocketAddr, backend: &str, tls: &str) -> String {
    format!(
        "[[listener]]\nname = \"plain\"\nlisten = \"{front}\"\npool = \"back\"\n\
         [pool.back]\nbackends = [\"{backend}\"]\ntls = {{ {tls} }}\n"
    )
}

fn ask(front: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(front)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"question")?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn backends_are_asked_by_name_and_shown_a_certificate() {
    let authority = Authority::new();
    let server = authority.issue("server", &["back.example"]);
    let me = authority.issue("me", &["me.example"]);
    let backend = secure_echo(authority.server(&server, Some(&authority)));
    let ca = quoted(&authority.file());
    let shows = format!(
        "certificate = {}, key = {}",
        quoted(&me.chain),
        quoted(&me.key)
    );
    let front = address();
    let tls = format!("ca = {ca}, sni = \"back.example\", alpn = [\"echo\"], {shows}");
    let ringlane = Ringlane::start(&encrypting(front, &backend.to_string(), &tls));
    let answer =
        |resumed| format!("sni=back.example alpn=echo shown=1 resumed={resumed}\nquestion");
    assert_eq!(ask(front).unwrap(), answer(false));
    assert_eq!(ask(front).unwrap(), answer(true));
    for line in ringlane.session_lines(2) {
        assert_eq!(line["reason"], "eof", "{line}");
        assert_eq!(line["bytes_up"], 8, "{line}");
    }
}

#[test]
fn names_come_from_the_setting_the_client_or_the_backend() {
    let authority = Authority::new();
    let web = authority.issue("web", &["a.example", "b.example"]);
    let ca = quoted(&authority.file());
    let config = Caller::new(&authority).config();
    for (sni, expected) in [
        ("sni = \"b.example\"", "b.example"),
        ("sni = \"client\"", "a.example"),
    ] {
        let backend = secure_echo(authority.server(&web, None));
        let front = address();
        let mut text = terminating(front, &[&web], "pool = \"back\"", backend);
        text += &format!("tls = {{ ca = {ca}, {sni} }}\n");
        let ringlane = Ringlane::start(&text);
        let answer = Talk::to(front, &config, "a.example")
            .unwrap()
            .exchange(b"q")
            .unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!(
            answer,
            format!("sni={expected} alpn= shown=0 resumed=false\nq")
        );
        assert_eq!(ringlane.session_lines(1)[0]["reason"], "eof");
    }
    // An address is checked, and no name is asked for.
    let ip = loopback();
    let by_address = authority.issue("address", &[&ip.to_string()]);
    let backend = secure_echo_at(ip, authority.server(&by_address, None));
    let front = address();
    let _ringlane = Ringlane::start(&encrypting(
        front,
        &backend.to_string(),
        &format!("ca = {ca}"),
    ));
    assert_eq!(
        ask(front).unwrap(),
        "sni= alpn= shown=0 resumed=false\nquestion"
    );
}

#[test]
fn backends_that_cannot_be_trusted_end_the_session() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let server = authority.issue("server", &["back.example"]);
    let foreign = stranger.issue("server", &["back.example"]);
    let ca = quoted(&authority.file());
    for (identity, sni, verify, cause) in [
        (&foreign, "back.example", "", Some("UnknownIssuer")),
        (&server, "other.example", "", Some("other.example")),
        (&foreign, "other.example", ", verify = \"none\"", None),
    ] {
        let backend = secure_echo(authority.server(identity, None));
        let front = address();
        let ca = if verify.is_empty() {
            format!("ca = {ca}, ")
        } else {
            String::new()
        };
        let tls = format!("{ca}sni = \"{sni}\" {verify}");
        let ringlane = Ringlane::start(&encrypting(front, &backend.to_string(), &tls));
        let outcome = ask(front);
        let line = ringlane.session_lines(1).remove(0);
        let Some(cause) = cause else {
            assert!(outcome.unwrap().ends_with("question"));
            continue;
        };
        assert!(outcome.is_err(), "{outcome:?}");
        assert_eq!(
            (&line["reason"], &line["side"]),
            (&"tls_error".into(), &"backend".into()),
            "{line}"
        );
        assert!(line["cause"].as_str().unwrap().contains(cause), "{line}");
    }
    // A backend that speaks something else, and one that leaves.
    for greeting in [&b"220 mail\r\n"[..], b""] {
        let listener = TcpListener::bind((loopback(), 0)).unwrap();
        let backend = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.write_all(greeting);
                let _ = stream.shutdown(Shutdown::Write);
                let _ = stream.read_to_end(&mut Vec::new());
            }
        });
        let front = address();
        let tls = format!("ca = {ca}, sni = \"back.example\"");
        let ringlane = Ringlane::start(&encrypting(front, &backend.to_string(), &tls));
        assert!(ask(front).is_err());
        let line = ringlane.session_lines(1).remove(0);
        assert_eq!(
            (&line["reason"], &line["side"]),
            (&"tls_error".into(), &"backend".into()),
            "{line}"
        );
        assert!(line["cause"].is_string(), "{line}");
    }
}

#[test]
fn a_backend_whose_tls_fails_is_offered_last_for_a_while() {
    let authority = Authority::new();
    let good = authority.issue("server", &["back.example"]);
    let stranger = Authority::new();
    let foreign = stranger.issue("server", &["back.example"]);
    let backends = [&foreign, &good].map(|it| secure_echo(authority.server(it, None)).to_string());
    let front = address();
    let pool = backends.join("\", \"");
    let tls = format!("ca = {}, sni = \"back.example\"", quoted(&authority.file()));
    let _ringlane = Ringlane::start(&encrypting(front, &pool, &tls));
    let begun = Instant::now();
    let failed = (0..100).filter(|_| ask(front).is_err()).count();
    // One client meets it first, and then one in a second.
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap();
    assert!(
        (1..=2 + seconds).contains(&failed),
        "{failed} in {seconds} s"
    );
}

#[test]
fn a_backend_that_is_cut_off_never_looks_finished() {
    let authority = Authority::new();
    let server = authority.issue("server", &["back.example"]);
    let config = authority.server(&server, None);
    let listener = TcpListener::bind((loopback(), 0)).unwrap();
    let backend = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut tls = ServerConnection::new(config.clone()).unwrap();
            let mut stream = Stream::new(&mut tls, &mut socket);
            stream.read_exact(&mut [0; 1]).unwrap();
            stream.write_all(b"half").unwrap();
            stream.flush().unwrap();
            // A FIN, and no close_notify before it.
            socket.shutdown(Shutdown::Write).unwrap();
            let _ = socket.read_to_end(&mut Vec::new());
        }
    });
    let front = address();
    let tls = format!("ca = {}, sni = \"back.example\"", quoted(&authority.file()));
    let ringlane = Ringlane::start(&encrypting(front, &backend.to_string(), &tls));
    let mut client = TcpStream::connect(front).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"q").unwrap();
    let cut = client.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(cut.kind(), ErrorKind::ConnectionReset);
    let line = ringlane.session_lines(1).remove(0);
    assert_eq!(
        (&line["reason"], &line["side"]),
        (&"tls_truncated".into(), &"backend".into()),
        "{line}"
    );
    assert_eq!(line["bytes_down"], 4, "{line}");
}

#[test]
fn backends_are_told_of_the_tls_that_ended_before_them() {
    let authority = Authority::new();
    let web = authority.issue("web", &["a.example"]);
    let anna = authority.issue("anna", &["anna.example"]);
    let listener = TcpListener::bind((loopback(), 0)).unwrap();
    let front = address();
    let settings = format!(
        "pool = \"back\"\ntls.alpn = [\"h2\"]\n\
         tls.client_auth = {{ mode = \"request\", ca = {} }}",
        quoted(&authority.file())
    );
    let mut text = terminating(front, &[&web], &settings, listener.local_addr().unwrap());
    text += "proxy_protocol = { send = \"v2\", \
             tlvs = [\"alpn\", \"authority\", \"unique_id\", \"ssl\", \"crc32c\"] }\n";
    let ringlane = Ringlane::start(&text);
    let config = Caller {
        shows: Some(&anna),
        alpn: &["h2"],
        versions: TLS13,
        ..Caller::new(&authority)
    };
    let known = config.config();
    let config = Caller {
        alpn: &["h2"],
        versions: TLS13,
        ..Caller::new(&authority)
    };
    let unknown = config.config();
    // A certificate shown now, one shown when the session began that is resumed, and none.
    for (visit, config, flags) in [(1, &known, 7), (2, &known, 5), (3, &unknown, 1)] {
        let mut talk = Talk::to(front, config, "a.example").unwrap();
        let client = talk.socket.local_addr().unwrap();
        talk.say(b"payload").unwrap();
        let mut backend = listener.accept().unwrap().0;
        backend.set_read_timeout(Some(PATIENCE)).unwrap();
        backend.write_all(b"ok").unwrap();
        assert_eq!(talk.hear(2).unwrap(), b"ok");
        talk.finish();
        let mut got = Vec::new();
        backend.read_to_end(&mut got).unwrap();
        drop(backend);
        assert_eq!(talk.hear_all().unwrap(), b"");
        let line = ringlane.session_lines(visit).pop().unwrap();
        let Header::Header(header) = proxy_protocol::read(&got) else {
            panic!("{got:?}");
        };
        assert_eq!(
            (header.source(), header.destination()),
            (Some(client), Some(front))
        );
        let value = |kind| header.tlvs.value(kind);
        assert_eq!(value(kind::ALPN), Some(&b"h2"[..]));
        assert_eq!(value(kind::AUTHORITY), Some(&b"a.example"[..]));
        assert_eq!(
            value(kind::UNIQUE_ID),
            line["session"].as_str().map(str::as_bytes)
        );
        let ssl = value(kind::SSL).unwrap();
        assert_eq!(ssl[0], flags, "visit {visit}");
        // Zero says that a certificate was shown and is good.
        assert_eq!(ssl[1..5] == [0; 4], flags & 4 != 0, "visit {visit}");
        let inner = proxy_protocol::Tlvs::new(&ssl[5..]);
        assert_eq!(inner.value(kind::SSL_VERSION), Some(&b"TLSv1.3"[..]));
        let suite = format!("{:?}", talk.tls.negotiated_cipher_suite().unwrap().suite());
        let suite = suite.replace("TLS13_", "TLS_");
        assert_eq!(inner.value(kind::SSL_CIPHER), Some(suite.as_bytes()));
        let name = (flags & 4 != 0).then_some(&b"anna.example"[..]);
        assert_eq!(inner.value(kind::SSL_CN), name);
        assert_eq!(&got[header.length..], b"payload");
        assert_eq!(line["bytes_up"], 7);
    }
}
