//! Health checks: every type of probe against real servers, backends that die and come back, pools in
//! which nobody is up.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::reload::{applied, reload_command};
use crate::support::dns::Dns;
use crate::support::hanging::Hanging;
use crate::support::load::{Load, Named, Visit, service};
use crate::support::tls::Authority;
use crate::support::{PATIENCE, Ringlane, address, binary, eventually, loopback};

/// Probes that soon know.
const FAST: &str = "interval = \"100ms\"\ntimeout = \"1s\"\nrise = 2\nfall = 2\n";

/// A server of probes: reads as far as it is told, then says what it is told.
struct Asked {
    address: SocketAddr,
    answer: Arc<Mutex<Vec<u8>>>,
    /// What the last one said.
    heard: Arc<Mutex<Vec<u8>>>,
    count: Arc<AtomicUsize>,
}

impl Asked {
    /// Reads until a connection has said something that ends with `until`.
    fn start(until: &'static [u8], answer: &[u8]) -> Self {
        let listener = TcpListener::bind((loopback(), 0)).unwrap();
        let asked = Self {
            address: listener.local_addr().unwrap(),
            answer: Arc::new(Mutex::new(answer.to_vec())),
            heard: Arc::default(),
            count: Arc::default(),
        };
        let (answer, heard) = (Arc::clone(&asked.answer), Arc::clone(&asked.heard));
        let count = Arc::clone(&asked.count);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::Relaxed);
                let said = read_until(&mut stream, until);
                *heard.lock().unwrap() = said;
                // Whoever is not interested any more is gone.
                let _ = stream.write_all(&answer.lock().unwrap());
            }
        });
        asked
    }

    fn answers(&self, bytes: &[u8]) {
        *self.answer.lock().unwrap() = bytes.to_vec();
    }

    fn heard(&self) -> Vec<u8> {
        eventually("a probe has come", || {
            let heard = self.heard.lock().unwrap().clone();
            (!heard.is_empty()).then_some(heard)
        })
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

fn read_until(stream: &mut TcpStream, until: &[u8]) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut said = Vec::new();
    let mut byte = [0];
    while !said.ends_with(until) {
        match stream.read(&mut byte) {
            Ok(1) => said.push(byte[0]),
            _ => break,
        }
    }
    said
}

/// A listener and a pool `p` with one backend and these settings of its health.
fn one(front: SocketAddr, backend: SocketAddr, pool: &str, health: &str) -> String {
    format!(
        "[global]\nworkers = 2\n{}{pool}\n[pool.p.health]\n{health}\n",
        service("p", front, &[backend])
    )
}

fn up(ringlane: &Ringlane, backend: impl std::fmt::Display) -> Option<f64> {
    ringlane.metric(&format!(
        "ringlane_backend_up{{pool=\"p\",backend=\"{backend}\"}}"
    ))
}

fn probes(ringlane: &Ringlane, backend: impl std::fmt::Display, result: &str) -> f64 {
    let series = format!(
        "ringlane_backend_probes_total{{pool=\"p\",backend=\"{backend}\",result=\"{result}\"}}"
    );
    ringlane.metric(&series).unwrap()
}

fn becomes(ringlane: &Ringlane, backend: impl std::fmt::Display, state: f64) {
    eventually("the backend's state is told", || {
        (up(ringlane, &backend) == Some(state)).then_some(())
    });
}

fn says(ringlane: &Ringlane, text: &str) {
    eventually(text, || ringlane.messages().contains(text).then_some(()));
}

#[test]
fn dead_backend_is_left_without_client_errors_and_comes_back() {
    let names = ["a", "b", "c"];
    let backends = names.map(Named::start);
    let front = address();
    let mut text = format!(
        "[[listener]]\nname = \"l\"\nlisten = \"{front}\"\npool = \"p\"\n\
         [pool.p]\nbalance = \"round_robin\"\n[pool.p.health]\n{FAST}"
    );
    for (name, backend) in names.iter().zip(&backends) {
        let at = backend.address;
        text += &format!("[[pool.p.backend]]\nname = \"{name}\"\naddress = \"{at}\"\n");
    }
    let ringlane = Ringlane::start(&text);
    let load = Load::start(front, 4, Duration::from_millis(5));
    load.more(50);
    backends[1].close();
    becomes(&ringlane, "b", 0.0);
    says(&ringlane, "pool p: backend b is down");
    assert!(ringlane.messages().contains(": refused"));
    let usable = ringlane.metric("ringlane_pool_usable{pool=\"p\"}");
    assert_eq!(usable, Some(2.0));
    // Nobody finds out the hard way any more.
    let failed = r#"ringlane_backend_connects_total{pool="p",backend="b",result="failed"}"#;
    let failures = ringlane.metric(failed);
    load.more(100);
    thread::sleep(Duration::from_millis(1_100));
    load.more(100);
    assert_eq!(ringlane.metric(failed), failures);
    let again = Named::start_at("b", backends[1].address).unwrap();
    becomes(&ringlane, "b", 1.0);
    says(&ringlane, "pool p: backend b is up");
    eventually("the backend gets sessions again", || {
        (Visit::to(front).backend == "b").then_some(())
    });
    assert_eq!(load.end(), Vec::<String>::new());
    drop(again);
}

#[test]
fn pool_without_anybody_up_trickles_opens_or_closes() {
    let backend = Named::start("a");
    let down = format!(
        "initial = \"down\"\ninterval = \"1h\"\nport = {}",
        address().port()
    );
    let front = address();
    let with = |all_down: &str| one(front, backend.address, all_down, &down);
    let ringlane = Ringlane::start(&with("all_down = \"closed\""));
    assert_eq!(up(&ringlane, backend.address), Some(0.0));
    for _ in 0..5 {
        assert!(Visit::try_to(front, None).is_err());
    }
    let lines = ringlane.session_lines(5);
    assert!(
        lines.iter().all(|line| line["reason"] == "no_backend"),
        "{lines:?}"
    );

    applied(&ringlane.reload(&with("all_down = \"open\"")));
    for _ in 0..5 {
        assert_eq!(Visit::to(front).backend, "a");
    }

    applied(&ringlane.reload(&with("")));
    let begun = Instant::now();
    let mut served = Vec::new();
    while begun.elapsed() < Duration::from_millis(3_500) {
        if Visit::try_to(front, None).is_ok() {
            served.push(begun.elapsed());
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert!((3..=4).contains(&served.len()), "{served:?}");
    let rejected = ringlane.metric("ringlane_rejected_total{reason=\"no_backend\"}");
    assert!(rejected.unwrap() > 20.0, "{rejected:?}");
}

#[test]
fn state_survives_reloads_and_leaves_with_the_health_checks() {
    let backend = Named::start("a");
    let front = address();
    // The first probe comes at once and decides, the next one after half an hour.
    let health = format!(
        "initial = \"check\"\ninterval = \"1h\"\nport = {}",
        address().port()
    );
    let good = one(front, backend.address, "all_down = \"closed\"", &health);
    let ringlane = Ringlane::start(&good);
    says(&ringlane, "is down");
    for round in 0..50 {
        let bad = ["port = 0 #", "prt = "][round % 2];
        ringlane.write(&good.replace("port = ", bad));
        let output = reload_command(&ringlane);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
    let more = service("more", address(), &[backend.address]);
    for text in [format!("{good}{more}"), good.clone()] {
        applied(&ringlane.reload(&text));
        assert_eq!(up(&ringlane, backend.address), Some(0.0));
        assert!(Visit::try_to(front, None).is_err());
    }
    assert_eq!(probes(&ringlane, backend.address, "failed"), 1.0);
    assert_eq!(probes(&ringlane, backend.address, "ok"), 0.0);
    // Nothing is known of a backend that is not probed.
    applied(&ringlane.reload(&service("p", front, &[backend.address])));
    becomes(&ringlane, backend.address, 1.0);
    assert_eq!(Visit::to(front).backend, "a");
    // It serves, so it is not taken out before its probes say so.
    applied(&ringlane.reload(&good.replace("\"check\"", "\"down\"")));
    assert_eq!(Visit::to(front).backend, "a");
}

#[test]
fn rate_of_probes_is_backends_by_interval() {
    let asked = Asked::start(b"", b"");
    let front = address();
    let backends: Vec<_> = (0..20).map(|_| address()).collect();
    let at = asked.address;
    let text = format!(
        "[global]\nworkers = 2\n{}[pool.p.health]\ninterval = \"500ms\"\ntimeout = \"400ms\"\n\
         address = \"{}\"\nport = {}\n",
        service("p", front, &backends),
        at.ip(),
        at.port()
    );
    let _ringlane = Ringlane::start(&text);
    eventually("probes have begun", || (asked.count() > 10).then_some(()));
    let (begun, before) = (Instant::now(), asked.count());
    thread::sleep(Duration::from_secs(4));
    let rate = (asked.count() - before) as f64 / begun.elapsed().as_secs_f64();
    assert!(
        (34.0..=46.0).contains(&rate),
        "{rate} a second instead of 40"
    );
}

#[test]
fn http_probe_asks_and_judges_the_status() {
    let asked = Asked::start(b"\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n");
    let health = format!(
        "type = \"http\"\n{FAST}http = {{ method = \"HEAD\", path = \"/up?a=b\", status = [\"200-299\", \"404\"] }}"
    );
    let ringlane = Ringlane::start(&one(address(), asked.address, "", &health));
    let heard = String::from_utf8(asked.heard()).unwrap();
    let head = format!("HEAD /up?a=b HTTP/1.1\r\nHost: {}\r\n", asked.address);
    assert!(heard.starts_with(&head), "{heard}");
    for (answer, state, message) in [
        ("HTTP/1.1 503 No\r\n\r\n", 0.0, "status 503"),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Here\r\n",
            1.0,
            "is up",
        ),
        ("HTTP/1.1 302 Found\r\n\r\n", 0.0, "status 302"),
        ("HTTP/1.0 200 OK\r\n\r\n", 1.0, "is up"),
        ("220 smtp.example ESMTP\r\n", 0.0, "answer is not HTTP"),
        ("HTTP/1.1 200\r\n\r\n", 1.0, "is up"),
        ("HTTP/1.1 2", 0.0, "closed before the answer was whole"),
    ] {
        asked.answers(answer.as_bytes());
        becomes(&ringlane, asked.address, state);
        says(&ringlane, message);
    }
}

#[test]
fn exchange_sends_and_expects_any_bytes() {
    let asked = Asked::start(b"\xff\r\n", b"\xfe\x00OK and more");
    let health = format!(
        "type = \"exchange\"\n{FAST}exchange = {{ send = '\\x00\\x01\\xff\\r\\n', expect = '\\xfe\\0OK' }}"
    );
    let front = address();
    let ringlane = Ringlane::start(&one(front, asked.address, "", &health));
    assert_eq!(asked.heard(), b"\x00\x01\xff\r\n");
    eventually("probes succeed", || {
        (probes(&ringlane, asked.address, "ok") > 1.0).then_some(())
    });
    asked.answers(b"\xfe\x01OK");
    becomes(&ringlane, asked.address, 0.0);
    says(&ringlane, "unexpected answer");
    let regex = format!(
        "type = \"exchange\"\n{FAST}exchange = {{ send = '\\xff\\r\\n', expect_regex = '^\\xfe[\\x00-\\x0f]OK$' }}"
    );
    applied(&ringlane.reload(&one(front, asked.address, "", &regex)));
    becomes(&ringlane, asked.address, 1.0);
    asked.answers(b"");
    becomes(&ringlane, asked.address, 0.0);
    says(&ringlane, "closed before the answer was whole");
}

#[test]
fn silent_and_hanging_backends_time_out() {
    let silent = TcpListener::bind((loopback(), 0)).unwrap();
    let hanging = Hanging::start();
    let exchange = format!("type = \"exchange\"\n{FAST}exchange = {{ expect = 'x' }}");
    for (backend, health) in [
        (silent.local_addr().unwrap(), exchange.as_str()),
        (hanging.address, FAST),
    ] {
        let ringlane = Ringlane::start(&one(address(), backend, "", health));
        says(&ringlane, ": timeout");
        becomes(&ringlane, backend, 0.0);
    }
}

#[test]
fn probe_says_in_the_proxy_protocol_that_it_speaks_for_nobody() {
    const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
    let asked = Asked::start(b"hello", b"hi");
    let health =
        format!("type = \"exchange\"\n{FAST}exchange = {{ send = 'hello', expect = 'hi' }}");
    let pool = "proxy_protocol = { send = \"v2\" }";
    let ringlane = Ringlane::start(&one(address(), asked.address, pool, &health));
    assert_eq!(asked.heard(), [LOCAL, b"hello"].concat());
    becomes(&ringlane, asked.address, 1.0);
}

/// A backend that shakes hands and answers each request alike.
fn secure(config: Arc<ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind((loopback(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(tls, socket);
            // A probe that takes leave without a request gets no answer.
            if stream.read(&mut [0; 1024]).is_ok_and(|bytes| bytes > 0) {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                let _ = stream.flush();
            }
        }
    });
    address
}

#[test]
fn tls_probe_verifies_as_the_pool_does() {
    let (good, bad) = (Authority::new(), Authority::new());
    let identity = good.issue("back", &["back.example"]);
    let backend = secure(good.server(&identity, None));
    let pool = |authority: &Authority, sni: &str| {
        let ca = authority.file();
        format!("tls = {{ ca = \"{}\", sni = \"{sni}\" }}", ca.display())
    };
    let front = address();
    let tls = format!("type = \"tls\"\n{FAST}");
    let ringlane = Ringlane::start(&one(front, backend, &pool(&good, "back.example"), &tls));
    let succeed = || {
        let before = probes(&ringlane, backend, "ok");
        eventually("probes succeed", || {
            (probes(&ringlane, backend, "ok") > before + 1.0).then_some(())
        });
    };
    succeed();
    becomes(&ringlane, backend, 1.0);
    applied(&ringlane.reload(&one(front, backend, &pool(&bad, "back.example"), &tls)));
    becomes(&ringlane, backend, 0.0);
    says(&ringlane, "tls: peer's certificate");
    // By HTTP over the same TLS.
    let http = tls.replace("\"tls\"", "\"http\"");
    applied(&ringlane.reload(&one(front, backend, &pool(&good, "back.example"), &http)));
    becomes(&ringlane, backend, 1.0);
    succeed();
    applied(&ringlane.reload(&one(front, backend, &pool(&good, "other.example"), &http)));
    becomes(&ringlane, backend, 0.0);
    // Where TLS goes on as it comes there is nothing to verify against.
    applied(&ringlane.reload(&one(front, backend, "", &tls)));
    becomes(&ringlane, backend, 1.0);
    // What does not speak TLS fails all the same.
    let plain = Asked::start(b"", b"hello\r\n");
    applied(&ringlane.reload(&one(front, plain.address, "", &tls)));
    becomes(&ringlane, plain.address, 0.0);
}

#[test]
fn new_backends_begin_as_initial_says() {
    let asked = Asked::start(b"", b"ready");
    let front = address();
    let exchange = "type = \"exchange\"\nexchange = { expect = 'ready' }\ntimeout = \"1s\"\n";
    let check = format!("{exchange}initial = \"check\"\ninterval = \"1h\"\n");
    let ringlane = Ringlane::start(&one(front, asked.address, "", &check));
    becomes(&ringlane, asked.address, 1.0);
    assert_eq!(probes(&ringlane, asked.address, "ok"), 1.0);

    let late = Asked::start(b"", b"ready");
    let down = format!("{exchange}initial = \"down\"\ninterval = \"1s\"\nrise = 3\n");
    applied(&ringlane.reload(&one(front, late.address, "", &down)));
    assert_eq!(up(&ringlane, late.address), Some(0.0));
    becomes(&ringlane, late.address, 1.0);
    assert!(probes(&ringlane, late.address, "ok") >= 3.0);
}

#[test]
fn backup_on_another_tier_serves_while_a_unix_backend_is_down() {
    let backup = Named::start("backup");
    let front = address();
    let text = format!(
        "[[listener]]\nname = \"l\"\nlisten = \"{front}\"\npool = \"p\"\n\
         [pool.p.health]\n{FAST}\n\
         [[pool.p.backend]]\nname = \"unix\"\naddress = \"unix:SOCKET\"\n\
         [[pool.p.backend]]\nname = \"backup\"\naddress = \"{}\"\ntier = 1\n",
        backup.address
    );
    let name = format!("ringlane-health-{}.sock", std::process::id());
    let socket = std::env::temp_dir().join(name);
    let ringlane = Ringlane::start(&text.replace("SOCKET", socket.to_str().unwrap()));
    says(&ringlane, "backend unix is down");
    assert_eq!(Visit::to(front).backend, "backup");
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"unix\n");
        }
    });
    says(&ringlane, "backend unix is up");
    assert_eq!(Visit::to(front).backend, "unix");
    std::fs::remove_file(&socket).unwrap();
}

#[test]
fn every_address_of_a_name_is_probed_by_that_name() {
    let asked = Asked::start(b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n");
    let dns = Dns::start();
    let IpAddr::V4(ip) = asked.address.ip() else {
        panic!("a loopback address is of IPv4 here");
    };
    dns.answer(&[ip]);
    let port = asked.address.port();
    let health = format!("type = \"http\"\n{FAST}");
    let text = format!(
        "[global.resolver]\nnameservers = [\"{}\"]\n\
         [[listener]]\nlisten = \"{}\"\npool = \"p\"\n\
         [pool.p]\nbackends = [\"web.test:{port}\"]\n[pool.p.health]\n{health}",
        dns.address,
        address()
    );
    let ringlane = Ringlane::start(&text);
    let heard = String::from_utf8(asked.heard()).unwrap();
    assert!(
        heard.contains(&format!("\r\nHost: web.test:{port}\r\n")),
        "{heard}"
    );
    let name = format!("web.test:{port}/{ip}");
    becomes(&ringlane, name, 1.0);
}

#[test]
fn explain_says_what_happens_when_all_is_well() {
    let backends = [address(), address()];
    let text = format!(
        "{}all_down = \"closed\"\n[pool.p.health]\ninitial = \"check\"\n",
        service("p", address(), &backends)
    );
    let name = format!("ringlane-health-{}.toml", std::process::id());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, text).unwrap();
    let mut command = binary();
    command
        .args(["explain", "--listener", "p", "-c"])
        .arg(&file);
    let output = command.output().unwrap();
    std::fs::remove_file(&file).unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    for backend in backends {
        assert!(shown.contains(&backend.to_string()), "{shown}");
    }
}
