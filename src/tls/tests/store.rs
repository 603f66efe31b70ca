//! From a configuration to settings, and what a reload takes over.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::fixtures::{Authority, Clock, DAY, Directory, params};
use crate::base::clock::Instant;
use crate::config::{Checked, Machine, Report, parse};
use crate::tls::certificates::Loaded;
use crate::tls::store::{Prepared, Store};

const MACHINE: Machine = Machine {
    cores: 1,
    somaxconn: 4096,
    descriptors: 1 << 20,
    memory: 8 << 30,
};

/// A directory of files that a configuration names, and what is made of them.
pub(super) struct Scene {
    pub(super) directory: Directory,
    pub(super) authority: Authority,
    pub(super) clock: Arc<Clock>,
    pub(super) store: Store,
    pub(super) now: Instant,
}

impl Scene {
    /// Nothing in force.
    pub(super) fn new() -> Self {
        let clock = Clock::today();
        Self {
            directory: Directory::new(),
            authority: Authority::new("ca"),
            store: Store::new(clock.clone()),
            clock,
            now: Instant::from_millis(1),
        }
    }

    /// Writes `NAME.pem` and `NAME.key` of a new certificate.
    pub(super) fn issue(&self, name: &str, params: &CertificateParams) -> PathBuf {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority.0).unwrap();
        self.directory
            .file(&format!("{name}.key"), key.serialize_pem());
        self.directory
            .file(&format!("{name}.pem"), certificate.pem())
    }

    /// The configuration with every `@` standing for the directory.
    pub(super) fn checked(&self, text: &str) -> Checked {
        let text = text.replace('@', &self.directory.path("").to_string_lossy());
        let checked = parse("test.toml", &text, &MACHINE);
        checked.unwrap_or_else(|report| panic!("{}", report.render(false)))
    }

    pub(super) fn prepare(&self, text: &str) -> Result<Prepared, Report> {
        let checked = self.checked(text);
        self.store
            .prepare(&checked.model, &checked.places, self.now)
    }

    /// Starts with the configuration, or reloads it.
    pub(super) fn load(&mut self, text: &str) {
        let prepared = self.prepare(text);
        let prepared = prepared.unwrap_or_else(|report| panic!("{}", report.render(false)));
        self.store.commit(prepared, self.now);
    }

    /// What is wrong with the configuration, without the directory.
    pub(super) fn faults(&self, text: &str) -> String {
        let report = self.prepare(text).err().expect("it must be refused");
        self.bare(&report)
    }

    pub(super) fn warnings(&self, text: &str) -> String {
        let report = self.prepare(text).map(|prepared| prepared.warnings);
        self.bare(&report.unwrap_or_else(|report| panic!("{}", report.render(false))))
    }

    /// The first line of each finding.
    fn bare(&self, report: &Report) -> String {
        let text = report.render(false);
        let text = text.replace(&*self.directory.path("").to_string_lossy(), "");
        let is_title = |line: &&str| line.starts_with("error") || line.starts_with("warning");
        let titles: Vec<_> = text.lines().filter(is_title).collect();
        titles.join("\n")
    }

    /// What the listener `web` shows in the first place.
    pub(super) fn shown(&self) -> Loaded {
        let web = self.store.settings().listener("web").unwrap();
        web.certificates().remove(0)
    }

    /// Whether that is what is in a file.
    pub(super) fn shows(&self, file: &str) -> bool {
        let pem = fs::read(self.directory.path(file)).unwrap();
        let der = CertificateDer::from_pem_slice(&pem).unwrap();
        self.shown().certified.cert[0] == der
    }

    /// Changes applied and rejected so far.
    pub(super) fn counts(&self) -> (u64, u64) {
        let counts = self.store.counts();
        let read = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        (read(&counts.applied), read(&counts.rejected))
    }
}

/// One listener that terminates everything with one certificate.
pub(super) const WEB: &str = r#"
[[listener]]
name = "web"
listen = "127.0.0.1:1"
pool = "p"
tls.certificates = [{ chain = "@a.pem", key = "@a.key" }]
[pool.p]
backends = ["127.0.0.1:2"]
"#;

pub(super) fn until(names: &[&str], (year, month, day): (i32, u8, u8)) -> CertificateParams {
    let mut params = params(names);
    params.not_after = date_time_ymd(year, month, day);
    params
}

#[test]
fn ticket_keys_outlive_a_reload_and_change_on_time() {
    let mut scene = Scene::new();
    scene.issue("a", &params(&["a.example"]));
    let text = |rest: &str| WEB.replace("tls.cert", &format!("{rest}\ntls.cert"));
    scene.load(&text("tls.ticket_rotation = \"10m\""));
    let keys = |scene: &Scene| {
        let web = scene.store.settings().listener("web").unwrap();
        web.tickets.clone().unwrap()
    };
    let first = keys(&scene);
    let names = first.names();
    let start = scene.now;
    assert_eq!(first.due(), Some(start + Duration::from_mins(10)));
    // Other settings change, the certificate changes, and time goes by: the keys go on.
    scene.now = start + Duration::from_mins(9);
    scene.issue("a", &params(&["a.example"]));
    scene.load(&text("tls.ticket_rotation = \"10m\"\ntls.alpn = [\"h2\"]"));
    assert!(Arc::ptr_eq(&first, &keys(&scene)));
    assert_eq!(first.names(), names);
    assert!(scene.store.due().unwrap() <= start + Duration::from_mins(10));
    scene.store.look(start + Duration::from_mins(10));
    assert_eq!(first.names()[0], names[1]);
    scene.load(&text("tls.ticket_rotation = \"1h\""));
    assert!(!Arc::ptr_eq(&first, &keys(&scene)));
    scene.load(&text("tls.ticket_rotation = \"0s\""));
    assert!(
        scene
            .store
            .settings()
            .listener("web")
            .unwrap()
            .tickets
            .is_none()
    );
}

#[test]
fn sessions_with_backends_outlive_a_reload_that_leaves_their_settings() {
    let mut scene = Scene::new();
    scene.directory.file("ca.pem", scene.authority.pem());
    let text = |rest: &str| {
        format!(
            "[[listener]]\nlisten = \"127.0.0.1:1\"\npool = \"p\"\n\
             [pool.p]\nbackends = [\"127.0.0.1:2\"]\ntls = {{ ca = \"@ca.pem\"{rest} }}\n"
        )
    };
    let pool = |scene: &Scene| scene.store.settings().pool("p").unwrap().clone();
    scene.load(&text(""));
    let (first, config) = (pool(&scene), pool(&scene).config());
    scene.load(&text(""));
    assert!(Arc::ptr_eq(&first, &pool(&scene)));
    assert!(Arc::ptr_eq(&config, &pool(&scene).config()));
    scene.load(&text(", alpn = [\"h2\"]"));
    assert!(!Arc::ptr_eq(&first, &pool(&scene)));
    assert_eq!(pool(&scene).alpn, ["h2".into()]);
    assert_eq!(pool(&scene).config().alpn_protocols, [b"h2".to_vec()]);
    // What was verified by other authorities is forgotten.
    let before = pool(&scene);
    scene
        .directory
        .file("ca.pem", Authority::new("other").pem());
    scene.load(&text(", alpn = [\"h2\"]"));
    assert!(!Arc::ptr_eq(&before, &pool(&scene)));
}

#[test]
fn a_reload_takes_changed_certificates_but_none_that_has_expired_for_one_that_holds() {
    let mut scene = Scene::new();
    scene.issue("a", &params(&["a.example"]));
    scene.load(WEB);
    scene.issue("a", &params(&["a.example", "b.example"]));
    scene.load(WEB);
    assert!(scene.shows("a.pem"));
    assert_eq!(scene.counts(), (1, 0));
    let good = scene.shown();
    scene.issue("a", &until(&["a.example"], (2025, 12, 31)));
    let warnings = scene.warnings(WEB);
    let kept = "expected a certificate that is valid now; the one before stays in use";
    assert!(warnings.contains(kept), "{warnings}");
    scene.load(WEB);
    assert_eq!(scene.counts(), (1, 1));
    assert!(Arc::ptr_eq(&scene.shown().certified, &good.certified));
    // It is known already, and is not told again by the next looks.
    for seconds in 1..100 {
        scene.store.look(scene.now + Duration::from_secs(seconds));
    }
    assert_eq!(scene.counts(), (1, 1));
    scene.issue("a", &params(&["c.example"]));
    scene.store.look(scene.now + Duration::from_secs(200));
    assert!(scene.shows("a.pem"));
    assert_eq!(scene.counts(), (2, 1));
    // Once nothing that holds is there, it is as good as any.
    scene.issue("a", &until(&["a.example"], (2026, 1, 2)));
    scene.load(WEB);
    scene.clock.forward(3 * DAY);
    scene.issue("a", &until(&["a.example"], (2026, 1, 1)));
    scene.load(WEB);
    assert!(scene.shows("a.pem"));
}

#[test]
fn a_refused_configuration_changes_nothing() {
    let mut scene = Scene::new();
    scene.issue("a", &params(&["a.example"]));
    scene.load(WEB);
    let (shown, settings) = (scene.shown(), scene.store.settings().clone());
    scene.directory.file("a.key", "");
    assert!(scene.prepare(WEB).is_err());
    assert!(Arc::ptr_eq(&settings, scene.store.settings()));
    assert!(Arc::ptr_eq(&shown.certified, &scene.shown().certified));
    assert_eq!(scene.counts(), (0, 0));
}

#[test]
fn without_tls_there_is_nothing_to_look_at() {
    let mut scene = Scene::new();
    assert_eq!(scene.store.due(), None);
    scene.load("[[listener]]\nlisten = \"127.0.0.1:1\"\npool = \"p\"\n[pool.p]\nbackends = [\"127.0.0.1:2\"]\n");
    assert_eq!(scene.store.due(), None);
    scene.issue("a", &params(&["a.example"]));
    scene.load(WEB);
    assert_eq!(scene.store.due(), Some(scene.now + Duration::from_secs(1)));
}

#[test]
fn our_own_certificate_is_not_replaced_by_an_expired_one() {
    let mut scene = Scene::new();
    let text = "[[listener]]\nlisten = \"127.0.0.1:1\"\npool = \"p\"\n[pool.p]\n\
                backends = [\"127.0.0.1:2\"]\n\
                tls = { verify = \"none\", certificate = \"@me.pem\", key = \"@me.key\" }\n";
    let pool = |scene: &Scene| scene.store.settings().pool("p").unwrap().clone();
    scene.issue("me", &params(&["me.example"]));
    scene.load(text);
    let first = pool(&scene);
    scene.issue("me", &until(&["me.example"], (2025, 12, 31)));
    let warnings = scene.warnings(text);
    assert!(
        warnings.contains("the one before stays in use"),
        "{warnings}"
    );
    scene.load(text);
    assert!(Arc::ptr_eq(&first, &pool(&scene)));
    assert_eq!(scene.counts(), (0, 1));
    scene.issue("me", &params(&["me.example"]));
    scene.load(text);
    assert!(!Arc::ptr_eq(&first, &pool(&scene)));
    assert_eq!(scene.counts(), (1, 1));
    // With nothing better it is taken, and backends may refuse it.
    let mut other = Scene::new();
    other.issue("me", &until(&["me.example"], (2025, 12, 31)));
    let warnings = other.warnings(text);
    assert!(warnings.contains("expired on Dec 31 00:00:00 2025 +00:00, backends refuse it"));
    other.load(text);
}
