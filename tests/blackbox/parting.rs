//! What becomes of the sessions that a backend already has when it goes down, leaves or is drained.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::reload::applied;
use crate::support::dns::Dns;
use crate::support::hanging::Hanging;
use crate::support::load::{Named, Visit, number};
use crate::support::tls::{Authority, Caller, Identity, Talk};
use crate::support::{PATIENCE, Ringlane, address, eventually, loopback};

/// How much later than due something may be on a busy machine.
const LATE: Duration = Duration::from_secs(3);

const SECOND: Duration = Duration::from_secs(1);

/// A plain listener and one that terminates, both of which send everything to one pool.
struct Stage {
    authority: Authority,
    identity: Identity,
    plain: SocketAddr,
    tls: SocketAddr,
}

/// One session, plain or with TLS up to ringlane.
enum Client {
    Plain(Visit),
    Secured(Box<Talk>, String),
}

impl Stage {
    fn new() -> Self {
        let authority = Authority::new();
        let identity = authority.issue("web", &["a.example"]);
        Self {
            authority,
            identity,
            plain: address(),
            tls: address(),
        }
    }

    /// Two workers, and these settings of the pool.
    fn with(&self, pool: &str) -> String {
        format!(
            "[global]\nworkers = 2\n\
             [[listener]]\nname = \"plain\"\nlisten = \"{}\"\npool = \"p\"\n\
             [[listener]]\nname = \"tls\"\nlisten = \"{}\"\npool = \"p\"\n\
             tls.certificates = [{}]\n\
             [pool.p]\nbalance = \"round_robin\"\n{pool}\n",
            self.plain,
            self.tls,
            self.identity.toml()
        )
    }

    fn config(&self) -> Arc<ClientConfig> {
        Caller::new(&self.authority).config()
    }

    /// So many sessions of each kind.
    fn clients(&self, count: usize) -> Vec<Client> {
        let config = self.config();
        let one = |number: usize| match number % 2 {
            0 => Client::Plain(Visit::to(self.plain)),
            _ => Client::secured(self.tls, &config),
        };
        (0..2 * count).map(one).collect()
    }
}

impl Client {
    fn secured(front: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let mut talk = Talk::to(front, config, "a.example").unwrap();
        let name = String::from_utf8(talk.hear(2).unwrap()).unwrap();
        Self::Secured(Box::new(talk), name.trim_end().to_owned())
    }

    /// The name of its backend, of one letter.
    fn backend(&self) -> &str {
        match self {
            Self::Plain(visit) => &visit.backend,
            Self::Secured(_, name) => name,
        }
    }

    fn echo(&mut self) -> bool {
        match self {
            Self::Plain(visit) => visit.echo().is_ok(),
            Self::Secured(talk, _) => {
                talk.say(b"ping").is_ok() && talk.hear(4).is_ok_and(|back| back == b"ping")
            }
        }
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(visit) => &visit.stream,
            Self::Secured(talk, _) => &talk.socket,
        }
    }

    /// Waits for the reset that ends the session.
    fn is_reset(&self) -> bool {
        was_reset(self.socket())
    }
}

fn was_reset(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    loop {
        match stream.read(&mut [0; 256]) {
            Ok(0) => return false,
            // Tickets.
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

/// Backends that are probed at a port of their own, so that they can go down and serve on.
struct Probed {
    backend: Named,
    probed: Option<Named>,
    at: SocketAddr,
}

impl Probed {
    fn start(name: &str, port: Option<u16>) -> Self {
        let ip = loopback();
        let probed = Named::start_at("probe", (ip, port.unwrap_or(0)).into()).unwrap();
        Self {
            backend: Named::start_at(name, (ip, 0).into()).unwrap(),
            at: probed.address,
            probed: Some(probed),
        }
    }

    fn goes_down(&mut self) {
        self.probed.take().unwrap().close();
    }

    fn comes_back(&mut self) {
        self.probed = Some(Named::start_at("probe", self.at).unwrap());
    }
}

/// Backends `a` and `b`, probed often.
fn probed(pool: &str) -> (Probed, Probed, String) {
    let a = Probed::start("a", None);
    let b = Probed::start("b", Some(a.at.port()));
    let text = format!(
        "{pool}\n[pool.p.health]\ninterval = \"100ms\"\nrise = 1\nfall = 1\nport = {}\n{}",
        a.at.port(),
        backends(&[("a", a.backend.address, ""), ("b", b.backend.address, "")])
    );
    (a, b, text)
}

fn backends(all: &[(&str, SocketAddr, &str)]) -> String {
    let one = |(name, at, more): &(&str, SocketAddr, &str)| {
        format!("[[pool.p.backend]]\nname = \"{name}\"\naddress = \"{at}\"\n{more}\n")
    };
    all.iter().map(one).collect()
}

fn is_up(ringlane: &Ringlane, backend: &str, state: f64) {
    let series = format!("ringlane_backend_up{{pool=\"p\",backend=\"{backend}\"}}");
    eventually("the backend's state is told", || {
        (ringlane.metric(&series) == Some(state)).then_some(())
    });
}

/// All sessions of `a` are reset for this reason, those of `b` are left alone.
fn only_a_ends(ringlane: &Ringlane, clients: &mut [Client], reason: &str) {
    let of_a = clients.iter().filter(|it| it.backend() == "a");
    let of_a: Vec<_> = of_a.collect();
    assert!(!of_a.is_empty() && of_a.len() < clients.len());
    let count = of_a.len();
    for client in of_a {
        assert!(client.is_reset());
    }
    for line in ringlane.session_lines(count) {
        assert_eq!(line["reason"], reason, "{line}");
        assert_eq!(line["side"], "us", "{line}");
        assert_eq!(line["backend"], "a", "{line}");
    }
    let mut of_b = clients.iter_mut().filter(|it| it.backend() == "b");
    assert!(of_b.all(Client::echo));
}

#[test]
fn sessions_of_a_backend_that_goes_down_are_reset_whatever_snapshot_opened_them() {
    let stage = Stage::new();
    let (mut a, _b, pool) = probed("on_down = \"reset\"");
    let ringlane = Ringlane::start(&stage.with(&pool));
    let mut clients = stage.clients(8);
    let other = stage.with(&pool.replace("on_down", "retry_budget = \"30%\"\non_down"));
    applied(&ringlane.reload(&other));
    clients.extend(stage.clients(8));
    a.goes_down();
    is_up(&ringlane, "a", 0.0);
    let begun = Instant::now();
    only_a_ends(&ringlane, &mut clients, "backend_down");
    assert!(begun.elapsed() < LATE, "{:?}", begun.elapsed());
}

#[test]
fn sessions_do_not_wait_for_a_reload_that_waits_for_names() {
    let stage = Stage::new();
    let (mut a, _b, pool) = probed("on_down = \"reset\"");
    let ringlane = Ringlane::start(&stage.with(&pool));
    let clients = stage.clients(2);
    // Never answers, so that the reload takes two seconds.
    let silent = UdpSocket::bind((loopback(), 0)).unwrap();
    let slow = format!(
        "{}[pool.q]\nbackends = [\"absent.test:80\"]\n\
         [global.resolver]\nnameservers = [\"{}\"]\n",
        stage.with(&pool),
        silent.local_addr().unwrap()
    );
    thread::scope(|scope| {
        let reload = scope.spawn(|| ringlane.reload(&slow));
        // Somebody is asked for the name.
        silent.set_read_timeout(Some(PATIENCE)).unwrap();
        silent.recv(&mut [0; 512]).unwrap();
        a.goes_down();
        let mut of_a = clients.iter().filter(|it| it.backend() == "a");
        assert!(of_a.all(Client::is_reset));
        assert!(!reload.is_finished());
        applied(&reload.join().unwrap());
    });
}

#[test]
fn a_drain_gives_sessions_their_time_and_a_comeback_lets_them_stay() {
    let stage = Stage::new();
    let (mut a, _b, pool) = probed("on_down = \"drain 2s\"");
    let ringlane = Ringlane::start(&stage.with(&pool));
    let mut clients = stage.clients(6);
    a.goes_down();
    is_up(&ringlane, "a", 0.0);
    assert!(clients.iter_mut().all(Client::echo));
    a.comes_back();
    is_up(&ringlane, "a", 1.0);
    // The time that they would have had.
    thread::sleep(SECOND * 3);
    assert!(clients.iter_mut().all(Client::echo));

    let begun = Instant::now();
    a.goes_down();
    is_up(&ringlane, "a", 0.0);
    let told = Instant::now();
    only_a_ends(&ringlane, &mut clients, "backend_down");
    assert!(begun.elapsed() >= SECOND * 2, "{:?}", begun.elapsed());
    assert!(told.elapsed() < SECOND * 2 + LATE, "{:?}", told.elapsed());
}

#[test]
fn sessions_of_a_removed_backend_or_pool_end_by_its_last_rule() {
    let stage = Stage::new();
    let (a, b) = (Named::start("a"), Named::start("b"));
    let rule = "on_remove = \"reset\"\n";
    let both = backends(&[("a", a.address, ""), ("b", b.address, "")]);
    let ringlane = Ringlane::start(&stage.with(&format!("{rule}{both}")));
    let mut clients = stage.clients(8);
    let only_b = backends(&[("b", b.address, "")]);
    applied(&ringlane.reload(&stage.with(&format!("{rule}{only_b}"))));
    let begun = Instant::now();
    only_a_ends(&ringlane, &mut clients, "backend_removed");
    assert!(begun.elapsed() < LATE, "{:?}", begun.elapsed());

    let other = stage.with(&only_b).replace("\"p\"", "\"q\"");
    let other = other.replace("pool.p", "pool.q");
    applied(&ringlane.reload(&other));
    let left = clients.iter().filter(|it| it.backend() == "b");
    assert!(left.clone().all(Client::is_reset));
    let lines = ringlane.session_lines(clients.len());
    assert!(lines.iter().all(|it| it["reason"] == "backend_removed"));
    let count = ringlane
        .metric("ringlane_connections_total{listener=\"plain\",result=\"backend_removed\"}");
    assert_eq!(count, Some(8.0));
}

#[test]
fn sessions_of_a_drained_backend_have_until_it_gets_weight_again() {
    let stage = Stage::new();
    let (a, b) = (Named::start("a"), Named::start("b"));
    let with = |time: &str, weight: u16| {
        let weight = format!("weight = {weight}");
        let both = backends(&[("a", a.address, &weight), ("b", b.address, "")]);
        stage.with(&format!("on_drain = \"{time}\"\n{both}"))
    };
    let ringlane = Ringlane::start(&with("drain 2s", 1));
    let mut clients = stage.clients(6);
    applied(&ringlane.reload(&with("drain 2s", 0)));
    assert_eq!(Visit::to(stage.plain).backend, "b");
    applied(&ringlane.reload(&with("drain 2s", 1)));
    thread::sleep(SECOND * 3);
    assert!(clients.iter_mut().all(Client::echo));
    let done = ringlane.lines_so_far().len();
    assert_eq!(done, 1);

    applied(&ringlane.reload(&with("drain 1s", 0)));
    let begun = Instant::now();
    for client in clients.iter().filter(|it| it.backend() == "a") {
        assert!(client.is_reset());
    }
    let took = begun.elapsed();
    assert!(took < SECOND + LATE, "{took:?}");
    let ended = clients.iter().filter(|it| it.backend() == "a").count();
    let lines = ringlane.session_lines(1 + ended);
    let drained = lines.iter().filter(|it| it["reason"] == "drain").count();
    assert_eq!(drained, ended, "{lines:?}");
}

#[test]
fn spread_closures_are_even() {
    let count = number("RINGLANE_PARTING", 1_000);
    let stage = Stage::new();
    let a = Named::start("a");
    let b = Named::start("b");
    let text = |all: &str| stage.with(&format!("on_remove = \"close_spread 10s\"\n{all}"));
    let ringlane = Ringlane::start(&text(&backends(&[("a", a.address, "")])));
    let mut clients: Vec<_> = (0..count).map(|_| Visit::to(stage.plain).stream).collect();
    applied(&ringlane.reload(&text(&backends(&[("b", b.address, "")]))));
    let begun = Instant::now();
    for client in &clients {
        client.set_nonblocking(true).unwrap();
    }
    let mut by_second = [0_usize; 10];
    while !clients.is_empty() && begun.elapsed() < Duration::from_secs(10) + LATE {
        let second = begun.elapsed().as_secs().min(9);
        let before = clients.len();
        clients.retain(|mut client| {
            let outcome = client.read(&mut [0; 1]);
            outcome.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        });
        by_second[usize::try_from(second).unwrap()] += before - clients.len();
        thread::sleep(Duration::from_millis(5));
    }
    let each = count / 10;
    let fair = each - each / 5..=each + each / 5;
    assert!(
        by_second.iter().all(|it| fair.contains(it)),
        "{by_second:?}"
    );
}

#[test]
fn sessions_leave_an_address_that_a_name_no_longer_has() {
    let stage = Stage::new();
    let port = address().port();
    let at = |name: &str| {
        let ip = loopback();
        (Named::start_at(name, (ip, port).into()).unwrap(), v4(ip))
    };
    let ((_a, first), (_b, second)) = (at("a"), at("b"));
    let dns = Dns::start();
    dns.answer(&[first, second]);
    let text = stage.with(&format!(
        "on_remove = \"reset\"\nbackends = [\"backend.test:{port}\"]\n\
         [global.resolver]\nnameservers = [\"{}\"]\n",
        dns.address
    ));
    let ringlane = Ringlane::start(&text);
    let mut clients = stage.clients(6);
    assert!(clients.iter().any(|it| it.backend() == "a"));
    // Answers that are lost are no answers.
    dns.fail();
    dns.await_questions(4);
    assert!(clients.iter_mut().all(Client::echo));
    dns.answer(&[second]);
    let (gone, mut stays): (Vec<_>, Vec<_>) =
        clients.into_iter().partition(|it| it.backend() == "a");
    assert!(gone.iter().all(Client::is_reset));
    assert!(stays.iter_mut().all(Client::echo));
    let lines = ringlane.session_lines(gone.len());
    assert!(lines.iter().all(|it| it["reason"] == "backend_removed"));
}

fn v4(ip: IpAddr) -> Ipv4Addr {
    match ip {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(_) => panic!("a loopback address of IPv4"),
    }
}

#[test]
fn a_session_that_dials_goes_elsewhere_or_ends() {
    let stage = Stage::new();
    let hanging = Hanging::start();
    let b = Named::start("b");
    let rule = "on_remove = \"drain 500ms\"\nconnect = { timeout = \"15s\", total = \"20s\" }\n";
    let with = |all: &[(&str, SocketAddr, &str)]| {
        let text = stage.with(&format!("{rule}{}", backends(all)));
        text.replace("round_robin", "first")
    };
    let (slow, good) = (("a", hanging.address, ""), ("b", b.address, ""));
    let ringlane = Ringlane::start(&with(&[slow, good]));
    let dialling = |count: f64| {
        let series = "ringlane_backend_connections_active{pool=\"p\",backend=\"a\"}";
        eventually("clients dial", || {
            (ringlane.metric(series) == Some(count)).then_some(())
        });
    };
    let visit = |front| thread::spawn(move || Visit::try_to(front, None));
    let first = visit(stage.plain);
    dialling(1.0);
    applied(&ringlane.reload(&with(&[good])));
    let begun = Instant::now();
    assert_eq!(first.join().unwrap().unwrap().backend, "b");
    assert!(begun.elapsed() < LATE, "{:?}", begun.elapsed());

    // Nowhere else to go.
    let alone = with(&[slow]);
    applied(&ringlane.reload(&alone));
    let second = visit(stage.plain);
    dialling(1.0);
    applied(&ringlane.reload(&with(&[good])));
    assert!(second.join().unwrap().is_err());
    let lines = ringlane.session_lines(2);
    let line = lines.iter().find(|it| it["reason"] == "backend_removed");
    assert_eq!(line.unwrap()["backend"], "a");
}

#[test]
fn a_session_in_a_handshake_with_its_backend_is_covered() {
    let stage = Stage::new();
    // Takes connections, and says nothing.
    let silent = TcpListener::bind((loopback(), 0)).unwrap();
    let rule = "on_remove = \"reset\"\ntls = { verify = \"none\", sni = \"x.example\" }\n";
    let with = |at| stage.with(&format!("{rule}{}", backends(&[("a", at, "")])));
    let ringlane = Ringlane::start(&with(silent.local_addr().unwrap()));
    let plain = TcpStream::connect(stage.plain).unwrap();
    let secured = Talk::to(stage.tls, &stage.config(), "a.example").unwrap();
    let _kept = [silent.accept().unwrap(), silent.accept().unwrap()];
    applied(&ringlane.reload(&with(address())));
    assert!(was_reset(&plain) && was_reset(&secured.socket));
    for line in ringlane.session_lines(2) {
        assert_eq!(line["reason"], "backend_removed", "{line}");
    }
}

#[test]
fn a_session_that_comes_to_a_removed_backend_by_an_old_snapshot_does_not_stay() {
    let stage = Stage::new();
    let a = Named::start("a");
    for (rule, arrives) in [("reset", false), ("drain 300ms", true)] {
        let hanging = Hanging::start();
        let text = |all: &[(&str, SocketAddr, &str)]| {
            let rule = format!(
                "on_remove = \"{rule}\"\nconnect.timeout = \"1500ms\"\n{}",
                backends(all)
            );
            stage.with(&rule).replace("round_robin", "first")
        };
        let slow = ("h", hanging.address, "");
        let ringlane = Ringlane::start(&text(&[slow, ("a", a.address, "")]));
        let front = stage.plain;
        let client = thread::spawn(move || Visit::try_to(front, None));
        let series = "ringlane_backend_connections_active{pool=\"p\",backend=\"h\"}";
        eventually("the client dials", || {
            (ringlane.metric(series) == Some(1.0)).then_some(())
        });
        applied(&ringlane.reload(&text(&[slow])));
        match client.join().unwrap() {
            Ok(visit) => assert!(arrives && was_reset(&visit.stream)),
            Err(_) => assert!(!arrives),
        }
        let line = ringlane.session_lines(1).remove(0);
        assert_eq!(line["reason"], "backend_removed", "{line}");
        assert_eq!(line["backend"], "a", "{line}");
    }
}

#[test]
fn nobody_who_begins_while_its_backend_is_removed_is_forgotten() {
    let stage = Stage::new();
    let (a, b) = (Named::start("a"), Named::start("b"));
    let with = |all: &[(&str, SocketAddr, &str)]| {
        stage.with(&format!("on_remove = \"reset\"\n{}", backends(all)))
    };
    let (one, two) = (("a", a.address, ""), ("b", b.address, ""));
    let ringlane = Ringlane::start(&with(&[one, two]));
    let stop = AtomicBool::new(false);
    for _ in 0..10 {
        stop.store(false, Ordering::Relaxed);
        let held = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut held = Vec::new();
                        while !stop.load(Ordering::Relaxed) && held.len() < 200 {
                            // Whoever was given `a` just then is reset before it hears of it.
                            held.extend(Visit::try_to(stage.plain, None).ok());
                        }
                        held
                    })
                })
                .collect();
            thread::sleep(Duration::from_millis(30));
            applied(&ringlane.reload(&with(&[two])));
            stop.store(true, Ordering::Relaxed);
            let held = threads.into_iter().map(|it| it.join().unwrap());
            held.flatten().collect::<Vec<Visit>>()
        });
        for visit in held {
            match &*visit.backend {
                "a" => assert!(was_reset(&visit.stream)),
                _ => visit.echo().unwrap(),
            }
        }
        applied(&ringlane.reload(&with(&[one, two])));
    }
    eventually("every session is counted off", || {
        let series = "ringlane_backend_connections_active{pool=\"p\",backend=\"a\"}";
        (ringlane.metric(series) == Some(0.0)).then_some(())
    });
}

#[test]
fn sessions_that_chose_a_backend_though_it_was_down_are_left_alone() {
    let stage = Stage::new();
    let mut a = Probed::start("a", None);
    let pool = format!(
        "on_down = \"reset\"\nall_down = \"open\"\n\
         [pool.p.health]\ninterval = \"100ms\"\nrise = 1\nfall = 1\nport = {}\n{}",
        a.at.port(),
        backends(&[("a", a.backend.address, "")])
    );
    let ringlane = Ringlane::start(&stage.with(&pool));
    let before = stage.clients(2);
    a.goes_down();
    is_up(&ringlane, "a", 0.0);
    assert!(before.iter().all(Client::is_reset));
    let mut after = stage.clients(2);
    thread::sleep(SECOND);
    assert!(after.iter_mut().all(Client::echo));
    a.comes_back();
    is_up(&ringlane, "a", 1.0);
    assert!(after.iter_mut().all(Client::echo));
    a.goes_down();
    assert!(after.iter().all(Client::is_reset));
}
