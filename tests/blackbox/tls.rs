//! TLS that ends at ringlane: what clients of several libraries see, and what the log says of them.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use rustls::{HandshakeKind, ProtocolVersion};
use serde_json::Value;

use crate::support::tls::{
    Authority, Caller, Kind, TLS12, TLS13, Talk, alert, provider, quoted, terminating,
};
use crate::support::{Echo, Ringlane, address, loopback};

/// Until one line of the log says so.
fn line_with(ringlane: &Ringlane, count: usize, key: &str, value: &str) -> Value {
    let lines = ringlane.session_lines(count);
    let found = lines.iter().find(|line| line[key] == value);
    found
        .unwrap_or_else(|| panic!("no {key} {value} in {lines:#?}"))
        .clone()
}

#[test]
fn clients_get_the_certificate_of_their_name_and_kind_and_the_log_says_what_was_agreed() {
    let authority = Authority::new();
    let ecdsa = authority.issue("ecdsa", &["a.example"]);
    let rsa = authority.issue_of(Kind::Rsa, "rsa", &["a.example"], 2);
    let wild = authority.issue("wild", &["*.b.example"]);
    let front = address();
    let ringlane = Ringlane::start(&terminating(
        front,
        &[&ecdsa, &rsa, &wild],
        "pool = \"back\"\ntls.alpn = [\"h2\", \"http/1.1\"]",
        Echo::start().address,
    ));
    let mut sessions = 0;
    for (versions, said) in [(TLS12, "1.2"), (TLS13, "1.3")] {
        for (name, offered, agreed) in [
            ("a.example", &["http/1.1"][..], "http/1.1"),
            ("x.b.example", &["http/1.1", "h2"], "h2"),
            ("A.EXAMPLE", &["h2"], "h2"),
        ] {
            let config = Caller {
                versions,
                alpn: offered,
                ..Caller::new(&authority)
            };
            let mut talk = Talk::to(front, &config.config(), name).unwrap();
            assert_eq!(talk.tls.alpn_protocol(), Some(agreed.as_bytes()));
            let expected = if name == "x.b.example" { &wild } else { &ecdsa };
            let shown = talk.tls.peer_certificates().unwrap()[0].clone();
            assert_eq!(shown, expected.certificate(), "{name}");
            talk.say(b"ping").unwrap();
            assert_eq!(talk.hear(4).unwrap(), b"ping");
            assert_eq!(talk.exchange(b"end").unwrap(), b"end");
            sessions += 1;
            let line = ringlane.session_lines(sessions).pop().unwrap();
            assert_eq!(line["reason"], "eof", "{line}");
            assert_eq!(line["tls"], said, "{line}");
            assert_eq!(line["alpn"], agreed, "{line}");
            assert_eq!(line["sni"], name.to_ascii_lowercase(), "{line}");
            assert_eq!(
                (&line["bytes_up"], &line["bytes_down"]),
                (&7.into(), &7.into())
            );
            assert_eq!(line["ja4"].as_str().unwrap().len(), 36, "{line}");
            assert!(line.get("cause").is_none_or(Value::is_null), "{line}");
        }
    }
    // Whoever knows only one kind of signature gets the certificate of that kind.
    for (kind, expected) in [("ECDSA", &ecdsa), ("RSA", &rsa)] {
        let mut only = (*provider()).clone();
        only.cipher_suites
            .retain(|suite| format!("{:?}", suite.suite()).contains(&format!("_{kind}_")));
        let config = Caller {
            versions: TLS12,
            provider: Arc::new(only),
            ..Caller::new(&authority)
        };
        let talk = Talk::to(front, &config.config(), "a.example").unwrap();
        let shown = &talk.tls.peer_certificates().unwrap()[0];
        assert_eq!(*shown, expected.certificate(), "{kind}");
        assert_eq!(talk.exchange(b"x").unwrap(), b"x");
    }
}

#[test]
fn refused_handshakes_are_answered_by_the_alert_that_is_due() {
    let authority = Authority::new();
    let web = authority.issue("web", &["a.example"]);
    let front = address();
    let ringlane = Ringlane::start(&terminating(
        front,
        &[&web],
        "pool = \"back\"\ntls.min_version = \"1.3\"\ntls.alpn = [\"h2\"]",
        Echo::start().address,
    ));
    let attempt = |caller: Caller<'_>, name| alert(Talk::to(front, &caller.config(), name));
    let plain = || Caller::new(&authority);
    assert_eq!(
        attempt(plain(), "b.example"),
        Some(112),
        "unrecognized_name"
    );
    let old = Caller {
        versions: TLS12,
        ..plain()
    };
    assert_eq!(attempt(old, "a.example"), Some(70), "protocol_version");
    let other = Caller {
        alpn: &["smtp"],
        ..plain()
    };
    assert_eq!(
        attempt(other, "a.example"),
        Some(120),
        "no_application_protocol"
    );
    // A client that trusts nobody here says so itself.
    let stranger = Authority::new();
    let distrusting = Caller::new(&stranger).config();
    assert!(Talk::to(front, &distrusting, "a.example").is_err());
    let lines = ringlane.session_lines(4);
    for line in &lines {
        assert_eq!(
            (&line["reason"], &line["side"]),
            (&"tls_error".into(), &"client".into()),
            "{line}"
        );
        assert!(
            !line["cause"].as_str().unwrap_or_default().is_empty(),
            "{line}"
        );
    }
    let failed = r#"ringlane_tls_handshakes_total{listener="tls",result="failed"}"#;
    assert_eq!(ringlane.metric(failed), Some(4.0));
}

#[test]
fn sessions_resume_whichever_worker_they_come_to() {
    let authority = Authority::new();
    let web = authority.issue("web", &["a.example"]);
    let front = address();
    let ringlane = Ringlane::start(&terminating(
        front,
        &[&web],
        "pool = \"back\"",
        Echo::start().address,
    ));
    for versions in [TLS12, TLS13] {
        let config = Caller {
            versions,
            ..Caller::new(&authority)
        }
        .config();
        for visit in 0..40 {
            let mut talk = Talk::to(front, &config, "a.example").unwrap();
            let resumed = talk.tls.handshake_kind() == Some(HandshakeKind::Resumed);
            assert_eq!(resumed, visit > 0, "{versions:?}, visit {visit}");
            // Tickets of TLS 1.3 come behind the handshake.
            talk.say(b"x").unwrap();
            assert_eq!(talk.hear(1).unwrap(), b"x");
            assert_eq!(talk.exchange(b"").unwrap(), b"");
        }
    }
    let lines = ringlane.session_lines(80);
    for worker in 0..2 {
        assert!(lines.iter().any(|line| line["worker"] == worker));
    }
    let count = |result: &str| {
        let series =
            format!("ringlane_tls_handshakes_total{{listener=\"tls\",result=\"{result}\"}}");
        ringlane.metric(&series).unwrap()
    };
    assert_eq!((count("full"), count("resumed")), (2.0, 78.0));
}

#[test]
fn certificates_of_clients_are_asked_for_and_checked() {
    let authority = Authority::new();
    let clients = Authority::new();
    let web = authority.issue("web", &["a.example"]);
    let good = clients.issue_of(Kind::Ecdsa, "good", &["anna.staff.example"], 7);
    let guest = clients.issue_of(Kind::Ecdsa, "guest", &["guest.example"], 8);
    let revoked = clients.issue_of(Kind::Ecdsa, "revoked", &["old.staff.example"], 9);
    let foreign = authority.issue("foreign", &["eve.staff.example"]);
    let crl = clients.revoke(&[9]);
    for (mode, without) in [("require", Some(116)), ("request", None)] {
        let front = address();
        let ringlane = Ringlane::start(&terminating(
            front,
            &[&web],
            &format!(
                "route = [{{ sni = \"a.example\", terminate = true, pool = \"back\" {} }}]\n\
                 tls.client_auth = {{ mode = \"{mode}\", ca = {}, crl = {} }}",
                if mode == "require" {
                    ", client_names = [\"*.staff.example\"]"
                } else {
                    ""
                },
                quoted(&clients.file()),
                quoted(&crl),
            ),
            Echo::start().address,
        ));
        let visit = |shows, versions| {
            let caller = Caller {
                shows,
                versions,
                ..Caller::new(&authority)
            };
            // With TLS 1.3 a client learns only behind its handshake that it was refused.
            Talk::to(front, &caller.config(), "a.example").and_then(|talk| talk.exchange(b"hi"))
        };
        assert_eq!(visit(Some(&good), TLS12).unwrap(), b"hi");
        assert_eq!(visit(Some(&good), TLS13).unwrap(), b"hi");
        assert_eq!(alert(visit(None, TLS13)), without, "{mode}");
        assert_eq!(
            alert(visit(Some(&revoked), TLS13)),
            Some(44),
            "certificate_revoked"
        );
        assert_eq!(alert(visit(Some(&foreign), TLS13)), Some(48), "unknown_ca");
        assert_eq!(alert(visit(Some(&foreign), TLS12)), Some(48), "unknown_ca");
        let lines = ringlane.session_lines(6);
        let refused = lines.iter().filter(|line| line["reason"] == "tls_error");
        assert_eq!(
            refused.count(),
            3 + usize::from(without.is_some()),
            "{lines:#?}"
        );
        if mode == "require" {
            let refusal = visit(Some(&guest), TLS13).unwrap_err();
            assert_ne!(refusal.kind(), ErrorKind::UnexpectedEof, "{refusal}");
            let denied = line_with(&ringlane, 7, "reason", "denied");
            assert!(
                denied["cause"].as_str().unwrap().contains("client_names"),
                "{denied}"
            );
        }
    }
}

/// `openssl s_client` with these options; `None`: it is not installed.
fn openssl(front: SocketAddr, authority: &Authority, options: &[&str]) -> Option<String> {
    let mut child = Command::new("openssl")
        .args([
            "s_client",
            "-ign_eof",
            "-verify_return_error",
            "-servername",
            "a.example",
        ])
        .args(["-connect", &front.to_string(), "-CAfile"])
        .arg(authority.file())
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn openssl_agrees_and_resumes() {
    let authority = Authority::new();
    let web = authority.issue("web", &["a.example"]);
    let front = address();
    let listener = TcpListener::bind((loopback(), 0)).unwrap();
    let backend = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut line = [0; 6];
            stream.read_exact(&mut line).unwrap();
            stream.write_all(&[b"heard ", &line[..]].concat()).unwrap();
        }
    });
    let ringlane = Ringlane::start(&terminating(
        front,
        &[&web],
        "pool = \"back\"\ntls.alpn = [\"h2\"]",
        backend,
    ));
    let tickets = ringlane.directory().join("ticket");
    let tickets = Path::new(&tickets).to_str().unwrap();
    for (version, said) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        for (option, kind) in [("-sess_out", "New"), ("-sess_in", "Reused")] {
            let options = [version, "-alpn", "h2", option, tickets];
            let Some(text) = openssl(front, &authority, &options) else {
                return;
            };
            assert!(
                text.contains(&format!("{kind}, {said}, Cipher is")),
                "{text}"
            );
            assert!(text.contains("ALPN protocol: h2"), "{text}");
            assert!(text.contains("heard hello"), "{text}");
        }
    }
    let lines = ringlane.session_lines(4);
    // It closes without a word once all is said.
    assert!(
        lines.iter().all(|line| line["reason"] == "eof"),
        "{lines:#?}"
    );
}

#[test]
fn both_versions_are_really_spoken() {
    let authority = Authority::new();
    let web = authority.issue("web", &["a.example"]);
    let front = address();
    let _ringlane = Ringlane::start(&terminating(
        front,
        &[&web],
        "pool = \"back\"",
        Echo::start().address,
    ));
    for (versions, expected) in [
        (TLS12, ProtocolVersion::TLSv1_2),
        (TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let config = Caller {
            versions,
            ..Caller::new(&authority)
        }
        .config();
        let mut talk = Talk::to(front, &config, "a.example").unwrap();
        assert_eq!(talk.tls.protocol_version(), Some(expected));
        let bytes: Vec<u8> = (0..=250).cycle().take(50_000).collect();
        for _ in 0..20 {
            talk.say(&bytes).unwrap();
            assert!(talk.hear(bytes.len()).unwrap() == bytes);
        }
        assert_eq!(talk.exchange(b"").unwrap(), b"");
    }
}
