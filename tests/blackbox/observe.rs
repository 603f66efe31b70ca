//! What an operator sees: metrics, the session log and the checks of a file.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ringlane::metrics::names;
use rustix::process::Signal;

use crate::support::load::{Load, Named, Visit, service};
use crate::support::{Ringlane, address, binary, eventually};

/// Sends so many bytes through the echo and back.
fn round_trip(front: SocketAddr, bytes: usize) {
    let mut visit = Visit::to(front);
    let sent = vec![b'x'; bytes];
    visit.stream.write_all(&sent).unwrap();
    let mut back = vec![0; bytes];
    visit.stream.read_exact(&mut back).unwrap();
    assert!(back == sent);
    visit.finish().unwrap();
}

#[test]
fn it_is_well_as_soon_as_it_is_ready() {
    let backend = Named::start("one");
    for _ in 0..5 {
        let ringlane = Ringlane::start(&service("a", address(), &[backend.address]));
        let (status, told) = ringlane.ask("GET", "/healthz").unwrap();
        assert_eq!(status, 200, "{told}");
    }
}

/// What the page shows after three sessions that ended, one that is open and one that was refused;
/// GOOD stands for the labels of the backend.
const COUNTED: [(&str, f64); 19] = [
    ("accepted_total{listener=\"good\"}", 4.0),
    ("accepted_total{listener=\"dead\"}", 1.0),
    ("connections_total{listener=\"good\",result=\"eof\"}", 3.0),
    (
        "connections_total{listener=\"dead\",result=\"connect_refused\"}",
        1.0,
    ),
    ("connections_total{listener=\"good\",result=\"idle\"}", 0.0),
    ("bytes_total{listener=\"good\",direction=\"up\"}", 101_001.0),
    // The greeting of four bytes comes on top, in the open session, too.
    (
        "bytes_total{listener=\"good\",direction=\"down\"}",
        101_017.0,
    ),
    ("bytes_total{listener=\"dead\",direction=\"up\"}", 0.0),
    ("rejected_total{reason=\"connect_refused\"}", 1.0),
    ("session_seconds_count{listener=\"good\"}", 3.0),
    ("connect_seconds_count{pool=\"good\"}", 4.0),
    ("first_byte_seconds_count{pool=\"good\"}", 3.0),
    ("backend_connections_active{GOOD}", 1.0),
    ("backend_connects_total{GOOD,result=\"ok\"}", 4.0),
    ("backend_up{GOOD}", 1.0),
    ("pool_usable{pool=\"dead\"}", 0.0),
    ("config_info{version=\"1\"}", 1.0),
    ("worker_up{worker=\"0\"}", 1.0),
    ("log_dropped_total", 0.0),
];

#[test]
fn counters_are_what_happened() {
    let backend = Named::start("one");
    let (front, dead) = (address(), address());
    let mut text = service("good", front, &[backend.address]);
    text += &service("dead", dead, &[address()]);
    let ringlane = Ringlane::start(&text);
    for bytes in [1, 1_000, 100_000] {
        round_trip(front, bytes);
    }
    let open = Visit::to(front);
    let refused = TcpStream::connect(dead).unwrap().read(&mut [0; 1]);
    assert!(refused.is_err());
    ringlane.session_lines(4);
    let good = format!("pool=\"good\",backend=\"{}\"", backend.address);
    let (_, page) = ringlane.ask("GET", "/metrics").unwrap();
    for (series, wanted) in COUNTED {
        let line = format!("ringlane_{} {wanted}", series.replace("GOOD", &good));
        assert!(
            page.lines().any(|on_page| on_page == line),
            "{line} in\n{page}"
        );
    }
    open.finish().unwrap();
}

#[test]
fn every_metric_explains_itself() {
    let backend = Named::start("one");
    let front = address();
    // Everything that has series of its own, so that each is looked at.
    let text = format!(
        "[global]\nworkers = 2\noverload = {{ memory = \"95%\", loop_lag = \"1s\" }}\n{}\
         queue = 1\nbreaker = {{ max_connections = 5 }}\noutliers = {{ failure_rate = \"50%\" }}\n\
         health = {{ interval = \"100ms\", timeout = \"100ms\" }}\n",
        service("a", front, &[backend.address]).replace(
            "[pool.a]",
            "deny = [\"192.0.2.0/24\"]\nlimits = { per_source = 5 }\n[pool.a]"
        )
    );
    let ringlane = Ringlane::start(&text);
    round_trip(front, 10);
    ringlane.session_lines(1);
    // What is measured at times is absent until it has been.
    let late = [
        "ringlane_backend_probe_seconds{",
        "ringlane_overload_lag_seconds ",
    ];
    let page = eventually("a backend has been probed, a worker been looked at", || {
        let (_, page) = ringlane.ask("GET", "/metrics").unwrap();
        let is_whole = late.iter().all(|series| page.contains(series));
        is_whole.then_some(page)
    });
    let explained = |word: &str| -> BTreeSet<&str> {
        let start = format!("# {word} ");
        let names = page
            .lines()
            .filter_map(|line| line.strip_prefix(start.as_str()));
        names.filter_map(|rest| rest.split(' ').next()).collect()
    };
    let (help, kind) = (explained("HELP"), explained("TYPE"));
    assert_eq!(help, kind);
    let all: BTreeSet<&str> = names::ALL.iter().map(|metric| metric.name).collect();
    let missing: Vec<_> = all.difference(&help).collect();
    // Without certificates there is none that could expire.
    assert_eq!(missing, [&"ringlane_certificate_expiry_seconds"]);
    assert!(help.is_subset(&all));
    for line in page
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let name = line.split(['{', ' ']).next().unwrap();
        let of_histogram = ["_bucket", "_sum", "_count"].iter().any(|end| {
            name.strip_suffix(end)
                .is_some_and(|name| help.contains(name))
        });
        assert!(name.starts_with("ringlane_"), "{line}");
        assert!(help.contains(name) || of_histogram, "{line}");
    }
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    // Only where it is installed.
    if let Ok(mut promtool) = promtool {
        promtool
            .stdin
            .take()
            .unwrap()
            .write_all(page.as_bytes())
            .unwrap();
        let output = promtool.wait_with_output().unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{output:?}"
        );
    }
}

#[test]
fn session_lines_may_be_text_on_standard_output_at_both_ends() {
    let backend = Named::start("one");
    let front = address();
    let path = std::env::temp_dir().join(format!("ringlane-stdout-{}", std::process::id()));
    let mut text =
        service("a b", front, &[backend.address]).replace("[pool.a b]", "[pool.\"a b\"]");
    text += "[log]\nformat = \"text\"\non = \"open+close\"\n";
    let ringlane = Ringlane::start_as(&text, |command| {
        command.stdout(File::create(&path).unwrap());
    });
    let visit = Visit::to(front);
    let client = visit.stream.local_addr().unwrap();
    let lines = |count: usize| -> Vec<String> {
        eventually("lines are written", || {
            let text = fs::read_to_string(&path).unwrap();
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            (lines.len() >= count).then_some(lines)
        })
    };
    let opened = lines(1).remove(0);
    assert!(
        opened.contains(" event=open ") && !opened.contains("reason="),
        "{opened}"
    );
    visit.finish().unwrap();
    let lines = lines(2);
    let closed = &lines[1];
    for part in [
        " event=close ",
        "listener=\"a b\"",
        &format!("client={client}"),
        "reason=eof",
        "side=client",
        "bytes_up=0",
        "bytes_down=4",
    ] {
        assert!(closed.contains(part), "{part} is not in {closed}");
    }
    let session = |line: &str| {
        let field = line
            .split(' ')
            .find_map(|field| field.strip_prefix("session="));
        field.unwrap().to_owned()
    };
    assert_eq!(session(&opened), session(closed));
    assert!(ringlane.stop().success());
    fs::remove_file(&path).unwrap();
}

#[test]
fn no_session_line_is_written_where_they_are_off() {
    let backend = Named::start("one");
    let front = address();
    let path = std::env::temp_dir().join(format!("ringlane-off-{}", std::process::id()));
    let mut text = service("a", front, &[backend.address]);
    text += "[log]\nsessions = \"off\"\n";
    let ringlane = Ringlane::start_as(&text, |command| {
        command.stdout(File::create(&path).unwrap());
    });
    round_trip(front, 10);
    eventually("the session has ended", || {
        let ended = r#"ringlane_connections_total{listener="a",result="eof"}"#;
        (ringlane.metric(ended) == Some(1.0)).then_some(())
    });
    assert_eq!(ringlane.metric("ringlane_log_dropped_total"), Some(0.0));
    assert!(ringlane.stop().success());
    assert_eq!(fs::read_to_string(&path).unwrap(), "");
    fs::remove_file(&path).unwrap();
}

#[test]
fn a_log_that_nobody_reads_loses_lines_and_no_traffic() {
    let backend = Named::start("one");
    let front = address();
    let path = std::env::temp_dir().join(format!("ringlane-fifo-{}", std::process::id()));
    let _ = fs::remove_file(&path);
    let made = Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    // Open for reading and never read; the smallest pipe there is.
    let unread = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    rustix::pipe::fcntl_setpipe_size(&unread, 4096).unwrap();
    let mut text = service("a", front, &[backend.address]);
    text += &format!(
        "[log]\nsessions = \"{}\"\non = \"open+close\"\n[global.shutdown]\ndrain = \"1s\"\n",
        path.display()
    );
    let mut ringlane = Ringlane::start(&text);
    let load = Load::start(front, 2, Duration::from_micros(100));
    eventually("lines are dropped", || {
        let dropped = ringlane.metric("ringlane_log_dropped_total");
        dropped.filter(|&dropped| dropped > 0.0)
    });
    load.more(200);
    assert_eq!(ringlane.ask("GET", "/healthz").unwrap().0, 200);
    assert_eq!(load.end(), Vec::<String>::new());
    ringlane.signal(Signal::TERM);
    assert!(
        ringlane.wait().success(),
        "the log must not hold up the end"
    );
    fs::remove_file(&path).unwrap();
}

fn check(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = binary().arg("check").args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn the_example_is_valid_and_its_print_is_its_own_print() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/example.toml");
    let example = example.to_str().unwrap();
    let (code, summary, warnings) = check(&[example]);
    assert_eq!((code, &*warnings), (Some(0), ""), "{summary}");
    assert!(summary.starts_with("ok: "), "{summary}");

    let (code, print, _) = check(&[example, "--print"]);
    assert_eq!(code, Some(0));
    let path = std::env::temp_dir().join(format!("ringlane-print-{}.toml", std::process::id()));
    fs::write(&path, &print).unwrap();
    let printed = path.to_str().unwrap();
    let (code, again, warnings) = check(&[printed, "--print"]);
    assert_eq!((code, &*again, &*warnings), (Some(0), &*print, ""));
    let (code, same, _) = check(&[printed, "--diff", example]);
    assert_eq!((code, &*same), (Some(0), "nothing would change\n"));

    fs::write(&path, print.replace("drain = \"30s\"", "drain = \"31s\"")).unwrap();
    let (code, changes, _) = check(&[printed, "--diff", example]);
    assert_eq!(code, Some(0));
    assert_eq!(changes.lines().count(), 1, "{changes}");
    assert!(
        changes.contains("drain") && changes.contains("31s"),
        "{changes}"
    );
    fs::remove_file(&path).unwrap();
}

#[test]
fn messages_that_nobody_reads_stop_nothing() {
    let backend = Named::start("one");
    let front = address();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let configuration = service("a", front, &[backend.address]);
    let ringlane = Ringlane::start_as(&configuration, |command| {
        command.stderr(Stdio::from(writer));
    });
    // Each rejection is a message of some hundred bytes, and a pipe takes 64 KiB.
    ringlane.write("[pool.a]\nbackends = [\"nonsense:\"]\n");
    for _ in 0..300 {
        assert_eq!(ringlane.ask("POST", "/reload").unwrap().0, 422);
    }
    Visit::to(front).finish().unwrap();
    assert!(ringlane.stop().success());
    drop(reader);
}
