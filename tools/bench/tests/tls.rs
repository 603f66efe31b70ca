//! The load generator's TLS clients and ClientHellos, against servers that are right and wrong.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ringlane_bench::backend::{self, Backend, Opening};
use ringlane_bench::certificates::{self, Certificate, Key};
use ringlane_bench::hello;
use ringlane_bench::load::tls::{Client, Resumption, Version};
use ringlane_bench::load::{self, Dialect, Errors, Outcome, Pace, Plan, Reuse};
use ringlane_bench::pattern::{HEADER, Request};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider, kx_group};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{Acceptor, NoServerSessionStorage};
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};

/// What a server does that no server may.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    None,
    /// Another byte in the middle of the response, rightly encrypted.
    Corrupt,
    /// A bit of a record changes on the way.
    BadRecord,
    /// The end without close_notify, in the middle of the response.
    Truncate,
}

/// Files of certificates that are removed with it.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let name = format!("ringlane-bench-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        certificates::make(&directory).unwrap();
        Self(directory)
    }

    fn certificate(&self, key: Key) -> Certificate {
        Certificate::below(&self.0, key)
    }

    fn server(&self, key: Key) -> ServerConfig {
        let files = self.certificate(key);
        let chain = vec![CertificateDer::from_pem_file(&files.both).unwrap()];
        let key = PrivateKeyDer::from_pem_file(&files.both).unwrap();
        let mut server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        server.ticketer = Ticketer::new().unwrap();
        server
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

type Kinds = Arc<Mutex<Vec<HandshakeKind>>>;

/// Serves, and notes how each connection began.
fn serve(server: ServerConfig, fault: Fault) -> (SocketAddr, Kinds) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let kinds = Kinds::default();
    let noted = Arc::clone(&kinds);
    let server = Arc::new(server);
    thread::spawn(move || {
        for socket in listener.incoming() {
            let server = Arc::clone(&server);
            let kinds = Arc::clone(&kinds);
            thread::spawn(move || {
                let tls = ServerConnection::new(server).unwrap();
                let mut stream = StreamOwned::new(tls, socket.unwrap());
                while answer(&mut stream, fault, &kinds).is_some() {}
            });
        }
    });
    (address, noted)
}

/// None when the connection is to be closed.
fn answer(
    stream: &mut StreamOwned<ServerConnection, TcpStream>,
    fault: Fault,
    kinds: &Kinds,
) -> Option<()> {
    let mut header = [0; HEADER];
    let first = stream.conn.is_handshaking();
    stream.read_exact(&mut header).ok()?;
    if first {
        kinds.lock().unwrap().push(stream.conn.handshake_kind()?);
    }
    let request = Request::parse(header).unwrap();
    let mut padding = vec![0; request.length as usize - HEADER];
    stream.read_exact(&mut padding).ok()?;
    let mut position = u32::try_from(HEADER).unwrap();
    while position < request.length {
        let expected = request.padding(position);
        let start = position as usize - HEADER;
        assert!(padding[start..].starts_with(expected), "at {position}");
        position += u32::try_from(expected.len()).unwrap();
    }
    let mut response = Vec::new();
    while response.len() < request.response as usize {
        response.extend_from_slice(request.response_at(u32::try_from(response.len()).unwrap()));
    }
    let half = response.len() / 2;
    match fault {
        Fault::None => {}
        Fault::Corrupt => response[half] ^= 1,
        Fault::BadRecord => {
            stream.conn.writer().write_all(&response).unwrap();
            let mut record = Vec::new();
            while stream.conn.wants_write() {
                stream.conn.write_tls(&mut record).unwrap();
            }
            *record.last_mut().unwrap() ^= 1;
            stream.sock.write_all(&record).unwrap();
            return None;
        }
        Fault::Truncate => {
            response.truncate(half);
            stream.write_all(&response).unwrap();
            return None;
        }
    }
    stream.write_all(&response).ok()
}

fn client(files: &Files, version: Version, resumption: Resumption) -> Dialect {
    Dialect::Tls(Client {
        certificate: files.certificate(Key::Ecdsa).chain,
        version,
        resumption,
    })
}

/// Three connections with one request each.
fn plan(target: SocketAddr, dialect: Dialect) -> Plan {
    Plan {
        target,
        dialect,
        connections: 3,
        request: 64,
        response: 5_000,
        reuse: Reuse::KeepAlive,
        pace: Pace::Once,
        warm_up: Duration::ZERO,
        measure: Duration::from_millis(300),
        timeout: Duration::from_secs(20),
        watch: Vec::new(),
        watch_load: Vec::new(),
    }
}

fn run(plan: Plan) -> Outcome {
    load::run(plan, || {}).unwrap().0
}

fn churn(target: SocketAddr, dialect: Dialect) -> Plan {
    Plan {
        reuse: Reuse::Close,
        pace: Pace::Closed,
        ..plan(target, dialect)
    }
}

const VERSIONS: [Version; 2] = [Version::V12, Version::V13];

#[test]
fn right_responses_through_tls_are_no_errors_however_long() {
    let files = Files::new("right");
    for version in VERSIONS {
        let (address, kinds) = serve(files.server(Key::Ecdsa), Fault::None);
        for (request, response) in [(64, 64), (3 << 20, 64), (64, 3 << 20), (70_000, 70_000)] {
            let plan = Plan {
                request,
                response,
                ..plan(address, client(&files, version, Resumption::Never))
            };
            let (outcome, mut engine) = load::run(plan, || {}).unwrap();
            let what = format!("{version:?}, {request} and {response}");
            assert_eq!(outcome.errors, Errors::default(), "{what}");
            assert_eq!(outcome.completed, 3, "{what}");
            assert_eq!(engine.inspect().unwrap(), Errors::default(), "{what}");
        }
        let kinds = kinds.lock().unwrap();
        assert_eq!(*kinds, vec![HandshakeKind::Full; 12], "{version:?}");
    }
}

#[test]
fn what_goes_wrong_inside_tls_is_counted_by_kind() {
    let files = Files::new("wrong");
    for version in VERSIONS {
        for (fault, expected) in [
            (
                Fault::Corrupt,
                Errors {
                    wrong_bytes: 3,
                    ..Errors::default()
                },
            ),
            (
                Fault::BadRecord,
                Errors {
                    tls: 3,
                    ..Errors::default()
                },
            ),
            (
                Fault::Truncate,
                Errors {
                    early_close: 3,
                    ..Errors::default()
                },
            ),
        ] {
            let (address, _) = serve(files.server(Key::Ecdsa), fault);
            let plan = plan(address, client(&files, version, Resumption::Never));
            assert_eq!(run(plan).errors, expected, "{version:?} {fault:?}");
        }
    }
}

#[test]
fn another_certificate_is_refused() {
    let (files, others) = (Files::new("ours"), Files::new("others"));
    let (address, _) = serve(others.server(Key::Ecdsa), Fault::None);
    let plan = plan(address, client(&files, Version::V13, Resumption::Never));
    assert_eq!(run(plan).errors.tls, 3);
}

#[test]
fn keys_made_with_another_group_are_an_error() {
    let files = Files::new("groups");
    let whole = files.server(Key::Ecdsa);
    for version in VERSIONS {
        let provider = CryptoProvider {
            kx_groups: vec![kx_group::SECP256R1],
            ..default_provider()
        };
        let server = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&whole.cert_resolver));
        let (address, _) = serve(server, Fault::None);
        let plan = plan(address, client(&files, version, Resumption::Never));
        let errors = run(plan).errors;
        assert_eq!((errors.tls, errors.total()), (3, 3), "{version:?}");
    }
}

#[test]
fn both_kinds_of_key_serve() {
    let files = Files::new("keys");
    for key in [Key::Ecdsa, Key::Rsa] {
        let (address, _) = serve(files.server(key), Fault::None);
        let dialect = Dialect::Tls(Client {
            certificate: files.certificate(key).chain,
            version: Version::V12,
            resumption: Resumption::Never,
        });
        assert_eq!(run(plan(address, dialect)).errors, Errors::default());
    }
}

#[test]
fn sessions_are_continued_after_the_first_of_each_slot() {
    let files = Files::new("tickets");
    for version in VERSIONS {
        let (address, kinds) = serve(files.server(Key::Ecdsa), Fault::None);
        let outcome = run(churn(
            address,
            client(&files, version, Resumption::Required),
        ));
        assert_eq!(outcome.errors, Errors::default(), "{version:?}");
        let kinds = kinds.lock().unwrap();
        let full = kinds.iter().filter(|kind| **kind == HandshakeKind::Full);
        assert_eq!(full.count(), 3, "{version:?}: one a slot");
        assert!(kinds.len() > 6, "{version:?}: {}", kinds.len());
    }
}

#[test]
fn a_session_that_is_not_continued_is_an_error() {
    let files = Files::new("without");
    for version in VERSIONS {
        let mut server = files.server(Key::Ecdsa);
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.ticketer = Arc::new(NoTickets);
        let (address, _) = serve(server, Fault::None);
        let outcome = run(churn(
            address,
            client(&files, version, Resumption::Required),
        ));
        assert!(outcome.errors.not_resumed >= 3, "{version:?} {outcome:?}");
        assert_eq!(outcome.errors.total(), outcome.errors.not_resumed);
    }
}

#[derive(Debug)]
struct NoTickets;

impl rustls::server::ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _plain: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _cipher: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

#[test]
fn connections_that_tls_ends_at_rest_are_found() {
    let files = Files::new("rest");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = Arc::new(files.server(Key::Ecdsa));
    let serving = thread::spawn(move || {
        for _ in 0..3 {
            let (socket, _) = listener.accept().unwrap();
            let tls = ServerConnection::new(Arc::clone(&server)).unwrap();
            let mut stream = StreamOwned::new(tls, socket);
            answer(&mut stream, Fault::None, &Kinds::default()).unwrap();
            stream.conn.send_close_notify();
            stream.flush().unwrap();
        }
    });
    let plan = plan(address, client(&files, Version::V13, Resumption::Never));
    let (outcome, mut engine) = load::run(plan, || {}).unwrap();
    serving.join().unwrap();
    assert_eq!(outcome.completed, 3);
    let errors = outcome.errors.plus(engine.inspect().unwrap());
    assert_eq!((errors.early_close, errors.total()), (3, 3), "{errors:?}");
}

fn hello_backend() -> SocketAddr {
    let backend = Backend::listen(backend::Plan {
        port: 0,
        ports: 1,
        opening: Opening::Hello,
    });
    let backend = backend.unwrap();
    let address = backend.address().unwrap();
    thread::spawn(move || backend.serve().unwrap());
    address
}

#[test]
fn requests_after_a_client_hello_are_answered() {
    let outcome = run(churn(hello_backend(), Dialect::Hello { names: 3 }));
    assert_eq!(outcome.errors, Errors::default());
    assert!(outcome.completed > 3, "{outcome:?}");
}

/// What `direct` cannot show: the backend finds a ClientHello that a balancer has changed.
#[test]
fn a_changed_client_hello_is_found() {
    let backend = hello_backend();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut server = TcpStream::connect(backend).unwrap();
            let mut bytes = vec![0; 4_096];
            let length = client.read(&mut bytes).unwrap();
            // In the random of the ClientHello.
            bytes[20] ^= 1;
            server.write_all(&bytes[..length]).unwrap();
            assert!(server.read(&mut bytes).is_err(), "the backend answers");
            rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
        }
    });
    let errors = run(plan(address, Dialect::Hello { names: 1 })).errors;
    assert_eq!((errors.reset, errors.total()), (3, 3), "{errors:?}");
}

#[test]
fn client_hellos_ask_for_all_the_names_in_turn() {
    const NAMES: usize = 300;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = thread::spawn(move || {
        let mut asked = Vec::new();
        let mut open = Vec::new();
        for _ in 0..NAMES {
            let (mut client, _) = listener.accept().unwrap();
            let mut acceptor = Acceptor::default();
            let hello = loop {
                acceptor.read_tls(&mut client).unwrap();
                if let Some(hello) = acceptor.accept().unwrap() {
                    break hello;
                }
            };
            let name = hello.client_hello().server_name().unwrap().to_owned();
            asked.push(name);
            open.push(client);
        }
        asked
    });
    let plan = Plan {
        connections: NAMES,
        timeout: Duration::from_millis(1_500),
        ..plan(address, Dialect::Hello { names: NAMES })
    };
    thread::spawn(move || load::run(plan, || {}).map(|_| ()));
    let mut asked = accepting.join().unwrap();
    asked.sort_unstable();
    let expected: Vec<String> = (0..NAMES).map(hello::name).collect();
    assert_eq!(asked, expected);
}
