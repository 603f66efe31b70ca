//! Listeners that go by what the client says first: names, PROXY headers, requests for TLS, silence.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::support::{PATIENCE, Ringlane, address, loopback};

/// The alert that says that nobody here has the name asked for (RFC 6066 §3).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Long enough for the first half of a message to be read alone.
const APART: Duration = Duration::from_millis(2);

/// A backend that says its name, then everything it got, when its client has finished.
fn echo_late(name: &'static str) -> SocketAddr {
    backend(move |mut stream| {
        let mut got = name.as_bytes().to_vec();
        if stream.read_to_end(&mut got).is_ok() {
            let _ = stream.write_all(&got);
        }
    })
}

fn backend(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((loopback(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn connect(front: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(front).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Says `parts` one after the other, finishes, and reads to the end.
fn visit(front: SocketAddr, parts: &[&[u8]]) -> Vec<u8> {
    let mut stream = connect(front);
    for (number, part) in parts.iter().enumerate() {
        if number > 0 {
            thread::sleep(APART);
        }
        stream.write_all(part).unwrap();
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

fn hello(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/hellos/{name}.bin")))
        .unwrap()
}

fn hellos() -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hellos");
    let mut found: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "bin"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    found.sort();
    found
}

/// Which of the pools of [`named`] a hello's file asks for.
fn expected(file: &str) -> &'static str {
    const EXACT: [&str; 6] = [
        "openssl-tls13",
        "openssl-tls12-alpn",
        "openssl-acme",
        "openssl-alpn-20k",
        "openssl-records-of-512",
        "openssl-resumed-early-data",
    ];
    const WILDCARD: [&str; 4] = [
        "curl-h2",
        "curl-tls12-http11",
        "curl-no-alpn",
        "openssl-upper-case-dot",
    ];
    const NAMELESS: [&str; 5] = [
        "curl-by-address",
        "chromium-by-address",
        "gnutls-no-name",
        "openssl-tls12-no-name",
        "openssl-address-as-name",
    ];
    if EXACT.contains(&file) {
        "exact"
    } else if WILDCARD.contains(&file) {
        "wildcard"
    } else if NAMELESS.contains(&file) {
        "nameless"
    } else {
        "default"
    }
}

fn named(front: SocketAddr) -> String {
    let mut text = format!(
        r#"
        [[listener]]
        name = "tls"
        listen = "{front}"
        route = [
            {{ sni = "a.example", pool = "exact" }},
            {{ sni = "*.a.example", pool = "wildcard" }},
            {{ no_sni = true, pool = "nameless" }},
            {{ default = true, pool = "default" }},
        ]
        "#
    );
    for pool in ["exact", "wildcard", "nameless", "default"] {
        text += &format!("[pool.{pool}]\nbackends = [\"{}\"]\n", echo_late(pool));
    }
    text
}

#[test]
fn real_hellos_reach_the_route_of_their_name_untouched_however_they_are_cut() {
    let front = address();
    let ringlane = Ringlane::start(&named(front));
    let hellos = hellos();
    assert!(hellos.len() >= 20);
    let visits = thread::scope(|scope| {
        let visitors: Vec<_> = hellos
            .iter()
            .map(|(file, hello)| {
                scope.spawn(move || {
                    let expected = [expected(file).as_bytes(), hello].concat();
                    let cuts = (0..12).chain((12..hello.len()).step_by(97));
                    let mut visits = 0;
                    for cut in cuts {
                        let (first, second) = hello.split_at(cut);
                        let answer = visit(front, &[first, second]);
                        assert!(answer == expected, "{file}, cut at {cut}");
                        visits += 1;
                    }
                    visits
                })
            })
            .collect();
        visitors.into_iter().map(|it| it.join().unwrap()).sum()
    });
    let lines = ringlane.session_lines(visits);
    assert!(lines.iter().all(|line| line["reason"] == "eof"));
    let wild = lines
        .iter()
        .find(|line| line["sni"] == "www.a.example")
        .unwrap();
    assert_eq!(wild["route"], "*.a.example");
    assert_eq!(wild["pool"], "wildcard");
    let h2 = lines.iter().find(|line| line["alpn"] == "h2").unwrap();
    assert!(h2["ja4"].as_str().unwrap().starts_with("t1"), "{h2}");
    for line in &lines {
        assert!(line["bytes_up"].as_u64().unwrap() > 100, "{line}");
    }
}

#[test]
fn bytes_behind_a_hello_arrive_behind_it() {
    let front = address();
    let _ringlane = Ringlane::start(&named(front));
    let hello = hello("openssl-tls13");
    // More than the session reads before it has a backend, and more than sockets hold.
    let rest: Vec<u8> = (0..=250).cycle().take(3_000_000).collect();
    let answer = visit(front, &[&hello, &rest]);
    assert!(answer == [b"exact", &*hello, &*rest].concat());
    let together = [&*hello, &*rest].concat();
    let answer = visit(front, &[&together]);
    assert!(answer == [b"exact", &*together].concat());
}

#[test]
fn names_without_a_route_get_the_alert_and_other_protocols_a_reset() {
    let front = address();
    let ringlane = Ringlane::start(&format!(
        r#"
        [[listener]]
        name = "tls"
        listen = "{front}"
        route = [
            {{ sni = "a.example", pool = "a" }},
            {{ sni = "old.example", reject = true }},
        ]
        [pool.a]
        backends = ["{}"]
        "#,
        echo_late("a")
    ));
    for nobody in ["curl-h2", "openssl-tls12-no-name"] {
        assert_eq!(
            visit(front, &[&hello(nobody)]),
            UNRECOGNIZED_NAME,
            "{nobody}"
        );
    }
    for foreign in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"SSH-2.0-x\r\n",
        &hello("openssl-tls11"),
    ] {
        assert_eq!(visit(front, &[foreign]), b"");
    }
    // A record that is longer than records may be, then a message that is no hello.
    let too_long = visit(front, &[&[22, 3, 1, 0xff, 0xff, 1, 0, 0, 0]]);
    assert_eq!(too_long, [21, 3, 1, 0, 2, 2, 22]);
    let no_hello = visit(front, &[&[22, 3, 1, 0, 4, 2, 0, 0, 0]]);
    assert_eq!(no_hello, [21, 3, 1, 0, 2, 2, 10]);

    let lines = ringlane.session_lines(7);
    let of = |reason: &str| lines.iter().filter(|line| line["reason"] == reason).count();
    assert_eq!(
        (of("no_route"), of("denied"), of("tls_error")),
        (4, 1, 2),
        "{lines:?}"
    );
    let denied = lines
        .iter()
        .find(|line| line["reason"] == "denied")
        .unwrap();
    assert_eq!(denied["sni"], "old.example");
    let rejected = ringlane.metric_sum("ringlane_rejected_total");
    assert!(rejected >= 5.0, "{rejected}");
}

#[test]
fn silent_clients_and_other_protocols_go_to_the_plain_pool() {
    let front = address();
    let greeter = backend(|mut stream| {
        stream.write_all(b"220 hello\r\n").unwrap();
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got);
        let _ = stream.write_all(&got);
    });
    let ringlane = Ringlane::start(&format!(
        r#"
        [[listener]]
        name = "mail"
        listen = "{front}"
        plain = "smtp"
        route = [{{ default = true, pool = "tls" }}]
        [pool.smtp]
        backends = ["{greeter}"]
        [pool.tls]
        backends = ["{}"]
        "#,
        echo_late("tls")
    ));
    let mut silent = connect(front);
    let mut greeting = [0; 11];
    silent.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"220 hello\r\n");
    silent.write_all(b"QUIT\r\n").unwrap();
    silent.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"QUIT\r\n");
    assert_eq!(visit(front, &[b"EHLO x\r\n"]), b"220 hello\r\nEHLO x\r\n");
    let hello = hello("go119");
    assert_eq!(visit(front, &[&hello]), [b"tls", &*hello].concat());
    let lines = ringlane.session_lines(3);
    assert!(
        lines.iter().all(|line| line["reason"] == "eof"),
        "{lines:?}"
    );
}

#[test]
fn what_a_client_takes_to_say_its_name_is_not_the_time_of_its_backends() {
    const TOTAL: Duration = Duration::from_millis(700);
    let front = address();
    // Nobody listens here: the first attempt fails, and the second needs time that is left.
    let closed = address();
    let ringlane = Ringlane::start(&format!(
        r#"
        [[listener]]
        listen = "{front}"
        timeouts = {{ sniff = "30s" }}
        route = [{{ sni = "a.example", pool = "a" }}]
        [pool.a]
        balance = "first"
        connect = {{ timeout = "{0}ms", total = "{0}ms" }}
        backends = ["{closed}", "{1}"]
        "#,
        TOTAL.as_millis(),
        echo_late("a")
    ));
    let hello = hello("openssl-tls13");
    let mut stream = connect(front);
    let (beginning, rest) = hello.split_at(20);
    stream.write_all(beginning).unwrap();
    thread::sleep(TOTAL + Duration::from_millis(100));
    stream.write_all(rest).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let line = ringlane.session_lines(1).remove(0);
    assert!(
        read.is_ok() && answer == [b"a", &hello[..]].concat(),
        "{line}"
    );
    assert_eq!(line["attempts"], 2, "{line}");
}

#[test]
fn whoever_does_not_say_what_it_wants_is_let_go() {
    let front = address();
    let ringlane = Ringlane::start(&format!(
        r#"
        [[listener]]
        name = "tls"
        listen = "{front}"
        timeouts = {{ sniff = "300ms" }}
        route = [{{ default = true, pool = "tls" }}]
        [pool.tls]
        backends = ["{}"]
        "#,
        echo_late("tls")
    ));
    let hello = hello("go119");
    let mut stuck = connect(front);
    stuck.write_all(&hello[..hello.len() - 1]).unwrap();
    let mut silent = connect(front);
    for stream in [&mut stuck, &mut silent] {
        assert!(stream.read(&mut [0; 1]).is_err(), "no reset");
    }
    drop(connect(front));
    let lines = ringlane.session_lines(3);
    let timed_out = lines
        .iter()
        .filter(|line| line["reason"] == "sniff_timeout");
    assert_eq!(timed_out.count(), 2, "{lines:?}");
}

fn proxied(front: SocketAddr, receive: &str, send: &str, backend: SocketAddr) -> String {
    format!(
        r#"
        [[listener]]
        name = "front"
        listen = "{front}"
        pool = "back"
        timeouts = {{ sniff = "500ms" }}
        {receive}
        [pool.back]
        backends = ["{backend}"]
        {send}
        "#
    )
}

#[test]
fn header_of_a_trusted_proxy_names_the_client_and_is_passed_on() {
    let front = address();
    let ringlane = Ringlane::start(&proxied(
        front,
        "proxy_protocol = { receive = \"require\", trusted = [\"127.0.0.0/8\"] }",
        "proxy_protocol = { send = \"v1\" }",
        echo_late(""),
    ));
    let header = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n";
    let whole = [&header[..], b"hi"].concat();
    for cut in 0..whole.len() {
        let (first, second) = whole.split_at(cut);
        assert_eq!(visit(front, &[first, second]), whole, "cut at {cut}");
    }
    let line = ringlane.session_lines(whole.len()).remove(0);
    assert_eq!(line["client"], "192.0.2.7:4711");
    assert_eq!(
        line["bytes_up"], 2,
        "the header is nobody's payload: {line}"
    );

    assert_eq!(visit(front, &[b"hi there, no header"]), b"");
    assert_eq!(
        visit(front, &[b"PROXY TCP4 300.0.0.1 192.0.2.1 1 2\r\nhi"]),
        b""
    );
    let denied = ringlane.session_lines(whole.len() + 2);
    let denied = denied.iter().filter(|line| line["reason"] == "denied");
    assert_eq!(denied.count(), 2);
}

#[test]
fn header_of_a_stranger_is_refused_and_may_be_left_out_where_it_is_optional() {
    let front = address();
    let ringlane = Ringlane::start(&proxied(
        front,
        "proxy_protocol = { receive = \"optional\", trusted = [\"192.0.2.0/24\"] }",
        "",
        echo_late(""),
    ));
    assert_eq!(visit(front, &[b"hi"]), b"hi");
    assert_eq!(
        visit(front, &[b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\nhi"]),
        b""
    );
    let lines = ringlane.session_lines(2);
    let reasons: Vec<_> = lines.iter().map(|line| line["reason"].clone()).collect();
    assert!(reasons.contains(&"denied".into()), "{lines:?}");
}

#[test]
fn clients_that_break_while_a_header_waits_for_room_are_not_kept() {
    // A backend that takes a few bytes, in segments so small that its peer keeps few of them itself.
    let backend = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    backend.set_recv_buffer_size(2048).unwrap();
    backend.set_tcp_mss(300).unwrap();
    let place = SocketAddr::from((loopback(), 0));
    backend.bind(&place.into()).unwrap();
    backend.listen(1).unwrap();
    let front = address();
    let ringlane = Ringlane::start(&proxied(
        front,
        "proxy_protocol = { receive = \"require\", trusted = [\"127.0.0.0/8\"] }",
        "proxy_protocol = { send = \"v2\", pass = [0xEA] }",
        backend.local_addr().unwrap().as_socket().unwrap(),
    ));
    let value = vec![0; 65_000];
    let block = [
        &[127, 0, 0, 1, 127, 0, 0, 2, 0, 1, 0, 2, 0xEA, 0xFD, 0xE8],
        &value[..],
    ]
    .concat();
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    let header = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11", &length[..], &block].concat();
    let mut client = connect(front);
    client.write_all(&header).unwrap();
    let (_held, _) = backend.accept().unwrap();
    SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    let line = ringlane.session_lines(1).remove(0);
    assert_eq!(line["reason"], "client_reset", "{line}");
}

#[test]
fn v4_clients_of_a_v6_socket_are_in_v4_networks() {
    let port = address().port();
    let ringlane = Ringlane::start(&format!(
        r#"
        [[listener]]
        listen = "[::]:{port}"
        v6only = false
        proxy_protocol = {{ receive = "require", trusted = "127.0.0.1" }}
        route = [{{ plain = true, client = "127.0.0.0/8", pool = "back" }}]
        [pool.back]
        backends = ["{}"]
        "#,
        echo_late("")
    ));
    let front = SocketAddr::from(([127, 0, 0, 1], port));
    // The sender itself, and a mapped address that it names.
    for header in [
        &b"PROXY UNKNOWN\r\n"[..],
        b"PROXY TCP6 ::ffff:127.9.9.9 ::1 1 2\r\n",
    ] {
        assert_eq!(visit(front, &[header, b"hello"]), b"hello");
    }
    assert!(visit(front, &[b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n", b"hello"]).is_empty());
    let lines = ringlane.session_lines(3);
    let mut reasons: Vec<&str> = lines
        .iter()
        .map(|it| it["reason"].as_str().unwrap())
        .collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["eof", "eof", "no_route"], "{lines:?}");
}

#[test]
fn backends_are_told_name_protocol_and_id_before_the_hello() {
    let front = address();
    let ringlane = Ringlane::start(&format!(
        r#"
        [[listener]]
        name = "tls"
        listen = "{front}"
        route = [{{ default = true, pool = "tls" }}]
        [pool.tls]
        backends = ["{}"]
        proxy_protocol = {{ send = "v2", tlvs = ["alpn", "authority", "unique_id", "crc32c"] }}
        "#,
        echo_late("")
    ));
    let hello = hello("curl-h2");
    let stream = connect(front);
    let client = stream.local_addr().unwrap();
    (&stream).write_all(&hello).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    (&stream).read_to_end(&mut answer).unwrap();
    let line = ringlane.session_lines(1).remove(0);

    let ringlane::proxy_protocol::Read::Header(header) = ringlane::proxy_protocol::read(&answer)
    else {
        panic!("{answer:?}");
    };
    assert_eq!(header.source(), Some(client));
    assert_eq!(header.destination(), Some(front));
    let value = |kind| header.tlvs.value(kind);
    assert_eq!(value(1), Some(&b"h2"[..]));
    assert_eq!(value(2), Some(&b"www.a.example"[..]));
    let id = value(5).map(|id| std::str::from_utf8(id).unwrap());
    assert_eq!(id, line["session"].as_str());
    assert!(answer[header.length..] == hello);
    assert_eq!(line["bytes_up"], hello.len());
}

const SSL: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const GSS: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

/// A PostgreSQL server that agrees to speak TLS, then echoes.
fn agreeing() -> SocketAddr {
    backend(|mut stream| {
        let mut request = [0; 8];
        stream.read_exact(&mut request).unwrap();
        assert_eq!(request, SSL);
        stream.write_all(b"S").unwrap();
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got);
        let _ = stream.write_all(&got);
    })
}

/// One that has no TLS.
fn refusing() -> SocketAddr {
    backend(|mut stream| {
        let _ = stream.read_exact(&mut [0; 8]);
        let _ = stream.write_all(b"N");
        let _ = stream.read_to_end(&mut Vec::new());
    })
}

#[test]
fn postgres_clients_are_routed_by_the_name_behind_their_request_for_tls() {
    let front = address();
    let (agreeing, refusing) = (agreeing(), refusing());
    let ringlane = Ringlane::start(&format!(
        r#"
        [[listener]]
        name = "postgres"
        listen = "{front}"
        starttls = "postgres"
        plain = "plain"
        route = [
            {{ sni = "a.example", pool = "a" }},
            {{ sni = "old.example", pool = "refusing" }},
        ]
        [pool.a]
        backends = ["{agreeing}"]
        [pool.refusing]
        backends = ["{refusing}"]
        [pool.plain]
        backends = ["{}"]
        "#,
        echo_late("plain")
    ));
    let ask = |requests: &[(&[u8], &[u8])], rest: &[u8]| {
        let mut stream = connect(front);
        for (request, answer) in requests {
            stream.write_all(request).unwrap();
            let mut got = vec![0; answer.len()];
            stream.read_exact(&mut got).unwrap();
            assert_eq!(got, *answer);
        }
        stream.write_all(rest).unwrap();
        let _ = stream.shutdown(Shutdown::Write);
        let mut got = Vec::new();
        stream.read_to_end(&mut got).map(|_| got)
    };
    let hello = hello("openssl-tls13");
    assert!(ask(&[(&SSL, b"S")], &hello).unwrap() == hello);
    assert!(ask(&[(&GSS, b"N"), (&SSL, b"S")], &hello).unwrap() == hello);
    // It is asked for once; what comes again is for the server to judge.
    assert_eq!(
        ask(&[(&GSS, b"N")], &GSS).unwrap(),
        [b"plain", &GSS[..]].concat()
    );
    // A startup message without TLS.
    let startup = b"\0\0\0\x10\0\x03\0\0user\0a\0\0";
    assert_eq!(
        ask(&[], startup).unwrap(),
        [b"plain", &startup[..]].concat()
    );
    assert!(
        ask(&[(&SSL, b"S")], &self::hello("openssl-tls11")).is_err(),
        "the backend has no TLS"
    );
    // Bytes that came with the request were not encrypted by whoever asked.
    assert!(ask(&[], &[&SSL[..], b"stowaway"].concat()).is_err());
    assert_eq!(
        ask(&[(&SSL, b"S")], &self::hello("curl-h2")).unwrap(),
        UNRECOGNIZED_NAME
    );
    let lines = ringlane.session_lines(7);
    let of = |reason: &str| lines.iter().filter(|line| line["reason"] == reason).count();
    assert_eq!(
        (of("eof"), of("tls_error"), of("no_route")),
        (4, 2, 1),
        "{lines:?}"
    );
}
