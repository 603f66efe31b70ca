//! Headers captured from HAProxy 2.6.12 as the sender (`tests/proxy_headers`): all are read, and from
//! the same facts we write the same bytes.
//!
//! `v1` are of `send-proxy`, `v2` of `send-proxy-v2`, `v2_ssl` of `send-proxy-v2-ssl-cn`, `v2_everything` of
//! `proxy-v2-options ssl,cert-cn,ssl-cipher,cert-sig,cert-key,authority,crc32c,unique-id`, and the probes of
//! `tcp-check connect send-proxy`.

use super::*;
use crate::config::model::TlsVersion;

macro_rules! captured {
    ($name:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/proxy_headers/haproxy_",
            $name,
            ".bin"
        ))
    };
}

/// `unique-id-format` made these of addresses, ports, a time, a counter and a process.
const UNIQUE_ID: &[u8] = b"7F000001:E316_7F000001:520D_6B018126_000B:3410";

fn between<'a>(client: &str, destination: &str) -> Facts<'a> {
    Facts {
        client: Some(address(client)),
        destination: Some(address(destination)),
        ..Facts::default()
    }
}

fn client_certificate<'a>() -> Option<ClientCertificate<'a>> {
    Some(ClientCertificate {
        common_name: Some("client-7.example"),
        is_verified: true,
        shown: Shown::Now,
    })
}

/// Checks that `bytes` are read as `facts`, and that `facts` are written as `bytes`.
#[track_caller]
fn assert_same(bytes: &[u8], send: &ProxySend, facts: &Facts<'_>) {
    assert_whole(bytes);
    let header = header(bytes);
    assert_eq!(header.version, send.version);
    assert_eq!(header.source(), facts.client);
    assert_eq!(header.destination(), facts.destination);
    assert_eq!(
        written(send, facts).escape_ascii().to_string(),
        bytes.escape_ascii().to_string()
    );
}

#[test]
fn send_proxy() {
    let send = send_line();
    let facts = between("127.0.0.1:36270", "127.0.0.1:21001");
    assert_same(captured!("v1_tcp4"), &send, &facts);
    let facts = between("[::1]:46230", "[::1]:21001");
    assert_same(captured!("v1_tcp6"), &send, &facts);
    assert_same(captured!("v1_unix"), &send, &Facts::default());
}

#[test]
fn send_proxy_v2() {
    let send = send(ProxyTlvs::default());
    let facts = between("127.0.0.1:59236", "127.0.0.1:21002");
    assert_same(captured!("v2_tcp4"), &send, &facts);
    let facts = between("[::1]:58668", "[::1]:21002");
    assert_same(captured!("v2_tcp6"), &send, &facts);
    assert_same(captured!("v2_unix"), &send, &Facts::default());
}

#[test]
fn crc32c_and_unique_id() {
    let send = send(ProxyTlvs {
        crc32c: true,
        unique_id: true,
        authority: true,
        ..ProxyTlvs::default()
    });
    let facts = Facts {
        unique_id: Some(UNIQUE_ID),
        ..between("127.0.0.1:58134", "127.0.0.1:21005")
    };
    let bytes = captured!("v2_crc32c_unique_id");
    assert_same(bytes, &send, &facts);
    assert_eq!(header(bytes).tlvs.value(kind::UNIQUE_ID), Some(UNIQUE_ID));

    // HAProxy makes no unique id for such a client, and sends one without bytes.
    let facts = Facts {
        unique_id: Some(b""),
        ..Facts::default()
    };
    assert_same(captured!("v2_crc32c_unix"), &send, &facts);
}

#[test]
fn probes() {
    let probe = |send: &ProxySend, addresses| {
        let mut out = Vec::new();
        write_probe(send, addresses, &mut out);
        out
    };
    let addresses = Some((address("127.0.0.1:52954"), address("127.0.0.1:22002")));
    assert_whole(captured!("v1_probe"));
    assert_eq!(probe(&send_line(), addresses), captured!("v1_probe"));

    let send = send(ProxyTlvs {
        crc32c: true,
        ..ProxyTlvs::default()
    });
    assert_whole(captured!("v2_probe"));
    assert_eq!(header(captured!("v2_probe")).origin, Origin::Socket);
    assert_eq!(probe(&send, addresses), captured!("v2_probe"));
}

#[test]
fn send_proxy_v2_ssl_cn() {
    for (bytes, port, ssl) in [
        (
            &captured!("v2_ssl_cn")[..],
            53052,
            [
                b"\x07\0\0\0\0",
                &tlv(kind::SSL_VERSION, b"TLSv1.3")[..],
                &tlv(kind::SSL_CN, b"client-7.example"),
            ]
            .concat(),
        ),
        (
            captured!("v2_ssl_tls12"),
            53076,
            [
                b"\x07\0\0\0\0",
                &tlv(kind::SSL_VERSION, b"TLSv1.2")[..],
                &tlv(kind::SSL_CN, b"client-7.example"),
            ]
            .concat(),
        ),
        (
            captured!("v2_ssl_without_certificate"),
            53066,
            [b"\x01\0\0\0\0", &tlv(kind::SSL_VERSION, b"TLSv1.3")[..]].concat(),
        ),
    ] {
        assert_whole(bytes);
        let header = header(bytes);
        let said: Vec<(u8, &[u8])> = header.tlvs.collect();
        assert_eq!(said, [(kind::ALPN, &b"h2"[..]), (kind::SSL, &ssl)]);
        assert_eq!(header.source(), Some(([127, 0, 0, 1], port).into()));
    }
}

#[test]
fn all_options() {
    let send = send(ProxyTlvs {
        alpn: true,
        authority: true,
        unique_id: true,
        ssl: true,
        crc32c: true,
        ..ProxyTlvs::default()
    });
    let facts = Facts {
        alpn: Some(b"h2"),
        authority: Some("app.example"),
        tls: Some(TlsFacts {
            version: TlsVersion::Tls13,
            cipher: "TLS_AES_256_GCM_SHA384",
            signature: Some("ecdsa-with-SHA256"),
            key: Some("EC256"),
            client_certificate: client_certificate(),
        }),
        ..Facts::default()
    };
    let tcp4 = Facts {
        client: Some(address("127.0.0.1:48892")),
        destination: Some(address("127.0.0.1:21004")),
        unique_id: Some(b"7F000001:BEFC_7F000001:520C_6B018126_0009:3410"),
        ..facts
    };
    assert_same(captured!("v2_everything_tcp4"), &send, &tcp4);
    let unique_id = b"00000000000000000000000000000001:94B8_\
                      00000000000000000000000000000001:520C_6B018126_000A:3410";
    let tcp6 = Facts {
        client: Some(address("[::1]:38072")),
        destination: Some(address("[::1]:21004")),
        unique_id: Some(unique_id),
        ..facts
    };
    assert_same(captured!("v2_everything_tcp6"), &send, &tcp6);
}
