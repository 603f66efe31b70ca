//! Files that change while they are in use.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::KeyPair;

use super::fixtures::{Authority, Directory, calling, client_params, params, side, trusting};
use super::store::{Scene, WEB, until};
use super::wire::{Cut, Pair};
use crate::tls::client::ClientSide;
use crate::tls::live::Terminating;
use crate::tls::seam::Session;
use crate::tls::watch::SETTLE;

const SECOND: Duration = Duration::from_secs(1);

impl Scene {
    /// A look, one second after the last.
    fn look(&mut self) {
        self.now = self.now + SECOND;
        self.store.look(self.now);
    }

    fn look_for(&mut self, time: Duration) {
        for _ in 0..time.as_secs() {
            self.look();
        }
    }

    /// Puts a file in the place of another, as by a rename.
    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.directory.path(from), self.directory.path(to)).unwrap();
    }

    fn web(&self) -> &Arc<Terminating> {
        self.store.settings().listener("web").unwrap()
    }

    fn begin() -> Self {
        let mut scene = Self::new();
        scene.issue("a", &params(&["a.example"]));
        scene.load(WEB);
        scene
    }
}

/// Whether a client that trusts `side`'s authorities gets through, and whether it resumed.
fn greets(terminating: &Terminating, side: &ClientSide) -> Result<bool, String> {
    let server = Session::server(&terminating.config()).unwrap();
    let client = calling(side, "a.example");
    let mut pair = Pair { client, server };
    let settled = pair.settle(&mut Cut::Whole);
    settled.map_err(|failed| format!("{failed:?}"))?;
    pair.talk(b"up", b"down");
    Ok(pair.server.negotiated().resumed)
}

#[test]
fn a_pair_is_taken_up_however_it_is_put_there() {
    let mut scene = Scene::begin();
    let before = scene.web().config();
    // By renames, the chain first.
    scene.issue("new", &params(&["a.example"]));
    scene.rename("new.pem", "a.pem");
    scene.rename("new.key", "a.key");
    scene.look();
    assert!(scene.shows("a.pem"));
    assert_eq!(scene.counts(), (1, 0));
    // In place.
    scene.issue("a", &params(&["a.example"]));
    scene.look();
    assert!(scene.shows("a.pem"));
    assert_eq!(scene.counts(), (2, 0));
    // The settings that sessions hold are the same.
    assert!(Arc::ptr_eq(&before, &scene.web().config()));
    // Touched, or written again as it was.
    let pem = fs::read(scene.directory.path("a.pem")).unwrap();
    fs::write(scene.directory.path("a.pem"), pem).unwrap();
    scene.look();
    assert_eq!(scene.counts(), (2, 0));
}

#[test]
fn links_that_lead_elsewhere_are_followed() {
    let mut scene = Scene::new();
    // As Kubernetes does it: files are links through one link that is swapped as a whole.
    let at = |name: &str| scene.directory.path(name);
    for version in ["1", "2"] {
        fs::create_dir(at(version)).unwrap();
        scene.issue(&format!("{version}/a"), &params(&["a.example"]));
    }
    symlink("1", at("data")).unwrap();
    for name in ["a.pem", "a.key"] {
        symlink(Path::new("data").join(name), at(name)).unwrap();
    }
    scene.load(WEB);
    assert!(scene.shows("1/a.pem"));
    symlink("2", scene.directory.path("swap")).unwrap();
    scene.rename("swap", "data");
    scene.look();
    assert!(scene.shows("2/a.pem"));
    // As certbot does it: each link by itself.
    scene.issue("3", &params(&["a.example"]));
    for name in ["pem", "key"] {
        symlink(format!("3.{name}"), scene.directory.path("swap")).unwrap();
        scene.rename("swap", &format!("a.{name}"));
    }
    scene.look();
    assert!(scene.shows("3.pem"));
    assert_eq!(scene.counts(), (2, 0));
}

#[test]
fn a_half_written_pair_is_waited_for() {
    let mut scene = Scene::begin();
    let old = scene.shown();
    scene.issue("new", &params(&["a.example"]));
    scene.rename("new.pem", "a.pem");
    scene.look();
    assert!(Arc::ptr_eq(&scene.shown().certified, &old.certified));
    // The key is gone for a moment, too, and comes in two parts.
    fs::remove_file(scene.directory.path("a.key")).unwrap();
    scene.look();
    let key = fs::read(scene.directory.path("new.key")).unwrap();
    scene.directory.file("a.key", &key[..key.len() / 2]);
    scene.look();
    assert!(Arc::ptr_eq(&scene.shown().certified, &old.certified));
    scene.rename("new.key", "a.key");
    scene.look();
    assert!(scene.shows("a.pem"));
    assert_eq!(scene.counts(), (1, 0));
}

#[test]
fn a_bad_pair_is_counted_once_and_the_old_one_serves_on() {
    let mut scene = Scene::begin();
    let old = scene.shown();
    let pem = fs::read(scene.directory.path("a.pem")).unwrap();
    scene.directory.file("a.pem", "no certificate");
    scene.look();
    assert_eq!(scene.counts(), (0, 0));
    scene.look_for(SETTLE + Duration::from_secs(300));
    assert_eq!(scene.counts(), (0, 1));
    // Another fault is told anew.
    scene.directory.file("a.pem", "");
    scene.look_for(SETTLE + SECOND);
    assert_eq!(scene.counts(), (0, 2));
    scene.issue("a", &until(&["a.example"], (2025, 12, 31)));
    scene.look_for(SETTLE + SECOND);
    assert_eq!(scene.counts(), (0, 3));
    assert!(Arc::ptr_eq(&scene.shown().certified, &old.certified));
    // What is in force comes back with another key: the pair is bad still.
    scene.directory.file("a.pem", pem);
    scene.look_for(SETTLE + SECOND);
    assert_eq!(scene.counts(), (0, 4));
    scene.issue("a", &params(&["a.example"]));
    scene.look();
    assert!(scene.shows("a.pem"));
    assert_eq!(scene.counts(), (1, 4));
}

#[test]
fn a_certificate_that_becomes_valid_is_taken_up_by_time_alone() {
    let mut scene = Scene::begin();
    let mut later = params(&["a.example"]);
    later.not_before = rcgen::date_time_ymd(2026, 1, 2);
    scene.issue("a", &later);
    scene.look_for(SETTLE + SECOND);
    assert!(!scene.shows("a.pem"));
    scene.clock.forward(2 * 24 * 60 * 60);
    scene.look_for(Duration::from_secs(60));
    assert!(scene.shows("a.pem"));
    assert_eq!(scene.counts(), (1, 1));
}

#[test]
fn rules_about_clients_change_beneath_the_listener() {
    let mut scene = Scene::new();
    let people = Authority::new("people");
    scene.issue("a", &params(&["a.example"]));
    scene.directory.file("people.pem", people.pem());
    scene.directory.file("crl.pem", people.revoke(&[7]));
    let rules =
        "tls.client_auth = { mode = \"require\", ca = \"@people.pem\", crl = \"@crl.pem\" }";
    scene.load(&WEB.replace("tls.cert", &format!("{rules}\ntls.cert")));
    let key = KeyPair::generate().unwrap();
    let own = people.issue_with(&scene.directory, &client_params("alice", 4), &key);
    let mut pool = trusting(&scene.directory, &scene.authority);
    pool.certificate = Some((own.chain, own.key));
    let client = side(&pool);
    assert_eq!(greets(scene.web(), &client), Ok(false));
    assert_eq!(greets(scene.web(), &client), Ok(true));
    scene.directory.file("crl.pem", people.revoke(&[4, 7]));
    scene.look();
    assert_eq!(scene.counts(), (1, 0));
    // Not by its ticket either.
    let refused = greets(scene.web(), &client).unwrap_err();
    assert!(refused.contains("Revoked"), "{refused}");
    scene.directory.file("people.pem", "");
    scene.look_for(SETTLE + SECOND);
    assert_eq!(scene.counts(), (1, 1));
}

#[test]
fn shared_ticket_keys_follow_their_file() {
    let mut scene = Scene::new();
    scene.issue("a", &params(&["a.example"]));
    let key = |byte: u8| STANDARD.encode([byte; 80]) + "\n";
    scene.directory.file("keys", key(1));
    let text = WEB.replace("tls.cert", "tls.ticket_keys = \"@keys\"\ntls.cert");
    scene.load(&text);
    let names = |scene: &Scene| scene.web().tickets.as_ref().unwrap().names();
    assert_eq!(names(&scene), [[1; 16]]);
    scene.directory.file("keys", key(2) + &key(1));
    scene.look();
    assert_eq!(names(&scene), [[2; 16], [1; 16]]);
    scene.directory.file("keys", "x");
    scene.look_for(SETTLE + SECOND);
    assert_eq!(names(&scene), [[2; 16], [1; 16]]);
    assert_eq!(scene.counts(), (1, 1));
    scene.directory.file("keys", key(3));
    scene.load(&text);
    assert_eq!(names(&scene), [[3; 16]]);
}

#[test]
fn settings_toward_backends_follow_their_files() {
    let mut scene = Scene::new();
    let server = Scene::begin();
    let ca = |scene: &Scene, authority: &Authority| scene.directory.file("ca.pem", authority.pem());
    ca(&scene, &server.authority);
    scene.issue("me", &params(&["me.example"]));
    scene.load(
        "[[listener]]\nlisten = \"127.0.0.1:1\"\npool = \"p\"\n[pool.p]\nbackends = [\"127.0.0.1:2\"]\n\
         tls = { ca = \"@ca.pem\", sni = \"a.example\", certificate = \"@me.pem\", key = \"@me.key\" }\n",
    );
    let pool = scene.store.settings().pool("p").unwrap().clone();
    let name = pool.name(None, None).unwrap();
    assert_eq!(name.to_str(), "a.example");
    let greet = || {
        let mut pair = Pair {
            client: Session::client(&pool.config(), name.clone()).unwrap(),
            server: Session::server(&server.web().config()).unwrap(),
        };
        pair.settle(&mut Cut::Whole)
            .map(|()| pair.server.negotiated().resumed)
    };
    assert_eq!(greet(), Ok(false));
    assert_eq!(greet(), Ok(true));
    scene.look();
    assert_eq!(greet(), Ok(true));
    ca(&scene, &Authority::new("other"));
    scene.look();
    assert!(greet().is_err());
    ca(&scene, &server.authority);
    scene.issue("me", &until(&["me.example"], (2025, 12, 31)));
    scene.look_for(SETTLE + SECOND);
    assert!(greet().is_err());
    assert_eq!(scene.counts(), (1, 1));
    scene.issue("me", &params(&["me.example"]));
    scene.look();
    assert_eq!(greet(), Ok(false));
    assert_eq!(pool.certificate().unwrap().names.len(), 1);
}

#[test]
fn of_many_files_all_have_their_turn() {
    const CERTIFICATES: u64 = 2500;
    let mut scene = Scene::new();
    scene.issue("a", &params(&["a.example"]));
    let entry = "{ chain = \"@a.pem\", key = \"@a.key\" },";
    let all = entry.repeat(usize::try_from(CERTIFICATES).unwrap());
    let text = WEB.replace(
        "[{ chain = \"@a.pem\", key = \"@a.key\" }]",
        &format!("[{all}]"),
    );
    scene.load(&text);
    scene.issue("a", &params(&["a.example"]));
    scene.look();
    assert_eq!(scene.counts(), (2048, 0));
    scene.look();
    assert_eq!(scene.counts(), (CERTIFICATES, 0));
}

#[test]
fn what_is_no_file_keeps_nobody_waiting() {
    let mut scene = Scene::begin();
    fs::remove_file(scene.directory.path("a.key")).unwrap();
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        scene.directory.path("a.key"),
        rustix::fs::Mode::from_raw_mode(0o600),
    )
    .unwrap();
    scene.look_for(SETTLE + SECOND);
    assert_eq!(scene.counts(), (0, 1));
    assert!(scene.prepare(WEB).is_err());
}

#[test]
fn a_hundred_rotations_fail_no_handshake() {
    const ROTATIONS: u64 = 100;
    let mut scene = Scene::begin();
    let directory = Directory::new();
    let clients = [(); 4].map(|()| side(&trusting(&directory, &scene.authority)));
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let web = scene.web().clone();
    thread::scope(|scope| {
        for client in &clients {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    greets(&web, client).unwrap();
                    made.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for rotation in 1..=ROTATIONS {
            let before = made.load(Ordering::Relaxed);
            scene.issue("new", &params(&["a.example"]));
            scene.rename("new.pem", "a.pem");
            // Now and then a look falls between the two.
            if rotation % 3 == 0 {
                scene.look();
            }
            scene.rename("new.key", "a.key");
            scene.look();
            assert!(scene.shows("a.pem"), "rotation {rotation}");
            while made.load(Ordering::Relaxed) < before + 4 && !stop.load(Ordering::Relaxed) {
                thread::yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(scene.counts(), (ROTATIONS, 0));
    assert!(made.load(Ordering::Relaxed) >= 4 * ROTATIONS);
}
