//! What a certificate says about whom it was given to.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::base::name::{NamePattern, host_name};

/// Whether a client's certificate carries a name that one of `patterns` matches (`client_names`).
///
/// Its DNS names count; its common name only where it carries no alternative names at all. Patterns
/// in certificates stand for nobody in particular and never match.
pub fn client_names_match(certificate: &CertificateDer<'_>, patterns: &[NamePattern]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let mut names = said(&certificate).names.into_iter().filter_map(host_name);
    names.any(|name: Arc<str>| patterns.iter().any(|pattern| covers(pattern, &name)))
}

/// The common name of a certificate's subject, the last where there are several.
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    common_names(&certificate)
        .last()
        .map(|&name| name.to_owned())
}

/// The names a certificate gives for its subject.
pub(super) struct Said<'a> {
    /// Host names and patterns as they are written there.
    pub(super) names: Vec<&'a str>,
    /// Whether they are common names, for want of alternative names.
    pub(super) common: bool,
}

/// RFC 6125 §6.4.4: common names count only where there are no alternative names.
pub(super) fn said<'a>(certificate: &'a X509Certificate<'_>) -> Said<'a> {
    match certificate.subject_alternative_name() {
        Ok(None) => Said {
            names: common_names(certificate),
            common: true,
        },
        Ok(Some(extension)) => Said {
            names: extension
                .value
                .general_names
                .iter()
                .filter_map(dns_name)
                .collect(),
            common: false,
        },
        // Written twice or broken: it is not for us to choose what was meant.
        Err(_) => Said {
            names: Vec::new(),
            common: false,
        },
    }
}

fn dns_name<'a>(name: &'a GeneralName<'_>) -> Option<&'a str> {
    match name {
        GeneralName::DNSName(name) => Some(name),
        _ => None,
    }
}

fn common_names<'a>(certificate: &'a X509Certificate<'_>) -> Vec<&'a str> {
    let names = certificate.subject().iter_common_name();
    names.filter_map(|name| name.as_str().ok()).collect()
}

/// Whether `name`, in lower case and without a trailing dot, is one of the names that `pattern`
/// stands for.
fn covers(pattern: &NamePattern, name: &str) -> bool {
    let below = |suffix: &str| name.strip_suffix(suffix)?.strip_suffix('.');
    match pattern {
        NamePattern::Exact(exact) => **exact == *name,
        NamePattern::OneLabel(suffix) => below(suffix).is_some_and(|label| !label.contains('.')),
        NamePattern::AnyDepth(suffix) => below(suffix).is_some(),
    }
}
