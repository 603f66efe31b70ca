//! The load generator against servers that do what a broken balancer would do.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ringlane_bench::backend::{self, Backend, Opening};
use ringlane_bench::load::{self, Dialect, Errors, Outcome, Pace, Plan, Reuse};
use ringlane_bench::pattern::{HEADER, Request};

const RESPONSE: u32 = 5_000;

/// What a server does to each response.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    Corrupt(usize),
    CloseAfter(usize),
    ResetAfter(usize),
    AddByte,
    Repeat,
    Silence,
    /// One pause, at the response of this number, felt by all connections.
    StallOnce(u64),
}

struct Server {
    fault: Fault,
    served: AtomicU64,
    turn: Mutex<()>,
}

fn serve(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = Arc::new(Server {
        fault,
        served: AtomicU64::new(0),
        turn: Mutex::new(()),
    });
    thread::spawn(move || {
        for stream in listener.incoming() {
            let server = Arc::clone(&server);
            thread::spawn(move || while server.answer(stream.as_ref().unwrap()).is_some() {});
        }
    });
    address
}

impl Server {
    /// None when the connection is to be closed.
    fn answer(&self, mut stream: &TcpStream) -> Option<()> {
        let mut header = [0; HEADER];
        stream.read_exact(&mut header).ok()?;
        let request = Request::parse(header).unwrap();
        let mut padding = vec![0; request.length as usize - HEADER];
        stream.read_exact(&mut padding).ok()?;
        assert_eq!(padding, request.padding(u32::try_from(HEADER).unwrap()));

        let turn = self.turn.lock().unwrap();
        let number = self.served.fetch_add(1, Ordering::Relaxed);
        let mut response = request.response_at(0).to_vec();
        match self.fault {
            Fault::None => {}
            Fault::Corrupt(place) => response[place] ^= 1,
            Fault::CloseAfter(length) | Fault::ResetAfter(length) => response.truncate(length),
            Fault::AddByte => response.push(0),
            Fault::Repeat => {
                // The answer to the first request, whatever is asked.
                let first = Request {
                    phase: request
                        .phase
                        .wrapping_sub(31 * u32::try_from(number).unwrap()),
                    ..request
                };
                response = first.response_at(0).to_vec();
            }
            Fault::Silence => response.clear(),
            Fault::StallOnce(at) if number == at => thread::sleep(Duration::from_millis(200)),
            Fault::StallOnce(_) => {}
        }
        drop(turn);
        stream.write_all(&response).ok()?;
        match self.fault {
            Fault::CloseAfter(_) => return None,
            Fault::ResetAfter(_) => {
                // The client must have read what came before, or the reset overtakes it.
                thread::sleep(Duration::from_millis(20));
                rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
                return None;
            }
            _ => {}
        }
        Some(())
    }
}

/// Three connections with one request each.
fn plan(target: SocketAddr) -> Plan {
    Plan {
        target,
        dialect: Dialect::Plain,
        connections: 3,
        request: 64,
        response: RESPONSE,
        reuse: Reuse::KeepAlive,
        pace: Pace::Once,
        warm_up: Duration::ZERO,
        measure: Duration::from_millis(100),
        timeout: Duration::from_secs(20),
        watch: vec![std::process::id()],
        watch_load: Vec::new(),
    }
}

fn plain_backend() -> backend::Plan {
    backend::Plan {
        port: 0,
        ports: 1,
        opening: Opening::Request,
    }
}

fn run(plan: Plan) -> Outcome {
    load::run(plan, || {}).unwrap().0
}

fn errors_of(fault: Fault) -> Errors {
    run(plan(serve(fault))).errors
}

#[test]
fn right_responses_are_no_errors() {
    let outcome = run(plan(serve(Fault::None)));
    assert_eq!(outcome.errors, Errors::default());
    assert_eq!(outcome.completed, 3);
    assert_eq!(outcome.latency.unwrap().count, 3);
}

#[test]
fn a_wrong_byte_is_counted_wherever_it_is() {
    for place in [0, 2_500, RESPONSE as usize - 1] {
        let expected = Errors {
            wrong_bytes: 3,
            ..Errors::default()
        };
        assert_eq!(errors_of(Fault::Corrupt(place)), expected, "byte {place}");
    }
}

#[test]
fn a_byte_too_many_is_counted() {
    assert_eq!(errors_of(Fault::AddByte).wrong_bytes, 3);
}

#[test]
fn an_early_close_is_counted() {
    for length in [0, RESPONSE as usize - 1] {
        let expected = Errors {
            early_close: 3,
            ..Errors::default()
        };
        assert_eq!(
            errors_of(Fault::CloseAfter(length)),
            expected,
            "after {length}"
        );
    }
}

#[test]
fn a_reset_is_counted() {
    let expected = Errors {
        reset: 3,
        ..Errors::default()
    };
    assert_eq!(errors_of(Fault::ResetAfter(100)), expected);
}

#[test]
fn a_refused_connection_is_counted() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let expected = Errors {
        connect: 3,
        ..Errors::default()
    };
    assert_eq!(run(plan(address)).errors, expected);
}

#[test]
fn a_missing_response_is_counted() {
    let plan = Plan {
        timeout: Duration::from_millis(150),
        ..plan(serve(Fault::Silence))
    };
    let expected = Errors {
        timeout: 3,
        ..Errors::default()
    };
    assert_eq!(run(plan).errors, expected);
}

#[test]
fn the_answer_to_another_request_is_wrong() {
    let plan = Plan {
        connections: 1,
        pace: Pace::Closed,
        ..plan(serve(Fault::Repeat))
    };
    let outcome = run(plan);
    assert!(outcome.completed >= 1, "the first answer is right");
    assert!(outcome.errors.wrong_bytes >= 1, "{:?}", outcome.errors);
}

#[test]
fn connections_that_are_closed_at_rest_are_found() {
    let backend = Backend::listen(plain_backend()).unwrap();
    let kept = backend.address().unwrap();
    thread::spawn(move || backend.serve().unwrap());
    let (outcome, mut engine) = load::run(plan(kept), || {}).unwrap();
    assert_eq!(outcome.errors, Errors::default());
    assert_eq!(engine.inspect().unwrap(), Errors::default());

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let closed = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let server = Server {
            fault: Fault::None,
            served: AtomicU64::new(0),
            turn: Mutex::new(()),
        };
        for _ in 0..3 {
            let (stream, _) = listener.accept().unwrap();
            server.answer(&stream).unwrap();
        }
    });
    let (outcome, mut engine) = load::run(plan(closed), || {}).unwrap();
    server.join().unwrap();
    assert_eq!(outcome.completed, 3);
    // Some may have been seen before the last response came.
    let errors = outcome.errors.plus(engine.inspect().unwrap());
    assert_eq!(errors.total(), 3, "{errors:?}");
}

#[test]
fn the_backend_resets_whoever_sends_a_wrong_byte() {
    let backend = Backend::listen(plain_backend()).unwrap();
    let address = backend.address().unwrap();
    thread::spawn(move || backend.serve().unwrap());
    let request = Request {
        response: 10,
        length: 64,
        phase: 9,
    };
    for wrong in [false, true] {
        let mut bytes = request.header().to_vec();
        bytes.extend_from_slice(request.padding(u32::try_from(HEADER).unwrap()));
        *bytes.last_mut().unwrap() ^= u8::from(wrong);
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut response = [0; 10];
        let result = stream.read_exact(&mut response);
        if wrong {
            assert_eq!(
                result.unwrap_err().kind(),
                std::io::ErrorKind::ConnectionReset
            );
        } else {
            result.unwrap();
            assert_eq!(response, request.response_at(0));
        }
    }
}

#[test]
fn long_requests_and_responses_survive_the_backend() {
    let backend = Backend::listen(plain_backend()).unwrap();
    let address = backend.address().unwrap();
    thread::spawn(move || backend.serve().unwrap());
    for (request, response) in [(8 << 20, 64), (64, 8 << 20), (12, 1), (70_000, 70_000)] {
        let plan = Plan {
            request,
            response,
            ..plan(address)
        };
        let outcome = run(plan);
        assert_eq!(
            outcome.errors,
            Errors::default(),
            "{request} and {response}"
        );
        assert_eq!(outcome.completed, 3);
    }
}

#[test]
fn churn_opens_a_connection_for_each_request() {
    let plan = Plan {
        reuse: Reuse::Close,
        pace: Pace::Closed,
        ..plan(serve(Fault::None))
    };
    let outcome = run(plan);
    assert_eq!(outcome.errors, Errors::default());
    assert!(outcome.completed > 3, "{outcome:?}");
    assert!(outcome.cpu_s > 0.0);
}

/// All requests that were due while the server stood still have waited, not only those under way.
#[test]
fn a_stall_is_felt_by_all_requests_that_were_due_in_it() {
    let plan = Plan {
        connections: 8,
        pace: Pace::Open(1_000.0),
        warm_up: Duration::from_millis(100),
        measure: Duration::from_secs(1),
        ..plan(serve(Fault::StallOnce(500)))
    };
    let outcome = run(plan);
    assert_eq!(outcome.errors, Errors::default());
    let latency = outcome.latency.unwrap();
    assert_eq!(latency.count, 1_000, "every due request counts once");
    assert!(latency.p999 >= 150_000.0, "{latency:?}");
    // 200 of 1,000 were due in the stall; the last of 1 % of them all waited nearly all of it.
    assert!(latency.p99 >= 100_000.0, "{latency:?}");
}
