//! Which certificate a client is shown: by the name it asks for, then by the signatures it knows.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::SignatureScheme;
use rustls::pki_types::UnixTime;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;

use super::certificates::Loaded;
use crate::base::name::NamePattern;

/// A listener's certificates.
///
/// They are replaced as a whole by the control plane, without touching the settings that refer to the
/// index: the pointer is written there and read by workers, once for each handshake, and a reader that
/// still holds the table before goes on with that.
pub struct CertificateIndex {
    table: ArcSwap<Table>,
    clock: Arc<dyn TimeProvider>,
}

/// Certificates by name.
struct Table {
    certificates: Vec<Loaded>,
    names: Names,
    /// What is shown where no name fits; empty: nothing is.
    defaults: Vec<usize>,
}

/// Places of certificates by name. Certificates carry no `**.` names, so that one look-up by the whole
/// name and one by what follows its first dot are enough.
#[derive(Default)]
struct Names {
    exact: HashMap<Arc<str>, Vec<usize>>,
    one_label: HashMap<Arc<str>, Vec<usize>>,
}

impl CertificateIndex {
    /// An index of `certificates`. The one at the place `default` is shown where no name fits; `None`:
    /// such clients are to be refused.
    pub fn new(
        certificates: Vec<Loaded>,
        default: Option<usize>,
        clock: Arc<dyn TimeProvider>,
    ) -> Self {
        Self {
            table: ArcSwap::from_pointee(Table::new(certificates, default)),
            clock,
        }
    }

    /// Shows other certificates from the next handshake on.
    pub fn replace(&self, certificates: Vec<Loaded>, default: Option<usize>) {
        self.table
            .store(Arc::new(Table::new(certificates, default)));
    }

    /// Whether a client that asks for `name` is shown a certificate.
    ///
    /// A [`Session`](super::seam::Session) refuses the others by itself, with the alert
    /// `unrecognized_name`. Whoever has read the name already saves the session by asking here, and
    /// sends [`seam::UNRECOGNIZED_NAME`](super::seam::UNRECOGNIZED_NAME).
    pub fn knows(&self, name: Option<&str>) -> bool {
        !self.table.load().candidates(name).is_empty()
    }

    /// What clients that ask for `name` are shown, the preferred one first: each the first of them that
    /// it can check the signature of. Empty: they are refused.
    pub fn shown(&self, name: Option<&str>) -> Vec<Loaded> {
        let table = self.table.load();
        let shown = table.candidates(name).iter();
        shown
            .filter_map(|at| table.certificates.get(*at).cloned())
            .collect()
    }

    /// What a client that asks for `name` and names these signature algorithms is shown.
    pub fn shown_to(&self, name: Option<&str>, algorithms: &[u16]) -> Option<Loaded> {
        let schemes = algorithms.iter().map(|&number| number.into());
        let schemes: Vec<SignatureScheme> = schemes.collect();
        self.table.load().choose(name, &schemes).cloned()
    }

    /// What is shown now, for the metrics.
    pub fn certificates(&self) -> Vec<Loaded> {
        self.table.load().certificates.clone()
    }

    /// The time by which this index and the settings that refer to it go.
    pub(super) fn clock(&self) -> &Arc<dyn TimeProvider> {
        &self.clock
    }

    pub(super) fn choose(
        &self,
        name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        // Without a time nothing is known to be fresh: no OCSP response is sent at the epoch.
        let now = self.clock.current_time();
        let now = now.unwrap_or_else(|| UnixTime::since_unix_epoch(Duration::ZERO));
        let table = self.table.load();
        Some(table.choose(name, schemes)?.at(now).clone())
    }
}

impl ResolvesServerCert for CertificateIndex {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(client_hello.server_name(), client_hello.signature_schemes())
    }
}

impl fmt::Debug for CertificateIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateIndex").finish_non_exhaustive()
    }
}

impl Table {
    fn new(certificates: Vec<Loaded>, default: Option<usize>) -> Self {
        let mut preferred: Vec<usize> = (0..certificates.len()).collect();
        // Stable: of two of one kind the first in the file's order stays first.
        preferred.sort_by_key(|&at| certificates[at].kind);

        let mut names = Names::default();
        for &at in &preferred {
            for name in &certificates[at].names {
                names.insert(name, at);
            }
        }
        let defaults = match default.and_then(|at| certificates.get(at)) {
            // The default's twin of another kind serves the clients that cannot use the default.
            Some(default) => {
                let twin = |&at: &usize| certificates[at].names == default.names;
                preferred.into_iter().filter(twin).collect()
            }
            None => Vec::new(),
        };
        Self {
            certificates,
            names,
            defaults,
        }
    }

    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<&Loaded> {
        let candidates = self.candidates(name);
        let usable = |at: &&usize| {
            let key = &self.certificates[**at].certified.key;
            key.choose_scheme(schemes).is_some()
        };
        // If the client can use none of them, rustls says so with the alert that is due.
        let chosen = match candidates {
            [only] => only,
            several => several.iter().find(usable).or_else(|| several.first())?,
        };
        Some(&self.certificates[*chosen])
    }

    fn candidates(&self, name: Option<&str>) -> &[usize] {
        match name.and_then(|name| self.names.find(name)) {
            Some(found) => found,
            None => &self.defaults,
        }
    }
}

impl Names {
    fn insert(&mut self, name: &NamePattern, at: usize) {
        let (map, name) = match name {
            NamePattern::Exact(name) => (&mut self.exact, name),
            NamePattern::OneLabel(suffix) => (&mut self.one_label, suffix),
            NamePattern::AnyDepth(_) => return,
        };
        map.entry(name.clone()).or_default().push(at);
    }

    /// The exact name wins; case and a trailing dot do not count.
    fn find(&self, name: &str) -> Option<&[usize]> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let name = match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(name.to_ascii_lowercase()),
            false => Cow::Borrowed(name),
        };
        let by_label = || match name.split_once('.') {
            Some((label, suffix)) if !label.is_empty() => self.one_label.get(suffix),
            _ => None,
        };
        self.exact.get(&*name).or_else(by_label).map(Vec::as_slice)
    }
}
