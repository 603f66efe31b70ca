//! ClientHellos that are read, and those that no server would go on with.

use ringlane::sni::{Alert, Fault, Field};

use crate::pieces::{Hello, alpn, fault, hello, list8, list16, numbers, server_name, typical};

fn name_of(name: &[u8]) -> Result<Option<String>, Fault> {
    let bytes = Hello::default().with(0, &server_name(name)).bytes();
    match ringlane::sni::sniff(&bytes, 65_536) {
        ringlane::sni::Sniff::Hello(hello) => Ok(hello.server_name().map(str::to_owned)),
        ringlane::sni::Sniff::Bad(fault) => Err(fault),
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_are_taken_in_lower_case_and_without_a_trailing_dot() {
    for (sent, taken) in [
        ("a.example", "a.example"),
        ("A.eXample", "a.example"),
        ("a.example.", "a.example"),
        ("LOCALHOST.", "localhost"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("_x-1.example", "_x-1.example"),
        ("10.0.0.example", "10.0.0.example"),
        ("1.2.3", "1.2.3"),
        ("cafe", "cafe"),
    ] {
        assert_eq!(
            name_of(sent.as_bytes()),
            Ok(Some(taken.to_owned())),
            "{sent}"
        );
    }
}

#[test]
fn addresses_are_taken_as_no_name() {
    for sent in [
        "127.0.0.1",
        "10.0.0.1.",
        "::1",
        "2001:db8::7",
        "::FFFF:10.0.0.1",
        "fe80::a",
    ] {
        assert_eq!(name_of(sent.as_bytes()), Ok(None), "{sent}");
    }
}

#[test]
fn what_is_no_host_name_is_refused() {
    for sent in [
        &b"a.example\0.evil.example"[..],
        b"a.example\0",
        b"\0",
        b".",
        b"..",
        b"a..example",
        b".example",
        b"a.example..",
        b"*.example",
        b"a example",
        b"a.example:443",
        b"[::1]",
        b"::1%eth0",
        b"a/b",
        b"b\xc3\xbccher.example",
        b"\xff",
        b"a\n",
        &[b'a'; 64],
        &[b'a'; 254],
        &[b'a'; 60_000],
    ] {
        assert_eq!(
            name_of(sent),
            Err(Fault::ServerName),
            "{:?}",
            sent.escape_ascii().to_string()
        );
    }
    assert_eq!(Fault::ServerName.alert(), Alert::IllegalParameter);
}

#[test]
fn the_list_of_names_is_well_formed() {
    let entry = |kind: u8, name: &[u8]| [&[kind], &list16(name)[..]].concat();
    let one = entry(0, b"a.example");
    for body in [
        // No body, an empty list, a list cut off or with too long a length.
        vec![],
        vec![0],
        vec![0, 0],
        vec![0, 9, 0],
        vec![0, 1, 0],
        list16(&[0, 0, 9, b'a']),
        // An empty name, alone or beside another type.
        list16(&[0, 0, 0]),
        list16(&[&entry(0, b"")[..], &entry(1, b"x")].concat()),
        // Another type that is cut off.
        list16(&[&one[..], &[1, 0, 2, 0]].concat()),
        // Bytes behind the name, and behind the list.
        list16(&[&one[..], &[0]].concat()),
        [list16(&one), vec![0]].concat(),
    ] {
        let bytes = Hello::default().with(0, &body).bytes();
        assert_eq!(
            fault(&bytes),
            Fault::Malformed(Field::ServerName),
            "{body:?}"
        );
        assert_eq!(fault(&bytes).alert(), Alert::DecodeError);
    }
}

#[test]
fn one_host_name_is_taken_and_names_of_other_types_are_not() {
    let entry = |kind: u8, name: &[u8]| [&[kind], &list16(name)[..]].concat();
    let one = entry(0, b"a.example");
    let other = entry(1, b"b.example");
    let empty = entry(255, b"");
    let sent = |entries: &[&[u8]]| {
        let list = list16(&entries.concat());
        Hello::default().with(0, &list).bytes()
    };
    for entries in [
        &[&one[..], &other][..],
        &[&other, &one],
        &[&other, &one, &other, &empty],
    ] {
        assert_eq!(hello(&sent(entries)).server_name(), Some("a.example"));
    }
    for entries in [&[&other[..]][..], &[&empty], &[&other, &other]] {
        assert_eq!(hello(&sent(entries)).server_name(), None);
    }
    let second = entry(0, b"b.example");
    for entries in [
        &[&one[..], &second][..],
        &[&one, &one],
        &[&one, &other, &second],
    ] {
        assert_eq!(fault(&sent(entries)), Fault::RepeatedName);
    }
}

#[test]
fn lists_that_are_empty_odd_or_cut_off_are_refused() {
    let too_long = |list: Vec<u8>| [list, vec![0]].concat();
    for (kind, field, bodies) in [
        (
            16,
            Field::Alpn,
            vec![
                vec![],
                vec![0],
                vec![0, 0],
                list16(&[0]),
                list16(&[2, b'h', b'2', 0]),
                list16(&[3, b'h', b'2']),
                vec![0, 9, 2, b'h', b'2'],
                too_long(alpn(&[b"h2"])),
            ],
        ),
        (
            13,
            Field::SignatureAlgorithms,
            vec![
                vec![],
                vec![0, 0],
                list16(&[4, 3, 8]),
                vec![0, 4, 4, 3],
                too_long(list16(&[4, 3])),
            ],
        ),
        (
            43,
            Field::SupportedVersions,
            vec![
                vec![],
                vec![0],
                list8(&[3, 4, 3]),
                vec![4, 3, 4],
                too_long(list8(&[3, 4])),
            ],
        ),
    ] {
        for body in bodies {
            let bytes = Hello::default().with(kind, &body).bytes();
            assert_eq!(fault(&bytes), Fault::Malformed(field), "{body:?}");
            assert_eq!(fault(&bytes).alert(), Alert::DecodeError);
        }
    }
}

#[test]
fn the_frame_of_the_message_is_checked() {
    let malformed = |hello: Hello| {
        let bytes = hello.bytes();
        assert_eq!(fault(&bytes), Fault::Malformed(Field::Message));
    };
    malformed(Hello {
        session_id: vec![0; 33],
        ..typical()
    });
    malformed(Hello {
        ciphers: vec![],
        ..typical()
    });
    malformed(Hello {
        ciphers: vec![0x13, 1, 0],
        ..typical()
    });
    malformed(Hello {
        compressions: vec![],
        ..typical()
    });
    malformed(Hello {
        rest: vec![0],
        ..typical()
    });
    for rest in [vec![0], vec![0, 1], vec![0xff, 0xff, 0, 0, 0, 0]] {
        let bytes = Hello {
            extensions: None,
            rest,
            ..Hello::default()
        }
        .bytes();
        assert_eq!(fault(&bytes), Fault::Malformed(Field::Extensions));
    }
    for cut in [vec![0], vec![0, 0], vec![0, 0, 0], vec![0xee, 0xee, 0, 1]] {
        let bytes = Hello {
            extensions: Some(cut),
            ..Hello::default()
        }
        .bytes();
        assert_eq!(fault(&bytes), Fault::Malformed(Field::Extensions));
    }
}

#[test]
fn every_shortened_message_is_refused() {
    let whole = typical().with(16, &alpn(&[b"h2"])).message();
    let ends_before_extensions = Hello {
        extensions: None,
        ..Hello::default()
    }
    .message()
    .len();
    for length in 4..whole.len() {
        let bytes = crate::pieces::record(22, &crate::pieces::handshake(1, &whole[4..length]));
        if length == ends_before_extensions {
            assert_eq!(hello(&bytes).extensions().count(), 0);
        } else {
            assert!(matches!(fault(&bytes), Fault::Malformed(_)), "{length}");
        }
    }
}

#[test]
fn old_hellos_are_read() {
    for version in [0x0300, 0x0301, 0x0302, 0x0303] {
        for extensions in [None, Some(vec![])] {
            let bytes = Hello {
                legacy_version: version,
                session_id: vec![],
                extensions,
                ..Hello::default()
            }
            .bytes();
            let hello = hello(&bytes);
            assert_eq!((hello.version(), hello.server_name()), (version, None));
            assert_eq!((hello.extensions().count(), hello.alpn().count()), (0, 0));
            assert!(!hello.offers_acme_tls());
        }
    }
}

#[test]
fn the_best_version_is_told_without_grease() {
    for (offered, version) in [
        (&[0x0304, 0x0303][..], 0x0304),
        (&[0x0303, 0x0304], 0x0304),
        (&[0xfafa, 0x0302, 0x0301], 0x0302),
        (&[0x0a0a], 0x0303),
    ] {
        let bytes = Hello::default().with(43, &list8(&numbers(offered))).bytes();
        assert_eq!(hello(&bytes).version(), version);
        assert_eq!(
            hello(&bytes).supported_versions().collect::<Vec<_>>(),
            offered
        );
    }
}

#[test]
fn an_extension_may_come_once() {
    // Below 64, a few above, and more above than are kept in place: 16.
    for count in [0, 1, 15, 16, 17, 60] {
        let mut kinds: Vec<u16> = (0..count).map(|place| 1_000 + place * 77).collect();
        kinds.extend([0, 43, 63, 64, 65, 0xff01, 0xffff]);
        let body = |kind| match kind {
            0 => server_name(b"a.example"),
            43 => vec![2, 3, 4],
            _ => vec![],
        };
        let distinct = kinds.iter().fold(Hello::default(), |hello, &kind| {
            hello.with(kind, &body(kind))
        });
        assert_eq!(
            hello(&distinct.bytes()).extensions().collect::<Vec<_>>(),
            kinds
        );
        for &again in &kinds {
            let hello = kinds
                .iter()
                .fold(Hello::default(), |hello, &kind| {
                    hello.with(kind, &body(kind))
                })
                .with(again, &body(again));
            assert_eq!(
                fault(&hello.bytes()),
                Fault::RepeatedExtension,
                "{again} of {count}"
            );
        }
    }
}

#[test]
fn as_many_extensions_as_fit_are_read() {
    let kinds = (64..16_000).filter(|&kind| kind != 5_000);
    let many = kinds.fold(Hello::default(), |hello, kind| hello.with(kind, &[]));
    let last = many.with(0, &server_name(b"a.example"));
    let bytes = last.bytes();
    assert_eq!(hello(&bytes).server_name(), Some("a.example"));
    assert_eq!(hello(&bytes).extensions().count(), 15_936);
    assert_eq!(
        fault(&last.with(15_999, &[]).bytes()),
        Fault::RepeatedExtension
    );
}

#[test]
fn protocols_are_told_apart() {
    for (protocols, acme) in [
        (&[&b"h2"[..], b"http/1.1"][..], false),
        (&[b"acme-tls/1"], true),
        (&[b"h2", b"acme-tls/1"], true),
        (&[b"acme-tls/10"], false),
        (&[b"acme-tls"], false),
        (&[&[0xff; 255], b"\0"], false),
    ] {
        let bytes = typical().with(16, &alpn(protocols)).bytes();
        assert_eq!(hello(&bytes).alpn().collect::<Vec<_>>(), protocols);
        assert_eq!(hello(&bytes).offers_acme_tls(), acme);
    }
}

#[test]
fn faults_say_what_is_wrong() {
    for (fault, text) in [
        (
            Fault::ServerName,
            "client hello: a server name that is no host name",
        ),
        (
            Fault::Malformed(Field::Alpn),
            "client hello: malformed ALPN",
        ),
        (Fault::EmptyRecord, "client hello: an empty record"),
        (
            Fault::ForeignMessage,
            "client hello: another message instead of it",
        ),
        (Fault::RepeatedName, "client hello: two server names"),
    ] {
        assert_eq!(fault.to_string(), text);
    }
}
