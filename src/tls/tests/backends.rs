//! The side that backends see.

use std::sync::Arc;

use rustls::CertificateError;
use rustls::client::ClientSessionStore;

use super::fixtures::{
    Authority, Clock, Directory, Listener, calling, named, pool, rotating, side, trusting,
};
use super::wire::{Cut, Failed, Pair, written};
use crate::config::model::{PoolSni, TlsVersion, Verify};
use crate::tls::ServerConfig;
use crate::tls::client::{ClientSide, Trust, client, name};
use crate::tls::seam::{Session, SessionFault};
use crate::tls::sessions::{NAMES_MAX, Sessions, TICKETS_MAX};

const VERSIONS: [TlsVersion; 2] = [TlsVersion::Tls12, TlsVersion::Tls13];

fn meet(server: &Arc<ServerConfig>, client: &ClientSide, name: &str) -> Result<Pair, Failed> {
    let mut pair = Pair {
        client: calling(client, name),
        server: Session::server(server).unwrap(),
    };
    pair.shake_hands(&mut Cut::Whole)?;
    Ok(pair)
}

#[test]
fn a_backend_must_be_vouched_for_by_the_given_authority() {
    let directory = Directory::new();
    let (authority, other) = (Authority::new("ca"), Authority::new("other"));
    let middle = authority.below("middle");
    let direct = authority.issue(&directory, &["a.example"]);
    let mut through = middle.issue(&directory, &["a.example"]);
    let leaf = std::fs::read_to_string(&through.chain).unwrap();
    through.chain = directory.file("through.pem", leaf + &middle.pem());
    let trusted = side(&trusting(&directory, &authority));
    let stranger = side(&pool(Verify::Ca(directory.file("other.pem", other.pem()))));
    for version in VERSIONS {
        for certificate in [&direct, &through] {
            let server = Listener::new(&[certificate]).version(version).config();
            meet(&server, &trusted, "a.example")
                .unwrap()
                .talk(b"up", b"down");
            let Err(Failed::Client(fault)) = meet(&server, &stranger, "a.example") else {
                panic!("nobody vouched for it");
            };
            assert_eq!(
                fault,
                SessionFault::Certificate(CertificateError::UnknownIssuer)
            );
        }
    }
}

#[test]
fn an_address_is_checked_and_goes_unsaid() {
    let directory = Directory::new();
    let authority = Authority::new("ca");
    // rcgen makes an address of a name that is one.
    let certificate = authority.issue(&directory, &["a.example", "10.0.0.1"]);
    let server = Listener::new(&[&certificate]).config();
    let client = side(&trusting(&directory, &authority));
    meet(&server, &client, "10.0.0.1").unwrap();
    let hello = written(&mut calling(&client, "10.0.0.1"));
    assert!(!hello.windows(8).any(|bytes| bytes == b"10.0.0.1"));
    assert!(meet(&server, &client, "10.0.0.2").is_err());
}

#[test]
fn without_verification_anybody_is_let_through() {
    let directory = Directory::new();
    let certificate = Authority::new("unknown").issue(&directory, &["x.example"]);
    let client = side(&pool(Verify::None));
    for version in VERSIONS {
        let server = Listener::new(&[&certificate]).version(version).config();
        meet(&server, &client, "a.example")
            .unwrap()
            .talk(b"up", b"down");
    }
}

#[test]
fn the_oldest_version_is_kept_to() {
    let directory = Directory::new();
    let authority = Authority::new("ca");
    let certificate = authority.issue(&directory, &["a.example"]);
    let mut pool = trusting(&directory, &authority);
    let old = Listener::new(&[&certificate])
        .version(TlsVersion::Tls12)
        .config();
    assert!(meet(&old, &side(&pool), "a.example").is_ok());
    pool.min_version = TlsVersion::Tls13;
    assert!(meet(&old, &side(&pool), "a.example").is_err());
}

#[test]
fn the_systems_authorities_are_read_once_and_vouch_for_no_stranger() {
    let directory = Directory::new();
    let certificate = Authority::new("unknown").issue(&directory, &["a.example"]);
    let server = Listener::new(&[&certificate]).config();
    let trust = Trust::new(Clock::today());
    match client(&pool(Verify::System), &trust) {
        Ok(side) => {
            assert!(meet(&server, &side, "a.example").is_err());
            let (one, two) = (trust.system().unwrap(), trust.system().unwrap());
            assert!(Arc::ptr_eq(&one, &two));
        }
        // A machine without certificates.
        Err(fault) => assert!(
            fault.to_string().starts_with("the system's authorities"),
            "{fault}"
        ),
    }
}

#[test]
fn faults_of_a_pools_files_name_them() {
    let directory = Directory::new();
    let authority = Authority::new("ca");
    let trust = Trust::new(Clock::today());
    let fault = |pool| client(&pool, &trust).unwrap_err().to_string();
    let text = fault(pool(Verify::Ca(directory.path("gone.pem"))));
    assert!(text.contains("gone.pem: No such file"), "{text}");
    let text = fault(pool(Verify::Ca(directory.file("empty.pem", ""))));
    assert!(text.contains("empty.pem: no certificate"), "{text}");
    let (one, other) = (
        authority.issue(&directory, &["a"]),
        authority.issue(&directory, &["b"]),
    );
    let mut mixed = trusting(&directory, &authority);
    mixed.certificate = Some((one.chain, other.key));
    assert!(fault(mixed).contains("not the certificate's key"));
}

#[test]
fn names_to_ask_for() {
    let own = named("backend.example");
    let fixed = PoolSni::Fixed("fixed.example".into());
    for (sni, asked, own, expected) in [
        (
            &fixed,
            Some("asked.example"),
            Some(&own),
            Some("fixed.example"),
        ),
        (&fixed, None, None, Some("fixed.example")),
        (
            &PoolSni::Client,
            Some("asked.example"),
            Some(&own),
            Some("asked.example"),
        ),
        (&PoolSni::Client, None, Some(&own), Some("backend.example")),
        (&PoolSni::Client, Some("no host name"), Some(&own), None),
        (
            &PoolSni::Backend,
            Some("asked.example"),
            Some(&own),
            Some("backend.example"),
        ),
        (&PoolSni::Backend, None, None, None),
    ] {
        let expected = expected.map(named);
        assert_eq!(name(sni, asked, own), expected, "{sni:?} {asked:?}");
    }
}

#[test]
fn what_is_remembered_of_backends_is_bounded() {
    let sessions = Sessions::default();
    let name = |number: usize| named(&format!("{number}.example"));
    let group = rustls::NamedGroup::X25519;
    for number in 0..NAMES_MAX {
        sessions.set_kx_hint(name(number), group);
    }
    sessions.set_kx_hint(name(0), group);
    assert_eq!(sessions.kx_hint(&name(0)), Some(group));
    sessions.set_kx_hint(name(NAMES_MAX), group);
    assert_eq!(sessions.kx_hint(&name(0)), None, "the first one went");
    let known = (0..=NAMES_MAX).filter(|&number| sessions.kx_hint(&name(number)).is_some());
    assert_eq!(known.count(), NAMES_MAX);
}

#[test]
fn a_resumed_session_is_never_offered_to_another_name() {
    let directory = Directory::new();
    let authority = Authority::new("ca");
    let certificate = authority.issue(&directory, &["a.example", "b.example"]);
    for version in VERSIONS {
        let keys = rotating(&Clock::today());
        let server = Listener::new(&[&certificate])
            .version(version)
            .tickets(&keys)
            .config();
        let client = side(&trusting(&directory, &authority));
        let resumed = |name: &str| {
            let mut pair = meet(&server, &client, name).unwrap();
            pair.talk(b"up", b"down");
            pair.client.negotiated().resumed
        };
        assert!(!resumed("a.example"));
        assert!(!resumed("b.example"));
        assert!(resumed("a.example") && resumed("b.example"));
    }
}

#[test]
fn tickets_of_one_name_are_bounded() {
    let directory = Directory::new();
    let authority = Authority::new("ca");
    let certificate = authority.issue(&directory, &["a.example"]);
    let keys = rotating(&Clock::today());
    let server = Listener::new(&[&certificate]).tickets(&keys).config();
    let client = side(&trusting(&directory, &authority));
    // Handshakes at the same time, so that none of them uses up another one's ticket.
    let mut pairs: Vec<Pair> = (0..12)
        .map(|_| Pair {
            client: calling(&client, "a.example"),
            server: Session::server(&server).unwrap(),
        })
        .collect();
    for pair in &mut pairs {
        pair.shake_hands(&mut Cut::Whole).unwrap();
        pair.talk(b"up", b"down");
        assert!(!pair.client.negotiated().resumed);
    }
    let again: Vec<Session> = (0..12).map(|_| calling(&client, "a.example")).collect();
    let resumed = again.into_iter().map(|client| {
        let mut pair = Pair {
            client,
            server: Session::server(&server).unwrap(),
        };
        pair.shake_hands(&mut Cut::Whole).unwrap();
        pair.client.negotiated().resumed
    });
    let resumed = resumed.filter(|&resumed| resumed).count();
    assert_eq!(resumed, TICKETS_MAX);
}
