//! What holds for any bytes that a client may begin with.

use ringlane::base::name::host_name;
use ringlane::sni::{ClientHello, Sniff, ja4, sniff};

const SNIFF_MAX: usize = 64 * 1024;

/// Panics if reading `data` does, or if it says what cannot be.
pub(crate) fn check(data: &[u8]) {
    let sniffed = sniff(data, SNIFF_MAX);
    assert_agrees_with_its_beginnings(data, &sniffed);
    match sniffed {
        Sniff::Incomplete { needs } => {
            assert!(
                data.len() < needs && needs <= SNIFF_MAX,
                "{needs} of {}",
                data.len()
            );
        }
        Sniff::Hello(hello) => {
            let payload = payload(data);
            assert_sent(&payload, &hello);
            assert_the_same_in_small_records(&payload, &hello);
        }
        Sniff::NotTls | Sniff::Bad(_) => {}
    }
}

/// A decision stays whatever follows, and no beginning shorter than needed is a whole message.
fn assert_agrees_with_its_beginnings(data: &[u8], whole: &Sniff<'_>) {
    let ends = (0..data.len().min(12)).chain((0..8).map(|eighth| data.len() * eighth / 8));
    for end in ends {
        let beginning = data.get(..end).unwrap_or_default();
        match (sniff(beginning, SNIFF_MAX), whole) {
            (Sniff::Incomplete { needs }, Sniff::Hello(_)) => assert!(needs <= data.len()),
            (Sniff::Incomplete { .. }, _) => {}
            (Sniff::NotTls, whole) => assert!(matches!(whole, Sniff::NotTls)),
            (Sniff::Bad(fault), whole) => {
                assert!(
                    matches!(whole, Sniff::Bad(same) if *same == fault),
                    "{fault}"
                );
            }
            (Sniff::Hello(hello), Sniff::Hello(whole)) => assert_eq!(said(&hello), said(whole)),
            (Sniff::Hello(_), whole) => panic!("a hello became {whole:?}"),
        }
    }
}

/// Nothing is told that the client did not send.
fn assert_sent(payload: &[u8], hello: &ClientHello<'_>) {
    let holds = |bytes: &[u8]| payload.windows(bytes.len()).any(|window| window == bytes);
    if let Some(name) = hello.server_name() {
        assert_eq!(host_name(name).as_deref(), Some(name));
        let length = |dot: &str| u16::try_from(name.len() + dot.len()).map(u16::to_be_bytes);
        let sent = ["", "."].into_iter().any(|dot| {
            let behind_length = [
                &length(dot).unwrap_or_default(),
                name.as_bytes(),
                dot.as_bytes(),
            ];
            let behind_length = behind_length.concat();
            payload
                .windows(behind_length.len())
                .any(|window| window.eq_ignore_ascii_case(&behind_length))
        });
        assert!(sent, "{name}");
    }
    for protocol in hello.alpn() {
        let length = u8::try_from(protocol.len()).unwrap_or_default();
        assert!(!protocol.is_empty() && holds(&[&[length], protocol].concat()));
    }
    for value in hello.cipher_suites().chain(hello.extensions()) {
        assert!(holds(&value.to_be_bytes()));
    }
    let fingerprint = ja4(hello);
    assert!(
        fingerprint.len() == 36 && fingerprint.is_ascii(),
        "{fingerprint}"
    );
}

fn assert_the_same_in_small_records(payload: &[u8], hello: &ClientHello<'_>) {
    for size in [1, 37] {
        let mut records = Vec::new();
        for part in payload.chunks(size) {
            let length = u16::try_from(part.len()).unwrap_or_default().to_be_bytes();
            records.extend([22, 3, 3]);
            records.extend(length);
            records.extend(part);
        }
        match sniff(&records, 6 * payload.len()) {
            Sniff::Hello(cut) => assert_eq!(said(&cut), said(hello)),
            other => panic!("in records of {size}: {other:?}"),
        }
    }
}

/// The bytes of all leading records of the handshake, whole or not.
fn payload(data: &[u8]) -> Vec<u8> {
    let (mut payload, mut rest) = (Vec::new(), data);
    while let [22, 3, _, high, low, behind @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (part, after) = behind.split_at(length.min(behind.len()));
        payload.extend(part);
        rest = after;
    }
    payload
}

fn said<'h>(hello: &'h ClientHello<'_>) -> (Option<&'h str>, Vec<&'h [u8]>, String) {
    (hello.server_name(), hello.alpn().collect(), ja4(hello))
}
