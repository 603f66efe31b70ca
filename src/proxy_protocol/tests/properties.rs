//! What holds for all headers, right and wrong, and for bytes that are none.

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
struct Case {
    client: Option<SocketAddr>,
    destination: Option<SocketAddr>,
    alpn: Option<Vec<u8>>,
    authority: Option<String>,
    unique_id: Option<Vec<u8>>,
    tls: Option<(String, Option<Certificate>)>,
    received: Vec<(u8, Vec<u8>)>,
    tlvs: ProxyTlvs,
}

impl Case {
    fn write(&self, version: ProxyVersion) -> Vec<u8> {
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
    fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
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

    fn values(&self) -> Vec<(u8, Vec<u8>)> {
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

fn cases() -> impl Strategy<Value = Case> {
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

fn versions() -> impl Strategy<Value = ProxyVersion> {
    prop_oneof![Just(ProxyVersion::V1), Just(ProxyVersion::V2)]
}

/// What may happen to a header on its way.
#[derive(Clone, Debug)]
enum Edit {
    Flip(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Repeat(Index, Index),
    Cut(Index),
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
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

fn edits() -> impl Strategy<Value = Edit> {
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

/// What must hold of every reading.
fn assert_consistent(bytes: &[u8]) {
    let (end, verdict) = verdict(bytes);
    match verdict {
        Read::Header(header) => {
            assert_eq!(end, header.length);
            assert!(header.length <= HEADER_BYTES_MAX);
            let whole: usize = header.tlvs.map(|(_, value)| 3 + value.len()).sum();
            assert_eq!(whole, header.tlvs.as_bytes().len());
            assert_read_alike(&bytes[..end], &header);
        }
        Read::Incomplete => assert!(bytes.len() < HEADER_BYTES_MAX),
        Read::Absent => assert!(end <= SIGNATURE.len()),
        Read::Bad(_) => {}
    }
}

/// No address is taken from a header in which an independent reader finds another or none.
fn assert_read_alike(bytes: &[u8], header: &Header<'_>) {
    let Some(source) = header.source() else {
        return;
    };
    let destination = header.destination().unwrap();
    let theirs: (SocketAddr, SocketAddr, usize) = match header.version {
        ProxyVersion::V1 => {
            let theirs = ppp::v1::Header::try_from(bytes).unwrap();
            let (source, destination) = match theirs.addresses {
                ppp::v1::Addresses::Tcp4(of) => (
                    (of.source_address, of.source_port).into(),
                    (of.destination_address, of.destination_port).into(),
                ),
                ppp::v1::Addresses::Tcp6(of) => (
                    (of.source_address, of.source_port).into(),
                    (of.destination_address, of.destination_port).into(),
                ),
                ppp::v1::Addresses::Unknown => panic!("{theirs:?}"),
            };
            (source, destination, theirs.header.len())
        }
        ProxyVersion::V2 => {
            let theirs = ppp::v2::Header::try_from(bytes).unwrap();
            let values: Vec<_> = theirs.tlvs().map(Result::unwrap).collect();
            let ours: Vec<_> = header.tlvs.map(ppp::v2::TypeLengthValue::from).collect();
            assert_eq!(values, ours);
            let (source, destination) = match theirs.addresses {
                ppp::v2::Addresses::IPv4(of) => (
                    (of.source_address, of.source_port).into(),
                    (of.destination_address, of.destination_port).into(),
                ),
                ppp::v2::Addresses::IPv6(of) => (
                    (of.source_address, of.source_port).into(),
                    (of.destination_address, of.destination_port).into(),
                ),
                _ => panic!("{theirs:?}"),
            };
            (source, destination, theirs.len())
        }
    };
    assert_eq!((source, destination, header.length), theirs);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn what_is_written_is_read(case in cases(), version in versions()) {
        let bytes = case.write(version);
        let read = header(&bytes);
        prop_assert_eq!(read.version, version);
        prop_assert_eq!(read.length, bytes.len());
        let addresses = read.source().zip(read.destination());
        prop_assert_eq!(addresses, case.addresses());
        let values: Vec<_> = Tlvs::new(&bytes[values_at(&bytes, version)..])
            .map(|(kind, value)| (kind, value.to_vec()))
            .collect();
        let checksum = usize::from(version == ProxyVersion::V2 && case.tlvs.crc32c);
        prop_assert_eq!(values.iter().filter(|(kind, _)| *kind == 3).count(), checksum);
        if version == ProxyVersion::V2 {
            prop_assert_eq!(&values[checksum..], &case.values()[..]);
        }
        // They are discarded where there are no addresses.
        let read: Vec<_> = read.tlvs.map(|(kind, value)| (kind, value.to_vec())).collect();
        prop_assert_eq!(read, if addresses.is_some() { values } else { Vec::new() });
    }

    #[test]
    fn every_prefix_of_a_header_is_incomplete(case in cases(), version in versions()) {
        assert_whole(&case.write(version));
    }

    #[test]
    fn a_header_stays_the_same_whatever_follows(
        case in cases(),
        version in versions(),
        next in vec(any::<u8>(), 0..200),
    ) {
        let alone = case.write(version);
        let both = [&alone[..], &next].concat();
        prop_assert_eq!(read(&both), read(&alone));
    }

    #[test]
    fn changed_headers_are_judged_alike_however_they_come(
        case in cases(),
        version in versions(),
        edits in vec(edits(), 1..4),
    ) {
        let mut bytes = case.write(version);
        edits.iter().for_each(|edit| edit.apply(&mut bytes));
        assert_consistent(&bytes);
    }

    #[test]
    fn an_accepted_ipv4_line_is_the_only_one_for_its_addresses(
        case in cases(),
        edits in vec(edits(), 1..3),
    ) {
        let mut bytes = case.write(ProxyVersion::V1);
        edits.iter().for_each(|edit| edit.apply(&mut bytes));
        let Read::Header(header) = read(&bytes) else {
            return Ok(());
        };
        let addresses = header.source().zip(header.destination());
        if let Some((SocketAddr::V4(from), SocketAddr::V4(to))) = addresses {
            let (source, destination) = (from.port(), to.port());
            let only = format!(
                "PROXY TCP4 {} {} {source} {destination}\r\n", from.ip(), to.ip()
            );
            prop_assert_eq!(&bytes[..header.length], only.as_bytes());
        }
    }

    #[test]
    fn any_bytes_are_judged_alike_however_they_come(bytes in vec(any::<u8>(), 0..300)) {
        assert_consistent(&bytes);
    }

    #[test]
    fn any_bytes_after_a_signature_are_judged_alike_however_they_come(
        begin in proptest::sample::select(vec![
            &b"PROXY "[..],
            b"PROXY TCP4 ",
            b"PROXY TCP6 ",
            b"PROXY UNKNOWN",
            SIGNATURE,
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0",
            b"\r\n\r\n\0\r\nQUIT\n\x20\0\0",
        ]),
        rest in vec(any::<u8>(), 0..600),
    ) {
        assert_consistent(&[begin, &rest].concat());
    }

    #[test]
    fn any_words_after_proxy_are_judged_alike_however_they_come(rest in "[ :.0-9a-fTCPUNKOW\r\n]{0,120}") {
        assert_consistent(&[b"PROXY ", rest.as_bytes()].concat());
    }
}

/// Where the values of a header begin that we have written.
fn values_at(bytes: &[u8], version: ProxyVersion) -> usize {
    match version {
        ProxyVersion::V1 => bytes.len(),
        ProxyVersion::V2 => match bytes[13] {
            0x00 => 16,
            0x11 => 28,
            0x21 => 52,
            family => panic!("{family}"),
        },
    }
}
