//! What is said of files before they are used.

use rcgen::date_time_ymd;

use super::fixtures::{DAY, params};
use super::store::{Scene, WEB, until};

/// Every kind of file, each of no use in some way.
const FAULTY: &str = r#"
[[listener]]
listen = "127.0.0.1:1"
pool = "p"
[listener.tls]
certificates = [
    { chain = "@a.pem", key = "@a.key" },
    { chain = "@a.pem", key = "@b.key" },
    { chain = "@gone.pem", key = "@a.key" },
    { chain = "@empty", key = "@a.key" },
    { chain = "@b.pem", key = "@a.pem", ocsp = "@empty" },
]
ticket_keys = "@empty"
client_auth = { mode = "require", ca = "@empty" }
[pool.p]
backends = ["127.0.0.1:2"]
tls = { ca = "@", certificate = "@a.pem", key = "@a.key" }
[pool.q]
backends = ["127.0.0.1:2"]
tls = { verify = "none", certificate = "@a.pem", key = "@b.key" }
"#;

/// The line, what is marked in it, and what is said.
const FAULTS: [(usize, &str, &str); 8] = [
    (
        8,
        "\"@b.key",
        "b.key: not the certificate's key, expected the private key of the first certificate in a.pem",
    ),
    (
        9,
        "\"@gone",
        "gone.pem: No such file or directory (os error 2), expected a readable file",
    ),
    (
        10,
        "\"@empty",
        "empty: no certificate, expected CERTIFICATE sections (PEM)",
    ),
    (
        11,
        "\"@a.pem",
        "a.pem: no private key, expected a PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY section (PEM, not encrypted)",
    ),
    (
        13,
        "\"@empty",
        "empty: no key, expected lines of 80 bytes in base64",
    ),
    (
        14,
        "\"@empty",
        "empty: no certificate, expected CERTIFICATE sections (PEM)",
    ),
    (
        17,
        "\"@\"",
        ": not a regular file, expected a readable file",
    ),
    (
        20,
        "\"@b.key",
        "b.key: not the certificate's key, expected the private key of the first certificate in a.pem",
    ),
];

#[test]
fn every_file_of_no_use_is_a_fault_with_its_place() {
    let scene = Scene::new();
    scene.issue("a", &params(&["a.example"]));
    scene.issue("b", &params(&["b.example"]));
    scene.directory.file("empty", "");
    let text = FAULTY;
    let column = |line: usize, what: &str| {
        let line = text.lines().nth(line - 1).unwrap();
        let directory = scene.directory.path("").to_string_lossy().len() - 1;
        let at = line.find(what).unwrap();
        at + 1 + directory * line[..at].matches('@').count()
    };
    let expected: Vec<_> = FAULTS
        .iter()
        .map(|(line, at, what)| {
            let column = column(*line, at);
            format!("error: test.toml:{line}:{column}: {what}")
        })
        .collect();
    assert_eq!(scene.faults(text), expected.join("\n"));
}

#[test]
fn what_is_probably_not_meant_is_said() {
    let scene = Scene::new();
    scene.issue("low", &until(&["low.example"], (2026, 1, 30)));
    scene.issue(
        "old",
        &until(&["old.example", "*.more.example"], (2025, 12, 31)),
    );
    let mut later = params(&["later.example"]);
    later.not_before = date_time_ymd(2026, 1, 2);
    scene.issue("later", &later);
    let text = |rest: &str| {
        format!(
            r#"
[[listener]]
listen = "127.0.0.1:1"
[listener.tls]
{rest}
certificates = [
    {{ chain = "@low.pem", key = "@low.key" }},
    {{ chain = "@old.pem", key = "@old.key" }},
    {{ chain = "@later.pem", key = "@later.key" }},
]
[[listener.route]]
sni = ["low.example", "none.example", "x.more.example", "**.later.example"]
terminate = true
pool = "p"
[[listener.route]]
sni = "old.example"
pool = "p"
[pool.p]
backends = ["127.0.0.1:2"]
"#
        )
    };
    let strict = scene.warnings(&text(""));
    let lines: Vec<_> = strict
        .lines()
        .map(|line| line.splitn(5, ':').nth(4).unwrap().trim())
        .collect();
    let expected = [
        "low.pem: 29 days left until it expires",
        "old.pem: expired on Dec 31 00:00:00 2025 +00:00, clients refuse it",
        "old.pem: no route of the listener terminates \"old.example\"",
        "later.pem: not valid before Jan  2 00:00:00 2026 +00:00, clients refuse it until then",
        "later.pem: no route of the listener terminates \"later.example\"",
        "no certificate carries \"none.example\": clients that ask for it are refused",
        "no certificate carries \"**.later.example\": clients that ask for it are refused",
    ];
    let (mut lines, mut expected) = (lines, expected.to_vec());
    lines.sort_unstable();
    expected.sort_unstable();
    assert_eq!(lines, expected);
    let default = scene.warnings(&text("default_certificate = 0"));
    let shown =
        "no certificate carries \"none.example\": clients are shown the default certificate";
    assert!(default.contains(shown), "{default}");
}

#[test]
fn each_certificate_has_a_line_with_its_days() {
    let scene = Scene::new();
    scene.issue("a", &until(&["a.example", "*.b.example"], (2026, 1, 3)));
    let prepared = scene.prepare(WEB).ok().unwrap();
    let line = &prepared.certificates[0];
    let expected = "a.pem: \"a.example\", \"*.b.example\", ECDSA, 2 days left";
    assert!(
        line.starts_with("certificate ") && line.ends_with(expected),
        "{line}"
    );
    scene.clock.forward(DAY);
    let prepared = scene.prepare(WEB).ok().unwrap();
    assert!(prepared.certificates[0].ends_with(", 1 day left"));
}
