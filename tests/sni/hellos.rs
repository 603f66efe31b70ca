//! What real clients sent, however it is cut.

use ringlane::sni::{ClientHello, Sniff, ja4, sniff};

use crate::pieces::{RECORD_BYTES_MAX, SNIFF_MAX, fault, hello, list16, message_in, real, records};

/// File, server name, protocols offered, version and fingerprint; the last four as another program
/// dissects them (`tests/hellos/README.md`).
const HELLOS: &[(&str, &str, &str, u16, &str)] = &[
    (
        "chromium-by-address",
        "",
        "h2 http/1.1",
        0x0304,
        "t13i1516h2_8daaf6152771_cb7bf5808d99",
    ),
    (
        "chromium-mlkem",
        "c.example",
        "h2 http/1.1",
        0x0304,
        "t13d1517h2_8daaf6152771_cb7bf5808d99",
    ),
    (
        "curl-by-address",
        "",
        "h2 http/1.1",
        0x0304,
        "t13i3111h2_e8f1e7e78f70_b26ce05bbdd6",
    ),
    (
        "curl-h2",
        "www.a.example",
        "h2 http/1.1",
        0x0304,
        "t13d3112h2_e8f1e7e78f70_b26ce05bbdd6",
    ),
    (
        "curl-no-alpn",
        "www.a.example",
        "",
        0x0304,
        "t13d311100_e8f1e7e78f70_b26ce05bbdd6",
    ),
    (
        "curl-tls12-http11",
        "www.a.example",
        "http/1.1",
        0x0303,
        "t12d2807h1_d943125447b4_a44c6288192a",
    ),
    (
        "gnutls-no-name",
        "",
        "",
        0x0304,
        "t13i291200_723694b0fccc_2cc26d266019",
    ),
    (
        "gnutls-tls12-alpn",
        "g.example",
        "h2 http/1.1",
        0x0303,
        "t12d2511h2_7415a186c913_577ffa9d9a5c",
    ),
    (
        "gnutls-tls13",
        "g.example",
        "",
        0x0304,
        "t13d291300_723694b0fccc_2cc26d266019",
    ),
    (
        "go119",
        "go.example",
        "h2 http/1.1",
        0x0304,
        "t13d1910h2_9dc949149365_97f8aa674fd9",
    ),
    (
        "java17",
        "j.example",
        "",
        0x0304,
        "t13d371200_db35923f8641_7c76daad20ec",
    ),
    (
        "node20",
        "node.example",
        "h2 http/1.1",
        0x0304,
        "t13d5911h2_a33745022dd6_1f22a2ca17c4",
    ),
    (
        "nss-tls13",
        "n.example",
        "",
        0x0304,
        "t13d351100_948423e5275c_496733ea6893",
    ),
    (
        "openssl-acme",
        "a.example",
        "acme-tls/1",
        0x0304,
        "t13d3111a1_e8f1e7e78f70_1f22a2ca17c4",
    ),
    (
        "openssl-address-as-name",
        "",
        "",
        0x0304,
        "t13d311000_e8f1e7e78f70_1f22a2ca17c4",
    ),
    (
        "openssl-alpn-20k",
        "a.example",
        "protocol 1450",
        0x0304,
        "t13d3111p0_e8f1e7e78f70_1f22a2ca17c4",
    ),
    (
        "openssl-records-of-512",
        "a.example",
        "protocol 90",
        0x0304,
        "t13d3111p0_e8f1e7e78f70_1f22a2ca17c4",
    ),
    (
        "openssl-resumed-early-data",
        "a.example",
        "h2",
        0x0304,
        "t13d3113h2_e8f1e7e78f70_87f12a3f655c",
    ),
    (
        "openssl-tls10",
        "old.example",
        "",
        0x0301,
        "t10d090600_c491f621fb4c_195413a0cc0f",
    ),
    (
        "openssl-tls11",
        "old.example",
        "",
        0x0302,
        "t11d090600_c491f621fb4c_195413a0cc0f",
    ),
    (
        "openssl-tls12-alpn",
        "a.example",
        "h2 http/1.1",
        0x0303,
        "t12d2808h2_d943125447b4_e7e480e5a997",
    ),
    (
        "openssl-tls12-no-name",
        "",
        "",
        0x0303,
        "t12i280600_d943125447b4_e7e480e5a997",
    ),
    (
        "openssl-tls13",
        "a.example",
        "",
        0x0304,
        "t13d041000_16476d049b0b_78f1d400d464",
    ),
    (
        "openssl-upper-case-dot",
        "www.a.example",
        "",
        0x0304,
        "t13d311000_e8f1e7e78f70_1f22a2ca17c4",
    ),
    (
        "python313",
        "xn--bcher-kva.example",
        "postgresql",
        0x0304,
        "t13d1812pl_85036bcba153_d41ae481755e",
    ),
    (
        "ruby31",
        "ruby.example",
        "",
        0x0304,
        "t13d311200_e8f1e7e78f70_d339722ba4af",
    ),
    (
        "rustls-mlkem",
        "r.example",
        "h2 http/1.1",
        0x0304,
        "t13d1011h2_61a7ad8aa9b6_0d308c48d2a3",
    ),
    (
        "rustls-records-of-64",
        "r.example",
        "h2 http/1.1",
        0x0304,
        "t13d1011h2_61a7ad8aa9b6_0d308c48d2a3",
    ),
    (
        "wget",
        "localhost",
        "",
        0x0304,
        "t13d291300_723694b0fccc_899037bd0b8c",
    ),
];

#[test]
fn real_hellos_say_what_another_reader_finds_in_them() {
    let real = real();
    let names: Vec<&str> = real.iter().map(|(name, _)| &**name).collect();
    let listed: Vec<&str> = HELLOS.iter().map(|hello| hello.0).collect();
    assert_eq!(names, listed);

    for ((file, bytes), (_, name, protocols, version, fingerprint)) in real.iter().zip(HELLOS) {
        let hello = hello(bytes);
        assert_eq!(hello.server_name().unwrap_or_default(), *name, "{file}");
        assert_eq!(protocols_of(&hello), *protocols, "{file}");
        assert_eq!(hello.version(), *version, "{file}");
        assert_eq!(ja4(&hello), *fingerprint, "{file}");
        assert_eq!(hello.offers_acme_tls(), *file == "openssl-acme", "{file}");
    }
}

/// As the table has them; of a list too long for it, the first word and the length.
fn protocols_of(hello: &ClientHello<'_>) -> String {
    let names: Vec<String> = hello
        .alpn()
        .map(|name| String::from_utf8(name.to_vec()).unwrap())
        .collect();
    if names.len() > 2 {
        for (place, name) in names.iter().enumerate() {
            assert_eq!(*name, format!("protocol-{place:04}"));
        }
        return format!("protocol {}", names.len());
    }
    names.join(" ")
}

#[test]
fn every_cut_of_a_real_hello_is_incomplete_until_it_is_whole() {
    for (file, bytes) in real() {
        let whole = Said::by(&hello(&bytes));
        let (_, end) = message_in(&bytes);
        for cut in 0..=bytes.len() {
            match sniff(&bytes[..cut], SNIFF_MAX) {
                Sniff::Incomplete { needs } => {
                    assert!(cut < end, "{file}: {cut} of {end}");
                    assert!(cut < needs && needs <= end, "{file}: {needs} at {cut}");
                }
                Sniff::Hello(hello) => {
                    assert!(cut >= end, "{file}: {cut} of {end}");
                    assert_eq!(Said::by(&hello), whole, "{file}: {cut} of {end}");
                }
                other => panic!("{file}: {cut} of {end}: {other:?}"),
            }
        }
    }
}

#[test]
fn real_hellos_in_other_records_say_the_same() {
    for (file, bytes) in real() {
        let whole = Said::by(&hello(&bytes));
        let (message, _) = message_in(&bytes);
        for size in [1, 2, 3, 5, 16, 100, 4095, RECORD_BYTES_MAX] {
            let cut = records(&message, size);
            let (calls, hello) = trickle(&cut, 2 * cut.len());
            assert_eq!(Said::by(&hello), whole, "{file}: records of {size}");
            assert!(calls <= 600, "{file}: {calls} calls, records of {size}");
        }
    }
}

#[test]
fn real_hellos_are_read_when_padded_beyond_a_record() {
    for (file, bytes) in real() {
        let (message, _) = message_in(&bytes);
        for padding in [16_384, 20_000, 44_000] {
            let Some(padded) = padded(&message, padding) else {
                // The one that had no room for extensions left.
                assert_eq!(file, "openssl-alpn-20k");
                continue;
            };
            for size in [1_000, RECORD_BYTES_MAX] {
                let bytes = records(&padded, size);
                assert!(bytes.len() > RECORD_BYTES_MAX && bytes.len() <= SNIFF_MAX);
                let (_, hello) = trickle(&bytes, SNIFF_MAX);
                let (before, after) = (Said::by(&hello), Said::by(&self::hello(&bytes)));
                assert_eq!(before, after, "{file}");
                assert_eq!(after.name, said_name(&message), "{file}");
            }
        }
    }
}

fn said_name(message: &[u8]) -> Option<String> {
    let bytes = records(message, RECORD_BYTES_MAX);
    hello(&bytes).server_name().map(str::to_owned)
}

/// With one extension more, of an unassigned type; `None` if the block of extensions cannot hold it.
fn padded(message: &[u8], padding: usize) -> Option<Vec<u8>> {
    let mut message = message.to_vec();
    let mut at = 4 + 2 + 32;
    at += 1 + usize::from(message[at]);
    at += 2 + usize::from(u16::from_be_bytes([message[at], message[at + 1]]));
    at += 1 + usize::from(message[at]);
    message.extend(0xeeee_u16.to_be_bytes());
    message.extend(list16(&vec![0; padding]));
    let extensions = u16::try_from(message.len() - at - 2).ok()?;
    message[at..at + 2].copy_from_slice(&extensions.to_be_bytes());
    let length = u32::try_from(message.len() - 4).unwrap().to_be_bytes();
    message[1..4].copy_from_slice(&length[1..]);
    (records(&message, 1_000).len() <= SNIFF_MAX).then_some(message)
}

#[test]
fn a_hello_as_long_as_the_limit_is_read_and_a_longer_one_refused_at_once() {
    for (file, bytes) in real() {
        let (_, end) = message_in(&bytes);
        assert!(matches!(sniff(&bytes, end), Sniff::Hello(_)), "{file}");
        let refused = |cut: &usize| matches!(sniff(&bytes[..*cut], end - 1), Sniff::Bad(_));
        let faults: Vec<usize> = (0..=bytes.len()).filter(refused).collect();
        let first = faults[0];
        assert_eq!(faults, (first..=bytes.len()).collect::<Vec<_>>(), "{file}");
        // The header of the message tells, unless there are more records than it would take.
        if file.contains("records") {
            assert!(first < end, "{file}: {first}");
        } else {
            assert_eq!(first, 9, "{file}");
        }
    }
    let endless = [22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    assert_eq!(
        fault(&endless).to_string(),
        "client hello: longer than the limit"
    );
}

/// Everything a hello says.
#[derive(Debug, PartialEq)]
struct Said {
    name: Option<String>,
    protocols: Vec<Vec<u8>>,
    numbers: [Vec<u16>; 4],
    versions: [u16; 2],
    fingerprint: String,
}

impl Said {
    fn by(hello: &ClientHello<'_>) -> Self {
        Self {
            name: hello.server_name().map(str::to_owned),
            protocols: hello.alpn().map(<[u8]>::to_vec).collect(),
            numbers: [
                hello.cipher_suites().collect(),
                hello.extensions().collect(),
                hello.signature_algorithms().collect(),
                hello.supported_versions().collect(),
            ],
            versions: [hello.legacy_version(), hello.version()],
            fingerprint: ja4(hello),
        }
    }
}

/// Byte for byte, asking only when enough has come: how often it was asked, and the answer.
fn trickle(bytes: &[u8], sniff_max: usize) -> (usize, ClientHello<'_>) {
    let (mut calls, mut needed) = (0, 1);
    for end in 1..=bytes.len() {
        if end < needed {
            continue;
        }
        calls += 1;
        match sniff(&bytes[..end], sniff_max) {
            Sniff::Incomplete { needs } => needed = needs,
            Sniff::Hello(hello) => return (calls, hello),
            other => panic!("{other:?} at {end} of {}", bytes.len()),
        }
    }
    panic!("still incomplete")
}
