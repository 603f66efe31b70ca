//! Where ringlane listens, with what threads and drivers, and what it says where it cannot.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::thread;

use crate::support::load::{Named, Visit, listening_inodes, number, service};
use crate::support::{Ringlane, address, binary, eventually, loopback};

fn cores() -> usize {
    thread::available_parallelism().unwrap().get()
}

#[test]
fn every_kind_of_address_is_listened_on() {
    let backend = Named::start("one");
    let (v4, range) = (address(), loopback());
    let v6: SocketAddr = {
        let free = TcpListener::bind("[::1]:0").unwrap();
        free.local_addr().unwrap()
    };
    let path = std::env::temp_dir().join(format!("ringlane-any-{}", std::process::id()));
    let ringlane = Ringlane::start(&format!(
        "[[listener]]\nname = \"all\"\npool = \"p\"\nunix_mode = \"0620\"\n\
         listen = [\"{v4}\", \"{v6}\", \"{range}:7001-7005\", \"unix:{}\"]\n\
         [pool.p]\nbackends = [\"{}\"]\n",
        path.display(),
        backend.address
    ));
    let ports = (7001..=7005).map(|port| SocketAddr::new(range, port));
    let mut fronts: Vec<_> = ports.collect();
    fronts.extend([v4, v6]);
    for front in fronts {
        assert_eq!(listening_inodes(front).len(), cores(), "{front}");
        let visit = Visit::to(front);
        visit.echo().unwrap();
        visit.finish().unwrap();
    }
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o620);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"two").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut back = String::new();
    stream.read_to_string(&mut back).unwrap();
    assert_eq!(back, "one\ntwo");
    let lines = ringlane.session_lines(8);
    let over_unix = lines.iter().filter(|line| line["client"] == "unix").count();
    assert_eq!((lines.len(), over_unix), (8, 1));
    assert!(ringlane.stop().success());
}

#[test]
fn a_v6_address_takes_v4_connections_only_where_it_says_so() {
    let backend = Named::start("one");
    let port = address().port();
    let configuration = |v6only: bool| {
        let text = service("a", format!("[::]:{port}"), &[backend.address]);
        text.replace(
            "pool = \"a\"\n",
            &format!("pool = \"a\"\nv6only = {v6only}\n"),
        )
    };
    let ringlane = Ringlane::start(&configuration(true));
    let (v4, v6) = (
        SocketAddr::from(([127, 0, 0, 1], port)),
        SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port)),
    );
    Visit::to(v6).finish().unwrap();
    assert!(TcpStream::connect(v4).is_err());
    let output = ringlane.reload(&configuration(false));
    assert!(output.status.success(), "{output:?}");
    Visit::to(v4).finish().unwrap();
    Visit::to(v6).finish().unwrap();
}

#[test]
fn workers_are_pinned_and_share_the_connections() {
    let backend = Named::start("one");
    let front = address();
    let ringlane = Ringlane::start(&service("a", front, &[backend.address]));
    let mut lists = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{}/task", ringlane.pid())).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim().to_owned()
        };
        let name = field("Name:");
        if name.starts_with("worker-") {
            lists.insert(name, field("Cpus_allowed_list:"));
        }
    }
    assert_eq!(lists.len(), cores());
    assert!(
        lists.values().all(|list| list.parse::<usize>().is_ok()),
        "{lists:?}"
    );
    let mut distinct: Vec<_> = lists.into_values().collect();
    distinct.dedup();
    assert_eq!(distinct.len(), cores(), "{distinct:?}");

    let count = number("RINGLANE_CONNECTIONS", 2_000);
    thread::scope(|scope| {
        for _ in 0..4 {
            let source = loopback();
            scope.spawn(move || {
                for _ in 0..count / 4 {
                    Visit::from(source, front).finish().unwrap();
                }
            });
        }
    });
    let mut by_worker = BTreeMap::new();
    for line in ringlane.session_lines(count / 4 * 4) {
        *by_worker
            .entry(line["worker"].as_u64().unwrap())
            .or_insert(0_usize) += 1;
    }
    assert_eq!(by_worker.len(), cores());
    let (most, least) = (
        by_worker.values().max().unwrap(),
        by_worker.values().min().unwrap(),
    );
    assert!(most * 2 <= least * 3, "{by_worker:?}");
}

#[test]
fn socket_options_are_what_the_configuration_says() {
    let backend = Named::start("one");
    let front = address();
    let text = service("a", front, &[backend.address]);
    let ringlane = Ringlane::start(&text.replace(
        "pool = \"a\"\n",
        "pool = \"a\"\nbacklog = 77\nkeepalive = { idle = \"40s\", interval = \"7s\", count = 3 }\n",
    ));
    let visit = Visit::to(front);
    let ss = |arguments: &[&str]| {
        let output = Command::new("ss").args(arguments).output();
        output
            .ok()
            .map(|output| String::from_utf8(output.stdout).unwrap())
    };
    let port = front.port();
    let Some(listening) = ss(&["-Hltn", &format!("sport = :{port}")]) else {
        // Without iproute2 there is nothing to see here.
        return;
    };
    let backlogs = listening
        .lines()
        .filter(|line| line.contains(&front.to_string()));
    let backlogs: Vec<_> = backlogs
        .map(|line| line.split_whitespace().nth(2))
        .collect();
    assert_eq!(backlogs, vec![Some("77"); cores()], "{listening}");
    let accepted = ss(&["-Htnoe", &format!("sport = :{port}")]).unwrap();
    let line = accepted
        .lines()
        .find(|line| line.contains(&front.to_string()));
    let timer = line.unwrap_or_else(|| panic!("no connection: {accepted}"));
    assert!(
        timer.contains("timer:(keepalive,3") || timer.contains("timer:(keepalive,40sec"),
        "{timer}"
    );
    visit.finish().unwrap();
    drop(ringlane);
}

#[test]
fn epoll_serves_as_well() {
    let backend = Named::start("one");
    let front = address();
    let mut text = service("a", front, &[backend.address]);
    text += "[global]\ndriver = \"epoll\"\n";
    let ringlane = Ringlane::start(&text);
    let visits: Vec<_> = (0..50).map(|_| Visit::to(front)).collect();
    visits.iter().for_each(|visit| visit.echo().unwrap());
    visits.into_iter().for_each(|visit| visit.finish().unwrap());
    let (_, page) = ringlane.ask("GET", "/metrics").unwrap();
    assert!(page.contains("driver=\"epoll\""), "{page}");
    ringlane.session_lines(50);
    assert!(ringlane.stop().success());
}

/// Has the kernel refuse io_uring to the command, as container profiles do.
#[expect(
    unsafe_code,
    reason = "the filter must be installed between fork and exec"
)]
fn without_io_uring(command: &mut Command) {
    const LOAD_NUMBER: libc::sock_filter = libc::sock_filter {
        code: 0x20,
        jt: 0,
        jf: 0,
        k: 0,
    };
    const IO_URING_SETUP: u32 = 425;
    let install = || {
        let program = [
            LOAD_NUMBER,
            libc::sock_filter {
                code: 0x15,
                jt: 0,
                jf: 1,
                k: IO_URING_SETUP,
            },
            libc::sock_filter {
                code: 0x06,
                jt: 0,
                jf: 0,
                k: libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned(),
            },
            libc::sock_filter {
                code: 0x06,
                jt: 0,
                jf: 0,
                k: libc::SECCOMP_RET_ALLOW,
            },
        ];
        let program = libc::sock_fprog {
            len: 4,
            filter: program.as_ptr().cast_mut(),
        };
        // SAFETY: a plain call without pointers.
        let quiet = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        // SAFETY: `program` and what it points to live until the call has returned.
        let set = unsafe {
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            )
        };
        if quiet == 0 && set == 0 {
            Ok(())
        } else {
            Err(std::io::Error::last_os_error())
        }
    };
    // SAFETY: the closure calls nothing but prctl(2), which is safe after fork.
    unsafe { command.pre_exec(install) };
}

#[test]
fn where_io_uring_is_refused_auto_says_so_once_and_serves_with_epoll() {
    let backend = Named::start("one");
    let front = address();
    let text = service("a", front, &[backend.address]);
    let ringlane = Ringlane::start_as(&text, without_io_uring);
    let visit = Visit::to(front);
    visit.echo().unwrap();
    visit.finish().unwrap();
    let said = ringlane.messages();
    let lines = said
        .lines()
        .filter(|line| line.contains("io_uring is refused"));
    assert_eq!(lines.count(), 1, "{said}");
    let (_, page) = ringlane.ask("GET", "/metrics").unwrap();
    assert!(page.contains("driver=\"epoll\""), "{page}");
    assert!(ringlane.stop().success());
}

/// Runs ringlane with a configuration that it must refuse.
fn refused(configuration: &str, change: impl FnOnce(&mut Command)) -> Output {
    let name = format!("ringlane-refused-{}-{}", std::process::id(), loopback());
    let file = std::env::temp_dir().join(name);
    fs::write(&file, configuration).unwrap();
    let mut command = binary();
    command.args(["run", "-c"]).arg(&file);
    change(&mut command);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    eventually("it refuses", || child.try_wait().unwrap());
    fs::remove_file(&file).unwrap();
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn where_io_uring_is_refused_but_wanted_it_ends_with_the_reason() {
    let mut text = service("a", address(), &[address()]);
    text += "[admin]\nlisten = \"off\"\n[global]\ndriver = \"io_uring\"\n";
    let output = refused(&text, without_io_uring);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = said(&output);
    assert!(
        said.contains("global.driver") && said.contains("not permitted"),
        "{said}"
    );
}

#[test]
fn a_taken_address_is_named_and_ends_with_3() {
    let taken = TcpListener::bind(address()).unwrap();
    let taken = taken.local_addr().map(|at| (at, taken)).unwrap().0;
    let free = address();
    let backend = Named::start("one");
    let other = Ringlane::start(&service("a", free, &[backend.address]));
    let path = other.directory().join("sock");
    let _unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let held = TcpListener::bind(address()).unwrap();
    let at = held.local_addr().unwrap();
    let fronts = [
        at.to_string(),
        // A second ringlane on the address of the first one.
        free.to_string(),
        format!("unix:{}", path.display()),
    ];
    for front in fronts {
        let text = service("second", &front, &[taken]);
        let output = refused(&format!("{text}[admin]\nlisten = \"off\"\n"), |_| {});
        assert_eq!(output.status.code(), Some(3), "{front}: {output:?}");
        assert!(said(&output).contains(&front), "{output:?}");
    }
    let text = service("a", address(), &[taken]);
    let output = refused(&format!("{text}[admin]\nlisten = \"{at}\"\n"), |_| {});
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(
        said(&output).contains(&format!("admin: listen on {at}")),
        "{output:?}"
    );
    Visit::to(free).finish().unwrap();
}

#[test]
fn a_bad_file_ends_with_2_and_the_report() {
    let output = refused(
        "[[listener]]\nlisten = \"x\"\npol = \"a\"\n[globl]\n",
        |_| {},
    );
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = said(&output);
    for word in ["pol", "globl", "did you mean"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let missing = binary()
        .args(["run", "-c", "/nonexistent/x.toml"])
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(2), "{missing:?}");
}

#[test]
fn clients_that_come_while_descriptors_are_short_are_served_later() {
    let backend = Named::start("one");
    let front = address();
    let ringlane = Ringlane::start_as(&service("a", front, &[backend.address]), |command| {
        limit_descriptors(command, 80);
    });
    let streams: Vec<_> = (0..60)
        .map(|_| TcpStream::connect(front).unwrap())
        .collect();
    // All at once, since a worker may serve the last of them first.
    thread::scope(|scope| {
        for stream in streams {
            scope.spawn(|| {
                let visit = Visit::over(stream).unwrap();
                visit.echo().unwrap();
                // Its end makes room for those that wait.
                visit.finish().unwrap();
            });
        }
    });
    let lines = ringlane.session_lines(60);
    assert!(
        lines.iter().all(|line| line["reason"] == "eof"),
        "{lines:?}"
    );
    assert_eq!(ringlane.ask("GET", "/healthz").unwrap().0, 200);
}

#[expect(unsafe_code, reason = "the limit must be set between fork and exec")]
pub(crate) fn limit_descriptors(command: &mut Command, limit: u64) {
    let set = move || {
        let limits = rustix::process::Rlimit {
            current: Some(limit),
            maximum: Some(limit),
        };
        Ok(rustix::process::setrlimit(
            rustix::process::Resource::Nofile,
            limits,
        )?)
    };
    // SAFETY: the closure makes one system call, which is safe after fork.
    unsafe { command.pre_exec(set) };
}

#[test]
fn a_unix_socket_whose_file_was_removed_is_made_anew_by_a_reload() {
    let backend = Named::start("one");
    let path = std::env::temp_dir().join(format!("ringlane-gone-{}.sock", std::process::id()));
    let at = format!("unix:{}", path.display());
    let configuration = service("a", &at, &[backend.address]);
    let ringlane = Ringlane::start(&configuration);
    fs::remove_file(&path).unwrap();
    assert!(ringlane.reload(&configuration).status.success());
    UnixStream::connect(&path).unwrap();
    assert!(ringlane.stop().success());
    assert!(!path.exists());
}

#[test]
fn backends_of_long_sessions_are_probed_when_silent() {
    let backend = Named::start("one");
    let front = address();
    let _ringlane = Ringlane::start(&service("a", front, &[backend.address]));
    let visit = Visit::to(front);
    let SocketAddr::V4(at) = backend.address else {
        unreachable!("the harness is on IPv4");
    };
    let remote = format!("{:08X}:{:04X}", at.ip().to_bits().swap_bytes(), at.port());
    // Columns of proc_net_tcp: the third is the remote address, the sixth begins with the timer, and
    // 02 is the keepalive timer.
    eventually("the keepalive timer runs", || {
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let probed = table.lines().any(|line| {
            let mut columns = line.split_whitespace();
            columns.nth(2) == Some(&remote)
                && columns.nth(2).is_some_and(|timer| timer.starts_with("02:"))
        });
        probed.then_some(())
    });
    visit.finish().unwrap();
}
