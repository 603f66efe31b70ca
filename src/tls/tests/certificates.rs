//! Certificates and their files.
//!
//! What lies in `files/` was made by OpenSSL 3.0: an authority, certificates of `good.example` (serial
//! number 1000), `gone.example` (revoked) and `stranger.example` (unknown to the responder), keys in
//! SEC1 and PKCS#1, and OCSP responses by `openssl ocsp`: thirty days from 2026-11-21, `endless` without
//! an end, `both` with SHA-256 for two certificates at once.

use std::path::Path;

use rcgen::{DnType, KeyPair, PKCS_ED25519, date_time_ymd};

use super::fixtures::{Authority, DAY, Directory, TODAY, loaded, params, unix};
use crate::config::model::Certificate;
use crate::tls::certificates::{KeyKind, Loaded, load};

/// 2026-11-22 00:00:00 UTC: all that lies in `files/` holds.
const NOVEMBER: u64 = 1_795_305_600;

fn lying(chain: &str, key: &str) -> Certificate {
    let path = |name: &str| {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("src/tls/tests/files")
            .join(name)
    };
    Certificate {
        chain: path(chain),
        key: path(key),
        ocsp: None,
    }
}

/// `good.example` with this response.
fn with_response(name: &str) -> Certificate {
    let mut certificate = lying("good.pem", "good.key");
    certificate.ocsp = Some(lying(name, name).chain);
    certificate
}

/// What is wrong, without the directory.
fn fault(certificate: &Certificate, now: u64) -> String {
    let text = load(certificate, unix(now)).unwrap_err().to_string();
    let (file, wrong) = text.split_once(": ").unwrap();
    let name = Path::new(file).file_name().unwrap().to_str().unwrap();
    format!("{name}: {wrong}")
}

fn warnings(loaded: &Loaded) -> String {
    let text = |warning: &String| warning.rsplit('/').next().unwrap().to_owned();
    loaded
        .warnings
        .iter()
        .map(text)
        .collect::<Vec<_>>()
        .join("\n")
}

fn names(loaded: &Loaded) -> Vec<String> {
    loaded.names.iter().map(ToString::to_string).collect()
}

#[test]
fn a_certificate_says_whom_and_how_long_it_is_for() {
    let directory = Directory::new();
    let mut params = params(&["A.example", "*.b.example", "a.example"]);
    params.not_before = date_time_ymd(2025, 12, 1);
    params.not_after = date_time_ymd(2026, 3, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = Authority::new("ca").issue_with(&directory, &params, &key);
    let loaded = loaded(&certificate);
    assert_eq!(names(&loaded), ["a.example", "*.b.example"]);
    assert_eq!(
        (loaded.not_before, loaded.not_after),
        (TODAY - 31 * DAY, TODAY + 59 * DAY)
    );
    assert_eq!(loaded.kind, KeyKind::Ecdsa);
    assert_eq!(loaded.warnings, [""; 0]);
    assert_eq!(loaded.certified.cert.len(), 1);
    assert_eq!(loaded.at(unix(TODAY)).ocsp, None);
}

#[test]
fn keys_of_every_form_are_read() {
    let directory = Directory::new();
    let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let pkcs8 = Authority::new("ca").issue_with(&directory, &params(&["a.example"]), &ed25519);
    for (certificate, kind) in [
        (lying("good.pem", "good.key"), KeyKind::Ecdsa),
        (lying("rsa.pem", "rsa.key"), KeyKind::Rsa),
        (pkcs8, KeyKind::Ed25519),
    ] {
        assert_eq!(load(&certificate, unix(NOVEMBER)).unwrap().kind, kind);
    }
}

#[test]
fn a_common_name_counts_only_alone() {
    let loaded = load(&lying("rsa.pem", "rsa.key"), unix(NOVEMBER)).unwrap();
    assert_eq!(names(&loaded), ["rsa.example"]);
    assert_eq!(
        warnings(&loaded),
        "rsa.pem: no alternative names, so the common name is taken; clients refuse that"
    );
    let loaded = load(&lying("good.pem", "good.key"), unix(NOVEMBER)).unwrap();
    assert_eq!(
        names(&loaded),
        ["good.example"],
        "its common name is `good`"
    );
}

#[test]
fn names_that_are_none_are_left_out() {
    let directory = Directory::new();
    let certificate = Authority::new("ca").issue(&directory, &["**.a.example", "a*.example"]);
    let loaded = loaded(&certificate);
    assert_eq!(names(&loaded), [""; 0]);
    let text = warnings(&loaded);
    assert!(
        text.contains(r#""**.a.example" is no host name and is never matched"#),
        "{text}"
    );
    assert!(text.contains(r#""a*.example" is no host name"#), "{text}");
    assert!(
        text.contains("no host name, so it is shown only as the default"),
        "{text}"
    );

    let mut nul = params(&[]);
    nul.distinguished_name
        .push(DnType::CommonName, "a.example\0.evil.example");
    let key = KeyPair::generate().unwrap();
    let certificate = Authority::new("ca").issue_with(&directory, &nul, &key);
    assert_eq!(names(&super::fixtures::loaded(&certificate)), [""; 0]);
}

#[test]
fn every_fault_of_the_files_is_told() {
    let directory = Directory::new();
    let authority = Authority::new("ca");
    let good = authority.issue(&directory, &["a.example"]);
    let other = authority.issue(&directory, &["a.example"]);
    let chain = |name: &str, content: &[u8]| Certificate {
        chain: directory.file(name, content),
        ..good.clone()
    };
    let key = |name: &str, content: &[u8]| Certificate {
        key: directory.file(name, content),
        ..good.clone()
    };
    let broken = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
    let broken_key = "-----BEGIN PRIVATE KEY-----\nMAMCAQE=\n-----END PRIVATE KEY-----\n";
    let gone = Certificate {
        chain: directory.path("gone.pem"),
        ..good.clone()
    };

    let large = vec![b'x'; 1024 * 1024 + 1];
    for (certificate, expected) in [
        (
            gone,
            "gone.pem: No such file or directory (os error 2), expected a readable file",
        ),
        (
            chain("1", b""),
            "1: no certificate, expected CERTIFICATE sections (PEM)",
        ),
        (
            chain("2", b"-----BEGIN CERTIFICATE-----\nMAMC"),
            "2: a section without an end, expected PEM",
        ),
        (chain("3", broken.as_bytes()), "3: certificate 1: "),
        (
            chain("4", &large),
            "4: too large, expected at most 1048576 bytes",
        ),
        (
            key("5", b"nothing"),
            "5: no private key, expected a PRIVATE KEY, EC PRIVATE KEY or",
        ),
        (key("6", broken_key.as_bytes()), "6: private key: "),
    ] {
        let text = fault(&certificate, TODAY);
        assert!(text.starts_with(expected), "{text}\n{expected}");
    }

    let mixed = Certificate {
        key: other.key,
        ..good
    };
    let text = fault(&mixed, TODAY);
    let name = mixed.key.file_name().unwrap().to_str().unwrap();
    let chain = mixed.chain.display();
    assert_eq!(
        text,
        format!(
            "{name}: not the certificate's key, expected the private key of the first certificate in \
             {chain}"
        )
    );
}

#[test]
fn certificates_that_do_not_hold_now_are_refused() {
    let directory = Directory::new();
    let mut params = params(&["a.example"]);
    params.not_before = date_time_ymd(2025, 12, 1);
    params.not_after = date_time_ymd(2026, 3, 1);
    let key = KeyPair::generate().unwrap();
    let mut certificate = Authority::new("ca").issue_with(&directory, &params, &key);
    let text = std::fs::read(&certificate.chain).unwrap();
    certificate.chain = directory.file("chain.pem", text);
    let end = TODAY + 59 * DAY;
    load(&certificate, unix(end)).unwrap();
    assert_eq!(
        fault(&certificate, end + 1),
        "chain.pem: expired on Mar  1 00:00:00 2026 +00:00, expected a certificate that is valid now"
    );
    let begin = TODAY - 31 * DAY;
    load(&certificate, unix(begin)).unwrap();
    assert_eq!(
        fault(&certificate, begin - 1),
        "chain.pem: not valid before Dec  1 00:00:00 2025 +00:00, expected a certificate that is valid \
         now"
    );
}

#[test]
fn a_chain_out_of_order_is_worth_a_word() {
    let directory = Directory::new();
    let root = Authority::new("root");
    let (middle, other) = (root.below("middle"), root.below("other"));
    let certificate = middle.issue(&directory, &["a.example"]);
    let leaf = std::fs::read_to_string(&certificate.chain).unwrap();
    let with = |others: &[&Authority]| {
        let others: String = others.iter().map(|one| one.pem()).collect();
        let chain = directory.file("chain.pem", format!("{leaf}{others}"));
        loaded(&Certificate {
            chain,
            ..certificate.clone()
        })
    };
    let whole = with(&[&middle, &root]);
    assert_eq!(whole.warnings, [""; 0]);
    assert_eq!(whole.certified.cert.len(), 3);
    assert_eq!(
        warnings(&with(&[&root, &middle])),
        "chain.pem: certificate 2 does not vouch for certificate 1, expected each to be followed by \
         its issuer's\n\
         chain.pem: certificate 3 does not vouch for certificate 2, expected each to be followed by \
         its issuer's"
    );
    // Another authority of the same name: only the signature tells.
    let namesake = root.below("middle");
    assert!(warnings(&with(&[&namesake])).contains("certificate 2 does not vouch"));
    assert!(warnings(&with(&[&other])).contains("certificate 2 does not vouch"));
}

#[test]
fn an_ocsp_response_is_shown_while_it_holds() {
    let thirty_days = 1_797_854_873;
    for (name, last) in [("good.ocsp", Some(thirty_days - 1)), ("endless.ocsp", None)] {
        let loaded = load(&with_response(name), unix(NOVEMBER)).unwrap();
        assert_eq!(loaded.warnings, [""; 0]);
        let response = std::fs::read(lying(name, name).chain).unwrap();
        let shown = |now: u64| loaded.at(unix(now)).ocsp == Some(response.clone());
        assert!(shown(NOVEMBER));
        assert!(!shown(NOVEMBER - 2 * DAY), "before it holds");
        assert!(shown(last.unwrap_or(NOVEMBER * 2)));
        if let Some(last) = last {
            assert!(!shown(last + 1), "out of date");
        }
    }
}

#[test]
fn an_ocsp_response_that_is_out_of_date_is_worth_a_word() {
    let late = load(&with_response("good.ocsp"), unix(NOVEMBER + 60 * DAY)).unwrap();
    assert_eq!(
        warnings(&late),
        "good.ocsp: the OCSP response is out of date and is not sent"
    );
    assert_eq!(late.at(unix(NOVEMBER + 60 * DAY)).ocsp, None);
}

#[test]
fn ocsp_responses_of_no_use_are_refused() {
    let gone = |response: &str| Certificate {
        ocsp: Some(lying(response, response).chain),
        ..lying("gone.pem", "gone.key")
    };
    let stranger = Certificate {
        ocsp: Some(lying("stranger.ocsp", "").chain),
        ..lying("stranger.pem", "stranger.key")
    };
    for (certificate, expected) in [
        (
            gone("gone.ocsp"),
            "gone.ocsp: OCSP response: says that the certificate is revoked",
        ),
        (
            gone("both.ocsp"),
            "both.ocsp: OCSP response: says that the certificate is revoked",
        ),
        (
            stranger,
            "stranger.ocsp: OCSP response: the responder does not know the certificate",
        ),
        (
            with_response("ca.pem"),
            "ca.pem: OCSP response: cannot be read, expected a basic response",
        ),
    ] {
        let text = fault(&certificate, NOVEMBER);
        assert!(text.starts_with(expected), "{text}");
    }
    // The second of two answers counts as well, by SHA-256.
    load(&with_response("both.ocsp"), unix(NOVEMBER)).unwrap();

    let directory = Directory::new();
    let refused = Certificate {
        // OCSPResponse { responseStatus tryLater }
        ocsp: Some(directory.file("later.ocsp", [0x30, 3, 0x0a, 1, 3])),
        ..lying("good.pem", "good.key")
    };
    let text = fault(&refused, NOVEMBER);
    assert!(
        text.starts_with("later.ocsp: OCSP response: the responder refused"),
        "{text}"
    );
}

#[test]
fn a_certificate_does_not_wait_for_its_ocsp_response() {
    let loaded = load(&with_response("gone.ocsp"), unix(NOVEMBER)).unwrap();
    assert_eq!(loaded.at(unix(NOVEMBER)).ocsp, None);
    assert!(
        loaded.warnings[0]
            .ends_with("for another certificate than the chain's first and is not sent"),
        "{:?}",
        loaded.warnings
    );
}

#[test]
fn an_ocsp_response_for_a_namesake_of_the_issuer_is_not_sent() {
    // The chain has another issuer's key, so the hash of the key differs.
    let directory = Directory::new();
    let certificate = with_response("good.ocsp");
    let leaf = std::fs::read_to_string(&certificate.chain).unwrap();
    let with = |issuer: &str| Certificate {
        chain: directory.file("chain.pem", format!("{leaf}{issuer}")),
        ..certificate.clone()
    };
    let real = std::fs::read_to_string(lying("ca.pem", "").chain).unwrap();
    let stapled = |issuer: &str| {
        let loaded = load(&with(issuer), unix(NOVEMBER)).unwrap();
        loaded.at(unix(NOVEMBER)).ocsp.is_some()
    };
    assert!(stapled(&real));
    assert!(!stapled(&Authority::new("ca").pem()));
}

#[test]
fn no_damage_to_an_ocsp_response_passes_or_panics() {
    let directory = Directory::new();
    let good = std::fs::read(lying("good.ocsp", "").chain).unwrap();
    let mut certificate = with_response("good.ocsp");
    for at in 0..good.len() {
        certificate.ocsp = Some(directory.file("cut.ocsp", &good[..at]));
        // The signature at the end is not read.
        assert!(load(&certificate, unix(NOVEMBER)).is_err(), "cut at {at}");
        for bit in [0x01, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= bit;
            certificate.ocsp = Some(directory.file("bad.ocsp", &bad));
            let _ = load(&certificate, unix(NOVEMBER));
        }
    }
}
