//! Lists of networks and limits: who is served, who is turned away and how.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::accept::limit_descriptors;
use crate::support::load::knock;
use crate::support::{Echo, Ringlane, address, binary, eventually};

/// A connection from this loopback address.
fn connect(from: [u8; 4], front: SocketAddr) -> TcpStream {
    knock(front, from.into())
}

/// What becomes of a client that says something.
#[derive(Debug, PartialEq, Eq)]
enum Met {
    Served,
    Reset,
    Finished,
}

fn say(stream: &mut TcpStream) -> Met {
    let mut answer = [0; 4];
    let outcome = stream
        .write_all(b"ping")
        .and_then(|()| stream.read(&mut answer));
    match outcome {
        Ok(0) => Met::Finished,
        Ok(_) => Met::Served,
        Err(error) => {
            let kinds = [
                ErrorKind::ConnectionReset,
                ErrorKind::BrokenPipe,
                ErrorKind::NotConnected,
            ];
            assert!(kinds.contains(&error.kind()), "{error}");
            Met::Reset
        }
    }
}

fn meet(from: [u8; 4], front: SocketAddr) -> Met {
    say(&mut connect(from, front))
}

fn listener(front: SocketAddr, settings: &str, echo: &Echo) -> String {
    let backend = echo.address;
    format!(
        "[[listener]]\nname = \"web\"\nlisten = \"{front}\"\npool = \"web\"\n{settings}\n\
         [pool.web]\nbackends = [\"{backend}\"]\n"
    )
}

fn rejected(ringlane: &Ringlane, reason: &str) -> f64 {
    let series = format!("ringlane_rejected_total{{reason=\"{reason}\"}}");
    ringlane.metric(&series).unwrap()
}

#[test]
fn lists_decide_by_the_most_specific_network() {
    let (front, echo) = (address(), Echo::start());
    let lists = "allow = [\"127.77.0.0/16\", \"127.78.1.1\"]\n\
                 deny = [\"127.77.5.0/24\", \"127.78.0.0/16\"]";
    let ringlane = Ringlane::start(&listener(front, lists, &echo));
    for (from, met) in [
        ([127, 77, 0, 1], Met::Served),
        ([127, 77, 5, 1], Met::Reset),
        ([127, 78, 0, 1], Met::Reset),
        ([127, 78, 1, 1], Met::Served),
        ([127, 79, 0, 1], Met::Reset),
    ] {
        assert_eq!(meet(from, front), met, "{from:?}");
    }
    assert_eq!(rejected(&ringlane, "denied"), 3.0);
    let lines = ringlane.session_lines(5);
    let denied: Vec<_> = lines
        .iter()
        .filter(|line| line["reason"] == "denied")
        .collect();
    assert_eq!(denied.len(), 3);
    let is_named = |line: &&serde_json::Value| {
        let client = line["client"].as_str().unwrap();
        client.starts_with("127.77.5.1:")
    };
    assert_eq!(denied.into_iter().filter(is_named).count(), 1, "{lines:?}");
    let prefixes = ringlane.metric("ringlane_access_prefixes{listener=\"web\"}");
    assert_eq!(prefixes, Some(4.0));
    // `explain` knows it, too.
    for (source, code) in [("127.77.5.1", 4), ("127.77.0.1", 0)] {
        let output = binary()
            .args(["explain", "-l", "web", "--src", source, "-c"])
            .arg(ringlane.file())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
}

#[test]
fn a_list_in_a_file_is_followed_and_a_broken_one_changes_nothing() {
    let (front, echo) = (address(), Echo::start());
    let name = format!("ringlane-deny-{}-{}", std::process::id(), front.port());
    let file = std::env::temp_dir().join(name);
    let replace = |text: &str| {
        fs::write(file.with_extension("new"), text).unwrap();
        fs::rename(file.with_extension("new"), &file).unwrap();
    };
    replace("# nobody yet\n");
    let configuration = listener(front, &format!("deny_file = \"{}\"", file.display()), &echo);
    let ringlane = Ringlane::start(&configuration);
    let client = [127, 80, 0, 1];
    let mut before = connect(client, front);
    assert_eq!(say(&mut before), Met::Served);
    // 100,000 networks, of which the client's is one.
    let mut many = String::from("127.80.0.0/24\n");
    for number in 0..99_999_u32 {
        many += &format!("{}/32\n", Ipv4Addr::from_bits(0x0a00_0000 + 2 * number));
    }
    replace(&many);
    eventually("the list is in force", || {
        (meet(client, front) == Met::Reset).then_some(())
    });
    // Who was let in stays.
    assert_eq!(say(&mut before), Met::Served);
    assert_eq!(meet([127, 80, 1, 1], front), Met::Served);
    replace("127.80.1.0/24\nbad\n");
    eventually("the fault is told", || {
        let messages = ringlane.messages();
        let place = format!("{}:2: bad network", file.display());
        messages.contains(&place).then_some(())
    });
    assert_eq!(meet(client, front), Met::Reset);
    assert_eq!(meet([127, 80, 1, 1], front), Met::Served);
    let output = ringlane.reload(&configuration);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(meet(client, front), Met::Reset);
    // A signal takes up a list at once.
    replace("127.80.1.0/24\n");
    ringlane.signal(Signal::HUP);
    eventually("the list is in force", || {
        (meet(client, front) == Met::Served).then_some(())
    });
    assert_eq!(meet([127, 80, 1, 1], front), Met::Reset);
    fs::remove_file(&file).unwrap();
}

#[test]
fn the_client_that_a_proxy_names_is_the_one_that_counts() {
    let (front, echo) = (address(), Echo::start());
    let settings = "proxy_protocol = { receive = \"require\", trusted = [\"127.0.0.0/8\"] }\n\
                    deny = [\"192.0.2.0/24\", \"127.81.0.0/16\"]\n\
                    limits = { per_source = 1 }";
    let ringlane = Ringlane::start(&listener(front, settings, &echo));
    let speak_for = |client: &str| {
        let mut stream = connect([127, 81, 0, 1], front);
        let header = format!("PROXY TCP4 {client} 10.0.0.1 4000 80\r\n");
        stream.write_all(header.as_bytes()).unwrap();
        let met = say(&mut stream);
        (stream, met)
    };
    assert_eq!(speak_for("192.0.2.7").1, Met::Reset);
    let (held, met) = speak_for("198.51.100.7");
    assert_eq!(met, Met::Served);
    assert_eq!(speak_for("198.51.100.7").1, Met::Reset);
    assert_eq!(speak_for("198.51.100.8").1, Met::Served);
    assert_eq!(rejected(&ringlane, "denied"), 1.0);
    assert_eq!(rejected(&ringlane, "limit_source"), 1.0);
    drop(held);
    eventually("its place is free again", || {
        (speak_for("198.51.100.7").1 == Met::Served).then_some(())
    });
}

#[test]
fn limits_hold_for_each_source_across_workers_and_reloads() {
    let (front, echo) = (address(), Echo::start());
    let configuration = format!(
        "[global]\nworkers = 2\n{}",
        listener(
            front,
            "limits = { per_source = 5, exempt = [\"127.82.9.0/24\"] }",
            &echo
        )
    );
    let ringlane = Ringlane::start(&configuration);
    let mut held = Vec::new();
    for source in 0..20 {
        let mut served = 0;
        for _ in 0..20 {
            let mut stream = connect([127, 82, 0, source], front);
            if say(&mut stream) == Met::Served {
                served += 1;
                held.push(stream);
            }
        }
        assert_eq!(served, 5, "source {source}");
    }
    assert_eq!(rejected(&ringlane, "limit_source"), 300.0);
    let sources = "ringlane_limit_sources{listener=\"web\"}";
    assert_eq!(ringlane.metric(sources), Some(20.0));
    for _ in 0..20 {
        let mut stream = connect([127, 82, 9, 1], front);
        assert_eq!(say(&mut stream), Met::Served);
        held.push(stream);
    }
    // What was counted before a reload counts after it.
    let output = ringlane.reload(&configuration.replace("per_source = 5", "per_source = 6"));
    assert!(output.status.success(), "{output:?}");
    let mut sixth = connect([127, 82, 0, 3], front);
    assert_eq!(say(&mut sixth), Met::Served);
    assert_eq!(meet([127, 82, 0, 3], front), Met::Reset);
    drop((held, sixth));
    eventually("nobody is counted any more", || {
        (ringlane.metric(sources) == Some(0.0)).then_some(())
    });
}

#[test]
fn a_rate_lets_a_burst_through_and_then_its_pace() {
    let (front, echo) = (address(), Echo::start());
    let limits = "limits = { rate_per_source = \"1/h\", burst = 7 }";
    let ringlane = Ringlane::start(&listener(front, limits, &echo));
    for source in 1..4 {
        let mets = (0..20).map(|_| meet([127, 83, 0, source], front));
        let served = mets.filter(|met| *met == Met::Served).count();
        assert_eq!(served, 7, "source {source}");
    }
    assert_eq!(rejected(&ringlane, "limit_rate"), 39.0);
    let sources = ringlane.metric("ringlane_limit_sources{listener=\"web\"}");
    assert_eq!(sources, Some(3.0));
}

#[test]
fn log_only_counts_and_logs_and_serves() {
    let (front, echo) = (address(), Echo::start());
    let limits = "limits = { per_source = 1, log_only = true }";
    let ringlane = Ringlane::start(&listener(front, limits, &echo));
    let mut held: Vec<_> = (0..3).map(|_| connect([127, 84, 0, 1], front)).collect();
    for stream in &mut held {
        assert_eq!(say(stream), Met::Served);
    }
    let logged = "ringlane_limits_logged_total{listener=\"web\",reason=\"limit_source\"}";
    assert_eq!(ringlane.metric(logged), Some(2.0));
    assert_eq!(rejected(&ringlane, "limit_source"), 0.0);
    drop(held);
    let lines = ringlane.session_lines(3);
    let over = lines.iter().filter(|line| {
        let cause = line["cause"].as_str().unwrap_or_default();
        cause.contains("limit_source") && line["reason"] == "eof"
    });
    assert_eq!(over.count(), 2, "{lines:?}");
}

#[test]
fn listener_and_process_have_limits_of_their_own() {
    let (one, two, echo) = (address(), address(), Echo::start());
    let configuration = format!(
        "[global]\nworkers = 2\nmax_connections = 30\n{}\
         [[listener]]\nname = \"other\"\nlisten = \"{two}\"\npool = \"web\"\n",
        listener(one, "max_connections = 20", &echo)
    );
    let ringlane = Ringlane::start(&configuration);
    let mut held = Vec::new();
    let mut fill = |front: SocketAddr, source: u8| {
        let before = held.len();
        for _ in 0..40 {
            let mut stream = connect([127, 85, 0, source], front);
            if say(&mut stream) == Met::Served {
                held.push(stream);
            }
        }
        held.len() - before
    };
    // One after the other: nobody is between count and verdict.
    assert_eq!(fill(one, 1), 20);
    assert_eq!(fill(two, 2), 10);
    assert_eq!(rejected(&ringlane, "limit_listener"), 20.0);
    assert_eq!(rejected(&ringlane, "limit_global"), 30.0);
    drop(held);
    eventually("there is room again", || {
        (meet([127, 85, 0, 3], one) == Met::Served).then_some(())
    });
}

/// Many at once, so that workers decide at the same time.
#[test]
fn limits_are_exact_to_one_for_each_worker() {
    const WORKERS: usize = 2;
    let (front, echo) = (address(), Echo::start());
    let configuration = format!(
        "[global]\nworkers = {WORKERS}\n{}",
        listener(
            front,
            "max_connections = 100\nlimits = { per_source = 40 }",
            &echo
        )
    );
    let _ringlane = Ringlane::start(&configuration);
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            std::thread::spawn(move || {
                let source = [127, 86, 0, 1 + thread % 4];
                let all = (0..60).map(|_| connect(source, front));
                let mut served = all.collect::<Vec<_>>();
                served.retain_mut(|stream| say(stream) == Met::Served);
                (source[3], served)
            })
        })
        .collect();
    let mut by_source = [0; 4];
    let mut held = Vec::new();
    for thread in threads {
        let (source, served) = thread.join().unwrap();
        by_source[usize::from(source - 1)] += served.len();
        held.extend(served);
    }
    for served in by_source {
        assert!(served <= 40 + WORKERS, "{by_source:?}");
    }
    let all = held.len();
    assert!((100 - WORKERS..=100 + WORKERS).contains(&all), "{all}");
}

#[test]
fn who_is_over_a_limit_meets_the_action() {
    let echo = Echo::start();
    for (action, met) in [("rst", Met::Reset), ("fin", Met::Finished)] {
        let front = address();
        let limits = format!("limits = {{ per_source = 1, action = \"{action}\" }}");
        let _ringlane = Ringlane::start(&listener(front, &limits, &echo));
        let mut first = connect([127, 87, 0, 1], front);
        assert_eq!(say(&mut first), Met::Served);
        let mut second = connect([127, 87, 0, 1], front);
        let outcome = second.read(&mut [0; 4]);
        let got = match outcome {
            Ok(0) => Met::Finished,
            Ok(_) => Met::Served,
            Err(_) => Met::Reset,
        };
        assert_eq!(got, met, "{action}");
    }
}

#[test]
fn a_tarpit_keeps_waiting_holds_one_descriptor_and_does_not_delay_a_stop() {
    let (front, echo) = (address(), Echo::start());
    let limits = "limits = { per_source = 1, action = \"tarpit 2s\" }";
    let mut ringlane = Ringlane::start(&format!(
        "[global]\nworkers = 1\n{}",
        listener(front, limits, &echo)
    ));
    let client = [127, 88, 0, 1];
    let mut first = connect(client, front);
    assert_eq!(say(&mut first), Met::Served);
    let begun = Instant::now();
    let held = "ringlane_tarpitted{worker=\"0\"}";
    let mut stuck: Vec<_> = (0..50).map(|_| connect(client, front)).collect();
    eventually("all are kept waiting", || {
        (ringlane.metric(held) == Some(50.0)).then_some(())
    });
    // They are no sessions, and hold nobody up.
    assert_eq!(meet([127, 88, 0, 2], front), Met::Served);
    assert!(stuck[0].read(&mut [0; 4]).is_err());
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(1_900), "{waited:?}");
    eventually("none is left", || {
        (ringlane.metric(held) == Some(0.0)).then_some(())
    });
    let again: Vec<_> = (0..50).map(|_| connect(client, front)).collect();
    eventually("all are kept waiting", || {
        (ringlane.metric(held) == Some(50.0)).then_some(())
    });
    drop(first);
    let begun = Instant::now();
    ringlane.signal(Signal::TERM);
    assert!(ringlane.wait().success());
    let stopped = begun.elapsed();
    // Its messages, which are shown then, say what it waited for.
    assert!(stopped < Duration::from_secs(10), "{stopped:?}");
    drop(again);
}

/// A flood of those who are over a limit must not take the descriptors of those who are not.
#[test]
fn a_tarpit_leaves_room_for_who_is_served() {
    let (front, echo) = (address(), Echo::start());
    let limits = "limits = { per_source = 1, action = \"tarpit 1m\" }";
    let text = format!("[global]\nworkers = 2\n{}", listener(front, limits, &echo));
    let ringlane = Ringlane::start_as(&text, |command| limit_descriptors(command, 300));
    let flood = [127, 90, 0, 1];
    let mut first = connect(flood, front);
    assert_eq!(say(&mut first), Met::Served);
    let _stuck: Vec<_> = (0..250).map(|_| connect(flood, front)).collect();
    eventually("all are turned away", || {
        (rejected(&ringlane, "limit_source") == 250.0).then_some(())
    });
    let mut served: Vec<_> = (2..12).map(|n| connect([127, 90, 0, n], front)).collect();
    assert!(served.iter_mut().all(|stream| say(stream) == Met::Served));
    let waiting = ringlane.metric_sum("ringlane_tarpitted");
    assert!((1.0..=20.0).contains(&waiting), "{waiting}");
}

/// With CAP_NET_ADMIN the client hears nothing; without, a client on the same machine is reset.
#[test]
fn silence_leaves_the_client_alone_or_resets_it() {
    let (front, echo) = (address(), Echo::start());
    let limits = "limits = { per_source = 1, action = \"silent\" }";
    let ringlane = Ringlane::start(&listener(front, limits, &echo));
    let mut first = connect([127, 89, 0, 1], front);
    assert_eq!(say(&mut first), Met::Served);
    let mut second = connect([127, 89, 0, 1], front);
    eventually("it is turned away", || {
        (rejected(&ringlane, "limit_source") == 1.0).then_some(())
    });
    second
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let outcome = second.read(&mut [0; 4]).unwrap_err();
    let silent = outcome.kind() == ErrorKind::WouldBlock;
    assert!(silent || outcome.kind() == ErrorKind::ConnectionReset);
    // Its descriptor is gone either way.
    let lines = ringlane.session_lines(1);
    assert_eq!(lines[0]["reason"], "limit_source");
}
