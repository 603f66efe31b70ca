//! Fingerprints that others published.

use ringlane::sni::ja4;

use crate::pieces::{Hello, alpn, hello, list8, list16, numbers, server_name};

const CHROME: &str = "1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035";
const CHROME_SIGNS: &str = "0403,0804,0401,0503,0805,0501,0806,0601";

/// The fingerprint, then what the client offered in its order: cipher suites, extensions, signature
/// algorithms, and the preferred protocol.
///
/// The first is the example of FoxIO's description; the others are from the expected results that
/// FoxIO keeps with its captures (`JA4_ro` of latest, badcurveball, tls12, sigalg-grease and
/// tls-non-ascii-alpn), but for the third: a resumed session of Chrome, from FoxIO's database.
const PUBLISHED: &[(&str, &str, &str, &str, &[u8])] = &[
    (
        "t13d1516h2_8daaf6152771_e5627efa2ab1",
        CHROME,
        "001b,0000,0033,0010,4469,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a,0015",
        CHROME_SIGNS,
        b"h2",
    ),
    (
        "t13d1516h2_8daaf6152771_9b887d9acb53",
        CHROME,
        "000d,0010,0000,000b,0023,4469,ff01,0033,000a,002d,002b,0005,0017,0012,001b,0029",
        CHROME_SIGNS,
        b"h2",
    ),
    (
        "t13d1517h2_8daaf6152771_b0da82dd1658",
        CHROME,
        "0017,002d,0023,000b,0012,000a,fe0d,ff01,0000,0033,002b,001b,0005,4469,000d,0010,0029",
        CHROME_SIGNS,
        b"h2",
    ),
    (
        "t12d190800_d83cc789557e_7af1ed941c26",
        "c02c,c02b,c030,c02f,c024,c023,c028,c027,c00a,c009,c014,c013,009d,009c,003d,003c,0035,002f,000a",
        "0000,0005,000a,000b,000d,0023,0017,ff01",
        "0804,0805,0806,0401,0501,0201,0403,0503,0203,0202,0601,0603",
        b"",
    ),
    (
        "t13d1615h2_46e7e9700bed_45f260be83e2",
        "1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035,000a",
        "0000,0017,ff01,000a,000b,0023,0010,0005,000d,0012,0033,002d,002b,001b,0015",
        "0403,0804,0401,0503,0805,0501,0806,0601,0201",
        b"h2",
    ),
    (
        "t13d1715h2_5b57614c22b0_3d5424432f57",
        "1301,1303,1302,c02b,c02f,cca9,cca8,c02c,c030,c00a,c009,c013,c014,009c,009d,002f,0035",
        "0000,0017,ff01,000a,000b,0023,0010,0005,0022,0033,002b,000d,002d,001c,0015",
        "0403,0503,0603,0804,0805,0806,0401,0501,0601,0203,0201",
        b"h2",
    ),
    (
        "t13d1517h2_8daaf6152771_cb7bf5808d99",
        CHROME,
        "fe0d,0010,0017,0033,44cd,ff01,000a,000d,0023,002b,000b,ca34,002d,0000,0005,001b,0012",
        "0904,0905,0906,0403,0804,0401,0503,0805,0501,0806,0601",
        b"h2",
    ),
];

#[test]
fn published_fingerprints_match() {
    for (fingerprint, ciphers, extensions, signs, protocol) in PUBLISHED {
        let hello = offering(&hex(ciphers), &hex(extensions), &hex(signs), protocol);
        assert_eq!(ja4(&self::hello(&hello)), *fingerprint);
    }
}

#[test]
fn grease_does_not_count() {
    let greased = |list: &str| -> Vec<u16> {
        let mut values = hex(list);
        values.insert(0, 0x0a0a);
        values.insert(3, 0xeaea);
        values.push(0xfafa);
        values
    };
    for (fingerprint, ciphers, extensions, signs, protocol) in PUBLISHED {
        let hello = offering(
            &greased(ciphers),
            &greased(extensions),
            &greased(signs),
            protocol,
        );
        assert_eq!(ja4(&self::hello(&hello)), *fingerprint);
    }
}

#[test]
fn missing_parts_have_zeros() {
    let ciphers = numbers(&hex(CHROME));
    let bare = Hello {
        ciphers,
        ..Hello::default()
    };
    assert_eq!(
        ja4(&hello(&bare.bytes())),
        "t12i150000_8daaf6152771_000000000000"
    );
    // Those two extensions are counted, but not hashed.
    let two = bare
        .with(0, &server_name(b"a.example"))
        .with(16, &alpn(&[b"http/1.1"]));
    assert_eq!(
        ja4(&hello(&two.bytes())),
        "t12d1502h1_8daaf6152771_000000000000"
    );
    let ciphers = numbers(&[0x0a0a]);
    let old = Hello {
        ciphers,
        legacy_version: 0x0300,
        ..Hello::default()
    };
    assert_eq!(
        ja4(&hello(&old.bytes())),
        "ts3i000000_000000000000_000000000000"
    );
    // Without signature algorithms there is no underscore in what is hashed (the description's example).
    let (_, ciphers, extensions, _, protocol) = PUBLISHED[0];
    let bytes = offering(&hex(ciphers), &hex(extensions), &[0x0a0a], protocol);
    assert_eq!(ja4(&hello(&bytes)), "t13d1516h2_8daaf6152771_6d807ffa2a79");
}

#[test]
fn versions_have_two_characters() {
    for (version, text) in [
        (0x0304, "t13"),
        (0x0303, "t12"),
        (0x0302, "t11"),
        (0x0301, "t10"),
        (0x0300, "ts3"),
        (0x0002, "ts2"),
        // A draft of TLS 1.3.
        (0x7f1c, "t00"),
    ] {
        let bytes = Hello {
            legacy_version: version,
            ..Hello::default()
        }
        .bytes();
        assert!(ja4(&hello(&bytes)).starts_with(text), "{text}");
        let bytes = Hello::default()
            .with(43, &list8(&numbers(&[version, 0x0002])))
            .bytes();
        assert!(ja4(&hello(&bytes)).starts_with(text), "{text}");
    }
}

#[test]
fn protocols_have_two_characters() {
    // All but the first two are the description's.
    for (protocol, text) in [
        (&b"http/1.1"[..], "h1"),
        (b"acme-tls/1", "a1"),
        (b"h2", "h2"),
        (b"x", "xx"),
        (&[0xab], "ab"),
        (&[0xab, 0xcd], "ad"),
        (&[0x30, 0xab], "3b"),
        (&[0x30, 0x31, 0xab, 0xcd], "3d"),
        (&[0x30, 0xab, 0xcd, 0x31], "01"),
    ] {
        let bytes = Hello::default()
            .with(16, &alpn(&[protocol, b"other"]))
            .bytes();
        assert_eq!(ja4(&hello(&bytes)).get(8..10), Some(text));
    }
}

#[test]
fn counts_end_at_99() {
    for (count, text) in [(98, "98"), (99, "99"), (100, "99"), (5_000, "99")] {
        let many: Vec<u16> = (0x2000..).take(count).collect();
        let none = Hello {
            ciphers: numbers(&many),
            ..Hello::default()
        };
        let hello = many.iter().fold(none, |hello, &kind| hello.with(kind, &[]));
        let fingerprint = ja4(&self::hello(&hello.bytes()));
        assert_eq!(fingerprint.get(4..8), Some(&*text.repeat(2)));
        assert_eq!(fingerprint.len(), 36);
    }
}

fn hex(list: &str) -> Vec<u16> {
    list.split(',')
        .map(|value| u16::from_str_radix(value, 16).unwrap())
        .collect()
}

/// A ClientHello of TLS 1.3 where extension 43 is among the offered, else of TLS 1.2.
fn offering(ciphers: &[u16], extensions: &[u16], signs: &[u16], protocol: &[u8]) -> Vec<u8> {
    let ciphers = numbers(ciphers);
    let none = Hello {
        ciphers,
        ..Hello::default()
    };
    let hello = extensions.iter().fold(none, |hello, &kind| {
        let body = match kind {
            0 => server_name(b"a.example"),
            13 => list16(&numbers(signs)),
            16 => alpn(&[protocol, b"http/1.1"]),
            43 => list8(&numbers(&[0x1a1a, 0x0304, 0x0303])),
            _ => vec![0; 3],
        };
        hello.with(kind, &body)
    });
    hello.bytes()
}
