//! What reading and writing promise, each as a fact about bytes.

mod binary;
mod cases;
mod lines;
mod properties;
mod senders;
mod values;
mod writing;

use std::net::SocketAddr;

use super::*;
use crate::config::model::{ProxySend, ProxyTlvs, ProxyVersion};

const SIGNATURE: &[u8] = b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A";

/// The four addresses and ports that most headers here carry, in IPv4 and IPv6.
const INET: &[u8] = b"\xc0\x00\x02\x01\xc6\x33\x64\x02\x9c\x40\x01\xbb";
const INET6: &[u8] = b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\
                       \x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\x9c\x40\x01\xbb";

fn inet() -> Origin<'static> {
    Origin::Inet {
        source: address("192.0.2.1:40000"),
        destination: address("198.51.100.2:443"),
    }
}

fn inet6() -> Origin<'static> {
    Origin::Inet {
        source: address("[2001:db8::1]:40000"),
        destination: address("[2001:db8::2]:443"),
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A header of version 2 from its 13th and 14th byte and all that follows the length.
fn binary(command: u8, family: u8, blocks: &[&[u8]]) -> Vec<u8> {
    let block = blocks.concat();
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, &block].concat()
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind], &length[..], value].concat()
}

/// Fills in the checksum of a header whose last TLV holds its place.
fn with_checksum(mut header: Vec<u8>) -> Vec<u8> {
    let at = header.len() - 4;
    assert_eq!(header[at - 3..], [3, 0, 4, 0, 0, 0, 0]);
    let checksum = crc32c::crc32c(&header);
    header[at..].copy_from_slice(&checksum.to_be_bytes());
    header
}

fn header(bytes: &[u8]) -> Header<'_> {
    match read(bytes) {
        Read::Header(header) => header,
        other => panic!("{other:?}: {}", bytes.escape_ascii()),
    }
}

/// The fault in `bytes`, which is told at their last byte and at none before.
#[track_caller]
fn fault_at_the_end(bytes: &[u8]) -> Fault {
    match verdict(bytes) {
        (end, Read::Bad(fault)) if end == bytes.len() => fault,
        other => panic!("{other:?} of {}: {}", bytes.len(), bytes.escape_ascii()),
    }
}

/// After how many bytes there is a verdict, and which; it must not change with the bytes after it.
#[track_caller]
fn verdict(bytes: &[u8]) -> (usize, Read<'_>) {
    let all = read(bytes);
    let undecided = |end: &usize| read(&bytes[..*end]) == Read::Incomplete;
    let end = (0..=bytes.len()).find(|end| !undecided(end));
    let end = end.unwrap_or(bytes.len());
    for later in end..=bytes.len() {
        assert_eq!(
            read(&bytes[..later]),
            all,
            "{later}: {}",
            bytes.escape_ascii()
        );
    }
    (end, all)
}

/// Whether `bytes` are one header, complete with their last byte and not before.
#[track_caller]
fn assert_whole(bytes: &[u8]) {
    match verdict(bytes) {
        (end, Read::Header(header)) => {
            assert_eq!((end, header.length), (bytes.len(), bytes.len()));
        }
        other => panic!("{other:?}: {}", bytes.escape_ascii()),
    }
}

/// Version 2 with these values.
fn send(tlvs: ProxyTlvs) -> ProxySend {
    ProxySend {
        version: ProxyVersion::V2,
        tlvs,
    }
}

fn send_line() -> ProxySend {
    ProxySend {
        version: ProxyVersion::V1,
        tlvs: ProxyTlvs::default(),
    }
}

/// What is written, where nothing may be left out.
#[track_caller]
fn written(send: &ProxySend, facts: &Facts<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    assert_eq!(write(send, facts, &mut out), Written::default());
    out
}

#[test]
fn a_connection_without_a_header_is_told_at_the_first_byte_that_differs() {
    for (bytes, decided) in [
        (&b"GET / HTTP/1.1\r\n"[..], 1),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 1),
        (b"proxy TCP4 192.0.2.1 198.51.100.2 1 2\r\n", 1),
        (b"POST / HTTP/1.1\r\n", 2),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 3),
        (b"PROXx", 5),
        (b"\r\n\r\n\0\r\nQUIT\r", 12),
        (b"\r\n\r\n\r\n", 5),
    ] {
        assert_eq!(verdict(bytes), (decided, Read::Absent));
    }
    assert_eq!(read(b""), Read::Incomplete);
}

#[test]
fn what_follows_a_header_is_not_looked_at() {
    let line = b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 443\r\n";
    for whole in [&line[..], &binary(0x21, 0x11, &[INET])] {
        for next in [&b"\r\n"[..], b"PROXY", SIGNATURE, b"\0", &[0xff; 200]] {
            let bytes = [whole, next].concat();
            assert_eq!(header(&bytes), header(whole));
            assert_eq!(header(&bytes).length, whole.len());
        }
    }
}

#[test]
fn faults_say_what_and_what_would_be_right() {
    for (fault, text) in [
        (
            Fault::Protocol,
            "v1: `PROXY` is followed by none of TCP4, TCP6, UNKNOWN",
        ),
        (
            Fault::Field(Field::SourcePort),
            "v1: the source port is not 0 to 65535 without leading zeros",
        ),
        (
            Fault::Length {
                length: 11,
                addresses: 12,
            },
            "v2: length 11, but the addresses alone take 12",
        ),
        (
            Fault::TlvLength {
                kind: 5,
                length: 9,
                left: 4,
            },
            "v2: TLV 0x05 claims 9 bytes where 4 are left",
        ),
        (
            Fault::Checksum {
                said: 0xab,
                computed: 0xdead_beef,
            },
            "v2: checksum 0x000000ab, but the header comes to 0xdeadbeef",
        ),
    ] {
        assert_eq!(fault.to_string(), text);
    }
}
