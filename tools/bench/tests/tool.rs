//! The program itself: exit codes, and that nothing outlives it.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ringlane-bench");

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded.json")
}

fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("ringlane-bench-{name}-{}", std::process::id()))
}

#[test]
fn a_recorded_report_is_drawn_again() {
    let picture = temporary("picture");
    let report = recorded().display().to_string();
    let output = run(&[
        "--from-json",
        &report,
        "--plot",
        &picture.display().to_string(),
    ]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, include_bytes!("recorded.txt"));
    let svg = fs::read_to_string(&picture).unwrap();
    fs::remove_file(&picture).unwrap();
    assert!(svg.starts_with("<svg "));
}

#[test]
fn a_report_with_errors_exits_with_one() {
    let faulty = temporary("faulty");
    let text = fs::read_to_string(recorded()).unwrap();
    fs::write(&faulty, text.replacen("\"reset\":0", "\"reset\":3", 1)).unwrap();
    let output = run(&["--from-json", &faulty.display().to_string()]);
    fs::remove_file(&faulty).unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("3 reset")
    );
}

#[test]
fn what_cannot_be_measured_exits_with_two() {
    let core = "99999";
    for (arguments, message) in [
        (vec!["--balancer-core", core], "core 99999 may not be used"),
        (vec!["--load-cores", "0"], "both the balancer and the load"),
        (vec!["--seconds", "0"], "from 0.1 to 600"),
        (vec!["--from-json", "/nowhere"], "/nowhere"),
        (vec!["--inside"], "fresh namespace"),
        (vec!["--only", "nonsense"], "nonsense"),
    ] {
        let output = run(&arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(message), "{arguments:?}: {text}");
    }
}

/// Why these namespaces cannot be made here, where that is so: containers often forbid it.
fn refusal() -> Option<String> {
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    let flags = [
        "--net",
        "--pid",
        "--fork",
        "--mount-proc",
        "ip",
        "link",
        "show",
        "lo",
    ];
    match unshare.args(flags).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Some(error.to_string()),
    }
}

/// Arguments of a run that needs no other program.
fn without_balancer(seconds: &'static str) -> [&'static str; 8] {
    let rounds = ["--rounds", "1", "--idle-connections", "20"];
    let [a, b, c, d] = rounds;
    [
        "--peers=direct",
        "--only=small-64,churn",
        "--seconds",
        seconds,
        a,
        b,
        c,
        d,
    ]
}

#[test]
fn a_run_measures_and_writes_what_it_measured() {
    if let Some(why) = refusal() {
        // Nothing to test where it cannot run; the message is in the test's output.
        assert!(!why.is_empty());
        return;
    }
    let report = temporary("report");
    let path = report.display().to_string();
    let mut arguments = without_balancer("0.3").to_vec();
    arguments.extend(["--json", &path]);
    let output = run(&arguments);
    assert!(output.status.success(), "{output:?}");
    let written = ringlane_bench::report::Report::read(&report).unwrap();
    fs::remove_file(&report).unwrap();
    assert_eq!(written.workloads.len(), 2);
    for measured in &written.workloads {
        let round = &measured.rows[0].rounds[0];
        assert!(round.spent.unwrap() > 0.0 && round.units > 0.0, "{round:?}");
        assert!(round.latency.unwrap().count > 0);
    }
}

#[test]
fn ending_the_program_ends_all_it_started() {
    if refusal().is_some() {
        return;
    }
    // A copy, so that its processes can be told from those of other tests.
    let copy = temporary("copy");
    fs::copy(PROGRAM, &copy).unwrap();
    // Its directory of configurations is left, as it had no time to remove it.
    let scratch = temporary("scratch");
    fs::create_dir(&scratch).unwrap();
    let mut child = Command::new(&copy)
        .env("TMPDIR", &scratch)
        .args(without_balancer("60"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // This process, unshare, the first inside, the backend and the load; unshare is another file.
    wait_until("all are there", || running(&copy) == 4);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("none is left", || running(&copy) == 0);
    fs::remove_file(&copy).unwrap();
    fs::remove_dir_all(&scratch).unwrap();
}

/// Processes that run this file.
fn running(program: &Path) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| fs::read_link(entry.path().join("exe")).ok())
        .filter(|path| path == program)
        .count()
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}
