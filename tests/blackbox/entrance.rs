//! Lists and limits of routes: asked once the route is known, beside those of the listener.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::support::load::knock;
use crate::support::{Echo, Ringlane, address, binary, eventually};

/// Asks for `a.example`.
const NAMED: &str = "openssl-tls13";
/// Asks for no name.
const NAMELESS: &str = "curl-by-address";
/// Is no TLS.
const PLAIN: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

fn hello(name: &str) -> Vec<u8> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hellos");
    fs::read(directory.join(format!("{name}.bin"))).unwrap()
}

fn connect(source: u8, front: SocketAddr) -> TcpStream {
    knock(front, Ipv4Addr::new(127, 90, 0, source))
}

/// A client that says this: `Ok` with its connection if the backend has sent it back.
fn visit(source: u8, front: SocketAddr, says: &[u8]) -> Result<TcpStream, ErrorKind> {
    let mut stream = connect(source, front);
    let mut answer = vec![0; says.len()];
    stream
        .write_all(says)
        .and_then(|()| stream.read_exact(&mut answer))
        .map_err(|error| error.kind())?;
    assert_eq!(answer, says);
    Ok(stream)
}

/// Routes by name, without a name, for other names and for what is not TLS, the first with `settings`.
fn routes(front: SocketAddr, listener: &str, settings: &str, echo: &Echo) -> String {
    let backend = echo.address;
    format!(
        "[global]\nworkers = 2\n[[listener]]\nname = \"web\"\nlisten = \"{front}\"\n{listener}\n\
         [[listener.route]]\nname = \"limited\"\n{settings}\npool = \"web\"\n\
         [[listener.route]]\nname = \"other\"\nsni = \"other.example\"\npool = \"web\"\n\
         [pool.web]\nbackends = [\"{backend}\"]\n"
    )
}

/// A session is counted a moment after its client has learned of its end.
fn have_been_rejected(ringlane: &Ringlane, reason: &str, count: f64) {
    let series = format!("ringlane_rejected_total{{reason=\"{reason}\"}}");
    eventually(&format!("{count} times {reason}"), || {
        (ringlane.metric(&series) == Some(count)).then_some(())
    });
}

/// Whatever makes a client take the route.
fn kinds() -> [(&'static str, Vec<u8>); 4] {
    [
        ("sni = \"a.example\"", hello(NAMED)),
        ("no_sni = true", hello(NAMELESS)),
        ("default = true", hello(NAMED)),
        ("plain = true", PLAIN.to_vec()),
    ]
}

#[test]
fn a_route_of_any_kind_has_lists_and_a_number_of_connections() {
    for (condition, says) in kinds() {
        let (front, echo) = (address(), Echo::start());
        let settings = format!(
            "{condition}\nallow = [\"127.90.0.0/24\"]\ndeny = \"127.90.0.9\"\nmax_connections = 3"
        );
        let ringlane = Ringlane::start(&routes(front, "", &settings, &echo));
        assert!(visit(9, front, &says).is_err(), "{condition}");
        have_been_rejected(&ringlane, "denied", 1.0);
        let lines = ringlane.session_lines(1);
        assert_eq!(lines[0]["route"], "limited", "{lines:?}");
        let cause = lines[0]["cause"].as_str().unwrap();
        assert!(cause.contains("lists of networks"), "{cause}");
        let mut held: Vec<_> = (1..=3)
            .map(|source| visit(source, front, &says).unwrap())
            .collect();
        for source in 1..=4 {
            assert!(visit(source, front, &says).is_err(), "{condition}");
        }
        have_been_rejected(&ringlane, "limit_route", 4.0);
        held.pop();
        eventually("its place is free again", || visit(5, front, &says).ok());
    }
}

#[test]
fn other_routes_and_the_listener_have_limits_of_their_own() {
    let (front, echo) = (address(), Echo::start());
    let listener = "limits = { per_source = 4 }\nmax_connections = 9";
    let settings = "sni = \"a.example\"\nlimits = { per_source = 2 }";
    let text = routes(front, listener, settings, &echo)
        .replace("sni = \"other.example\"", "no_sni = true");
    let ringlane = Ringlane::start(&text);
    let (named, nameless) = (hello(NAMED), hello(NAMELESS));
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(visit(1, front, &named).unwrap());
    }
    assert!(visit(1, front, &named).is_err());
    have_been_rejected(&ringlane, "limit_source", 1.0);
    // Who was turned away by the route is not counted by the listener any more.
    for _ in 0..2 {
        held.push(eventually("the other route lets it in", || {
            visit(1, front, &nameless).ok()
        }));
    }
    assert!(visit(1, front, &nameless).is_err());
    held.push(visit(2, front, &named).unwrap());
    let sources = ringlane.metric("ringlane_limit_sources{listener=\"web\"}");
    // Two on the listener, two on the route.
    assert_eq!(sources, Some(4.0));
    drop(held);
    eventually("nobody is counted any more", || {
        let sources = ringlane.metric("ringlane_limit_sources{listener=\"web\"}");
        (sources == Some(0.0)).then_some(())
    });
}

#[test]
fn the_limits_of_a_route_outlive_a_reload() {
    let (front, echo) = (address(), Echo::start());
    let settings = |most: u8, per_source: u8| {
        let settings = format!(
            "sni = \"a.example\"\nmax_connections = {most}\nlimits = {{ per_source = {per_source} }}"
        );
        routes(front, "", &settings, &echo)
    };
    let ringlane = Ringlane::start(&settings(3, 2));
    let says = hello(NAMED);
    let held: Vec<_> = [1, 1, 2]
        .into_iter()
        .map(|source| visit(source, front, &says).unwrap())
        .collect();
    assert!(ringlane.reload(&settings(4, 2)).status.success());
    assert!(visit(1, front, &says).is_err());
    have_been_rejected(&ringlane, "limit_source", 1.0);
    let fourth = visit(2, front, &says).unwrap();
    assert!(visit(3, front, &says).is_err());
    have_been_rejected(&ringlane, "limit_route", 1.0);
    // Without the limit everybody gets in, and those who did are not counted later.
    let off = routes(front, "", "sni = \"a.example\"", &echo);
    assert!(ringlane.reload(&off).status.success());
    assert!(visit(3, front, &says).is_ok());
    drop((held, fourth));
}

#[test]
fn a_list_in_a_file_of_a_route_is_followed() {
    let (front, echo) = (address(), Echo::start());
    let name = format!("ringlane-route-deny-{}", std::process::id());
    let file = std::env::temp_dir().join(name);
    fs::write(&file, "127.90.0.1\n").unwrap();
    let settings = format!("sni = \"a.example\"\ndeny_file = \"{}\"", file.display());
    let text = routes(front, "", &settings, &echo);
    let ringlane = Ringlane::start(&text);
    let says = hello(NAMED);
    assert!(visit(1, front, &says).is_err());
    assert!(visit(2, front, &says).is_ok());
    fs::write(file.with_extension("new"), "127.90.0.2\n").unwrap();
    fs::rename(file.with_extension("new"), &file).unwrap();
    eventually("the list is in force", || visit(2, front, &says).err());
    assert!(visit(1, front, &says).is_ok());
    // `explain` gives the same verdict.
    for (source, refused) in [("127.90.0.2", true), ("127.90.0.1", false)] {
        let output = binary()
            .args([
                "explain",
                "-l",
                "web",
                "--sni",
                "a.example",
                "--src",
                source,
                "-c",
            ])
            .arg(ringlane.file())
            .output()
            .unwrap();
        // A route takes it either way.
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let shown = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            shown.contains("the route's lists of networks"),
            refused,
            "{shown}"
        );
    }
    // A bad line rejects a reload, at its place.
    fs::write(&file, "nonsense\n").unwrap();
    let output = ringlane.reload(&text);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let report = String::from_utf8(output.stderr).unwrap();
    assert!(
        report.contains(&format!("{}:1: bad network", file.display())),
        "{report}"
    );
    assert!(report.contains("deny_file"), "{report}");
    fs::remove_file(&file).unwrap();
}

#[test]
fn who_is_over_a_limit_of_a_route_meets_its_action() {
    let says = hello(NAMED);
    for (action, expected) in [("rst", Some(ErrorKind::ConnectionReset)), ("fin", None)] {
        let (front, echo) = (address(), Echo::start());
        let settings = format!(
            "sni = \"a.example\"\nmax_connections = 1\nlimits = {{ action = \"{action}\" }}"
        );
        let _ringlane = Ringlane::start(&routes(front, "", &settings, &echo));
        let _first = visit(1, front, &says).unwrap();
        let mut second = connect(2, front);
        second.write_all(&says).unwrap();
        let outcome = second.read(&mut [0; 4]);
        assert_eq!(
            outcome.as_ref().err().map(|error| error.kind()),
            expected,
            "{action}"
        );
        if let Ok(read) = outcome {
            assert_eq!(read, 0, "{action}");
        }
    }
    let (front, echo) = (address(), Echo::start());
    let settings = "sni = \"a.example\"\nmax_connections = 1\nlimits = { action = \"tarpit 1s\" }";
    let mut ringlane = Ringlane::start(&routes(front, "", settings, &echo));
    let first = visit(1, front, &says).unwrap();
    let begun = std::time::Instant::now();
    let mut stuck: Vec<_> = (0..10)
        .map(|_| {
            let mut stream = connect(2, front);
            stream.write_all(&says).unwrap();
            stream
        })
        .collect();
    have_been_rejected(&ringlane, "limit_route", 10.0);
    for stream in &mut stuck {
        let outcome = stream.read(&mut [0; 4]);
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    assert!(begun.elapsed() >= Duration::from_millis(950));
    // Who is in a tarpit is no session, and a stop does not wait for it.
    let again = connect(2, front);
    (&again).write_all(&says).unwrap();
    have_been_rejected(&ringlane, "limit_route", 11.0);
    drop(first);
    ringlane.signal(rustix::process::Signal::TERM);
    assert!(ringlane.wait().success());
}

#[test]
fn a_route_slows_a_source_like_a_listener() {
    let (front, echo) = (address(), Echo::start());
    let listener = "limits = { bytes_per_source = \"1g/s\" }";
    let settings = "sni = \"a.example\"\nlimits = { bytes_per_source = \"64k/s\" }";
    let ringlane = Ringlane::start(&routes(front, listener, settings, &echo));
    let mut stream = visit(1, front, &hello(NAMED)).unwrap();
    let bytes: Vec<u8> = (0..100_000_u32).map(|it| it.to_le_bytes()[0]).collect();
    let mut sender = stream.try_clone().unwrap();
    let sent = bytes.clone();
    let writing = std::thread::spawn(move || sender.write_all(&sent).unwrap());
    let mut answer = vec![0; bytes.len()];
    stream.read_exact(&mut answer).unwrap();
    writing.join().unwrap();
    assert_eq!(answer, bytes);
    let slowed = ringlane.metric("ringlane_slowed_total{listener=\"web\"}");
    assert_eq!(slowed, Some(1.0));
}

#[test]
fn log_only_of_a_route_serves_and_says_so() {
    let (front, echo) = (address(), Echo::start());
    let settings = "sni = \"a.example\"\nlimits = { per_source = 1, log_only = true }";
    let ringlane = Ringlane::start(&routes(front, "", settings, &echo));
    let says = hello(NAMED);
    let held: Vec<_> = (0..3).map(|_| visit(1, front, &says).unwrap()).collect();
    let logged = "ringlane_limits_logged_total{listener=\"web\",reason=\"limit_source\"}";
    assert_eq!(ringlane.metric(logged), Some(2.0));
    drop(held);
    let lines = ringlane.session_lines(3);
    let over = lines.iter().filter(|line| {
        let cause = line["cause"].as_str().unwrap_or_default();
        cause.contains("limit_source")
    });
    assert_eq!(over.count(), 2, "{lines:?}");
}
