//! Reloads: what changes and what must not.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::load::{
    Load, Named, Visit, descriptors, listening_inodes, number, resident, service,
};
use crate::support::{PATIENCE, Ringlane, address, binary, eventually};

pub(crate) fn version(ringlane: &Ringlane) -> u64 {
    let (_, page) = ringlane.ask("GET", "/metrics").unwrap();
    let start = "ringlane_config_info{version=\"";
    let line = page.lines().find_map(|line| line.strip_prefix(start));
    line.unwrap().split('"').next().unwrap().parse().unwrap()
}

fn await_version(ringlane: &Ringlane, wanted: u64) {
    eventually("the configuration is in force", || {
        (version(ringlane) >= wanted).then_some(())
    });
}

/// `ringlane reload`, told where the admin listener is.
pub(crate) fn reload_command(ringlane: &Ringlane) -> Output {
    let mut command = binary();
    command.args(["reload", "-c"]).arg(ringlane.file());
    command.args(["--admin", &ringlane.admin.to_string()]);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) fn applied(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn reloads_under_load_reset_and_refuse_nobody() {
    let (one, two) = (Named::start("one"), Named::start("two"));
    let (front, extra) = (address(), address());
    let moving = [address(), address()];
    let configuration = |step: usize| {
        let backends = [one.address, two.address];
        let pool = &backends[..1 + step % 2];
        let mut text = service("stable", front, pool);
        text += &format!("connect = {{ timeout = \"{}s\" }}\n", 2 + step % 3);
        text += &service("moving", moving[step % 2], &backends);
        if step % 2 == 1 {
            text += &service("extra", extra, &backends);
        }
        text
    };
    let ringlane = Ringlane::start(&configuration(0));
    let load = Load::start(front, 4, Duration::from_millis(1));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let visitors = moving.map(|at| {
            let stop = &stop;
            scope.spawn(move || visit_while_it_moves(at, stop))
        });
        for step in 1..=number("RINGLANE_RELOADS", 5) {
            ringlane.write(&configuration(step));
            if step % 2 == 0 {
                ringlane.signal(Signal::HUP);
            } else {
                applied(&reload_command(&ringlane));
            }
            await_version(&ringlane, 1 + step as u64);
            load.more(200);
        }
        stop.store(true, Ordering::Relaxed);
        for visitor in visitors {
            let (served, broken) = visitor.join().unwrap();
            assert!(served > 0);
            assert_eq!(broken, Vec::<String>::new());
        }
    });
    assert_eq!(load.end(), Vec::<String>::new());
    assert!(ringlane.stop().success());
}

/// Clients of an address that comes and goes: refused or left waiting, but never served badly.
fn visit_while_it_moves(at: SocketAddr, stop: &AtomicBool) -> (usize, Vec<String>) {
    let (mut served, mut broken) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let Ok(stream) = TcpStream::connect_timeout(&at, Duration::from_millis(50)) else {
            std::thread::yield_now();
            continue;
        };
        match Visit::over(stream).and_then(|visit| visit.echo().and_then(|()| visit.finish())) {
            Ok(()) => served += 1,
            Err(error) => broken.push(error.to_string()),
        }
    }
    (served, broken)
}

#[test]
fn unchanged_addresses_keep_their_sockets() {
    let backend = Named::start("one");
    let (front, extra) = (address(), address());
    let ringlane = Ringlane::start(&service("a", front, &[backend.address]));
    let before = listening_inodes(front);
    assert!(!before.is_empty());
    // Another name, other settings and another pool, but the same address.
    let mut changed = service("b", front, &[backend.address, extra]);
    changed = changed.replace(
        "pool = \"b\"\n",
        "pool = \"b\"\nbacklog = 100\nkeepalive = \"off\"\nnodelay = false\n",
    );
    changed += &service("c", extra, &[backend.address]);
    applied(&ringlane.reload(&changed));
    assert_eq!(listening_inodes(front), before);
    Visit::to(front).finish().unwrap();
    let line = ringlane.session_lines(1).remove(0);
    assert_eq!(line["listener"], "b");
    assert_eq!(listening_inodes(extra).len(), before.len());
}

#[test]
fn reloads_give_way_to_workers() {
    let front = address();
    let echo = Named::start("one");
    let ringlane = Ringlane::start(&service("stable", front, &[echo.address]));
    let nice = |task: &str| -> i64 {
        let stat = fs::read_to_string(format!("{task}/stat")).unwrap();
        // What follows the name begins with the third field; this is the nineteenth (proc(5)).
        let (_, fields) = stat.rsplit_once(')').unwrap();
        fields.split_whitespace().nth(16).unwrap().parse().unwrap()
    };
    let tasks = format!("/proc/{}/task", ringlane.pid());
    let named = |task: &str| fs::read_to_string(format!("{task}/comm")).unwrap();
    let all: Vec<String> = fs::read_dir(&tasks)
        .unwrap()
        .map(|task| task.unwrap().path().display().to_string())
        .collect();
    let workers = all.iter().filter(|task| named(task).starts_with("worker"));
    let workers: Vec<i64> = workers.map(|task| nice(task)).collect();
    assert!(!workers.is_empty());
    let main = format!("{tasks}/{}", ringlane.pid());
    eventually("the main thread is below all workers", || {
        let expected = workers.iter().map(|worker| (worker + 10).min(19));
        expected.max().filter(|expected| nice(&main) == *expected)
    });
}

#[test]
fn many_reloads_hold_no_memory_and_no_descriptors() {
    let backend = Named::start("one");
    let front = address();
    let others = [address(), address()];
    let configuration = |step: usize| {
        let mut text = service("stable", front, &[backend.address]);
        text += &service(&format!("step{step}"), others[step % 2], &[backend.address]);
        for index in 0..20 {
            text += &format!(
                "[[pool.step{step}.backend]]\naddress = \"10.9.{}.{}:{index}1\"\n",
                step % 250,
                1 + index
            );
        }
        // The two forms of a pool exclude each other.
        text.replace(
            &format!("[pool.step{step}]\nbackends = [\"{}\"]\n", backend.address),
            "",
        )
    };
    let ringlane = Ringlane::start(&configuration(0));
    let sessions: Vec<_> = (0..5).map(|_| Visit::to(front)).collect();
    let rounds = number("RINGLANE_RELOADS_MANY", 300);
    let warm = rounds / 2;
    let mut before = (0, 0);
    for step in 1..=rounds {
        ringlane.write(&configuration(step));
        let (status, report) = ringlane.ask("POST", "/reload").unwrap();
        assert_eq!(status, 200, "{report}");
        if step == warm {
            before = (resident(ringlane.pid()), descriptors(ringlane.pid()));
        }
    }
    let growth = resident(ringlane.pid()).saturating_sub(before.0);
    let allowed = before.0 / 20 + 1024;
    assert!(growth <= allowed, "{growth} KiB more than {} KiB", before.0);
    eventually("descriptors are as before", || {
        (descriptors(ringlane.pid()) <= before.1).then_some(())
    });
    for session in sessions {
        session.echo().unwrap();
        session.finish().unwrap();
    }
    applied(&ringlane.reload(&service("stable", front, &[backend.address])));
    eventually("the metrics forget what nobody uses", || {
        let (_, page) = ringlane.ask("GET", "/metrics").unwrap();
        (!page.contains("\"step")).then_some(())
    });
}

#[test]
fn sessions_survive_the_loss_of_their_listener_and_count_when_it_comes_back() {
    let (a, b) = (Named::start("a"), Named::start("b"));
    let (front, other) = (address(), address());
    let ringlane = Ringlane::start(&service("lost", front, &[a.address]));
    let kept: Vec<_> = (0..10).map(|_| Visit::to(front)).collect();
    applied(&ringlane.reload(&service("other", other, &[b.address])));
    eventually("the address is gone", || {
        listening_inodes(front).is_empty().then_some(())
    });
    applied(&ringlane.reload(&service("another", other, &[b.address])));
    kept.iter().for_each(|visit| visit.echo().unwrap());
    applied(&ringlane.reload(&service("lost", front, &[a.address, b.address])));
    let more: Vec<_> = (0..10).map(|_| Visit::to(front)).collect();
    assert!(more.iter().all(|visit| visit.backend == "b"));
    kept.iter().for_each(|visit| visit.echo().unwrap());
    let active = r#"ringlane_connections_active{listener="lost",worker="0"}"#;
    assert!(ringlane.metric(active).is_some());
    drop((kept, more));
    let lines = ringlane.session_lines(20);
    let versions = lines.iter().filter(|line| line["snapshot"] == 1).count();
    assert_eq!(versions, 10);
}

#[test]
fn every_setting_that_a_reload_may_change_is_changed() {
    let backend = Named::start("one");
    let (front, second_admin) = (address(), address());
    let good = service("a", front, &[backend.address]);
    let mut ringlane = Ringlane::start(&good);
    let other_log = ringlane.directory().join("other");
    let token = ringlane.directory().join("token");
    let socket = ringlane.directory().join("front.sock");
    fs::write(&token, "secret\n").unwrap();

    let unix = format!(
        "[[listener]]\nname = \"u\"\nlisten = \"unix:{}\"\npool = \"a\"\nunix_mode = \"0600\"\n",
        socket.display()
    );
    ringlane.write(&format!(
        "{good}{unix}[log]\nsessions = \"{}\"\nformat = \"text\"\nlevel = \"error\"\n\
         [admin]\nlisten = \"{second_admin}\"\ntoken_file = \"{}\"\n",
        other_log.display(),
        token.display()
    ));
    applied(&reload_command(&ringlane));
    let first_admin = std::mem::replace(&mut ringlane.admin, second_admin);
    await_version(&ringlane, 2);
    eventually("the old admin address is gone", || {
        TcpStream::connect(first_admin).is_err().then_some(())
    });
    assert_eq!(ringlane.ask("POST", "/reload").unwrap().0, 401);
    let said = ringlane.messages();
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    over_unix(&socket);
    eventually("the session is logged as text", || {
        let log = fs::read_to_string(&other_log).unwrap();
        log.contains("client=unix").then_some(())
    });

    // Reloads with the token, whose file the command finds in the configuration.
    ringlane.write(&format!(
        "{good}[global]\nworkers = 1\npin = false\ndriver = \"epoll\"\n\
         [admin]\nlisten = \"{second_admin}\"\ntoken_file = \"{}\"\n[log]\nlevel = \"error\"\nsessions = \"off\"\n",
        token.display()
    ));
    let output = reload_command(&ringlane);
    applied(&output);
    let told = text(&output.stdout);
    assert_eq!(told.matches("(needs a restart)").count(), 3, "{told}");
    assert!(!socket.exists());
    assert_eq!(ringlane.messages(), said, "level error keeps reloads quiet");
    assert!(
        listening_inodes(front).len() > 1,
        "the workers are as before"
    );
    Visit::to(front).finish().unwrap();
}

fn over_unix(path: &std::path::Path) {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut greeting = String::new();
    io::Read::read_to_string(&mut stream, &mut greeting).unwrap();
    assert_eq!(greeting, "one\n");
}

#[test]
fn a_storm_of_hangups_leaves_it_well() {
    let backend = Named::start("one");
    let front = address();
    let ringlane = Ringlane::start(&service("a", front, &[backend.address]));
    let load = Load::start(front, 2, Duration::from_millis(2));
    for _ in 0..500 {
        ringlane.signal(Signal::HUP);
    }
    load.more(50);
    let before = version(&ringlane);
    ringlane.signal(Signal::HUP);
    await_version(&ringlane, before + 1);
    assert_eq!(ringlane.ask("GET", "/healthz").unwrap().0, 200);
    assert_eq!(load.end(), Vec::<String>::new());
    assert!(ringlane.stop().success());
}

#[test]
fn sockets_that_must_be_made_anew_replace_the_old_ones_without_a_gap() {
    let backend = Named::start("one");
    let front = address();
    let good = service("a", front, &[backend.address]);
    let ringlane = Ringlane::start(&good);
    let before = listening_inodes(front);
    let load = Load::start(front, 2, Duration::from_millis(2));
    load.more(20);
    let mptcp = good.replace("pool = \"a\"\n", "pool = \"a\"\nmptcp = true\n");
    applied(&ringlane.reload(&mptcp));
    eventually("the old sockets are gone", || {
        let now = listening_inodes(front);
        (now.len() == before.len() && now.is_disjoint(&before)).then_some(())
    });
    load.more(100);
    assert_eq!(load.end(), Vec::<String>::new());
}

#[test]
fn queued_connections_of_a_withdrawn_address_are_served() {
    let backend = Named::start("one");
    let (front, other) = (address(), address());
    let ringlane = Ringlane::start(&service("a", front, &[backend.address]));
    ringlane.write(&service("b", other, &[backend.address]));
    // Stopped, it can accept nothing: what connects now waits in the queues.
    ringlane.signal(Signal::STOP);
    let queued: Vec<_> = (0..50)
        .map(|_| TcpStream::connect(front).unwrap())
        .collect();
    ringlane.signal(Signal::HUP);
    ringlane.signal(Signal::CONT);
    let mut backends = BTreeMap::new();
    for stream in queued {
        let visit = Visit::over(stream).unwrap();
        (&visit.stream).write_all(b"").unwrap();
        *backends.entry(visit.backend.clone()).or_insert(0) += 1;
        visit.finish().unwrap();
    }
    assert_eq!(backends["one"], 50);
    await_version(&ringlane, 2);
    eventually("the address is gone", || {
        TcpStream::connect_timeout(&front, Duration::from_millis(100))
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
            .then_some(())
    });
}

#[test]
fn a_ringlane_with_another_file_is_not_reloaded() {
    let backend = Named::start("one");
    let other = Ringlane::start(&service("a", address(), &[backend.address]));
    let mine = other.directory().join("mine.toml");
    let refused = |configuration: &str| {
        fs::write(&mine, configuration).unwrap();
        let mut command = binary();
        let output = command.args(["reload", "-c"]).arg(&mine).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        text(&output.stderr)
    };
    let admin = format!("[admin]\nlisten = \"{}\"\n", other.admin);
    let message = refused(&admin);
    for path in [&mine, &other.file()] {
        assert!(message.contains(path.to_str().unwrap()), "{message}");
    }
    // What is included cannot be read, or not be found in a broken file.
    for broken in ["include = [\"gone.toml\"]\n", "include = [\"gone.toml\n"] {
        let message = refused(broken);
        assert!(message.contains("cannot tell where"), "{message}");
    }
    let output = binary()
        .args(["reload", "-c", "/nonexistent/a.toml"])
        .output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text(&output.stderr).contains("cannot be read"),
        "{output:?}"
    );
    assert_eq!(version(&other), 1);
    applied(&reload_command(&other));
    assert_eq!(version(&other), 2);
}
