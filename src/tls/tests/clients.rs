//! Clients' certificates.

use std::sync::Arc;

use rcgen::{DnType, KeyPair, date_time_ymd};
use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, CertificateError};

use super::fixtures::{
    Authority, Clock, DAY, Directory, Listener, calling, client_params, params, rotating, side,
    trusting,
};
use super::wire::{Cut, Failed, Pair, fed, written};
use crate::base::name::NamePattern;
use crate::config::model::{Certificate, ClientAuth, ClientCa, TlsVersion};
use crate::tls::ServerConfig;
use crate::tls::peer::{client_names_match, common_name};
use crate::tls::seam::{Session, SessionFault};
use crate::tls::server::server;

/// A server, and authorities for it and its clients.
struct Scene {
    directory: Directory,
    authority: Authority,
    people: Authority,
    certificate: Certificate,
}

impl Scene {
    fn new() -> Self {
        let directory = Directory::new();
        let authority = Authority::new("ca");
        let certificate = authority.issue(&directory, &["a.example"]);
        Self {
            people: Authority::new("people"),
            directory,
            authority,
            certificate,
        }
    }

    fn rules(&self, crl: Option<&str>) -> ClientCa {
        ClientCa {
            ca: self.directory.file("people.pem", self.people.pem()),
            crl: crl.map(|text| self.directory.file("crl.pem", text)),
        }
    }

    fn server(&self, auth: ClientAuth, version: TlsVersion) -> Arc<ServerConfig> {
        Listener::new(&[&self.certificate])
            .version(version)
            .auth(auth)
            .config()
    }

    /// A person's certificate.
    fn person(&self, by: &Authority, serial: u64) -> Certificate {
        let key = KeyPair::generate().unwrap();
        by.issue_with(&self.directory, &client_params("alice", serial), &key)
    }

    /// A handshake of a client that shows `own`. In TLS 1.3 the client learns of a refusal only
    /// after its handshake.
    fn meet(
        &self,
        server: &Arc<ServerConfig>,
        own: Option<&Certificate>,
    ) -> (Pair, Option<Failed>) {
        let mut pool = trusting(&self.directory, &self.authority);
        pool.certificate = own.map(|own| (own.chain.clone(), own.key.clone()));
        let mut pair = Pair {
            client: calling(&side(&pool), "a.example"),
            server: Session::server(server).unwrap(),
        };
        let failed = pair.settle(&mut Cut::Every(100)).err();
        (pair, failed)
    }
}

const VERSIONS: [TlsVersion; 2] = [TlsVersion::Tls12, TlsVersion::Tls13];

/// The refusal that the server gave, and that the client is told of.
fn refused(mut met: (Pair, Option<Failed>)) -> (SessionFault, AlertDescription) {
    let Some(Failed::Server(fault)) = met.1 else {
        panic!("{:?}", met.1);
    };
    assert!(met.0.server.is_handshaking());
    let alert = written(&mut met.0.server);
    match fed(&mut met.0.client, &alert, &mut Cut::Whole) {
        Err(SessionFault::Alert(alert)) => (fault, alert),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_certificate_lets_in_and_is_known() {
    let scene = Scene::new();
    for version in VERSIONS {
        for auth in [
            ClientAuth::Request(scene.rules(None)),
            ClientAuth::Require(scene.rules(None)),
            ClientAuth::Require(scene.rules(Some(&scene.people.revoke(&[5])))),
        ] {
            let server = scene.server(auth, version);
            let own = scene.person(&scene.people, 4);
            let (mut pair, failed) = scene.meet(&server, Some(&own));
            assert_eq!(failed, None);
            pair.talk(b"up", b"down");
            assert_eq!(pair.server.peer_common_name().as_deref(), Some("alice"));
        }
    }
}

#[test]
fn a_missing_certificate_matters_only_where_one_is_required() {
    let scene = Scene::new();
    for version in VERSIONS {
        let server = scene.server(ClientAuth::Request(scene.rules(None)), version);
        let (mut pair, failed) = scene.meet(&server, None);
        assert_eq!(failed, None);
        pair.talk(b"up", b"down");
        assert_eq!(pair.server.peer_common_name(), None);

        let server = scene.server(ClientAuth::Require(scene.rules(None)), version);
        let (fault, alert) = refused(scene.meet(&server, None));
        assert_eq!(fault, SessionFault::NoCertificate);
        // RFC 5246 §7.4.6, RFC 8446 §4.4.2.4.
        let expected = match version {
            TlsVersion::Tls12 => AlertDescription::HandshakeFailure,
            TlsVersion::Tls13 => AlertDescription::CertificateRequired,
        };
        assert_eq!(alert, expected);
    }
}

#[test]
fn what_is_shown_must_be_good_even_if_nothing_need_be() {
    let scene = Scene::new();
    for version in VERSIONS {
        for auth in [
            ClientAuth::Request(scene.rules(None)),
            ClientAuth::Require(scene.rules(None)),
        ] {
            let server = scene.server(auth, version);
            let foreign = scene.person(&Authority::new("others"), 1);
            // rustls does not show what the server did not ask for by name.
            let shown = scene.person(&Authority::new("people"), 1);
            for own in [foreign, shown] {
                let (fault, alert) = refused(scene.meet(&server, Some(&own)));
                let SessionFault::Certificate(error) = fault else {
                    panic!("{fault}");
                };
                assert!(
                    matches!(
                        error,
                        CertificateError::UnknownIssuer | CertificateError::BadSignature
                    ),
                    "{error}"
                );
                assert!(
                    matches!(
                        alert,
                        AlertDescription::UnknownCA | AlertDescription::DecryptError
                    ),
                    "{alert:?}"
                );
            }
        }
    }
}

#[test]
fn a_revoked_certificate_is_refused() {
    let scene = Scene::new();
    for version in VERSIONS {
        let rules = scene.rules(Some(&scene.people.revoke(&[3, 5])));
        let server = scene.server(ClientAuth::Require(rules), version);
        let own = scene.person(&scene.people, 5);
        let (fault, alert) = refused(scene.meet(&server, Some(&own)));
        assert_eq!(fault, SessionFault::Certificate(CertificateError::Revoked));
        assert_eq!(alert, AlertDescription::CertificateRevoked);
    }
}

#[test]
fn an_authority_without_a_list_is_not_trusted_beside_one_that_has_one() {
    let scene = Scene::new();
    let rules = scene.rules(Some(&Authority::new("others").revoke(&[1])));
    let server = scene.server(ClientAuth::Require(rules), TlsVersion::Tls13);
    let own = scene.person(&scene.people, 5);
    let (fault, _) = refused(scene.meet(&server, Some(&own)));
    assert_eq!(
        fault,
        SessionFault::Certificate(CertificateError::UnknownRevocationStatus)
    );
}

#[test]
fn a_list_that_is_out_of_date_refuses() {
    let scene = Scene::new();
    let rules = scene.rules(Some(&scene.people.revoke(&[1])));
    let listener = Listener::new(&[&scene.certificate]).auth(ClientAuth::Require(rules));
    let config = listener.config();
    let own = scene.person(&scene.people, 5);
    listener.clock.forward(DAY - 1);
    assert_eq!(scene.meet(&config, Some(&own)).1, None);
    listener.clock.forward(1);
    let (fault, _) = refused(scene.meet(&config, Some(&own)));
    let SessionFault::Certificate(error) = fault else {
        panic!("{fault}");
    };
    assert!(error.to_string().contains("expired"), "{error}");

    // And it is not taken any more.
    let text = server(&listener.termination, &listener.index(), None)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("crl.pem: list 1 was to be renewed on Jan  2 00:00:00 2026"),
        "{text}"
    );
}

#[test]
fn an_expired_certificate_is_refused() {
    let scene = Scene::new();
    let rules = scene.rules(None);
    let listener = Listener::new(&[&scene.certificate]).auth(ClientAuth::Require(rules));
    let mut params = client_params("alice", 1);
    params.not_after = date_time_ymd(2026, 1, 2);
    let own = scene
        .people
        .issue_with(&scene.directory, &params, &KeyPair::generate().unwrap());
    assert_eq!(scene.meet(&listener.config(), Some(&own)).1, None);
    listener.clock.forward(2 * DAY);
    let (_, alert) = refused(scene.meet(&listener.config(), Some(&own)));
    assert_eq!(alert, AlertDescription::CertificateExpired);
}

#[test]
fn a_resumed_client_is_still_known() {
    let scene = Scene::new();
    let own = scene.person(&scene.people, 4);
    for version in VERSIONS {
        let keys = rotating(&Clock::today());
        let listener = Listener::new(&[&scene.certificate])
            .version(version)
            .tickets(&keys);
        let config = listener
            .auth(ClientAuth::Require(scene.rules(None)))
            .config();
        let mut pool = trusting(&scene.directory, &scene.authority);
        pool.certificate = Some((own.chain.clone(), own.key.clone()));
        let client = side(&pool);
        for resumed in [false, true] {
            let mut pair = Pair {
                client: calling(&client, "a.example"),
                server: Session::server(&config).unwrap(),
            };
            pair.shake_hands(&mut Cut::Whole).unwrap();
            assert_eq!(pair.server.negotiated().resumed, resumed);
            assert_eq!(pair.server.peer_common_name().as_deref(), Some("alice"));
        }
    }
}

#[test]
fn faults_of_the_rules_name_their_file() {
    let scene = Scene::new();
    let make = |ca: &str, crl: Option<&str>| {
        let rules = ClientCa {
            ca: scene.directory.file("ca2.pem", ca),
            crl: crl.map(|text| scene.directory.file("crl2.pem", text)),
        };
        let listener = Listener::new(&[&scene.certificate]).auth(ClientAuth::Require(rules));
        server(&listener.termination, &listener.index(), None)
            .unwrap_err()
            .to_string()
    };
    let good = scene.people.pem();
    let broken = "-----BEGIN X509 CRL-----\nMAMCAQE=\n-----END X509 CRL-----\n";
    let broken_ca = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
    for (ca, crl, expected) in [
        (
            "",
            None,
            "ca2.pem: no certificate, expected CERTIFICATE sections (PEM)",
        ),
        (broken_ca, None, "ca2.pem: certificate 1: "),
        (
            &good,
            Some(""),
            "crl2.pem: no list, expected X509 CRL sections (PEM)",
        ),
        (&good, Some(broken), "crl2.pem: "),
    ] {
        let text = make(ca, crl);
        assert!(text.contains(expected), "{text}");
    }
}

/// A certificate with these alternative names and this common name.
fn certificate(names: &[&str], common_name: &str) -> CertificateDer<'static> {
    let mut params = params(names);
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().der().clone()
}

#[test]
fn allowed_names_are_those_the_certificate_carries() {
    let patterns = |texts: &[&str]| -> Vec<NamePattern> {
        texts
            .iter()
            .map(|text| NamePattern::parse(text).unwrap())
            .collect()
    };
    let both = certificate(&["Web.a.example", "db.deep.b.example"], "common");
    let alone = certificate(&[], "common");
    let wild = certificate(&["*.a.example"], "common");
    for (certificate, allowed, expected) in [
        (&both, &["web.a.example"][..], true),
        (&both, &["x.example", "WEB.A.example"], true),
        (&both, &["*.a.example"], true),
        (&both, &["*.example"], false),
        (&both, &["*.b.example"], false),
        (&both, &["**.b.example"], true),
        (&both, &["b.a.example"], false),
        (&both, &["eb.a.example"], false),
        (&both, &["**.eb.a.example"], false),
        (&both, &["common"], false),
        (&alone, &["common"], true),
        (&alone, &["other"], false),
        (&wild, &["web.a.example"], false),
        (&wild, &["*.a.example"], false),
        (&wild, &["**.a.example"], false),
        (&both, &[], false),
    ] {
        assert_eq!(
            client_names_match(certificate, &patterns(allowed)),
            expected,
            "{allowed:?}"
        );
    }
    let nul = certificate(&[], "a.example\0.evil.example");
    assert!(!client_names_match(
        &nul,
        &patterns(&["a.example", "**.example"])
    ));
    let broken = CertificateDer::from(vec![0x30, 0x01]);
    assert!(!client_names_match(&broken, &patterns(&["a.example"])));
    assert_eq!(common_name(&broken), None);
    assert_eq!(common_name(&alone).as_deref(), Some("common"));
}
