//! Clients that break the rules of TLS, byte by byte, and the alert that each gets before the end.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use rustls::ProtocolVersion;

use crate::support::tls::{Authority, Caller, TLS12, TLS13, Talk, alert, terminating};
use crate::support::{Echo, PATIENCE, Ringlane, address, eventually};

const UNEXPECTED_MESSAGE: u8 = 10;
const BAD_RECORD_MAC: u8 = 20;
const RECORD_OVERFLOW: u8 = 22;
const HANDSHAKE_FAILURE: u8 = 40;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;
const PROTOCOL_VERSION: u8 = 70;
const INAPPROPRIATE_FALLBACK: u8 = 86;
const MISSING_EXTENSION: u8 = 109;
const UNRECOGNIZED_NAME: u8 = 112;
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// A ClientHello in the making.
#[derive(Clone)]
struct Hello {
    version: [u8; 2],
    ciphers: Vec<u16>,
    compression: Vec<u8>,
    extensions: Vec<(u16, Vec<u8>)>,
}

impl Hello {
    fn tls12() -> Self {
        Self {
            version: [3, 3],
            ciphers: vec![0xc02b],
            compression: vec![0],
            extensions: vec![
                (0, name("a.example")),
                (10, vec![0, 2, 0, 29]),
                (13, vec![0, 2, 4, 3]),
            ],
        }
    }

    fn tls13() -> Self {
        let share = [&[0, 36, 0, 29, 0, 32][..], &[9; 32]].concat();
        Self {
            ciphers: vec![0x1301],
            ..Self::tls12()
        }
        .with(43, &[2, 3, 4])
        .with(51, &share)
    }

    /// With this body in the place of the extension's, or at the end.
    fn with(mut self, kind: u16, body: &[u8]) -> Self {
        match self.extensions.iter_mut().find(|(it, _)| *it == kind) {
            Some((_, old)) => *old = body.to_vec(),
            None => self.extensions.push((kind, body.to_vec())),
        }
        self
    }

    fn without(mut self, kind: u16) -> Self {
        self.extensions.retain(|(it, _)| *it != kind);
        self
    }

    fn twice(mut self, kind: u16) -> Self {
        self.extensions.extend([(kind, vec![]), (kind, vec![])]);
        self
    }

    fn version(mut self, version: [u8; 2]) -> Self {
        self.version = version;
        self
    }

    fn ciphers(mut self, ciphers: &[u16]) -> Self {
        self.ciphers = ciphers.to_vec();
        self
    }

    fn compression(mut self, methods: &[u8]) -> Self {
        self.compression = methods.to_vec();
        self
    }

    fn message(&self) -> Vec<u8> {
        let ciphers: Vec<u8> = self
            .ciphers
            .iter()
            .flat_map(|it| it.to_be_bytes())
            .collect();
        let mut extensions = Vec::new();
        for (kind, body) in &self.extensions {
            extensions.extend(kind.to_be_bytes());
            extensions.extend(list16(body));
        }
        let compression = [
            &[u8::try_from(self.compression.len()).unwrap()],
            &*self.compression,
        ];
        let body = [
            &self.version[..],
            &[7; 32],
            &[0],
            &list16(&ciphers),
            &compression.concat(),
            &list16(&extensions),
        ];
        message(1, &body.concat())
    }

    fn record(&self) -> Vec<u8> {
        record(22, &self.message())
    }

    /// In records of one byte each.
    fn crumbs(&self) -> Vec<u8> {
        let crumb = |&byte: &u8| record(22, &[byte]);
        self.message().iter().flat_map(crumb).collect()
    }
}

fn list16(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes()[..], bytes].concat()
}

fn name(name: &str) -> Vec<u8> {
    list16(&[&[0][..], &list16(name.as_bytes())].concat())
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind][..], &length, body].concat()
}

fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, 3, 3][..], &list16(payload)].concat()
}

/// All that comes until the end, which must be no reset.
fn answer(mut socket: &TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    drop(socket.shutdown(Shutdown::Both));
    answer
}

fn connect(front: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(front).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A ringlane that ends TLS for `a.example`, and the authority behind it.
fn start() -> (Ringlane, SocketAddr, Authority) {
    let authority = Authority::new();
    let identity = authority.issue("conform", &["a.example"]);
    let front = address();
    let settings = "pool = \"back\"\ntls.alpn = [\"h2\"]";
    let configuration = terminating(front, &[&identity], settings, Echo::start().address);
    (Ringlane::start(&configuration), front, authority)
}

/// What clients do, their first bytes, and the alert for them.
type Beginnings = Vec<(&'static str, Vec<u8>, u8)>;

/// Records that are none, or not in their place.
fn records() -> Beginnings {
    let long = |length: u16| [&[22, 3, 1][..], &length.to_be_bytes(), &[1; 9]].concat();
    vec![
        ("no type of record", record(24, b"what"), UNEXPECTED_MESSAGE),
        ("application data", record(23, b"what"), UNEXPECTED_MESSAGE),
        ("change_cipher_spec", record(20, &[1]), UNEXPECTED_MESSAGE),
        ("empty record", record(22, b""), UNEXPECTED_MESSAGE),
        ("long record", long(16385), RECORD_OVERFLOW),
        ("longest record", long(u16::MAX), RECORD_OVERFLOW),
        (
            "version 2 record",
            vec![22, 2, 0, 0, 4, 1, 0, 0, 0],
            PROTOCOL_VERSION,
        ),
        (
            "SSL 2",
            [&[0x80, 46, 1, 0, 2][..], &[0; 43]].concat(),
            PROTOCOL_VERSION,
        ),
        (
            "other message",
            record(22, &message(2, &[0; 40])),
            UNEXPECTED_MESSAGE,
        ),
    ]
}

/// Hellos that cannot be read, or are of no version that there is.
fn versions() -> Beginnings {
    let (old, new) = (Hello::tls12, Hello::tls13);
    vec![
        ("empty hello", record(22, &message(1, b"")), DECODE_ERROR),
        (
            "two hellos",
            record(22, &[old().message(), old().message()].concat()),
            UNEXPECTED_MESSAGE,
        ),
        ("SSL 3", old().version([3, 0]).record(), PROTOCOL_VERSION),
        ("TLS 1.1", old().version([3, 2]).record(), PROTOCOL_VERSION),
        (
            "TLS 1.0 in crumbs",
            old().version([3, 1]).without(13).crumbs(),
            PROTOCOL_VERSION,
        ),
        (
            "version 0",
            old().version([0, 3]).without(13).record(),
            PROTOCOL_VERSION,
        ),
        (
            "versions unknown",
            new().with(43, &[2, 9, 9]).record(),
            PROTOCOL_VERSION,
        ),
        (
            "versions empty",
            new().with(43, &[0]).record(),
            DECODE_ERROR,
        ),
    ]
}

/// Hellos with a value that is forbidden, or nothing to agree on.
fn values() -> Beginnings {
    let (old, new) = (Hello::tls12, Hello::tls13);
    vec![
        (
            "ciphers unknown",
            old().ciphers(&[0x2f, 0x1301]).record(),
            HANDSHAKE_FAILURE,
        ),
        (
            "new ciphers unknown",
            new().ciphers(&[0xc02b]).record(),
            HANDSHAKE_FAILURE,
        ),
        (
            "fallback",
            old().ciphers(&[0xc02b, 0x5600]).record(),
            INAPPROPRIATE_FALLBACK,
        ),
        (
            "fallback in crumbs",
            old().ciphers(&[0x5600, 0xc02b]).crumbs(),
            INAPPROPRIATE_FALLBACK,
        ),
        (
            "renegotiation",
            old().with(0xff01, &[1, 7]).record(),
            HANDSHAKE_FAILURE,
        ),
        (
            "compression",
            old().compression(&[1]).record(),
            ILLEGAL_PARAMETER,
        ),
        (
            "new compression",
            new().compression(&[0, 1]).record(),
            ILLEGAL_PARAMETER,
        ),
        (
            "repeated extension",
            new().twice(0xfafa).record(),
            ILLEGAL_PARAMETER,
        ),
        (
            "name unknown",
            new().with(0, &name("b.example")).record(),
            UNRECOGNIZED_NAME,
        ),
        (
            "name empty",
            new().with(0, &name("")).record(),
            DECODE_ERROR,
        ),
        (
            "protocol unknown",
            old().with(16, &[0, 3, 2, b'z', b'z']).record(),
            NO_APPLICATION_PROTOCOL,
        ),
        (
            "protocol empty",
            old().with(16, &[0, 1, 0]).record(),
            DECODE_ERROR,
        ),
    ]
}

/// Hellos with lists that are wrong, or that lack one.
fn lists() -> Beginnings {
    let (old, new) = (Hello::tls12, Hello::tls13);
    vec![
        (
            "groups unknown",
            old().with(10, &[0, 2, 1, 0]).record(),
            HANDSHAKE_FAILURE,
        ),
        (
            "groups odd",
            old().with(10, &[0, 3, 0, 29, 0]).record(),
            DECODE_ERROR,
        ),
        (
            "signatures none",
            old().with(13, &[0, 2, 2, 1]).record(),
            HANDSHAKE_FAILURE,
        ),
        (
            "lacks signatures",
            new().without(13).record(),
            MISSING_EXTENSION,
        ),
        (
            "lacks signatures, crumbs",
            new().without(13).crumbs(),
            MISSING_EXTENSION,
        ),
        (
            "lacks groups",
            new().without(10).record(),
            MISSING_EXTENSION,
        ),
        (
            "lacks key share",
            new().without(51).record(),
            MISSING_EXTENSION,
        ),
        (
            "share empty",
            new().with(51, &[0, 4, 0, 29, 0, 0]).record(),
            DECODE_ERROR,
        ),
        (
            "share short",
            new().with(51, &[0, 5, 0, 29, 0, 1, 9]).record(),
            ILLEGAL_PARAMETER,
        ),
        ("modes empty", new().with(45, &[0]).record(), DECODE_ERROR),
    ]
}

#[test]
fn a_bad_beginning_gets_its_alert_and_an_orderly_end() {
    let (ringlane, front, _authority) = start();
    for (what, bytes, expected) in [records(), versions(), values(), lists()].concat() {
        let mut socket = connect(front);
        socket.write_all(&bytes).unwrap();
        let answer = answer(&socket);
        let said = matches!(*answer, [21, 3, _, 0, 2, 2, alert] if alert == expected);
        assert!(said, "{what}: {answer:?} and not {expected}");
    }
    let active = "ringlane_connections_active{listener=\"tls\",worker=\"0\"}";
    eventually("nobody is left", || {
        (ringlane.metric(active)? == 0.0).then_some(())
    });
    assert!(
        !ringlane.messages().contains("panic"),
        "{}",
        ringlane.messages()
    );
}

/// In TLS 1.2 nothing is sealed before a client's Finished, and rustls is silent about some of these.
#[test]
fn a_bad_second_flight_gets_its_alert() {
    let (_ringlane, front, _authority) = start();
    let warnings = record(21, &[1, 90]).repeat(50);
    for (what, bytes, expected) in [
        (
            "empty key exchange",
            record(22, &message(16, b"")),
            DECODE_ERROR,
        ),
        (
            "short key",
            record(22, &message(16, &[1, 9])),
            ILLEGAL_PARAMETER,
        ),
        ("no key exchange", record(20, &[1]), UNEXPECTED_MESSAGE),
        (
            "Finished at once",
            record(22, &message(20, &[0; 12])),
            UNEXPECTED_MESSAGE,
        ),
        (
            "another between",
            [record(22, &[16, 0]), record(20, &[1])].concat(),
            UNEXPECTED_MESSAGE,
        ),
        ("warnings", warnings, UNEXPECTED_MESSAGE),
        (
            "long message",
            record(22, &[16, 255, 255, 255, 0]),
            DECODE_ERROR,
        ),
    ] {
        let mut socket = connect(front);
        socket.write_all(&Hello::tls12().record()).unwrap();
        // To the ServerHelloDone, which ends the flight.
        let mut flight = Vec::new();
        while !flight.ends_with(&[14, 0, 0, 0]) {
            let mut some = [0; 4096];
            let got = socket.read(&mut some).unwrap();
            assert!(got > 0, "{what}: {flight:?}");
            flight.extend(&some[..got]);
        }
        socket.write_all(&bytes).unwrap();
        assert_eq!(answer(&socket), [21, 3, 3, 0, 2, 2, expected], "{what}");
    }
}

/// A client that is through with its handshake reads alerts that are sealed.
#[test]
fn a_bad_record_of_a_session_gets_its_alert_sealed() {
    let (_ringlane, front, authority) = start();
    for versions in [TLS12, TLS13] {
        let config = Caller {
            versions,
            ..Caller::new(&authority)
        };
        let config = config.config();
        for (what, bytes, expected) in [
            (
                "long",
                [&[23, 3, 3, 255, 255][..], &[0; 99]].concat(),
                RECORD_OVERFLOW,
            ),
            ("not sealed", record(23, &[7; 99]), BAD_RECORD_MAC),
        ] {
            let mut talk = Talk::to(front, &config, "a.example").unwrap();
            talk.socket.write_all(&bytes).unwrap();
            assert_eq!(alert(talk.hear_all()), Some(expected), "{what}");
        }
    }
    let config = Caller {
        versions: TLS13,
        ..Caller::new(&authority)
    };
    let mut talk = Talk::to(front, &config.config(), "a.example").unwrap();
    assert_eq!(talk.tls.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    // A flood of key updates, which rustls ends without a word.
    for _ in 0..100 {
        talk.tls.refresh_traffic_keys().unwrap();
        talk.tls.write_tls(&mut talk.socket).unwrap();
    }
    assert_eq!(alert(talk.hear_all()), Some(UNEXPECTED_MESSAGE));
}
