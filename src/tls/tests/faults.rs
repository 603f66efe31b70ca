//! What is no TLS, or breaks its rules, and the answers to it.

use rustls::AlertDescription;

use super::fixtures::calling;
use super::seam::{Sides, VERSIONS};
use super::wire::{Cut, Failed, Pair, fed, seal, written};
use crate::base::random::Random;
use crate::config::model::TlsVersion;
use crate::tls::seam::{Session, SessionFault, UNRECOGNIZED_NAME};

/// The plaintext alert in `bytes`, if that is all there is.
pub(super) fn alert(bytes: &[u8]) -> Option<AlertDescription> {
    match bytes {
        [21, 3, 3, 0, 2, 2, description] => Some(AlertDescription::from(*description)),
        _ => None,
    }
}

/// A ClientHello without extensions: one cipher suite, no session.
fn old_hello(version: [u8; 2]) -> Vec<u8> {
    let mut hello = vec![22, 3, 1, 0, 45, 1, 0, 0, 41];
    hello.extend(version);
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x09, 1, 0]);
    hello
}

#[test]
fn garbage_for_a_hello_is_answered_with_the_alert_that_is_due() {
    let sides = Sides::new(TlsVersion::Tls13);
    let long_handshake = [&[22, 3, 1, 0, 4, 1, 1, 0, 0][..], &[0; 4]].concat();
    for (bytes, expected) in [
        (
            &b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"[..],
            Some(AlertDescription::UnexpectedMessage),
        ),
        (&[0xff; 64][..], Some(AlertDescription::UnexpectedMessage)),
        // A version of long ago in the record's header.
        (
            &[22, 2, 0, 0, 4, 1, 0, 0, 0][..],
            Some(AlertDescription::ProtocolVersion),
        ),
        // A record that is longer than one can be.
        (
            &[22, 3, 1, 0xff, 0xff, 1, 0, 0, 0][..],
            Some(AlertDescription::RecordOverflow),
        ),
        // Application data before any handshake.
        (
            &[23, 3, 3, 0, 1, 0][..],
            Some(AlertDescription::UnexpectedMessage),
        ),
        // A handshake message of 64 KiB and more.
        (&long_handshake, Some(AlertDescription::DecodeError)),
        // Another record in the middle of a handshake message.
        (
            &[22, 3, 1, 0, 4, 1, 0, 0, 9, 20, 3, 3, 0, 1, 1][..],
            Some(AlertDescription::UnexpectedMessage),
        ),
        // A ClientHello of nothing.
        (
            &[22, 3, 1, 0, 4, 1, 0, 0, 0][..],
            Some(AlertDescription::DecodeError),
        ),
        // An alert of the peer is not answered.
        (&[21, 3, 3, 0, 2, 2, 40][..], None),
    ] {
        for cut in [1, 1000] {
            let mut session = Session::server(&sides.server).unwrap();
            let fault = fed(&mut session, bytes, &mut Cut::Every(cut));
            assert!(fault.is_err(), "{bytes:?}");
            assert_eq!(
                alert(&written(&mut session)),
                expected,
                "{bytes:?} {fault:?}"
            );
        }
    }
}

#[test]
fn a_client_of_an_old_version_is_told_that() {
    let sides = Sides::new(TlsVersion::Tls12);
    for (version, expected) in [
        ([3, 0], AlertDescription::ProtocolVersion),
        ([3, 1], AlertDescription::ProtocolVersion),
        ([3, 2], AlertDescription::ProtocolVersion),
        // No signature algorithms stand for SHA-1 (RFC 5246 §7.4.1.4.1), which we do not know.
        ([3, 3], AlertDescription::HandshakeFailure),
    ] {
        for cut in [11, 30, 1000] {
            let mut session = Session::server(&sides.server).unwrap();
            let hello = old_hello(version);
            let fault = fed(&mut session, &hello, &mut Cut::Every(cut)).unwrap_err();
            assert!(matches!(fault, SessionFault::Incompatible(_)), "{fault}");
            assert_eq!(alert(&written(&mut session)), Some(expected), "{version:?}");
        }
    }
}

#[test]
fn random_garbage_never_passes() {
    let sides = Sides::new(TlsVersion::Tls13);
    for seed in 0..500 {
        let mut random = Random::new(seed);
        let length = usize::try_from(random.below(2000)).unwrap() + 200;
        let mut bytes: Vec<u8> = (0..length)
            .map(|_| random.next_u64().to_le_bytes()[0])
            .collect();
        // Some of it looks like TLS at first.
        if seed % 2 == 0 {
            bytes[..3].copy_from_slice(&[22, 3, 1]);
            let inside = u16::try_from(length - 5).unwrap();
            bytes[3..5].copy_from_slice(&inside.to_be_bytes());
        }
        if seed % 4 == 0 {
            bytes[5..9].copy_from_slice(&[1, 0, 0, 60]);
        }
        let mut session = Session::server(&sides.server).unwrap();
        let fault = fed(&mut session, &bytes, &mut Cut::Random(random, 300));
        assert!(fault.is_err() || session.is_handshaking(), "seed {seed}");
    }
}

#[test]
fn a_changed_byte_anywhere_is_noticed() {
    for version in VERSIONS {
        let sides = Sides::new(version);
        // The first three are no part of what is protected in TLS 1.3 (RFC 8446 §5.1, §5.2).
        for at in 3..43 {
            let mut pair = sides.connected();
            seal(&mut pair.client, b"before").unwrap();
            let good = written(&mut pair.client);
            seal(&mut pair.client, b"transfer 1 to Bob").unwrap();
            let mut bad = written(&mut pair.client);
            assert!(at < bad.len() || version == TlsVersion::Tls13);
            let at = at.min(bad.len() - 1);
            bad[at] ^= 1;
            let mut bytes = [good, bad].concat();
            let mut plain = Vec::new();
            let fault = pair.server.decrypt(&mut bytes, &mut plain).err();
            // What came before it comes out; the rest never.
            assert_eq!(plain, b"before");
            let lengthened = matches!(at, 3 | 4) && fault.is_none();
            assert!(fault.is_some() || lengthened, "{version:?} byte {at}");
            assert_eq!(pair.server.wants_write(), fault.is_some());
        }
    }
}

#[test]
fn a_bad_record_after_our_end_is_a_fault_like_any_other() {
    let mut pair = Sides::new(TlsVersion::Tls13).connected();
    pair.server.close();
    written(&mut pair.server);
    let fault = fed(
        &mut pair.server,
        &[
            23, 3, 3, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
        &mut Cut::Whole,
    );
    assert!(matches!(fault, Err(SessionFault::Protocol(_))), "{fault:?}");
}

#[test]
fn a_fault_stays() {
    let mut pair = Sides::new(TlsVersion::Tls13).connected();
    let bad = [
        23, 3, 3, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let first = fed(&mut pair.server, &bad, &mut Cut::Whole).unwrap_err();
    let alert = written(&mut pair.server);
    let told = fed(&mut pair.client, &alert, &mut Cut::Whole).unwrap_err();
    assert_eq!(told, SessionFault::Alert(AlertDescription::BadRecordMac));
    seal(&mut pair.client, b"x").unwrap_err();
    let again = fed(&mut pair.server, &[0], &mut Cut::Whole).unwrap_err();
    assert_eq!(first, again);
    assert!(seal(&mut pair.server, b"x").is_err());
    assert!(!pair.server.wants_write());
}

#[test]
fn the_refusal_of_a_name_is_understood() {
    let sides = Sides::new(TlsVersion::Tls13);
    let mut client = calling(&sides.client, "b.example");
    let fault = fed(&mut client, &UNRECOGNIZED_NAME, &mut Cut::Whole).unwrap_err();
    assert_eq!(
        fault,
        SessionFault::Alert(AlertDescription::UnrecognisedName)
    );
}

#[test]
fn a_server_that_shows_another_name_is_refused() {
    for version in VERSIONS {
        let sides = Sides::new(version);
        let mut pair = Pair {
            client: calling(&sides.client, "b.example"),
            server: Session::server(&sides.server).unwrap(),
        };
        let failed = pair.shake_hands(&mut Cut::Whole).unwrap_err();
        let Failed::Client(fault) = failed else {
            panic!("{failed:?}");
        };
        assert!(matches!(fault, SessionFault::Certificate(_)), "{fault}");
        assert!(fault.to_string().contains("b.example"), "{fault}");
        let alert = written(&mut pair.client);
        let told = fed(&mut pair.server, &alert, &mut Cut::Whole).unwrap_err();
        assert_eq!(told, SessionFault::Alert(AlertDescription::BadCertificate));
    }
}
