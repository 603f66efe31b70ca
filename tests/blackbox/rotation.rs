//! Certificates that change while clients come and go.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::reload::version;
use crate::support::tls::{Authority, Caller, Kind, TLS12, TLS13, Talk, terminating};
use crate::support::{Echo, Ringlane, address, eventually};

const ROTATIONS: u64 = 100;

#[test]
fn a_hundred_rotations_fail_no_handshake() {
    let authority = Authority::new();
    let issue = |serial| authority.issue_of(Kind::Ecdsa, "web", &["a.example"], serial);
    let web = issue(1);
    let front = address();
    let ringlane = Ringlane::start(&terminating(
        front,
        &[&web],
        "pool = \"back\"",
        Echo::start().address,
    ));
    let (stop, served, failures) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        Mutex::new(Vec::new()),
    );
    let visit = |resuming: &_| Talk::to(front, resuming, "a.example")?.exchange(b"hello");
    let load = |versions| {
        let config = || {
            Caller {
                versions,
                ..Caller::new(&authority)
            }
            .config()
        };
        let resuming = config();
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            // One in two starts afresh; the others may resume what began under an older certificate.
            let outcome = if number % 2 == 0 {
                visit(&resuming)
            } else {
                visit(&config())
            };
            match outcome {
                Ok(back) if back == b"hello" => drop(served.fetch_add(1, Ordering::Relaxed)),
                other => failures.lock().unwrap().push(format!("{other:?}")),
            }
        }
    };
    thread::scope(|scope| {
        for versions in [TLS12, TLS13, TLS13] {
            let load = &load;
            scope.spawn(move || load(versions));
        }
        for serial in 2..ROTATIONS + 2 {
            issue(serial);
            ringlane.signal(Signal::HUP);
            eventually("the certificate is taken", || {
                (version(&ringlane) == serial).then_some(())
            });
            let before = served.load(Ordering::Relaxed);
            eventually("clients are served", || {
                let more = served.load(Ordering::Relaxed) > before;
                (more || !failures.lock().unwrap().is_empty()).then_some(())
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{failures:#?}");
    let last = Talk::to(front, &Caller::new(&authority).config(), "a.example").unwrap();
    assert_eq!(last.tls.peer_certificates().unwrap()[0], web.certificate());
}
