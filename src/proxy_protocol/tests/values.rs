//! Writing version 2: what is said besides addresses, and what is left out.

use std::sync::Arc;

use super::writing::{everything, facts, tls};
use super::*;
use crate::config::model::TlsVersion;

fn custom(values: &[(u8, &str)]) -> Vec<(u8, Arc<str>)> {
    let value = |(kind, value): &(u8, &str)| (*kind, Arc::from(*value));
    values.iter().map(value).collect()
}

fn ssl(facts: TlsFacts<'_>) -> Vec<u8> {
    let tlvs = ProxyTlvs {
        ssl: true,
        ..ProxyTlvs::default()
    };
    let facts = Facts {
        tls: Some(facts),
        ..self::facts()
    };
    let bytes = written(&send(tlvs), &facts);
    header(&bytes).tlvs.value(kind::SSL).unwrap().to_vec()
}

#[test]
fn values_are_said_only_if_they_are_wanted_and_known() {
    let known = Facts {
        alpn: Some(b"h2"),
        authority: Some("app.example"),
        unique_id: Some(b"\0\x01"),
        tls: Some(tls()),
        ..facts()
    };
    let kinds = |send: &ProxySend, facts: &Facts<'_>| {
        let bytes = written(send, facts);
        let tlvs = header(&bytes).tlvs;
        tlvs.map(|(kind, _)| kind).collect::<Vec<_>>()
    };
    let all = send(everything());
    assert_eq!(kinds(&all, &known), [0x03, 0x01, 0x02, 0x05, 0x20]);
    assert_eq!(kinds(&all, &facts()), [0x03]);
    assert!(kinds(&send(ProxyTlvs::default()), &known).is_empty());
    let one = |change: fn(&mut ProxyTlvs)| {
        let mut tlvs = ProxyTlvs::default();
        change(&mut tlvs);
        kinds(&send(tlvs), &known)
    };
    assert_eq!(one(|tlvs| tlvs.alpn = true), [0x01]);
    assert_eq!(one(|tlvs| tlvs.authority = true), [0x02]);
    assert_eq!(one(|tlvs| tlvs.crc32c = true), [0x03]);
    assert_eq!(one(|tlvs| tlvs.unique_id = true), [0x05]);
    assert_eq!(one(|tlvs| tlvs.ssl = true), [0x20]);
}

#[test]
fn values_are_those_of_the_session() {
    let facts = Facts {
        alpn: Some(b"http/1.1"),
        authority: Some("app.example"),
        unique_id: Some(b"\0\xff"),
        ..facts()
    };
    let bytes = written(&send(everything()), &facts);
    let tlvs = header(&bytes).tlvs;
    assert_eq!(tlvs.value(kind::ALPN), Some(&b"http/1.1"[..]));
    assert_eq!(tlvs.value(kind::AUTHORITY), Some(&b"app.example"[..]));
    assert_eq!(tlvs.value(kind::UNIQUE_ID), Some(&b"\0\xff"[..]));
}

#[test]
fn tls_is_told_with_flags_and_nested_values() {
    let expected = [
        b"\x01\0\0\0\x01",
        &tlv(0x21, b"TLSv1.3")[..],
        &tlv(0x23, b"TLS_AES_128_GCM_SHA256"),
    ];
    assert_eq!(ssl(tls()), expected.concat());

    let shown = TlsFacts {
        version: TlsVersion::Tls12,
        cipher: "ECDHE-RSA-AES128-GCM-SHA256",
        signature: Some("RSA-SHA256"),
        key: Some("RSA2048"),
        client_certificate: Some(ClientCertificate {
            common_name: Some("Zoë"),
            is_verified: true,
            shown: Shown::Now,
        }),
    };
    let expected = [
        b"\x07\0\0\0\0",
        &tlv(0x21, b"TLSv1.2")[..],
        &tlv(0x22, "Zoë".as_bytes()),
        &tlv(0x25, b"RSA2048"),
        &tlv(0x24, b"RSA-SHA256"),
        &tlv(0x23, b"ECDHE-RSA-AES128-GCM-SHA256"),
    ];
    assert_eq!(ssl(shown), expected.concat());
}

#[test]
fn only_a_verified_certificate_has_the_verification_result_zero() {
    let told = |client_certificate| {
        let facts = TlsFacts {
            client_certificate,
            ..tls()
        };
        ssl(facts)[..5].to_vec()
    };
    let certificate = |is_verified, shown| {
        Some(ClientCertificate {
            common_name: None,
            is_verified,
            shown,
        })
    };
    assert_eq!(told(None), b"\x01\0\0\0\x01");
    assert_eq!(told(certificate(true, Shown::Now)), b"\x07\0\0\0\0");
    assert_eq!(told(certificate(false, Shown::Now)), b"\x07\0\0\0\x01");
    assert_eq!(told(certificate(true, Shown::Before)), b"\x05\0\0\0\0");
}

#[test]
fn fixed_values_stand_before_those_passed_on() {
    let received = [
        tlv(0xe2, b"b"),
        tlv(0xea, b"no"),
        tlv(0xe1, b"a"),
        tlv(0xe1, b"c"),
    ]
    .concat();
    let tlvs = ProxyTlvs {
        pass: vec![0xe1, 0xe2],
        custom: custom(&[(0xe5, "five"), (0xe4, "four")]),
        ..ProxyTlvs::default()
    };
    let facts = Facts {
        received: Tlvs::new(&received),
        ..facts()
    };
    let bytes = written(&send(tlvs), &facts);
    let said: Vec<(u8, &[u8])> = header(&bytes).tlvs.collect();
    let expected: [(u8, &[u8]); 5] = [
        (0xe5, b"five"),
        (0xe4, b"four"),
        (0xe2, b"b"),
        (0xe1, b"a"),
        (0xe1, b"c"),
    ];
    assert_eq!(said, expected);
}

#[test]
fn what_we_know_goes_before_what_was_received() {
    let received = [tlv(kind::AUTHORITY, b"theirs"), tlv(kind::ALPN, b"theirs")].concat();
    let tlvs = ProxyTlvs {
        pass: vec![kind::AUTHORITY, kind::ALPN],
        ..everything()
    };
    let facts = Facts {
        authority: Some("ours"),
        received: Tlvs::new(&received),
        ..facts()
    };
    let bytes = written(&send(tlvs), &facts);
    let said: Vec<(u8, &[u8])> = header(&bytes).tlvs.skip(1).collect();
    let expected: [(u8, &[u8]); 2] = [(kind::AUTHORITY, b"ours"), (kind::ALPN, b"theirs")];
    assert_eq!(said, expected);
}

#[test]
fn a_checksum_of_another_header_is_never_passed_on() {
    let received = [tlv(kind::CRC32C, b"1234"), tlv(0xe0, b"x")].concat();
    let facts = Facts {
        received: Tlvs::new(&received),
        ..facts()
    };
    for crc32c in [false, true] {
        let tlvs = ProxyTlvs {
            crc32c,
            pass: vec![kind::CRC32C, 0xe0],
            custom: custom(&[(kind::CRC32C, "fixed")]),
            ..ProxyTlvs::default()
        };
        let mut out = Vec::new();
        let outcome = write(&send(tlvs), &facts, &mut out);
        let ours = usize::from(crc32c);
        // With one of our own, the received one is not missing.
        assert_eq!(outcome.left_out, 2 - ours);
        assert_whole(&out);
        assert_eq!(header(&out).tlvs.count(), 1 + ours);
    }
}

#[test]
fn what_is_passed_on_is_left_out_first_when_the_header_is_full() {
    let long = vec![b'p'; 30_000];
    let received = [
        tlv(0xe1, &long),
        tlv(0xe2, &long),
        tlv(0xe3, &long),
        tlv(0xe4, b"short"),
    ]
    .concat();
    let tlvs = ProxyTlvs {
        pass: vec![0xe1, 0xe2, 0xe3, 0xe4],
        custom: custom(&[(0xe5, "fixed")]),
        ..everything()
    };
    let facts = Facts {
        unique_id: Some(b"id"),
        tls: Some(tls()),
        received: Tlvs::new(&received),
        ..facts()
    };
    let mut out = Vec::new();
    assert_eq!(write(&send(tlvs), &facts, &mut out).left_out, 1);
    assert_whole(&out);
    let kinds: Vec<u8> = header(&out).tlvs.map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [0x03, 0x05, 0x20, 0xe5, 0xe1, 0xe2, 0xe4]);
}

#[test]
fn a_header_is_filled_to_its_last_byte() {
    let room = HEADER_BYTES_MAX - 16 - INET.len() - 3;
    for (length, left_out) in [
        (room, 0),
        (room + 1, 1),
        (65535, 1),
        (65536, 1),
        (1 << 20, 1),
    ] {
        let value = "c".repeat(length);
        let tlvs = ProxyTlvs {
            custom: custom(&[(0xe0, &value)]),
            ..ProxyTlvs::default()
        };
        let mut out = Vec::new();
        assert_eq!(write(&send(tlvs), &facts(), &mut out), Written { left_out });
        let expected = if left_out == 0 { HEADER_BYTES_MAX } else { 28 };
        assert_eq!(out.len(), expected);
        assert_eq!(header(&out).origin, inet());
        assert_eq!(header(&out).length, expected);
    }
}

#[test]
fn nested_values_that_do_not_fit_are_left_out() {
    let name = "n".repeat(66_000);
    let cipher = "c".repeat(65_530);
    let facts = Facts {
        tls: Some(TlsFacts {
            cipher: &cipher,
            client_certificate: Some(ClientCertificate {
                common_name: Some(&name),
                is_verified: true,
                shown: Shown::Now,
            }),
            ..tls()
        }),
        ..facts()
    };
    let mut out = Vec::new();
    let tlvs = ProxyTlvs {
        ssl: true,
        ..ProxyTlvs::default()
    };
    assert_eq!(write(&send(tlvs), &facts, &mut out).left_out, 2);
    let nested = [b"\x07\0\0\0\0", &tlv(0x21, b"TLSv1.3")[..]].concat();
    assert_eq!(header(&out).tlvs.as_bytes(), tlv(kind::SSL, &nested));
}

#[test]
fn values_that_receivers_refuse_are_left_out() {
    let outcome = |authority: usize, unique_id: usize| {
        let (authority, unique_id) = ("a".repeat(authority), vec![7; unique_id]);
        let facts = Facts {
            authority: Some(&authority),
            unique_id: Some(&unique_id),
            ..facts()
        };
        let mut out = Vec::new();
        let outcome = write(&send(everything()), &facts, &mut out);
        assert_whole(&out);
        (outcome.left_out, header(&out).tlvs.count())
    };
    assert_eq!(outcome(255, UNIQUE_ID_BYTES_MAX), (0, 3));
    assert_eq!(outcome(256, UNIQUE_ID_BYTES_MAX), (1, 2));
    assert_eq!(outcome(255, UNIQUE_ID_BYTES_MAX + 1), (1, 2));
}
