//! Certificates with their keys: read from files, and checked before anybody is shown them.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, SignatureAlgorithm};
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use super::fault::{Fault, OcspWrong, Wrong};
use super::{files, ocsp, peer, provider};
use crate::base::name::NamePattern;
use crate::config::model::Certificate;

/// Why a certificate cannot be used.
pub type CertificateFault = Fault;

/// A certificate that can be shown.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The chain with its key, without an OCSP response.
    pub certified: Arc<CertifiedKey>,
    /// The same with its OCSP response.
    staple: Option<Staple>,
    /// The file of the chain.
    file: Arc<Path>,
    /// What it was issued for; may be empty, then it can only be a default.
    pub names: Vec<NamePattern>,
    /// The first certificate holds from then on, seconds since 1970.
    pub not_before: u64,
    /// The first certificate holds until then, seconds since 1970.
    pub not_after: u64,
    /// What its key is.
    pub kind: KeyKind,
    /// What an operator should know, though it can be used: `file: what`.
    pub warnings: Vec<String>,
}

/// What a certificate's key is; the preferred kind first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyKind {
    /// P-256, P-384 or P-521: a signature costs a fraction of RSA's.
    Ecdsa,
    /// Ed25519.
    Ed25519,
    /// RSA.
    Rsa,
}

impl KeyKind {
    /// As operators call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ecdsa => "ECDSA",
            Self::Ed25519 => "Ed25519",
            Self::Rsa => "RSA",
        }
    }
}

#[derive(Clone, Debug)]
struct Staple {
    certified: Arc<CertifiedKey>,
    good: ocsp::Good,
}

/// Reads a certificate's files and checks that they are of use at `now`.
///
/// An expired certificate is refused, so that one that still holds is not replaced by it; an expired
/// OCSP response is not, because it is not sent.
pub fn load(certificate: &Certificate, now: UnixTime) -> Result<Loaded, CertificateFault> {
    let loaded = read(certificate, now)?;
    loaded
        .holds(now)
        .map_err(|wrong| Fault::file(&certificate.chain, wrong))?;
    Ok(loaded)
}

/// The same, but takes a certificate that has expired or is not valid yet: where there is none to keep
/// it is better than nothing, since it cannot be known whom it would harm.
pub fn read(certificate: &Certificate, now: UnixTime) -> Result<Loaded, CertificateFault> {
    let file = &certificate.chain;
    let chain = files::chain(file)?;
    let parsed = parse(file, &chain)?;
    let leaf = parsed.first().expect("files::chain gives at least one");

    let mut warnings = order_warnings(file, &parsed, now);
    let names = names(file, leaf, &mut warnings);
    let certified = certify(certificate, chain.clone())?;
    let staple = match &certificate.ocsp {
        Some(response) => staple(response, &parsed, &certified, now, &mut warnings)?,
        None => None,
    };
    Ok(Loaded {
        kind: key_kind(&certified).map_err(|detail| key_fault(certificate, detail))?,
        certified: Arc::new(certified),
        staple,
        file: Arc::from(file.as_path()),
        names,
        not_before: seconds(leaf.validity().not_before.timestamp()),
        not_after: seconds(leaf.validity().not_after.timestamp()),
        warnings,
    })
}

impl Loaded {
    /// What to show at `now`: with the OCSP response while that holds.
    pub fn at(&self, now: UnixTime) -> &Arc<CertifiedKey> {
        match &self.staple {
            Some(staple) if staple.good.holds(now) => &staple.certified,
            _ => &self.certified,
        }
    }

    /// What metrics call it: its first name, or its file where it has none.
    pub fn title(&self) -> Arc<str> {
        match self.names.first() {
            Some(name) => name.to_string().into(),
            None => self.file.to_string_lossy().into(),
        }
    }

    /// The file of the chain.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether it is valid at `now`.
    pub fn holds(&self, now: UnixTime) -> Result<(), Wrong> {
        if now.as_secs() > self.not_after {
            let since = date(self.not_after);
            Err(Wrong::Expired { since })
        } else if now.as_secs() < self.not_before {
            let from = date(self.not_before);
            Err(Wrong::NotYetValid { from })
        } else {
            Ok(())
        }
    }
}

/// Seconds since 1970 as an operator reads them.
pub(super) fn date(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok();
    let time = time.and_then(|seconds| ASN1Time::from_timestamp(seconds).ok());
    time.map_or_else(|| seconds.to_string(), |time| time.to_string())
}

impl ocsp::Good {
    fn holds(self, now: UnixTime) -> bool {
        self.from <= now.as_secs() && self.until.is_none_or(|until| now.as_secs() < until)
    }
}

/// All certificates of the chain, in the file's order; at least one.
fn parse<'a>(
    file: &Path,
    chain: &'a [CertificateDer<'_>],
) -> Result<Vec<X509Certificate<'a>>, Fault> {
    let parse_one = |(at, der): (usize, &'a CertificateDer<'_>)| {
        let fault = |detail: String| {
            let number = at + 1;
            Fault::file(file, Wrong::Certificate { number, detail })
        };
        match X509Certificate::from_der(der) {
            Ok(([], certificate)) => Ok(certificate),
            Ok(_) => Err(fault("bytes follow it".to_owned())),
            Err(error) => Err(fault(error.to_string())),
        }
    };
    chain.iter().enumerate().map(parse_one).collect()
}

/// Many clients mend a chain by themselves, so what is wrong above the first certificate is worth a
/// word but no refusal. Some chains end in an expired certificate on purpose, for old clients.
fn order_warnings(file: &Path, chain: &[X509Certificate<'_>], now: UnixTime) -> Vec<String> {
    let mut warnings = Vec::new();
    for (at, pair) in chain.windows(2).enumerate() {
        let [certificate, above] = pair else {
            continue;
        };
        let (number, next) = (at + 1, at + 2);
        if !vouches(above, certificate) {
            warnings.push(format!(
                "{}: certificate {next} does not vouch for certificate {number}, expected each to be \
                 followed by its issuer's",
                file.display()
            ));
        }
        if now.as_secs() > seconds(above.validity().not_after.timestamp()) {
            warnings.push(format!(
                "{}: certificate {next} expired on {}",
                file.display(),
                above.validity().not_after
            ));
        }
    }
    warnings
}

fn vouches(above: &X509Certificate<'_>, certificate: &X509Certificate<'_>) -> bool {
    let signed = match certificate.verify_signature(Some(above.public_key())) {
        // The names must do where the algorithm is not known to the parser.
        Ok(()) | Err(X509Error::SignatureUnsupportedAlgorithm) => true,
        Err(_) => false,
    };
    signed && certificate.issuer().as_raw() == above.subject().as_raw()
}

fn names(file: &Path, leaf: &X509Certificate<'_>, warnings: &mut Vec<String>) -> Vec<NamePattern> {
    let file = file.display();
    let said = peer::said(leaf);
    if said.common {
        warnings.push(format!(
            "{file}: no alternative names, so the common name is taken; clients refuse that"
        ));
    }
    let mut names = Vec::new();
    for name in said.names {
        match NamePattern::parse(name) {
            // A certificate's pattern stands for one label (RFC 6125 §6.4.3).
            Some(pattern @ (NamePattern::Exact(_) | NamePattern::OneLabel(_))) => {
                if !names.contains(&pattern) {
                    names.push(pattern);
                }
            }
            _ => warnings.push(format!(
                "{file}: {name:?} is no host name and is never matched"
            )),
        }
    }
    if names.is_empty() {
        warnings.push(format!(
            "{file}: no host name, so it is shown only as the default certificate"
        ));
    }
    names
}

fn certify(
    certificate: &Certificate,
    chain: Vec<CertificateDer<'static>>,
) -> Result<CertifiedKey, Fault> {
    let key = provider()
        .key_provider
        .load_private_key(files::key(&certificate.key)?)
        .map_err(|error| key_fault(certificate, error.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            let chain = certificate.chain.clone();
            Err(Fault::file(&certificate.key, Wrong::KeyOfAnother { chain }))
        }
        Err(error) => Err(Fault::file(
            &certificate.chain,
            Wrong::Certificate {
                number: 1,
                detail: error.to_string(),
            },
        )),
    }
}

fn key_kind(certified: &CertifiedKey) -> Result<KeyKind, String> {
    match certified.key.algorithm() {
        SignatureAlgorithm::ECDSA => Ok(KeyKind::Ecdsa),
        SignatureAlgorithm::ED25519 => Ok(KeyKind::Ed25519),
        SignatureAlgorithm::RSA => Ok(KeyKind::Rsa),
        other => Err(format!("{other:?}")),
    }
}

fn key_fault(certificate: &Certificate, detail: String) -> Fault {
    Fault::file(&certificate.key, Wrong::Key(detail))
}

fn staple(
    file: &Path,
    chain: &[X509Certificate<'_>],
    certified: &CertifiedKey,
    now: UnixTime,
    warnings: &mut Vec<String>,
) -> Result<Option<Staple>, Fault> {
    let response = files::small(file)?;
    let subject = ocsp::Subject {
        certificate: chain.first().expect("files::chain gives at least one"),
        issuer: chain.get(1),
    };
    let good = match ocsp::read(&response, &subject) {
        Ok(good) => good,
        // A certificate is renewed before there is a response for it, and must not wait for that.
        Err(OcspWrong::OfAnother) => {
            warnings.push(format!(
                "{}: the OCSP response is for another certificate than the chain's first and is not sent",
                file.display()
            ));
            return Ok(None);
        }
        Err(wrong) => return Err(Fault::file(file, Wrong::Ocsp(wrong))),
    };
    if !good.holds(now) {
        warnings.push(format!(
            "{}: the OCSP response is out of date and is not sent",
            file.display()
        ));
    }
    let certified = CertifiedKey {
        ocsp: Some(response.to_vec()),
        ..certified.clone()
    };
    Ok(Some(Staple {
        certified: Arc::new(certified),
        good,
    }))
}

/// Seconds since 1970; what was before counts as 1970.
fn seconds(timestamp: i64) -> u64 {
    u64::try_from(timestamp).unwrap_or(0)
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ecdsa => "ECDSA",
            Self::Ed25519 => "Ed25519",
            Self::Rsa => "RSA",
        })
    }
}
