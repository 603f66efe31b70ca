//! Writing both versions: whose connection it is.

use super::*;
use crate::config::model::TlsVersion;

pub(super) fn facts<'a>() -> Facts<'a> {
    Facts {
        client: Some(address("192.0.2.1:40000")),
        destination: Some(address("198.51.100.2:443")),
        ..Facts::default()
    }
}

fn between<'a>(client: &str, destination: &str) -> Facts<'a> {
    Facts {
        client: Some(address(client)),
        destination: Some(address(destination)),
        ..Facts::default()
    }
}

pub(super) fn tls<'a>() -> TlsFacts<'a> {
    TlsFacts {
        version: TlsVersion::Tls13,
        cipher: "TLS_AES_128_GCM_SHA256",
        signature: None,
        key: None,
        client_certificate: None,
    }
}

pub(super) fn everything() -> ProxyTlvs {
    ProxyTlvs {
        alpn: true,
        authority: true,
        unique_id: true,
        ssl: true,
        crc32c: true,
        pass: Vec::new(),
        custom: Vec::new(),
    }
}
#[test]
fn version_1_is_one_line() {
    for (client, destination, line) in [
        (
            "192.168.0.1:56324",
            "192.168.0.11:443",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
        ),
        (
            "[2001:db8::1]:0",
            "[::]:65535",
            "PROXY TCP6 2001:db8::1 :: 0 65535\r\n",
        ),
        (
            "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
            "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
            "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
             ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
        ),
        // A scope is no part of the line.
        (
            "[fe80::1%3]:1",
            "[fe80::2%3]:2",
            "PROXY TCP6 fe80::1 fe80::2 1 2\r\n",
        ),
    ] {
        let bytes = written(&send_line(), &between(client, destination));
        assert_eq!(
            bytes.escape_ascii().to_string(),
            line.as_bytes().escape_ascii().to_string()
        );
        assert_whole(&bytes);
    }
}

#[test]
fn version_1_says_nothing_but_addresses() {
    let send = ProxySend {
        version: ProxyVersion::V1,
        tlvs: everything(),
    };
    let facts = Facts {
        alpn: Some(b"h2"),
        tls: Some(tls()),
        ..facts()
    };
    let line = b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 443\r\n";
    assert_eq!(written(&send, &facts), line);
}

#[test]
fn version_2_is_written_byte_by_byte() {
    let bytes = written(&send(ProxyTlvs::default()), &facts());
    let expected = b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A\x21\x11\x00\x0c\
                     \xc0\x00\x02\x01\xc6\x33\x64\x02\x9c\x40\x01\xbb";
    assert_eq!(bytes, expected);

    let facts = between("[2001:db8::1]:40000", "[2001:db8::2]:443");
    let bytes = written(&send(ProxyTlvs::default()), &facts);
    assert_eq!(bytes, binary(0x21, 0x21, &[INET6]));
}

#[test]
fn a_header_is_appended() {
    for send in [send_line(), send(everything())] {
        let alone = written(&send, &facts());
        let mut out = b"before".to_vec();
        assert_eq!(write(&send, &facts(), &mut out), Written::default());
        assert_eq!(out, [b"before", &alone[..]].concat());
    }
}

#[test]
fn a_client_without_an_address_is_unknown() {
    let facts = |client: Option<&str>, destination: Option<&str>| Facts {
        client: client.map(address),
        destination: destination.map(address),
        alpn: Some(b"h2"),
        ..Facts::default()
    };
    let alpn = ProxyTlvs {
        alpn: true,
        ..ProxyTlvs::default()
    };
    for facts in [
        facts(None, None),
        facts(Some("192.0.2.1:1"), None),
        facts(None, Some("192.0.2.1:1")),
    ] {
        assert_eq!(written(&send_line(), &facts), b"PROXY UNKNOWN\r\n");
        let local = binary(0x20, 0x00, &[&tlv(kind::ALPN, b"h2")]);
        assert_eq!(written(&send(alpn.clone()), &facts), local);
    }
}

#[test]
fn a_mapped_client_is_an_ipv4_client() {
    let mapped = between("[::ffff:192.0.2.1]:40000", "[::ffff:198.51.100.2]:443");
    for send in [send_line(), send(ProxyTlvs::default())] {
        assert_eq!(written(&send, &mapped), written(&send, &facts()));
    }
}

#[test]
fn the_ipv4_address_of_a_mixed_pair_is_mapped() {
    for (client, destination, line) in [
        (
            "192.0.2.1:1",
            "[2001:db8::2]:2",
            "PROXY TCP6 ::ffff:c000:201 2001:db8::2 1 2\r\n",
        ),
        (
            "[2001:db8::2]:2",
            "192.0.2.1:1",
            "PROXY TCP6 2001:db8::2 ::ffff:c000:201 2 1\r\n",
        ),
    ] {
        let facts = between(client, destination);
        assert_eq!(written(&send_line(), &facts), line.as_bytes());
        let bytes = written(&send(ProxyTlvs::default()), &facts);
        assert_eq!(header(&bytes).origin, header(line.as_bytes()).origin);
    }
}

#[test]
fn a_probe_is_made_for_nobody() {
    let addresses = Some((address("192.0.2.1:40000"), address("198.51.100.2:443")));
    let probe = |send: &ProxySend, addresses| {
        let mut out = Vec::new();
        write_probe(send, addresses, &mut out);
        assert_whole(&out);
        out
    };
    let line = b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 443\r\n";
    assert_eq!(probe(&send_line(), addresses), line);
    assert_eq!(probe(&send_line(), None), b"PROXY UNKNOWN\r\n");

    let local = binary(0x20, 0x00, &[]);
    assert_eq!(probe(&send(ProxyTlvs::default()), addresses), local);
    let with_checksum = with_checksum(binary(0x20, 0x00, &[&tlv(kind::CRC32C, &[0; 4])]));
    assert_eq!(probe(&send(everything()), addresses), with_checksum);
}
