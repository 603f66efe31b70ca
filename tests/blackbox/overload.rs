//! A process with more to do than it can: who is served, who waits, who is reset.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Echo, PATIENCE, Ringlane, address, eventually};

/// Any process takes more.
const TOO_MUCH: &str = "memory = \"1m\"";

fn configuration(overload: &str, fronts: &[SocketAddr], echo: &Echo) -> String {
    let mut text = format!(
        "[global]\nworkers = 2\n[global.overload]\n{overload}\n[pool.web]\nbackends = [\"{}\"]\n",
        echo.address
    );
    for (number, front) in fronts.iter().enumerate() {
        text +=
            &format!("[[listener]]\nname = \"l{number}\"\nlisten = \"{front}\"\npool = \"web\"\n");
    }
    text
}

fn connect(front: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(front).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn is_served(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 4];
    let outcome = stream
        .write_all(b"ping")
        .and_then(|()| stream.read_exact(&mut answer));
    outcome.is_ok()
}

fn accepted(ringlane: &Ringlane) -> f64 {
    let of = |listener: &str| {
        let series = format!("ringlane_accepted_total{{listener=\"{listener}\"}}");
        ringlane.metric(&series).unwrap_or(0.0)
    };
    of("l0") + of("l1")
}

fn is_overloaded(ringlane: &Ringlane, overloaded: bool) {
    let expected = if overloaded { 1.0 } else { 0.0 };
    eventually(&format!("overloaded: {overloaded}"), || {
        (ringlane.metric("ringlane_overloaded") == Some(expected)).then_some(())
    });
}

fn reload(ringlane: &Ringlane, configuration: &str) {
    let output = ringlane.reload(configuration);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn who_comes_while_accepting_pauses_waits_and_is_served_afterwards() {
    pause_and_resume("auto");
}

#[test]
fn accepting_pauses_on_epoll_too() {
    pause_and_resume("epoll");
}

fn pause_and_resume(driver: &str) {
    let (front, echo) = (address(), Echo::start());
    let configuration = |overload: &str, fronts: &[SocketAddr], echo: &Echo| {
        let workers = format!("workers = 2\ndriver = \"{driver}\"");
        configuration(overload, fronts, echo).replace("workers = 2", &workers)
    };
    let off = configuration("", &[front], &echo);
    let ringlane = Ringlane::start(&off);
    let mut before: Vec<_> = (0..10).map(|_| connect(front)).collect();
    assert!(before.iter_mut().all(is_served));
    assert_eq!(ringlane.metric("ringlane_overload_memory_bytes"), None);
    reload(&ringlane, &configuration(TOO_MUCH, &[front], &echo));
    is_overloaded(&ringlane, true);
    let begun = ringlane.metric("ringlane_overloads_total{cause=\"memory\"}");
    assert_eq!(begun, Some(1.0));
    assert!(ringlane.metric("ringlane_overload_memory_bytes").unwrap() > 1e6);
    let threshold = ringlane.metric("ringlane_overload_memory_threshold_bytes");
    assert_eq!(threshold, Some(f64::from(1 << 20)));
    let mut waiting: Vec<_> = (0..30).map(|_| connect(front)).collect();
    waiting.iter_mut().for_each(|stream| {
        stream.write_all(b"wait").unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
    });
    for stream in &mut waiting {
        let outcome = stream.read(&mut [0; 4]);
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    // The sessions there are go on, and nobody new has come.
    assert!(before.iter_mut().all(is_served));
    assert_eq!(accepted(&ringlane), 10.0);
    assert_eq!(ringlane.ask("GET", "/healthz").unwrap().0, 200);
    assert_eq!(ringlane.ask("GET", "/ready").unwrap().0, 200);
    reload(&ringlane, &off);
    is_overloaded(&ringlane, false);
    for stream in &mut waiting {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"wait");
    }
    assert_eq!(accepted(&ringlane), 40.0);
    let messages = ringlane.messages();
    assert!(
        messages.contains("overloaded, accepting pauses"),
        "{messages}"
    );
}

#[test]
fn a_paused_worker_is_alive() {
    let (front, echo) = (address(), Echo::start());
    let ringlane = Ringlane::start(&configuration("", &[front], &echo));
    reload(
        &ringlane,
        &configuration(&format!("{TOO_MUCH}\nready = \"fail\""), &[front], &echo),
    );
    is_overloaded(&ringlane, true);
    let _waiting: Vec<_> = (0..20).map(|_| connect(front)).collect();
    // Longer than a worker may be silent: counted by its own ticks.
    let age = "ringlane_worker_heartbeat_age_seconds{worker=\"0\"}";
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(1_500) {
        assert!(ringlane.metric(age).unwrap() < 1.0);
        assert_eq!(ringlane.ask("GET", "/healthz").unwrap().0, 200);
    }
    let (status, body) = ringlane.ask("GET", "/ready").unwrap();
    assert_eq!((status, &*body), (503, "overloaded\n"));
    reload(&ringlane, &configuration("", &[front], &echo));
    eventually("ready again", || {
        (ringlane.ask("GET", "/ready").unwrap().0 == 200).then_some(())
    });
}

#[test]
fn who_comes_to_a_process_that_rejects_is_reset() {
    let (front, echo) = (address(), Echo::start());
    let ringlane = Ringlane::start(&configuration("", &[front], &echo));
    let mut before = connect(front);
    assert!(is_served(&mut before));
    reload(
        &ringlane,
        &configuration(&format!("{TOO_MUCH}\naction = \"reject\""), &[front], &echo),
    );
    is_overloaded(&ringlane, true);
    for _ in 0..20 {
        // Who is turned away may learn it before the call is over.
        if let Ok(mut stream) = TcpStream::connect(front) {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let outcome = stream.read(&mut [0; 4]);
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
    }
    assert!(is_served(&mut before));
    let rejected = ringlane.metric("ringlane_rejected_total{reason=\"overload\"}");
    assert_eq!(rejected, Some(20.0));
    let lines = ringlane.session_lines(20);
    assert!(
        lines.iter().all(|line| line["reason"] == "overload"),
        "{lines:?}"
    );
    reload(&ringlane, &configuration("", &[front], &echo));
    is_overloaded(&ringlane, false);
    assert!(is_served(&mut connect(front)));
}

/// The thresholds are not passed, whatever else there is to measure.
#[test]
fn below_its_thresholds_nobody_notices() {
    let (front, echo) = (address(), Echo::start());
    let thresholds = "memory = \"95%\"\nloop_lag = \"1m\"";
    let ringlane = Ringlane::start(&configuration(thresholds, &[front], &echo));
    eventually("something is measured", || {
        let memory = ringlane.metric("ringlane_overload_memory_bytes");
        let lag = ringlane.metric("ringlane_overload_lag_seconds");
        memory.zip(lag)
    });
    for _ in 0..50 {
        assert!(is_served(&mut connect(front)));
    }
    assert_eq!(ringlane.metric("ringlane_overloaded"), Some(0.0));
}

/// A process that was stopped finds all its workers late.
#[test]
fn late_workers_are_an_overload() {
    let (front, echo) = (address(), Echo::start());
    let text = configuration("loop_lag = \"200ms\"", &[front], &echo);
    let ringlane = Ringlane::start(&text);
    let begun = "ringlane_overloads_total{cause=\"loop_lag\"}";
    eventually("the workers were late", || {
        ringlane.signal(Signal::STOP);
        std::thread::sleep(Duration::from_millis(800));
        ringlane.signal(Signal::CONT);
        // The next look is 250 ms away.
        std::thread::sleep(Duration::from_millis(400));
        (ringlane.metric(begun)? >= 1.0).then_some(())
    });
    is_overloaded(&ringlane, false);
    assert!(is_served(&mut connect(front)));
}

#[test]
fn a_stop_serves_those_who_wait() {
    let (front, echo) = (address(), Echo::start());
    let mut ringlane = Ringlane::start(&configuration("", &[front], &echo));
    reload(&ringlane, &configuration(TOO_MUCH, &[front], &echo));
    is_overloaded(&ringlane, true);
    let mut waiting: Vec<_> = (0..30).map(|_| connect(front)).collect();
    assert_eq!(accepted(&ringlane), 0.0);
    ringlane.signal(Signal::TERM);
    assert!(waiting.iter_mut().all(is_served));
    drop(waiting);
    assert!(ringlane.wait().success());
}

#[test]
fn who_waits_at_a_socket_that_a_reload_withdraws_is_served() {
    let (front, other, third, echo) = (address(), address(), address(), Echo::start());
    let ringlane = Ringlane::start(&configuration("", &[front, other], &echo));
    reload(&ringlane, &configuration(TOO_MUCH, &[front, other], &echo));
    is_overloaded(&ringlane, true);
    let mut waiting: Vec<_> = (0..20).map(|_| connect(other)).collect();
    let mut others: Vec<_> = (0..20).map(|_| connect(front)).collect();
    reload(&ringlane, &configuration(TOO_MUCH, &[front, third], &echo));
    assert!(waiting.iter_mut().all(is_served));
    // The new socket pauses like the one that stays.
    let mut late = connect(third);
    late.write_all(b"ping").unwrap();
    assert_eq!(ringlane.metric("ringlane_overloaded"), Some(1.0));
    let l0 = ringlane.metric("ringlane_accepted_total{listener=\"l0\"}");
    assert_eq!(l0, Some(0.0));
    let off = configuration("", &[front, third], &echo);
    reload(&ringlane, &off);
    assert!(others.iter_mut().all(is_served));
    late.read_exact(&mut [0; 4]).unwrap();
}
