//! How long tickets stand for a client's certificate.

use rcgen::{KeyPair, date_time_ymd};
use rustls::CertificateError;

use super::fixtures::{
    Authority, Directory, Listener, calling, client_params, rotating, side, trusting,
};
use super::wire::{Cut, Failed, Pair};
use crate::config::model::{ClientAuth, ClientCa, TlsVersion};
use crate::tls::client::ClientSide;
use crate::tls::seam::{Session, SessionFault};
use crate::tls::server::Serving;

const HOUR: u64 = 60 * 60;

/// A handshake; whether it resumed.
fn resumed(serving: &Serving, client: &ClientSide) -> Result<bool, Failed> {
    let mut pair = Pair {
        client: calling(client, "a.example"),
        server: Session::server(&serving.config()).unwrap(),
    };
    pair.settle(&mut Cut::Every(500))?;
    pair.talk(b"question", b"answer");
    Ok(pair.server.negotiated().resumed)
}

/// Resumes session after session until a day is over, on which something ends: each resumed session
/// brings a ticket that is as good as new.
fn refused_after_a_day(expires: bool, listed: bool, version: TlsVersion) -> SessionFault {
    let directory = Directory::new();
    let (authority, people) = (Authority::new("ca"), Authority::new("people"));
    let certificate = authority.issue(&directory, &["a.example"]);
    // Lists of these authorities hold for a day.
    let list = directory.file("crl.pem", people.revoke(&[7]));
    let rules = ClientCa {
        ca: directory.file("people.pem", people.pem()),
        crl: listed.then_some(list),
    };
    let mut listener = Listener::new(&[&certificate])
        .version(version)
        .auth(ClientAuth::Require(rules));
    listener.keys = Some(rotating(&listener.clock));
    let serving = listener.serving();

    let mut params = client_params("alice", 1);
    params.not_after = match expires {
        true => date_time_ymd(2026, 1, 2),
        false => date_time_ymd(2036, 1, 2),
    };
    let own = people.issue_with(&directory, &params, &KeyPair::generate().unwrap());
    let mut pool = trusting(&directory, &authority);
    pool.certificate = Some((own.chain, own.key));
    let client = side(&pool);

    assert_eq!(resumed(&serving, &client), Ok(false));
    for hours in [8, 8, 7] {
        listener.clock.forward(hours * HOUR);
        assert_eq!(resumed(&serving, &client), Ok(true), "{version:?}");
    }
    listener.clock.forward(2 * HOUR);
    match resumed(&serving, &client) {
        Err(Failed::Server(fault)) => fault,
        other => panic!("{version:?}: {other:?}"),
    }
}

#[test]
fn a_ticket_holds_no_longer_than_what_the_client_has_shown() {
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let fault = refused_after_a_day(true, false, version);
        let expired = |fault| match fault {
            SessionFault::Certificate(CertificateError::ExpiredContext { .. }) => true,
            SessionFault::Certificate(cause) => cause == CertificateError::Expired,
            _ => false,
        };
        assert!(expired(fault.clone()), "{fault:?}");
    }
}

#[test]
fn a_ticket_holds_no_longer_than_the_list_of_revoked_certificates() {
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let fault = refused_after_a_day(false, true, version);
        let stale = matches!(
            fault,
            SessionFault::Certificate(
                CertificateError::ExpiredRevocationList
                    | CertificateError::ExpiredRevocationListContext { .. }
            )
        );
        assert!(stale, "{fault:?}");
    }
}

#[test]
fn clients_of_one_listener_have_nothing_to_do_with_each_other() {
    let directory = Directory::new();
    let (authority, people) = (Authority::new("ca"), Authority::new("people"));
    let certificate = authority.issue(&directory, &["a.example"]);
    let rules = ClientCa {
        ca: directory.file("people.pem", people.pem()),
        crl: None,
    };
    let mut listener = Listener::new(&[&certificate]).auth(ClientAuth::Request(rules));
    listener.keys = Some(rotating(&listener.clock));
    let serving = listener.serving();
    let mut params = client_params("alice", 1);
    params.not_after = date_time_ymd(2026, 1, 2);
    let own = people.issue_with(&directory, &params, &KeyPair::generate().unwrap());
    let nameless = trusting(&directory, &authority);
    let mut pool = nameless.clone();
    pool.certificate = Some((own.chain, own.key));
    let (alice, nameless) = (side(&pool), side(&nameless));

    assert_eq!(resumed(&serving, &nameless), Ok(false));
    assert_eq!(resumed(&serving, &alice), Ok(false));
    for hours in [10, 10] {
        listener.clock.forward(hours * HOUR);
        assert_eq!(resumed(&serving, &alice), Ok(true));
        assert_eq!(resumed(&serving, &nameless), Ok(true));
    }
    listener.clock.forward(5 * HOUR);
    assert!(resumed(&serving, &alice).is_err());
    assert_eq!(resumed(&serving, &nameless), Ok(true));
}
