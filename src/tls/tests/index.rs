//! Which certificate is shown.

use std::sync::Arc;

use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rustls::SignatureScheme;

use super::fixtures::{
    Authority, Clock, DAY, Directory, Listener, TODAY, calling, loaded, params, side, trusting,
    unix,
};
use super::wire::{Cut, Failed, Pair, fed, written};
use crate::config::model::Certificate;
use crate::tls::certificates::load;
use crate::tls::client::ClientSide;
use crate::tls::index::CertificateIndex;
use crate::tls::seam::{Session, SessionFault};
use crate::tls::server::server;

const ALL: &[SignatureScheme] = &[
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::RSA_PSS_SHA256,
];

/// The names of the certificate that is shown for `name`, and `rsa` if its key is.
fn shown(index: &CertificateIndex, name: Option<&str>, schemes: &[SignatureScheme]) -> String {
    let Some(chosen) = index.choose(name, schemes) else {
        return "none".to_owned();
    };
    let all = index.certificates();
    let chosen = all
        .iter()
        .find(|one| Arc::ptr_eq(&one.certified, &chosen))
        .unwrap();
    let names: Vec<String> = chosen.names.iter().map(ToString::to_string).collect();
    format!("{} {}", names.join(" "), chosen.kind)
}

#[test]
fn the_exact_name_wins_over_a_pattern() {
    let directory = Directory::new();
    let authority = Authority::new("ca");
    let issue = |names: &[&str]| authority.issue(&directory, names);
    let certificates = [
        &issue(&["fallback.example"]),
        &issue(&["*.b.example"]),
        &issue(&["a.b.example"]),
    ];
    let index = Listener::new(&certificates).index();
    for (name, expected) in [
        (Some("a.b.example"), "a.b.example ECDSA"),
        (Some("A.B.Example."), "a.b.example ECDSA"),
        (Some("c.b.example"), "*.b.example ECDSA"),
        (Some("c.c.b.example"), "fallback.example ECDSA"),
        (Some("b.example"), "fallback.example ECDSA"),
        (Some(".b.example"), "fallback.example ECDSA"),
        (Some("example"), "fallback.example ECDSA"),
        (Some(""), "fallback.example ECDSA"),
        (None, "fallback.example ECDSA"),
    ] {
        assert_eq!(shown(&index, name, ALL), expected, "{name:?}");
        assert!(index.knows(name));
    }
}

#[test]
fn a_strict_index_shows_nothing_to_strangers() {
    let directory = Directory::new();
    let authority = Authority::new("ca");
    let certificate = authority.issue(&directory, &["a.example", "*.b.example"]);
    let index = Listener::new(&[&certificate]).strict().index();
    for (name, known) in [
        (Some("a.example"), true),
        (Some("x.b.example"), true),
        (Some("b.example"), false),
        (None, false),
    ] {
        assert_eq!(index.knows(name), known, "{name:?}");
        assert_eq!(shown(&index, name, ALL) == "none", !known);
    }
}

#[test]
fn of_a_pair_the_one_that_the_client_can_use_is_shown() {
    let directory = Directory::new();
    let authority = Authority::new("ca");
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let rsa = authority.issue_with(&directory, &params(&["a.example"]), &rsa);
    let ecdsa = authority.issue(&directory, &["a.example"]);
    let second = authority.issue(&directory, &["a.example"]);
    for certificates in [[&rsa, &ecdsa, &second], [&ecdsa, &rsa, &second]] {
        let index = Listener::new(&certificates).index();
        for name in [Some("a.example"), Some("other.example"), None] {
            assert_eq!(shown(&index, name, ALL), "a.example ECDSA");
            assert_eq!(shown(&index, name, &ALL[1..]), "a.example RSA");
            // A client that can use none of them: rustls tells it.
            let none = [SignatureScheme::ECDSA_NISTP521_SHA512];
            assert_eq!(shown(&index, name, &none), "a.example ECDSA");
            // Of two equal ones the first.
            let first = index.choose(name, ALL).unwrap();
            assert_eq!(first.cert, loaded(&ecdsa).certified.cert);
        }
    }
}

#[test]
fn a_pair_is_chosen_from_in_a_handshake() {
    let directory = Directory::new();
    let authority = Authority::new("ca");
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let rsa = authority.issue_with(&directory, &params(&["a.example"]), &rsa);
    let ecdsa = authority.issue(&directory, &["a.example"]);
    let config = Listener::new(&[&rsa, &ecdsa]).config();
    let mut pair = Pair {
        client: calling(&side(&trusting(&directory, &authority)), "a.example"),
        server: Session::server(&config).unwrap(),
    };
    pair.shake_hands(&mut Cut::Whole).unwrap();
    let shown = pair.client.peer_certificate().unwrap();
    assert_eq!([shown.clone()].as_slice(), loaded(&ecdsa).certified.cert);
}

/// A handshake; which serial number or fault it ends in.
fn meet(
    config: &Arc<crate::tls::ServerConfig>,
    client: &ClientSide,
    name: &str,
) -> Result<Vec<u8>, Failed> {
    let mut pair = Pair {
        client: calling(client, name),
        server: Session::server(config).unwrap(),
    };
    pair.shake_hands(&mut Cut::Whole)?;
    Ok(pair.client.peer_certificate().unwrap().to_vec())
}

#[test]
fn certificates_change_under_settings_in_use() {
    let directory = Directory::new();
    let authority = Authority::new("ca");
    let (old, new) = (
        authority.issue(&directory, &["a.example"]),
        authority.issue(&directory, &["a.example", "b.example"]),
    );
    let listener = Listener::new(&[&old]).strict();
    let index = listener.index();
    let config = server(&listener.termination, &index, None)
        .unwrap()
        .config();
    let client = side(&trusting(&directory, &authority));

    let first = meet(&config, &client, "a.example").unwrap();
    assert_eq!(first, loaded(&old).certified.cert[0].to_vec());
    assert!(!index.knows(Some("b.example")));

    // A handshake that has begun ends with the certificate it began with.
    let mut pair = Pair {
        client: calling(&client, "a.example"),
        server: Session::server(&config).unwrap(),
    };
    let hello = written(&mut pair.client);
    fed(&mut pair.server, &hello, &mut Cut::Whole).unwrap();
    index.replace(vec![loaded(&new)], None);
    pair.shake_hands(&mut Cut::Whole).unwrap();
    assert_eq!(pair.client.peer_certificate().unwrap().to_vec(), first);

    let second = meet(&config, &client, "a.example").unwrap();
    assert_eq!(second, loaded(&new).certified.cert[0].to_vec());
    assert!(meet(&config, &client, "b.example").is_ok());
    index.replace(Vec::new(), Some(0));
    assert!(!index.knows(Some("a.example")));
    let failed = meet(&config, &client, "a.example").unwrap_err();
    assert_eq!(failed, Failed::Server(SessionFault::UnknownName));
}

#[test]
fn a_staple_ends_with_its_time() {
    let file = |name: &str| {
        let files = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tls/tests/files");
        files.join(name)
    };
    let certificate = Certificate {
        chain: file("good.pem"),
        key: file("good.key"),
        ocsp: Some(file("good.ocsp")),
    };
    let clock = Clock::today();
    clock.forward(325 * DAY);
    let certificates = vec![load(&certificate, unix(TODAY + 325 * DAY)).unwrap()];
    let index = CertificateIndex::new(certificates, Some(0), clock.clone());
    assert!(index.choose(None, ALL).unwrap().ocsp.is_some());
    clock.forward(40 * DAY);
    assert!(index.choose(None, ALL).unwrap().ocsp.is_none());
}
