//! Certificates in files: what `check` says of them, and how a running ringlane follows them.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DistinguishedName, KeyPair, date_time_ymd};
use rustix::process::Signal;

use crate::reload::{reload_command, version};
use crate::support::load::Named;
use crate::support::{Ringlane, address, binary, eventually};

const DAY: u64 = 24 * 60 * 60;

/// Of a certificate for `names` that expires in so many seconds.
fn params(names: &[&str], left: u64) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    params.not_after = date_time_ymd(1970, 1, 1) + now + Duration::from_secs(left);
    params
}

/// Writes `NAME.pem` and `NAME.key` of a new certificate.
fn issue(directory: &Path, name: &str, params: &CertificateParams) {
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    // By renames, as it should be done; the key first, so that there is a moment without a pair.
    for (ending, text) in [("key", key.serialize_pem()), ("pem", pem)] {
        let path = directory.join(format!("{name}.{ending}"));
        fs::write(path.with_extension("new"), text).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }
}

fn temporary(name: &str) -> PathBuf {
    let name = format!("ringlane-{name}-{}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    fs::create_dir_all(&directory).unwrap();
    directory
}

#[test]
fn check_says_what_is_wrong_with_certificates_word_by_word() {
    let directory = temporary("certificates");
    let many: Vec<String> = (0..8).map(|n| format!("n{n}.example")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let half = DAY / 2;
    issue(
        &directory,
        "www",
        &params(&["www.example", "*.www.example"], 90 * DAY + half),
    );
    issue(&directory, "many", &params(&many, 45 * DAY + half));
    issue(&directory, "unnamed", &params(&[], 31 * DAY + half));
    issue(
        &directory,
        "low",
        &params(&["low.example"], 12 * DAY + half),
    );
    let mut old = params(&["old.example"], 0);
    old.not_after = date_time_ymd(2021, 3, 1);
    issue(&directory, "old", &old);
    let broken = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
    fs::write(directory.join("broken.pem"), broken).unwrap();

    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/certificates");
    let mut wrong = String::new();
    for name in ["good", "warnings", "faults"] {
        let file = format!("{name}.toml");
        fs::copy(golden.join(&file), directory.join(&file)).unwrap();
        let mut command = binary();
        command.args(["check", &file]).current_dir(&directory);
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let code = output.status.code().unwrap();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        let actual = format!("{out}{err}exit code {code}\n");
        let path = golden.join(format!("{name}.txt"));
        if std::env::var_os("RINGLANE_BLESS").is_some() {
            fs::write(&path, &actual).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if expected != actual {
            writeln!(wrong, "{name}\n--- expected\n{expected}--- got\n{actual}").unwrap();
        }
    }
    fs::remove_dir_all(&directory).unwrap();
    assert!(
        wrong.is_empty(),
        "{wrong}(RINGLANE_BLESS=1 rewrites the texts)"
    );
}

/// A listener that terminates with the certificate `web` of a directory.
fn terminating(front: SocketAddr, directory: &Path, backend: SocketAddr) -> String {
    let directory = directory.display();
    format!(
        "[[listener]]\nname = \"web\"\nlisten = \"{front}\"\npool = \"p\"\n\
         tls.certificates = [{{ chain = \"{directory}/web.pem\", key = \"{directory}/web.key\" }}]\n\
         [pool.p]\nbackends = [\"{backend}\"]\n"
    )
}

const APPLIED: &str = r#"ringlane_certificate_reloads_total{result="applied"}"#;
const REJECTED: &str = r#"ringlane_certificate_reloads_total{result="rejected"}"#;

/// Whole days that the certificate with this first name has left, as the metrics have it.
fn days_left(ringlane: &Ringlane, name: &str) -> Option<f64> {
    let series = format!("ringlane_certificate_expiry_seconds{{name=\"{name}\"}}");
    let seconds = ringlane.metric(&series)?;
    Some((seconds / 86_400.0).floor())
}

#[test]
fn a_running_process_follows_its_certificates() {
    let directory = temporary("follow");
    let backend = Named::start("one");
    let half = DAY / 2;
    issue(
        &directory,
        "web",
        &params(&["one.example"], 50 * DAY + half),
    );
    let text = terminating(address(), &directory, backend.address);
    let ringlane = Ringlane::start(&text);
    assert_eq!(days_left(&ringlane, "one.example"), Some(50.0));
    assert_eq!(ringlane.metric(APPLIED), Some(0.0));

    // By itself, without a new configuration.
    issue(
        &directory,
        "web",
        &params(&["two.example"], 60 * DAY + half),
    );
    eventually("the new certificate is in use", || {
        days_left(&ringlane, "two.example").filter(|days| days.total_cmp(&60.0).is_eq())
    });
    assert_eq!(days_left(&ringlane, "one.example"), None);
    assert_eq!(ringlane.metric(APPLIED), Some(1.0));
    assert_eq!(version(&ringlane), 1);

    // A bad one keeps the old one and says why, once.
    fs::write(directory.join("web.pem"), "no certificate").unwrap();
    eventually("the fault is counted", || {
        ringlane.metric(REJECTED).filter(|count| *count > 0.0)
    });
    let fault = "web.pem: no certificate, expected CERTIFICATE sections (PEM)";
    assert_eq!(ringlane.messages().matches(fault).count(), 1);
    assert_eq!(days_left(&ringlane, "two.example"), Some(60.0));

    // A reload meets it, too, and is refused as `check` would.
    let output = reload_command(&ringlane);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let check = binary().arg("check").arg(ringlane.file()).output().unwrap();
    assert_eq!(check.status.code(), Some(2));
    let (reported, checked) = (output.stderr, String::from_utf8(check.stderr).unwrap());
    let reported = String::from_utf8(reported).unwrap();
    assert!(
        reported.contains(checked.trim_end()),
        "{reported}\n{checked}"
    );
    assert!(checked.contains("ringlane.toml:5:"), "{checked}");
    assert_eq!(version(&ringlane), 1);
    assert_eq!(days_left(&ringlane, "two.example"), Some(60.0));

    // SIGHUP takes what is there.
    issue(
        &directory,
        "web",
        &params(&["three.example"], 70 * DAY + half),
    );
    ringlane.signal(Signal::HUP);
    eventually("the third certificate is in use", || {
        days_left(&ringlane, "three.example")
    });
    eventually("the reload is over", || {
        (version(&ringlane) == 2).then_some(())
    });
    assert_eq!(ringlane.metric(APPLIED), Some(2.0));
    assert!(ringlane.stop().success());
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_certificate_of_no_use_ends_the_start_as_a_fault_of_the_configuration() {
    let directory = temporary("start");
    issue(&directory, "web", &params(&["a.example"], 50 * DAY));
    fs::write(directory.join("web.key"), "no key").unwrap();
    let file = directory.join("ringlane.toml");
    fs::write(&file, terminating(address(), &directory, address())).unwrap();
    let run = |arguments: &[&str]| {
        let output = binary().args(arguments).arg(&file).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), stderr)
    };
    let started = run(&["run", "-c"]);
    assert_eq!(started, run(&["check"]));
    assert_eq!(started.0, Some(2));
    let fault = "web.key: no private key, expected a PRIVATE KEY,";
    assert!(started.1.contains(fault), "{}", started.1);
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn an_expired_certificate_does_not_hold_up_the_start() {
    let directory = temporary("expired");
    let mut old = params(&["old.example"], 0);
    old.not_after = date_time_ymd(2021, 3, 1);
    issue(&directory, "web", &old);
    let backend = Named::start("one");
    let text = terminating(address(), &directory, backend.address);
    let ringlane = Ringlane::start(&text);
    let message = "web.pem: expired on Mar  1 00:00:00 2021 +00:00, clients refuse it";
    assert_eq!(ringlane.messages().matches(message).count(), 1);
    assert!(days_left(&ringlane, "old.example").is_some_and(|days| days < -1000.0));
    assert!(ringlane.stop().success());
    fs::remove_dir_all(&directory).unwrap();
}
