//! What an idle TLS session holds, counted at the allocator.
//!
//! A program of its own: the allocator is the whole program's.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::alloc::System;
use std::fs;
use std::io::{self, Write};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use ringlane::config::model::{
    Certificate, ClientAuth, PoolSni, PoolTls, Termination, Tickets, TlsVersion, Verify,
};
use ringlane::tls::certificates::load;
use ringlane::tls::client::{ClientSide, Trust, client};
use ringlane::tls::index::CertificateIndex;
use ringlane::tls::seam::{Session, sealed_bytes};
use ringlane::tls::server::server;
use ringlane::tls::{DefaultTimeProvider, ServerConfig, ServerName, TimeProvider};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SESSIONS: usize = 1000;

/// The server's side: no buffer, but what rustls itself keeps.
const SERVER_BYTES_MAX: usize = 2560;

/// The client's side keeps the server's certificate besides.
const CLIENT_BYTES_MAX: usize = 3584;

/// Resident memory for each: what the library in C allocates, and what every allocator loses.
const RESIDENT_BYTES_MAX: usize = 4 * 1024;

#[test]
fn an_idle_session_is_small() {
    let (server, client) = settings();
    // What comes once for the process is there before anything is counted.
    drop(used_pair(&server, &client));
    // First, while nothing that was freed can be used again: only then the resident memory tells.
    let held = held(|| used_pair(&server, &client).0);
    assert!(held.bytes <= SERVER_BYTES_MAX, "{held:?}");
    assert!(held.resident <= RESIDENT_BYTES_MAX, "{held:?}");

    let held = self::held(|| used_pair(&server, &client).1);
    assert!(held.bytes <= CLIENT_BYTES_MAX, "{held:?}");
}

/// What each of many sessions holds.
#[derive(Debug)]
struct Held {
    /// Itself, and what it has from the allocator.
    bytes: usize,
    /// By how much the process grew.
    resident: usize,
}

fn held(session: impl Fn() -> Session) -> Held {
    let mut kept = Vec::with_capacity(SESSIONS);
    let (region, resident) = (Region::new(ALLOCATOR), resident_bytes());
    for _ in 0..SESSIONS {
        kept.push(session());
    }
    let (change, after) = (region.change(), resident_bytes());
    let heap = change.bytes_allocated - change.bytes_deallocated;
    Held {
        bytes: heap / SESSIONS + size_of::<Session>(),
        resident: after.saturating_sub(resident) / SESSIONS,
    }
}

/// Linux, proc_pid_statm(5): the second number, in pages of 4 KiB.
fn resident_bytes() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// A server and a client that have shaken hands, moved 200 KB each way, and wait.
fn used_pair(server: &Arc<ServerConfig>, client: &ClientSide) -> (Session, Session) {
    let name = ServerName::try_from("a.example").unwrap();
    let mut client = Session::client(&client.config, name).unwrap();
    let mut server = Session::server(server).unwrap();
    while client.wants_write() || server.wants_write() {
        pass(&mut client, &mut server);
        pass(&mut server, &mut client);
    }
    assert!(!server.is_handshaking());
    let bulk = vec![0; 50_000];
    let scratch = &mut vec![0; sealed_bytes(bulk.len())];
    for _ in 0..4 {
        client.encrypt(&bulk, scratch, &mut Full).unwrap();
        assert_eq!(pass(&mut client, &mut server), bulk.len());
        server.encrypt(&bulk, scratch, &mut Full).unwrap();
        assert_eq!(pass(&mut server, &mut client), bulk.len());
    }
    server.rest();
    client.rest();
    (server, client)
}

/// Moves everything from one to the other, and says how much plaintext that was.
fn pass(from: &mut Session, to: &mut Session) -> usize {
    let (mut bytes, mut plain) = (Vec::new(), Vec::new());
    while from.wants_write() {
        from.write_into(&mut bytes).unwrap();
    }
    // As a socket gives them.
    for piece in bytes.chunks_mut(30_000) {
        to.decrypt(piece, &mut plain).unwrap();
    }
    plain.len()
}

/// A socket that has no room at the moment.
struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// TLS 1.3, no tickets.
fn settings() -> (Arc<ServerConfig>, ClientSide) {
    let directory = std::env::temp_dir().join(format!("ringlane-tls-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["a.example".to_owned()]).unwrap();
    let certificate = Certificate {
        chain: directory.join("a.pem"),
        key: directory.join("a.key"),
        ocsp: None,
    };
    fs::write(&certificate.chain, params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(&certificate.key, key.serialize_pem()).unwrap();

    let clock: Arc<dyn TimeProvider> = Arc::new(DefaultTimeProvider);
    let loaded = load(&certificate, clock.current_time().unwrap()).unwrap();
    let index = Arc::new(CertificateIndex::new(vec![loaded], Some(0), clock.clone()));
    let termination = Termination {
        certificates: vec![certificate],
        default_certificate: Some(0),
        min_version: TlsVersion::Tls13,
        max_version: TlsVersion::Tls13,
        alpn: vec!["h2".into()],
        client_auth: ClientAuth::Off,
        tickets: Tickets::Off,
        handshakes_max: 1,
        handshake_rate: None,
    };
    let pool = PoolTls {
        verify: Verify::None,
        sni: PoolSni::Backend,
        certificate: None,
        alpn: vec!["h2".into()],
        min_version: TlsVersion::Tls13,
    };
    let server = server(&termination, &index, None).unwrap().config();
    let client = client(&pool, &Trust::new(clock)).unwrap();
    fs::remove_dir_all(directory).unwrap();
    (server, client)
}
