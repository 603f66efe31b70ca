//! Rejected reloads: they say why, as `ringlane check` does, and change nothing.

use std::net::TcpListener;

use rustix::fs::{Mode, mkfifoat};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::reload::{applied, reload_command, version};
use crate::support::load::{Named, Visit, descriptors, listening_inodes, service};
use crate::support::{Ringlane, address, binary, eventually};

const BROKEN: [&str; 6] = [
    "[[listener]]\nlisten = \"FRONT\"\npool = \"nowhere\"\n",
    "[[listener]]\nlisten = \"FRONT\"\npol = \"stable\"\n[pool.stable]\nbackends = []\n",
    "[[listener]]\nlisten = 17\npool = \"stable\"\n",
    "[[listener]]\nlisten = \"FRONT\"\npool = \"stable\"\ntimeouts = { idle = \"soon\" }\n",
    "[pool.stable]\nbackends = [\"nonsense:\"]\n",
    "[pool.stable\n",
];

#[test]
fn broken_files_change_nothing_and_are_reported_as_check_reports_them() {
    let backend = Named::start("one");
    let front = address();
    let good = service("stable", front, &[backend.address]);
    let ringlane = Ringlane::start(&good);
    let session = Visit::to(front);
    let inodes = listening_inodes(front);
    // The connections of the admin listener come and go; its quietest moment is the measure.
    let fewest = || (0..20).map(|_| descriptors(ringlane.pid())).min().unwrap();
    ringlane.ask("GET", "/ready").unwrap();
    let before = fewest();
    for round in 0..50 {
        ringlane.write(&BROKEN[round % BROKEN.len()].replace("FRONT", &front.to_string()));
        let output = reload_command(&ringlane);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let check = binary().arg("check").arg(ringlane.file()).output().unwrap();
        assert_eq!(check.status.code(), Some(2));
        let (reported, checked) = (text(&output.stderr), text(&check.stderr));
        assert!(
            !checked.is_empty() && reported.contains(checked.trim_end()),
            "reload: {reported}\ncheck: {checked}"
        );
    }
    assert_eq!(version(&ringlane), 1);
    let rejected = r#"ringlane_config_reload_total{result="rejected"}"#;
    assert_eq!(ringlane.metric(rejected), Some(50.0));
    assert_eq!(listening_inodes(front), inodes);
    let active = format!(
        r#"ringlane_backend_connections_active{{pool="stable",backend="{}"}}"#,
        backend.address
    );
    assert_eq!(ringlane.metric(&active), Some(1.0));
    eventually("no descriptor is left over", || {
        (fewest() <= before).then_some(())
    });
    session.echo().unwrap();
    session.finish().unwrap();
    Visit::to(front).finish().unwrap();
    applied(&ringlane.reload(&good));
}

#[test]
fn what_cannot_be_had_is_rejected_by_name_and_changes_nothing() {
    let backend = Named::start("one");
    let (front, fresh) = (address(), address());
    let taken = TcpListener::bind(address()).unwrap();
    let taken = taken.local_addr().map(|at| (at, taken)).unwrap();
    let good = service("stable", front, &[backend.address]);
    let ringlane = Ringlane::start(&good);
    let fresh = service("fresh", fresh, &[backend.address]);
    let sessions = ringlane.directory().join("sessions");
    let log = format!("[log]\nsessions = \"{}\"\n", sessions.display());
    let admin = format!("[admin]\nlisten = \"{}\"\n", ringlane.admin);
    let missing = ringlane.directory().join("missing/file");
    let cases = [
        (
            format!(
                "{good}{fresh}{}",
                service("taken", taken.0, &[backend.address])
            ),
            taken.0.to_string(),
        ),
        (
            format!(
                "{good}{fresh}[log]\nsessions = \"{}\"\n{admin}",
                missing.display()
            ),
            missing.display().to_string(),
        ),
        (
            format!("{good}{fresh}[admin]\nlisten = \"{}\"\n{log}", taken.0),
            taken.0.to_string(),
        ),
        (
            format!(
                "{good}{fresh}{admin}token_file = \"{}\"\n",
                missing.display()
            ),
            missing.display().to_string(),
        ),
    ];
    for (round, (configuration, named)) in cases.iter().enumerate() {
        ringlane.write(configuration);
        let (status, report) = ringlane.ask("POST", "/reload").unwrap();
        assert_eq!(status, 422, "{report}");
        assert!(report.contains(named), "{named} is not in: {report}");
        let rejected = r#"ringlane_config_reload_total{result="rejected"}"#;
        assert_eq!(ringlane.metric(rejected), Some(1.0 + round as f64));
        assert_eq!(version(&ringlane), 1);
        Visit::to(front).finish().unwrap();
    }
    applied(&ringlane.reload(&good));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn more_addresses_than_descriptors_are_rejected_and_the_old_ones_served() {
    let backend = Named::start("one");
    let front = address();
    let good = service("stable", front, &[backend.address]);
    let ringlane = Ringlane::start(&good);
    let limit = Rlimit {
        current: Some(300),
        maximum: Some(300),
    };
    let pid = Pid::from_raw(i32::try_from(ringlane.pid()).unwrap());
    prlimit(pid, Resource::Nofile, limit).unwrap();
    let many = format!(
        "{good}[[listener]]\nlisten = \"{}:20000-20399\"\npool = \"stable\"\n",
        front.ip()
    );
    ringlane.write(&many);
    let output = reload_command(&ringlane);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains("Too many open files"));
    Visit::to(front).finish().unwrap();
    ringlane.ask("GET", "/healthz").unwrap();
}

#[test]
fn a_pipe_among_the_included_files_holds_up_nobody() {
    let backend = Named::start("one");
    let front = address();
    let good = service("stable", front, &[backend.address]);
    let ringlane = Ringlane::start(&good);
    let pipe = ringlane.directory().join("pipe.toml");
    mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    // Without a writer it is empty; with one that is silent it cannot be read.
    let included = format!("include = [\"pipe.*\"]\n{good}");
    ringlane.write(&included);
    assert!(reload_command(&ringlane).status.success());
    let _writer = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&pipe)
        .unwrap();
    let output = reload_command(&ringlane);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains("a pipe into which nobody writes"));
    assert!(ringlane.stop().success());
}
