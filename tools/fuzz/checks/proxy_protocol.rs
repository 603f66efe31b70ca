//! What holds for any bytes that a connection may begin with where a PROXY header may come.

use std::net::{IpAddr, SocketAddr};

use ringlane::config::model::{ProxySend, ProxyTlvs, ProxyVersion};
use ringlane::proxy_protocol::{
    Facts, HEADER_BYTES_MAX, Header, Origin, Read, UNIQUE_ID_BYTES_MAX, kind, read, write,
};

const LINE: &[u8] = b"PROXY";
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and transport, length.
const FIXED_BYTES: usize = 16;

/// The longest authority that is passed on, bytes.
const AUTHORITY_BYTES_MAX: usize = 255;

/// Panics if reading `data` does, or if it says what cannot be.
pub(crate) fn check(data: &[u8]) {
    let verdict = read(data);
    assert_agrees_with_its_beginnings(data, &verdict);
    match verdict {
        Read::Incomplete => assert!(data.len() < HEADER_BYTES_MAX && may_begin(data)),
        Read::Absent => assert!(!may_begin(data)),
        Read::Bad(_) => assert!(data.starts_with(LINE) || data.starts_with(BINARY)),
        Read::Header(header) => {
            assert!(header.length <= data.len().min(HEADER_BYTES_MAX));
            let (bytes, _) = data.split_at(header.length);
            assert_eq!(read(bytes), verdict, "it depends on what follows");
            match header.version {
                ProxyVersion::V1 => assert_line(bytes, &header),
                ProxyVersion::V2 => assert_binary(bytes, &header),
            }
            assert_passed_on(&header);
        }
    }
}

/// Whether all of the bytes could belong to a header's first.
fn may_begin(data: &[u8]) -> bool {
    let agrees = |signature: &[u8]| data.iter().zip(signature).all(|(a, b)| a == b);
    agrees(LINE) || agrees(BINARY)
}

/// A verdict stays whatever follows, and there is a header with its last byte and not before.
fn assert_agrees_with_its_beginnings(data: &[u8], whole: &Read<'_>) {
    let near = match whole {
        Read::Header(header) => header.length.saturating_sub(2)..data.len().min(header.length + 3),
        _ => 0..0,
    };
    let few = (0..data.len().min(130)).chain((0..8).map(|eighth| data.len() * eighth / 8));
    for end in few.chain(near) {
        let beginning = read(data.get(..end).unwrap_or_default());
        match whole {
            Read::Header(header) if end >= header.length => assert_eq!(beginning, *whole),
            Read::Header(_) | Read::Incomplete => assert_eq!(beginning, Read::Incomplete),
            Read::Absent | Read::Bad(_) => {
                assert!(beginning == *whole || beginning == Read::Incomplete);
            }
        }
    }
}

/// The line says what was read of it, by the library's own ways of reading.
fn assert_line(bytes: &[u8], header: &Header<'_>) {
    assert!(bytes.len() <= 107 && bytes.ends_with(b"\r\n"));
    assert!(header.tlvs.as_bytes().is_empty());
    let text = String::from_utf8_lossy(bytes);
    let fields: Vec<&str> = text.trim_end_matches("\r\n").split(' ').collect();
    let Origin::Inet {
        source,
        destination,
    } = header.origin
    else {
        assert!(fields.get(..2) == Some(&["PROXY", "UNKNOWN"]) && header.origin == Origin::Socket);
        return;
    };
    let [_, family, from, to, from_port, to_port] = *fields else {
        panic!("{text:?} has {} fields", fields.len());
    };
    assert_eq!(family == "TCP4", source.is_ipv4());
    assert_eq!(source.is_ipv4(), destination.is_ipv4());
    let address = |ip: &str, port: &str| -> Option<SocketAddr> {
        Some(SocketAddr::new(
            ip.parse::<IpAddr>().ok()?,
            port.parse().ok()?,
        ))
    };
    assert_eq!(address(from, from_port), Some(source), "{text:?}");
    assert_eq!(address(to, to_port), Some(destination), "{text:?}");
}

/// Addresses, values and the checksum stand where the specification has them.
fn assert_binary(bytes: &[u8], header: &Header<'_>) {
    let (fixed, block) = bytes.split_at(FIXED_BYTES);
    let (command, family) = (fixed[12], fixed[13]);
    assert!(command == 0x20 || command == 0x21);
    assert_eq!(
        block.len(),
        usize::from(u16::from_be_bytes([fixed[14], fixed[15]]))
    );
    let addresses = match header.origin {
        Origin::Socket => {
            let ignored = command == 0x20 || family >> 4 == 0 || family & 15 == 0;
            assert!(ignored, "{family:#04x}");
            assert!(command == 0x21 || header.tlvs.as_bytes().is_empty());
            None
        }
        Origin::Inet {
            source,
            destination,
        } => Some(octets(source, destination)),
        Origin::Unix {
            source,
            destination,
        } => Some([source, destination].concat()),
    };
    if let Some(addresses) = addresses {
        assert_eq!(command, 0x21);
        assert_eq!(
            block,
            [&addresses, header.tlvs.as_bytes()].concat(),
            "addresses, then values, and no more"
        );
    }
    let values: usize = header.tlvs.map(|(_, value)| 3 + value.len()).sum();
    assert_eq!(values, header.tlvs.as_bytes().len());
    if let Some(said) = header.tlvs.value(kind::CRC32C) {
        assert_eq!(said, checksum(bytes, header).to_be_bytes());
    }
}

fn octets(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut octets = Vec::new();
    for address in [source, destination] {
        match address.ip() {
            IpAddr::V4(ip) => octets.extend(ip.octets()),
            IpAddr::V6(ip) => octets.extend(ip.octets()),
        }
    }
    octets.extend(
        [source, destination]
            .iter()
            .flat_map(|it| it.port().to_be_bytes()),
    );
    octets
}

/// CRC-32C of a header with zeros in the place of its checksum, bit by bit.
fn checksum(bytes: &[u8], header: &Header<'_>) -> u32 {
    let mut rest = header.tlvs;
    rest.find(|(kind, _)| *kind == kind::CRC32C);
    let end = bytes.len() - rest.as_bytes().len();
    let mut crc = u32::MAX;
    for (at, byte) in bytes.iter().enumerate() {
        let said = (end - 4..end).contains(&at);
        crc ^= u32::from(if said { 0 } else { *byte });
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
        }
    }
    !crc
}

/// A backend that is told of the client and of all values reads the same.
fn assert_passed_on(header: &Header<'_>) {
    let (Some(client), Some(destination)) = (header.source(), header.destination()) else {
        return;
    };
    let is_carried = |(kind, value): &(u8, &[u8])| match *kind {
        kind::CRC32C => false,
        kind::AUTHORITY => value.len() <= AUTHORITY_BYTES_MAX,
        kind::UNIQUE_ID => value.len() <= UNIQUE_ID_BYTES_MAX,
        _ => true,
    };
    // It needs room that a header of the greatest length does not have.
    let crc32c = header.length + 7 <= HEADER_BYTES_MAX;
    let facts = Facts {
        client: Some(client),
        destination: Some(destination),
        received: header.tlvs,
        ..Facts::default()
    };
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let send = ProxySend {
            version,
            tlvs: ProxyTlvs {
                crc32c,
                pass: header.tlvs.map(|(kind, _)| kind).collect(),
                ..ProxyTlvs::default()
            },
        };
        let mut bytes = Vec::new();
        let written = write(&send, &facts, &mut bytes);
        let Read::Header(passed) = read(&bytes) else {
            panic!("{:?} of {}", read(&bytes), bytes.escape_ascii());
        };
        assert_eq!((passed.length, passed.version), (bytes.len(), version));
        let same = |it: Option<SocketAddr>| it.map(|it| (it.ip().to_canonical(), it.port()));
        assert_eq!(same(passed.source()), same(Some(client)));
        assert_eq!(same(passed.destination()), same(Some(destination)));
        if version == ProxyVersion::V2 {
            let carried: Vec<_> = header.tlvs.filter(is_carried).collect();
            let read: Vec<_> = passed.tlvs.skip(usize::from(crc32c)).collect();
            assert_eq!(read, carried);
            let ours = |(kind, _): &(u8, _)| crc32c && *kind == kind::CRC32C;
            let others = header.tlvs.filter(|it| !ours(it)).count();
            assert_eq!(written.left_out, others - carried.len());
        }
    }
}
