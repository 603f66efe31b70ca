//! Records around a ClientHello, and other protocols.

use ringlane::sni::{Alert, Fault, Sniff, sniff};

use crate::pieces::{
    RECORD_BYTES_MAX, SNIFF_MAX, fault, handshake, hello, record, records, typical,
};

#[track_caller]
fn assert_not_tls(bytes: &[u8]) {
    let sniffed = sniff(bytes, SNIFF_MAX);
    assert!(matches!(sniffed, Sniff::NotTls), "{bytes:?}: {sniffed:?}");
}

#[test]
fn the_first_two_bytes_tell_tls_from_the_rest() {
    for byte in 0..=255 {
        let first = [byte];
        let sniffed = sniff(&first, SNIFF_MAX);
        // The types of records: change of cipher, alert, handshake, data.
        let may_be_tls = (20..=23).contains(&byte);
        assert_eq!(
            matches!(sniffed, Sniff::Incomplete { needs: 2 }),
            may_be_tls
        );
        assert_eq!(matches!(sniffed, Sniff::NotTls), !may_be_tls);
        if byte != 3 {
            assert_not_tls(&[22, byte]);
            assert_not_tls(&[21, byte]);
        }
        // The minor version is to be ignored.
        assert!(matches!(
            sniff(&[22, 3, byte], SNIFF_MAX),
            Sniff::Incomplete { needs: 4 }
        ));
    }
    assert!(matches!(
        sniff(&[], SNIFF_MAX),
        Sniff::Incomplete { needs: 1 }
    ));
}

#[test]
fn other_protocols_are_not_tls() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n",
        b"\r\n\r\n\0\r\nQUIT\n",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"\n",
        // SSL 2 with a version of TLS 1.0 in it (RFC 5246 §E.2), long and short header.
        b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10\x01\x00\x80",
        b"\x00\x2e\x00\x01\x03\x01\x00\x15\x00\x00\x00\x10\x01\x00",
    ] {
        for end in 1..=bytes.len() {
            let sniffed = sniff(&bytes[..end], SNIFF_MAX);
            if end == bytes.len() {
                assert!(matches!(sniffed, Sniff::NotTls), "{bytes:?}: {sniffed:?}");
            } else {
                assert!(matches!(sniffed, Sniff::NotTls | Sniff::Incomplete { .. }));
            }
        }
    }
}

#[test]
fn tls_that_does_not_begin_with_a_client_hello_is_refused() {
    for kind in [20, 21, 23] {
        assert_eq!(fault(&[kind, 3]), Fault::ForeignRecord);
        assert_eq!(fault(&record(kind, &[2, 40])), Fault::ForeignRecord);
    }
    for kind in (0..=255).filter(|&kind| kind != 1) {
        let mut bytes = typical().bytes();
        bytes[5] = kind;
        for end in 6..=bytes.len() {
            assert_eq!(fault(&bytes[..end]), Fault::ForeignMessage);
        }
        // Also where the record holds nothing else.
        assert_eq!(fault(&record(22, &[kind])), Fault::ForeignMessage);
    }
}

#[test]
fn records_that_break_the_message_are_refused() {
    let message = typical().message();
    let (first, second) = message.split_at(3);
    let empty = [22, 3, 1, 0, 0];
    for (between, expected) in [
        (&empty[..], Fault::EmptyRecord),
        // An alert, a change of cipher, data, and another major version.
        (&[21, 3, 1, 0, 2, 1, 0], Fault::ForeignRecord),
        (&[20, 3, 3, 0, 1, 1], Fault::ForeignRecord),
        (&[23, 3, 3, 0, 1, 1], Fault::ForeignRecord),
        (&[22, 2, 0, 0, 1, 1], Fault::ForeignRecord),
        (&[22, 3, 1, 0x40, 1, 1], Fault::RecordTooLong),
    ] {
        let bytes = [&record(22, first), between, &record(22, second)].concat();
        assert_eq!(fault(&bytes), expected, "{between:?}");
        // It is told without waiting for more than the bytes that break it.
        let told =
            (0..bytes.len()).find(|&end| matches!(sniff(&bytes[..end], SNIFF_MAX), Sniff::Bad(_)));
        let broken_by = 8 + match expected {
            Fault::ForeignRecord if between[0] == 22 => 2,
            Fault::ForeignRecord => 1,
            _ => 5,
        };
        assert_eq!(told, Some(broken_by), "{between:?}");
    }
    // The same at the very beginning, where a foreign record is another protocol.
    assert_eq!(fault(&empty), Fault::EmptyRecord);
    assert_eq!(
        fault(&[&empty, &record(22, &message)[..]].concat()),
        Fault::EmptyRecord
    );
    assert_eq!(fault(&[22, 3, 1, 0x40, 1]), Fault::RecordTooLong);
    assert_eq!(
        fault(&[22, 3, 1, 0x40, 1, 1, 0, 0, 50]),
        Fault::RecordTooLong
    );
}

#[test]
fn a_record_of_the_greatest_size_is_read() {
    let body = vec![0; 40_000];
    let message = typical().with(0xeeee, &body).message();
    for size in [RECORD_BYTES_MAX - 1, RECORD_BYTES_MAX] {
        let bytes = records(&message, size);
        assert_eq!(hello(&bytes).server_name(), Some("a.example"));
    }
    assert_eq!(
        fault(&records(&message, RECORD_BYTES_MAX + 1)),
        Fault::RecordTooLong
    );
}

#[test]
fn what_follows_the_hello_is_left_alone() {
    let message = typical().message();
    for size in [1, 7, RECORD_BYTES_MAX] {
        for behind in [&[23, 3, 3, 0, 1, 1][..], &[0; 100], &[21, 3, 3, 0, 0]] {
            let bytes = [&records(&message, size), behind].concat();
            assert_eq!(hello(&bytes).server_name(), Some("a.example"));
        }
        // In the same record, too, and before that record is complete.
        let more = [&message[..], &handshake(11, &[0; 300])].concat();
        let bytes = records(&more, RECORD_BYTES_MAX);
        assert_eq!(hello(&bytes).server_name(), Some("a.example"));
        assert_eq!(
            hello(&bytes[..5 + message.len()]).server_name(),
            Some("a.example")
        );
        let cut = [record(22, &more[..2]), record(22, &more[2..])].concat();
        assert_eq!(
            hello(&cut[..10 + message.len()]).server_name(),
            Some("a.example")
        );
        let short = sniff(&cut[..9 + message.len()], SNIFF_MAX);
        assert!(matches!(short, Sniff::Incomplete { needs } if needs == 10 + message.len()));
        assert!(matches!(sniff(&cut, 10 + message.len()), Sniff::Hello(_)));
        assert!(matches!(
            sniff(&cut, 9 + message.len()),
            Sniff::Bad(Fault::TooLong)
        ));
    }
}

#[test]
fn the_limit_counts_the_headers_of_records() {
    let message = typical().message();
    for size in [1, 2, 3, 4, 5, 50] {
        let bytes = records(&message, size);
        assert!(matches!(sniff(&bytes, bytes.len()), Sniff::Hello(_)));
        for limit in 0..bytes.len() {
            for end in [limit, bytes.len()] {
                let sniffed = sniff(&bytes[..end], limit);
                assert!(
                    matches!(sniffed, Sniff::Bad(Fault::TooLong)),
                    "{size} {limit}: {sniffed:?}"
                );
            }
        }
    }
}

#[test]
fn a_hello_in_the_smallest_records_is_asked_for_seldom() {
    let body = vec![0; 10_700];
    let bytes = records(&typical().with(0xeeee, &body).message(), 1);
    assert!(bytes.len() > SNIFF_MAX - 1_000 && bytes.len() <= SNIFF_MAX);
    let (mut calls, mut needed) = (0, 1);
    for end in 1..=bytes.len() {
        if end >= needed {
            calls += 1;
            match sniff(&bytes[..end], SNIFF_MAX) {
                Sniff::Incomplete { needs } => needed = needs,
                Sniff::Hello(_) => assert_eq!(end, bytes.len()),
                other => panic!("{other:?}"),
            }
        }
    }
    // Six for each of the first 64 records, then 60 for the rest.
    assert!((390..450).contains(&calls), "{calls}");
}

#[test]
fn each_fault_has_the_alert_that_servers_send() {
    for (fault, alert) in [
        (Fault::EmptyRecord, Alert::UnexpectedMessage),
        (Fault::ForeignRecord, Alert::UnexpectedMessage),
        (Fault::ForeignMessage, Alert::UnexpectedMessage),
        (Fault::RecordTooLong, Alert::RecordOverflow),
        (Fault::TooLong, Alert::IllegalParameter),
        (Fault::RepeatedExtension, Alert::IllegalParameter),
        (Fault::ServerName, Alert::IllegalParameter),
        (Fault::RepeatedName, Alert::IllegalParameter),
    ] {
        assert_eq!(fault.alert(), alert);
    }
    assert_eq!(Alert::UnrecognizedName.record(), [21, 3, 1, 0, 2, 2, 112]);
}
