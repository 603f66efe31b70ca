//! Sessions, what is to be said of them, and what may happen to a header on its way.

use std::net::IpAddr;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::config::model::TlsVersion;

/// The common name, and whether it is verified.
type Certificate = (Option<String>, bool);

/// Owned [`Facts`], with what is to be sent of them.
#[derive(Clone, Debug)]
pub(super) struct Case {
    client: Option<SocketAddr>,
    destination: Option<SocketAddr>,
    alpn: Option<Vec<u8>>,
    authority: Option<String>,
    unique_id: Option<Vec<u8>>,
    tls: Option<(String, Option<Certificate>)>,
    received: Vec<(u8, Vec<u8>)>,
    pub(super) tlvs: ProxyTlvs,
}

impl Case {
    pub(super) fn write(&self, version: ProxyVersion) -> Vec<u8> {
        let received: Vec<u8> = self
            .received
            .iter()
            .flat_map(|(kind, value)| tlv(*kind, value))
            .collect();
        let tls = self.tls.as_ref().map(|(cipher, certificate)| TlsFacts {
            version: TlsVersion::Tls13,
            cipher,
            signature: None,
            key: None,
            client_certificate: certificate
                .as_ref()
                .map(|(name, is_verified)| ClientCertificate {
                    common_name: name.as_deref(),
                    is_verified: *is_verified,
                    shown: Shown::Before,
                }),
        });
        let facts = Facts {
            client: self.client,
            destination: self.destination,
            alpn: self.alpn.as_deref(),
            authority: self.authority.as_deref(),
            unique_id: self.unique_id.as_deref(),
            tls,
            received: Tlvs::new(&received),
        };
        let send = ProxySend {
            version,
            tlvs: self.tlvs.clone(),
        };
        written(&send, &facts)
    }

    /// What the header should be read as, put together from the rules and not from the code.
    pub(super) fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        let (client, destination) = (self.client?, self.destination?);
        let canonical = |address: SocketAddr| address.ip().to_canonical();
        let both_v4 = canonical(client).is_ipv4() && canonical(destination).is_ipv4();
        let expected = |address: SocketAddr| {
            let ip = match canonical(address) {
                IpAddr::V4(ip) if !both_v4 => ip.to_ipv6_mapped().into(),
                ip => ip,
            };
            SocketAddr::new(ip, address.port())
        };
        Some((expected(client), expected(destination)))
    }

    pub(super) fn values(&self) -> Vec<(u8, Vec<u8>)> {
        let wanted = &self.tlvs;
        let mut ours: Vec<(u8, Vec<u8>)> = Vec::new();
        ours.extend(self.alpn.clone().filter(|_| wanted.alpn).map(|v| (1, v)));
        let authority = self.authority.clone().filter(|_| wanted.authority);
        ours.extend(authority.map(|v| (2, v.into_bytes())));
        let unique_id = self.unique_id.clone().filter(|_| wanted.unique_id);
        ours.extend(unique_id.map(|v| (5, v)));
        let tls = self.tls.as_ref().filter(|_| wanted.ssl);
        ours.extend(tls.map(|tls| (0x20, ssl(tls))));
        let custom = wanted.custom.iter();
        ours.extend(custom.map(|(kind, value)| (*kind, value.as_bytes().to_vec())));
        let is_ours = |kind: u8| ours.iter().any(|(ours, _)| *ours == kind);
        let passed: Vec<_> = self
            .received
            .iter()
            .filter(|(kind, _)| wanted.pass.contains(kind) && !is_ours(*kind))
            .cloned()
            .collect();
        [ours, passed].concat()
    }
}

fn ssl((cipher, certificate): &(String, Option<Certificate>)) -> Vec<u8> {
    let mut value = match certificate {
        None => b"\x01\0\0\0\x01".to_vec(),
        Some((_, true)) => b"\x05\0\0\0\0".to_vec(),
        Some((_, false)) => b"\x05\0\0\0\x01".to_vec(),
    };
    value.extend(tlv(0x21, b"TLSv1.3"));
    if let Some((Some(name), _)) = certificate {
        value.extend(tlv(0x22, name.as_bytes()));
    }
    value.extend(tlv(0x23, cipher.as_bytes()));
    value
}

fn addresses() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
        any::<[u16; 2]>().prop_map(|[high, low]| [0, 0, 0, 0, 0, 0xffff, high, low].into()),
        any::<[u16; 2]>().prop_map(|[high, low]| [0x2001, 0, 0, 0, high, 0, 0, low].into()),
    ];
    (ip, any::<u16>()).prop_map(SocketAddr::from)
}

/// A type that no header of ours has by itself, and no checksum.
fn kinds() -> impl Strategy<Value = u8> {
    prop_oneof![
        Just(1),
        Just(2),
        Just(4),
        Just(5),
        Just(0x20),
        Just(0x30),
        0xe0..=0xefu8
    ]
}

fn tlvs() -> impl Strategy<Value = ProxyTlvs> {
    let custom = ("[ -~]{0,20}").prop_map(Arc::from);
    (
        any::<[bool; 5]>(),
        vec(kinds(), 0..6),
        vec((0xe0..=0xefu8, custom), 0..3),
    )
        .prop_map(
            |([alpn, authority, unique_id, ssl, crc32c], pass, custom)| ProxyTlvs {
                alpn,
                authority,
                unique_id,
                ssl,
                crc32c,
                pass,
                custom,
            },
        )
}

pub(super) fn cases() -> impl Strategy<Value = Case> {
    let mostly = |strategy| option::weighted(0.9, strategy);
    let certificate = (option::of("\\PC{0,20}"), any::<bool>());
    (
        mostly(addresses().boxed()),
        mostly(addresses().boxed()),
        option::of(vec(any::<u8>(), 0..20)),
        option::of("[a-zA-Z0-9.*-]{0,80}"),
        option::of(vec(any::<u8>(), 0..=UNIQUE_ID_BYTES_MAX)),
        option::of(("[A-Z0-9_]{0,40}", option::of(certificate))),
        vec((kinds(), vec(any::<u8>(), 0..60)), 0..8),
        tlvs(),
    )
        .prop_map(
            |(client, destination, alpn, authority, unique_id, tls, received, tlvs)| Case {
                client,
                destination,
                alpn,
                authority,
                unique_id,
                tls,
                received,
                tlvs,
            },
        )
}

pub(super) fn versions() -> impl Strategy<Value = ProxyVersion> {
    prop_oneof![Just(ProxyVersion::V1), Just(ProxyVersion::V2)]
}

/// What may happen to a header on its way.
#[derive(Clone, Debug)]
pub(super) enum Edit {
    Flip(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Repeat(Index, Index),
    Cut(Index),
}

impl Edit {
    pub(super) fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match self {
            Self::Flip(at, bits) => bytes[at.index(length)] ^= bits,
            Self::Insert(at, byte) => bytes.insert(at.index(length + 1), *byte),
            Self::Remove(at) => drop(bytes.remove(at.index(length))),
            Self::Repeat(from, to) => {
                let piece = bytes[from.index(length)..].to_vec();
                let to = to.index(length);
                bytes.splice(to..to, piece);
            }
            Self::Cut(at) => bytes.truncate(at.index(length)),
        }
    }
}

pub(super) fn edits() -> impl Strategy<Value = Edit> {
    // What headers are made of is likelier to go wrong in interesting ways than any byte.
    let byte = prop_oneof![
        any::<u8>(),
        proptest::sample::select(&b" \r\n\0:.0159afxPTU+-"[..]),
    ];
    prop_oneof![
        4 => (any::<Index>(), 1..=255u8).prop_map(|(at, bits)| Edit::Flip(at, bits)),
        2 => (any::<Index>(), 0..8u8).prop_map(|(at, bit)| Edit::Flip(at, 1 << bit)),
        4 => (any::<Index>(), byte).prop_map(|(at, byte)| Edit::Insert(at, byte)),
        4 => any::<Index>().prop_map(Edit::Remove),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Edit::Repeat(from, to)),
        1 => any::<Index>().prop_map(Edit::Cut),
    ]
}
