//! A client that stops reading costs ringlane little, and other sessions nothing.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ringlane::base::clock::now;
use socket2::{Domain, Socket, Type};

use crate::support::peer::bytes_at;
use crate::support::{Echo, PATIENCE, Ringlane, address, eventually, loopback};

/// What a bulk backend sends to each client.
const BULK: usize = 64 << 20;

/// What one stopped direction may hold: twice a pipe, and a quarter for the test's own noise.
const HELD_MAX: usize = 3 << 20;

/// A backend that sends `size` bytes to everybody and counts what the kernel has taken.
struct Source {
    address: SocketAddr,
    sent: Arc<AtomicUsize>,
}

impl Source {
    fn start(size: usize) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // Its own kernel buffer is no part of what is measured.
        socket.set_send_buffer_size(64 * 1024).unwrap();
        socket.bind(&SocketAddr::new(loopback(), 0).into()).unwrap();
        socket.listen(256).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&sent);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let counter = Arc::clone(&counter);
                thread::spawn(move || send_all(stream, size, &counter));
            }
        });
        Self { address, sent }
    }

    /// Bytes sent, once no more are taken.
    fn settled(&self) -> usize {
        let mut last = (self.sent.load(Ordering::Relaxed), now());
        eventually("the stopped streams fill up", || {
            let sent = self.sent.load(Ordering::Relaxed);
            if sent != last.0 || sent == 0 {
                last = (sent, now());
            }
            (now() - last.1 > Duration::from_millis(700)).then_some(sent)
        })
    }
}

fn send_all(mut stream: TcpStream, size: usize, counter: &AtomicUsize) {
    let mut sent = 0;
    while sent < size {
        let piece = bytes_at(0, sent);
        let piece = &piece[..piece.len().min(size - sent).min(16 * 1024)];
        if stream.write_all(piece).is_err() {
            return;
        }
        sent += piece.len();
        counter.fetch_add(piece.len(), Ordering::Relaxed);
    }
    let _ = stream.shutdown(Shutdown::Write);
}

/// A client with a small receive buffer.
fn client(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

/// Reads all and checks each byte; returns how many there were.
fn read_all(mut stream: &TcpStream) -> usize {
    let mut buffer = vec![0; 256 * 1024];
    let mut received = 0;
    loop {
        let got = stream.read(&mut buffer).unwrap();
        if got == 0 {
            return received;
        }
        let mut checked = 0;
        while checked < got {
            let expected = bytes_at(0, received + checked);
            let size = expected.len().min(got - checked);
            assert!(
                buffer[checked..checked + size] == expected[..size],
                "a wrong byte after {received}"
            );
            checked += size;
        }
        received += got;
    }
}

/// Ringlane with one worker, a listener for bulk and one for echoes.
fn start(relay: &str, source: &Source, echo: &Echo) -> (Ringlane, SocketAddr, SocketAddr) {
    let (bulk_front, echo_front) = (address(), address());
    let ringlane = Ringlane::start(&format!(
        r#"
        [global]
        workers = 1
        [[listener]]
        name = "bulk"
        listen = "{bulk_front}"
        relay = "{relay}"
        pool = "bulk"
        [[listener]]
        name = "echo"
        listen = "{echo_front}"
        pool = "echo"
        [pool.bulk]
        backends = ["{}"]
        [pool.echo]
        backends = ["{}"]
        "#,
        source.address, echo.address
    ));
    (ringlane, bulk_front, echo_front)
}

/// The slowest of some round trips.
fn echo_time(front: SocketAddr) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let begun = now();
        let mut stream = TcpStream::connect(front).unwrap();
        stream.write_all(b"still there?").unwrap();
        stream.read_exact(&mut [0; 12]).unwrap();
        slowest = slowest.max(now() - begun);
    }
    slowest
}

fn stopped_reader(relay: &str) {
    let (source, echo) = (Source::start(BULK), Echo::start());
    let (ringlane, bulk_front, echo_front) = start(relay, &source, &echo);
    echo_time(echo_front);
    let resident_before = ringlane.resident();
    let stopped = client(bulk_front);

    let taken = source.settled();
    // Ringlane's own two kernel buffers are the operator's to limit (tcp_rmem, tcp_wmem).
    assert!(taken < BULK / 2, "{taken} bytes were taken");
    let grown = ringlane.resident().saturating_sub(resident_before);
    assert!(grown < HELD_MAX, "{relay}: resident memory grew by {grown}");
    let slowest = echo_time(echo_front);
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    assert!(ringlane.processor_is_idle(), "it spins");

    assert_eq!(read_all(&stopped), BULK);
    stopped.shutdown(Shutdown::Both).unwrap();
    let line = ringlane
        .session_lines(101)
        .into_iter()
        .find(|line| line["listener"] == "bulk")
        .unwrap();
    assert_eq!(line["bytes_down"], BULK);
}

#[test]
fn stopped_reader_holds_little_and_stops_nobody_when_adapting() {
    stopped_reader("auto");
}

#[test]
fn stopped_reader_holds_little_and_stops_nobody_when_copying() {
    stopped_reader("copy");
}

#[test]
fn stopped_readers_use_up_the_pipes_and_others_go_on() {
    const READERS: usize = 80;
    const SIZE: usize = 8 << 20;
    let (source, echo) = (Source::start(SIZE), Echo::start());
    let (ringlane, bulk_front, echo_front) = start("auto", &source, &echo);
    echo_time(echo_front);
    let (resident_before, pipe_ends_before) = (ringlane.resident(), ringlane.pipe_ends());
    let stopped: Vec<TcpStream> = (0..READERS).map(|_| client(bulk_front)).collect();

    source.settled();
    assert!(ringlane.metric_sum("ringlane_pipes_refused_total") > 0.0);
    let pipe_ends = ringlane.pipe_ends() - pipe_ends_before;
    assert!(pipe_ends <= 2 * 64, "{pipe_ends}");
    let grown = ringlane.resident().saturating_sub(resident_before);
    assert!(grown < HELD_MAX * 2, "resident memory grew by {grown}");
    let slowest = echo_time(echo_front);
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    // Bulk goes on too, by copying, for whoever reads.
    assert_eq!(read_all(&client(bulk_front)), SIZE);
    assert!(ringlane.processor_is_idle(), "it spins");

    for stream in &stopped {
        assert_eq!(read_all(stream), SIZE);
    }
    eventually("the pipes are back", || {
        (ringlane.metric_sum("ringlane_connections_active") <= READERS as f64).then_some(())
    });
}

#[test]
fn lifetime_ends_a_session_whose_reader_stops_again_and_again() {
    let (source, front) = (Source::start(BULK), address());
    let ringlane = Ringlane::start(&format!(
        r#"
        [global]
        workers = 1
        [[listener]]
        name = "bulk"
        listen = "{front}"
        pool = "bulk"
        timeouts = {{ max_lifetime = "1s", lifetime_jitter = "0%" }}
        [pool.bulk]
        backends = ["{}"]
        "#,
        source.address
    ));
    let mut stream = client(front);
    let begun = now();
    let mut buffer = vec![0; 64 * 1024];
    // Each read makes a little room, so that the session stalls anew some milliseconds later.
    while stream.read(&mut buffer).is_ok_and(|got| got > 0) {
        assert!(
            now() - begun < Duration::from_secs(8),
            "the lifetime never ended"
        );
        thread::sleep(Duration::from_millis(5));
    }
    let line = ringlane.session_lines(1).remove(0);
    assert_eq!(line["reason"], "lifetime");
    let duration = line["duration_ms"].as_f64().unwrap();
    assert!((990.0..1400.0).contains(&duration), "{duration} ms");
}

#[test]
fn urgent_data_does_not_end_a_spliced_stream() {
    let listener = TcpListener::bind((loopback(), 0)).unwrap();
    let front = address();
    let _ringlane = Ringlane::start(&format!(
        r#"
        [[listener]]
        name = "spliced"
        listen = "{front}"
        relay = "splice"
        pool = "spliced"
        [pool.spliced]
        backends = ["{}"]
        "#,
        listener.local_addr().unwrap()
    ));
    let client = Socket::from(TcpStream::connect(front).unwrap());
    let (mut backend, _) = listener.accept().unwrap();
    backend.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send(b"before").unwrap();
    backend.read_exact(&mut [0; 6]).unwrap();
    client.send_out_of_band(b"!").unwrap();
    client.send(b"after").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut rest = String::new();
    backend.read_to_string(&mut rest).unwrap();
    // The urgent byte itself is out of band, which no relay of streams carries.
    assert_eq!(rest, "after");
}
