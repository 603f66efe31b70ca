//! Reading version 2.

use super::*;

const PATHS: [u8; 216] = {
    let mut paths = [0; 216];
    paths[0] = b'/';
    paths[1] = b'a';
    paths[108] = b'/';
    paths[215] = b'z';
    paths
};

fn unix() -> Origin<'static> {
    Origin::Unix {
        source: &PATHS[..108],
        destination: &PATHS[108..],
    }
}

#[test]
fn every_expected_protocol_byte_of_the_specification_is_read() {
    for (family, addresses, origin) in [
        (0x00, &b""[..], Origin::Socket),
        (0x11, INET, inet()),
        (0x12, INET, inet()),
        (0x21, INET6, inet6()),
        (0x22, INET6, inet6()),
        (0x31, &PATHS, unix()),
        (0x32, &PATHS, unix()),
    ] {
        let bytes = binary(0x21, family, &[addresses]);
        assert_whole(&bytes);
        let expected = Header {
            length: 16 + addresses.len(),
            version: ProxyVersion::V2,
            origin,
            tlvs: Tlvs::default(),
        };
        assert_eq!(header(&bytes), expected);

        let value = tlv(0xe0, b"value");
        let bytes = binary(0x21, family, &[addresses, &value]);
        assert_whole(&bytes);
        assert_eq!(header(&bytes).origin, origin);
        assert_eq!(header(&bytes).tlvs.as_bytes(), value);
    }
}

#[test]
fn local_keeps_the_sockets_addresses_whatever_else_it_says() {
    for family in 0..=255 {
        for block in [&b""[..], b"\0", INET, INET6, &PATHS, &[0xff; 300]] {
            let bytes = binary(0x20, family, &[block]);
            assert_whole(&bytes);
            assert_eq!(header(&bytes).origin, Origin::Socket);
            assert_eq!(header(&bytes).tlvs, Tlvs::default());
        }
    }
}

#[test]
fn unspecified_family_or_transport_keeps_the_sockets_addresses() {
    for family in [0x00, 0x01, 0x02, 0x10, 0x20, 0x30] {
        for block in [&b""[..], b"\0", INET, INET6, &PATHS, &[0xff; 300]] {
            let bytes = binary(0x21, family, &[block]);
            assert_whole(&bytes);
            assert_eq!(header(&bytes).origin, Origin::Socket);
        }
    }
}

#[test]
fn a_wrong_version_or_command_is_told_at_the_13th_byte() {
    for byte in 0..=255 {
        let bytes = [SIGNATURE, &[byte]].concat();
        match byte {
            0x20 | 0x21 => assert_eq!(read(&bytes), Read::Incomplete),
            0x22..=0x2f => assert_eq!(fault_at_the_end(&bytes), Fault::Command(byte & 15)),
            _ => assert_eq!(fault_at_the_end(&bytes), Fault::Version(byte >> 4)),
        }
    }
}

#[test]
fn a_wrong_family_or_transport_is_told_at_the_14th_byte() {
    for byte in 0..=255 {
        let bytes = [SIGNATURE, &[0x21, byte]].concat();
        match (byte >> 4, byte & 15) {
            (0..=3, 0..=2) => assert_eq!(read(&bytes), Read::Incomplete),
            (0..=3, transport) => assert_eq!(fault_at_the_end(&bytes), Fault::Transport(transport)),
            (family, _) => assert_eq!(fault_at_the_end(&bytes), Fault::Family(family)),
        }
    }
}

#[test]
fn a_length_too_short_for_the_addresses_is_told_at_the_16th_byte() {
    for (family, addresses) in [
        (0x11, 12),
        (0x12, 12),
        (0x21, 36),
        (0x22, 36),
        (0x31, 216),
        (0x32, 216),
    ] {
        for length in 0..addresses {
            let bytes = binary(0x21, family, &[&vec![0; length]]);
            let fault = Fault::Length { length, addresses };
            assert_eq!(fault_at_the_end(&bytes[..16]), fault);
        }
    }
}

#[test]
fn values_of_any_type_come_in_their_order() {
    let all: Vec<Vec<u8>> = (0..=255)
        .filter(|kind| *kind != kind::CRC32C)
        .map(|kind| tlv(kind, &vec![kind; usize::from(kind) / 2]))
        .collect();
    let all = [all.concat(), tlv(0xe0, b"again")].concat();
    let bytes = binary(0x21, 0x11, &[INET, &all]);
    assert_whole(&bytes);
    let tlvs = header(&bytes).tlvs;
    assert_eq!(tlvs.count(), 256);
    assert_eq!(tlvs.as_bytes(), all);
    assert_eq!(tlvs.value(0xe0), Some(&[0xe0; 112][..]));
    assert_eq!(tlvs.value(kind::CRC32C), None);
    assert_eq!(tlvs.last(), Some((0xe0, &b"again"[..])));
    assert_eq!(Tlvs::new(&all).count(), 256);
}

#[test]
fn values_end_where_the_header_ends() {
    let after = |tlvs: &[u8]| fault_at_the_end(&binary(0x21, 0x11, &[INET, tlvs]));
    assert_eq!(after(b"\xe0"), Fault::TlvRest(1));
    assert_eq!(after(b"\xe0\0"), Fault::TlvRest(2));
    assert_eq!(after(b"\x04\0\0\0\0"), Fault::TlvRest(2));
    let overrun = |kind, length, left| Fault::TlvLength { kind, length, left };
    assert_eq!(after(b"\xe0\0\x01"), overrun(0xe0, 1, 0));
    assert_eq!(after(b"\xe0\0\x05abcd"), overrun(0xe0, 5, 4));
    assert_eq!(after(b"\x04\0\x01a\x02\xff\xffbc"), overrun(2, 65535, 2));
}

#[test]
fn kept_values_end_at_their_first_fault() {
    let mut tlvs = Tlvs::new(b"\x01\0\x02h2\x02\0\x09x");
    assert_eq!(tlvs.next(), Some((1, &b"h2"[..])));
    assert_eq!(tlvs.next(), None);
}

#[test]
fn the_longest_header_is_read() {
    let room = HEADER_BYTES_MAX - 16 - INET.len() - 3;
    let bytes = binary(0x21, 0x11, &[INET, &tlv(0xe0, &vec![7; room])]);
    assert_eq!(bytes.len(), HEADER_BYTES_MAX);
    assert_eq!(bytes[14..16], [0xff, 0xff]);
    assert_whole(&bytes);
    assert_eq!(header(&bytes).tlvs.value(0xe0).map(<[u8]>::len), Some(room));
}

#[test]
fn a_checksum_is_checked_wherever_it_stands() {
    let place = tlv(kind::CRC32C, &[0; 4]);
    let other = tlv(0xe1, b"other");
    for tlvs in [[&place[..], b""], [&place, &other], [&other, &place]] {
        let mut bytes = binary(0x21, 0x21, &[INET6, &tlvs.concat()]);
        let checksum = crc32c::crc32c(&bytes);
        let at = bytes
            .windows(3)
            .position(|prefix| prefix == [3, 0, 4])
            .unwrap()
            + 3;
        bytes[at..at + 4].copy_from_slice(&checksum.to_be_bytes());
        assert_whole(&bytes);
        assert_eq!(header(&bytes).origin, inet6());

        bytes[20] ^= 1;
        let computed = {
            let mut bytes = bytes.clone();
            bytes[at..at + 4].fill(0);
            crc32c::crc32c(&bytes)
        };
        let fault = Fault::Checksum {
            said: checksum,
            computed,
        };
        assert_eq!(fault_at_the_end(&bytes), fault);
    }
}

#[test]
fn the_checksum_is_crc32c() {
    // RFC 3720 §B.4.
    assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
}

#[test]
fn a_checksum_has_4_bytes_and_comes_once() {
    let after = |tlvs: &[u8]| fault_at_the_end(&binary(0x21, 0x11, &[INET, tlvs]));
    assert_eq!(after(&tlv(3, &[0; 3])), Fault::ChecksumLength(3));
    assert_eq!(after(&tlv(3, &[])), Fault::ChecksumLength(0));
    assert_eq!(after(&tlv(3, &[0; 5])), Fault::ChecksumLength(5));
    let once = with_checksum(binary(0x21, 0x11, &[INET, &tlv(3, &[0; 4])]));
    let tail = &once[once.len() - 7..];
    // The first of two is right, with the length of both.
    let mut twice = binary(0x21, 0x11, &[INET, &tlv(3, &[0; 4]), tail]);
    let checksum = crc32c::crc32c(&twice);
    twice[31..35].copy_from_slice(&checksum.to_be_bytes());
    assert_eq!(fault_at_the_end(&twice), Fault::ChecksumTwice);
}

#[test]
fn every_flipped_bit_is_found_by_the_checksum() {
    let right = with_checksum(binary(
        0x21,
        0x11,
        &[INET, &tlv(1, b"h2"), &tlv(3, &[0; 4])],
    ));
    assert_whole(&right);
    let checksum = right.len() - 7;
    for at in 0..right.len() {
        for bit in 0..8 {
            let mut wrong = right.clone();
            wrong[at] ^= 1 << bit;
            let found = match read(&wrong) {
                // Without a family nobody knows where the values begin, but there is no wrong address.
                Read::Header(header) => at == 13 && header.origin == Origin::Socket,
                Read::Incomplete => (14..16).contains(&at),
                Read::Absent | Read::Bad(_) => true,
            };
            // A checksum of another type is none.
            assert!(found || at == checksum, "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn a_bit_that_turns_proxy_into_local_is_found_by_the_checksum() {
    let mut bytes = with_checksum(binary(0x21, 0x11, &[INET, &tlv(3, &[0; 4])]));
    bytes[12] = 0x20;
    assert!(matches!(fault_at_the_end(&bytes), Fault::Checksum { .. }));
    let local = with_checksum(binary(0x20, 0x00, &[&tlv(3, &[0; 4])]));
    assert_eq!(header(&local).origin, Origin::Socket);
}

#[test]
fn a_unique_id_has_at_most_128_bytes() {
    let id = |length: usize| {
        binary(
            0x21,
            0x11,
            &[INET, &tlv(kind::UNIQUE_ID, &vec![b'u'; length])],
        )
    };
    for length in [0, 1, UNIQUE_ID_BYTES_MAX] {
        assert_whole(&id(length));
    }
    assert_eq!(fault_at_the_end(&id(129)), Fault::UniqueId(129));
    // It is not looked at where all is to be ignored.
    assert_whole(&binary(
        0x20,
        0x11,
        &[INET, &tlv(kind::UNIQUE_ID, &[b'u'; 129])],
    ));
}
