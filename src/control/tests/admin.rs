//! The admin server, asked with raw bytes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use crossbeam::channel;

use super::{DEADLINE, strain, surface};
use crate::admin::socket::bind;
use crate::admin::{Applied, Reloaded};
use crate::base::address::Endpoint;
use crate::control::Control;

struct Fixture {
    control: Control,
    address: std::net::SocketAddr,
}

fn start(reload: impl Fn() -> Reloaded + Send + Sync + 'static) -> Fixture {
    let (sender, _) = channel::bounded(1);
    let control = Control::start(&[], surface(reload), strain(), sender).unwrap();
    let address = serve(&control);
    Fixture { control, address }
}

fn serve(control: &Control) -> std::net::SocketAddr {
    let socket = bind(&Endpoint::Inet("127.0.0.1:0".parse().unwrap())).unwrap();
    let Endpoint::Inet(address) = socket.local().unwrap() else {
        panic!("not an IP address");
    };
    control.serve_admin(Some(socket));
    address
}

impl Fixture {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// Sends `request` on a connection of its own and reads to the end.
    fn ask(&self, request: &str) -> String {
        exchange(self.connect(), request)
    }
}

fn exchange(mut stream: impl Read + Write, request: &str) -> String {
    // A server that refuses a request before its end may close while it is being sent.
    let _ = stream.write_all(request.as_bytes());
    let mut response = Vec::new();
    // A server that closes with bytes unread resets; what came before counts.
    let _ = stream.read_to_end(&mut response);
    String::from_utf8(response).unwrap()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
}

const RELOAD: &str = "POST /reload HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

#[test]
fn pages_are_served_over_tcp() {
    let fixture = start(|| Reloaded::Busy);
    let health = fixture.ask(&get("/healthz?verbose=1"));
    assert!(health.starts_with("HTTP/1.1 200 OK\r\n"), "{health}");
    assert!(health.ends_with("\r\n\r\nok\n"), "{health}");
    let metrics = fixture.ask(&get("/metrics"));
    assert!(
        metrics.contains("content-type: text/plain; version=0.0.4"),
        "{metrics}"
    );
    assert!(metrics.ends_with("ringlane_up 1\n"), "{metrics}");
    let head = fixture.ask(&get("/metrics").replace("GET", "HEAD"));
    assert!(head.contains("content-length: 14\r\n"), "{head}");
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    let wrong = fixture.ask(&get("/metrics").replace("GET", "DELETE"));
    assert!(wrong.starts_with("HTTP/1.1 405 "), "{wrong}");
    assert!(wrong.contains("allow: GET, HEAD\r\n"), "{wrong}");
    fixture.control.stop();
}

#[test]
fn a_connection_serves_one_request_after_another() {
    let fixture = start(|| Reloaded::Busy);
    let mut stream = fixture.connect();
    for _ in 0..3 {
        stream
            .write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .unwrap();
        let mut response = String::new();
        while !response.ends_with("ready\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            response.push(char::from(byte[0]));
        }
    }
    fixture.control.stop();
}

#[test]
fn slow_clients_hold_up_nobody_and_are_closed() {
    let fixture = start(|| Reloaded::Busy);
    let mut slow: Vec<TcpStream> = (0..10).map(|_| fixture.connect()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /ready HT").unwrap();
    }
    let mut body = fixture.connect();
    body.write_all(b"POST /reload HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nx")
        .unwrap();
    assert!(fixture.ask(&get("/ready")).starts_with("HTTP/1.1 200 "));
    for stream in &mut slow {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
    }
    let mut rest = String::new();
    let _ = body.read_to_string(&mut rest);
    assert!(rest.starts_with("HTTP/1.1 408 "), "{rest}");
    fixture.control.stop();
}

#[test]
fn more_connections_than_slots_wait_for_their_turn() {
    let fixture = start(|| Reloaded::Busy);
    let mut idle: Vec<TcpStream> = (0..64).map(|_| fixture.connect()).collect();
    for stream in &mut idle {
        // One answer each shows that all slots are taken.
        stream
            .write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .unwrap();
        stream.read_exact(&mut [0; 16]).unwrap();
    }
    let mut late = fixture.connect();
    late.write_all(get("/ready").as_bytes()).unwrap();
    late.set_nonblocking(true).unwrap();
    assert!(late.read(&mut [0]).is_err());
    late.set_nonblocking(false).unwrap();
    drop(idle.pop());
    let mut response = String::new();
    late.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    fixture.control.stop();
}

#[test]
fn long_bodies_and_long_heads_are_refused() {
    let fixture = start(|| Reloaded::Busy);
    let body = "x".repeat(65_537);
    let head = "POST /reload HTTP/1.1\r\nhost: localhost\r\n";
    let counted = format!("{head}content-length: 65537\r\n\r\n{body}");
    assert!(fixture.ask(&counted).starts_with("HTTP/1.1 413 "));
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n10001\r\n{body}\r\n0\r\n\r\n");
    assert!(fixture.ask(&chunked).starts_with("HTTP/1.1 413 "));
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    assert!(fixture.ask(&long).starts_with("HTTP/1.1 431 "));
    let garbage = fixture.ask("\x16\x03\x01\x02 not http\r\n\r\n");
    assert!(garbage.starts_with("HTTP/1.1 400 "), "{garbage}");
    assert!(fixture.ask(&get("/ready")).starts_with("HTTP/1.1 200 "));
    fixture.control.stop();
}

#[test]
fn a_reload_holds_up_nobody_and_only_one_runs() {
    let (finish, finished) = channel::bounded::<()>(1);
    let (begin, begun) = channel::bounded(1);
    let fixture = start(move || {
        begin.send(()).unwrap();
        finished.recv().unwrap();
        Reloaded::Applied(Applied {
            version: 2,
            changes: vec!["pool \"a\" added".to_owned()],
            warnings: String::new(),
        })
    });
    let mut first = fixture.connect();
    first.write_all(RELOAD.as_bytes()).unwrap();
    begun.recv_timeout(DEADLINE).unwrap();
    assert!(fixture.ask(&get("/ready")).starts_with("HTTP/1.1 200 "));
    assert!(fixture.ask(RELOAD).starts_with("HTTP/1.1 409 "));
    finish.send(()).unwrap();
    let mut response = String::new();
    first.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    assert!(response.contains("\"version\":2"), "{response}");
    fixture.control.stop();
}

#[test]
fn a_rejected_reload_tells_the_report_and_web_pages_may_not_ask() {
    // Far longer than what the server buffers.
    let report = "a.toml:1:1: no\n".repeat(100_000);
    let told = report.clone();
    let fixture = start(move || Reloaded::Rejected {
        report: told.clone(),
    });
    let rejected = fixture.ask(RELOAD);
    assert!(rejected.starts_with("HTTP/1.1 422 "));
    let (_, body) = rejected.split_once("\r\n\r\n").unwrap();
    assert!(body == report);
    let page = RELOAD.replace("host:", "origin: http://localhost\r\nhost:");
    assert!(fixture.ask(&page).starts_with("HTTP/1.1 403 "));
    let rebound = RELOAD.replace("localhost", "evil.example");
    assert!(fixture.ask(&rebound).starts_with("HTTP/1.1 403 "));
    fixture.control.stop();
}

#[test]
fn a_new_socket_takes_over_and_a_unix_socket_goes_with_its_file() {
    let fixture = start(|| Reloaded::Busy);
    let mut idle = fixture.connect();
    let path: PathBuf =
        std::env::temp_dir().join(format!("ringlane-control-{}.sock", std::process::id()));
    let unix = bind(&Endpoint::Unix(path.clone())).unwrap();
    fixture.control.serve_admin(Some(unix));
    // The old listener and its idle connection end.
    assert!(matches!(idle.read(&mut [0]), Ok(0) | Err(_)));
    assert!(TcpStream::connect(fixture.address).is_err());
    let stream = UnixStream::connect(&path).unwrap();
    let response = exchange(stream, &RELOAD.replace("localhost", "any.example"));
    assert!(response.starts_with("HTTP/1.1 409 "), "{response}");
    let address = serve(&fixture.control);
    let stream = TcpStream::connect(address).unwrap();
    assert!(exchange(stream, &get("/ready")).starts_with("HTTP/1.1 200 "));
    fixture.control.stop();
    assert!(!path.exists());
    assert!(TcpStream::connect(address).is_err());
}
