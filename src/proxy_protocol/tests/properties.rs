//! What holds for all headers, right and wrong, and for bytes that are none.

use proptest::collection::vec;
use proptest::prelude::*;

use super::cases::{cases, edits, versions};
use super::*;

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
