//! What a session with TLS takes of its worker: memory while it is idle, time while it is busy.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use monoio::{LegacyDriver, RuntimeBuilder};
use ringlane::base::clock::now;
use ringlane::config::model::{Relay, TlsVersion};
use ringlane::forward::link::Link;
use ringlane::forward::relay::{Loan, relay};
use ringlane::forward::secure::relay_secured;
use ringlane::io::lane::Lane;
use ringlane::io::socket::Socket;
use ringlane::io::wheel::Wheel;
use ringlane::metrics::Registry;
use rustls::{ClientConnection, StreamOwned};

use crate::settings::{Server, calling, name};
use crate::stage::{Cast, DRIVERS, LIMITS, Worker, connection};

/// Of the task of an idle session, bytes: beside it there are its link, and 6 KiB of TLS.
const RELAY_SECURED_BYTES_MAX: usize = 768;

#[test]
fn the_task_of_an_idle_session_is_small() {
    let mut runtime = RuntimeBuilder::<LegacyDriver>::new().build().unwrap();
    runtime.block_on(async {
        let (_client, ours) = connection();
        let (_backend, backends) = connection();
        let link = Link::new(Socket::new(ours).unwrap(), LIMITS, now());
        let backend = Socket::new(backends).unwrap();
        let (registry, sessions) = (Registry::new(1), std::cell::RefCell::new(Wheel::new(now())));
        let (lane, listener) = (
            Lane::new(1, None, now()),
            registry.listener(&"front".into()),
        );
        let loan = Loan {
            lane: &lane,
            sessions: &sessions,
            listener: listener.worker(0),
            worker: registry.worker(0),
            mode: Relay::Auto,
        };
        let secured = size_of_val(&relay_secured(&link, &backend, &loan));
        let plain = size_of_val(&relay(&link, &backend, &loan));
        let own = size_of::<Link>();
        assert!(
            secured <= RELAY_SECURED_BYTES_MAX,
            "secured {secured}, plain {plain}, link {own}"
        );
        println(&format!("secured {secured}, plain {plain}, link {own}"));
    });
}

/// For whoever asks with `--nocapture`.
fn println(line: &str) {
    std::io::stdout().write_all(line.as_bytes()).unwrap();
    std::io::stdout().write_all(b"\n").unwrap();
}

/// One stream that never ends must not keep the worker to itself.
#[test]
fn a_bulk_stream_lets_others_have_their_turn() {
    for driver in DRIVERS {
        let worker = Worker::start(driver);
        let server = Server::new().config();
        let serve = || {
            let (client, ours) = connection();
            let (backend, backends) = connection();
            let mut cast = Cast::between(ours, backends);
            cast.terminate = Some(server.clone());
            let played = worker.serve(cast);
            let config = calling(TlsVersion::Tls12, &[]);
            let tls = ClientConnection::new(config, name()).unwrap();
            let mut client = StreamOwned::new(tls, client);
            while client.conn.is_handshaking() {
                client.conn.complete_io(&mut client.sock).unwrap();
            }
            (client, backend, played)
        };
        let (mut bulk, mut sink, _first) = serve();
        let (mut client, mut backend, _second) = serve();
        let enough = Arc::new(AtomicBool::new(false));
        let source = enough.clone();
        let sending = thread::spawn(move || {
            let chunk = vec![1; 256 * 1024];
            while !source.load(Ordering::Relaxed) {
                bulk.write_all(&chunk).unwrap();
            }
        });
        let arrived = Arc::new(AtomicUsize::new(0));
        let total = arrived.clone();
        let draining = thread::spawn(move || {
            let mut chunk = vec![0; 256 * 1024];
            while let Ok(bytes @ 1..) = sink.read(&mut chunk) {
                total.fetch_add(bytes, Ordering::Relaxed);
            }
        });
        let begun = now();
        let mut rounds = 0;
        while rounds < 50 || arrived.load(Ordering::Relaxed) < 4 << 20 {
            rounds += 1;
            client.write_all(b"ping").unwrap();
            let mut ping = [0; 4];
            backend.read_exact(&mut ping).unwrap();
            backend.write_all(&ping).unwrap();
            client.read_exact(&mut ping).unwrap();
        }
        let took = now() - begun;
        enough.store(true, Ordering::Relaxed);
        sending.join().unwrap();
        draining.join().unwrap();
        assert!(took / rounds < Duration::from_millis(100), "{took:?}");
    }
}
