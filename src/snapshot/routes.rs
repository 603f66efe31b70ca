//! From what a client said first to the route that takes it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Pool;
use crate::config::model::{self, ACME_TLS, Route, StartTls};
use crate::limits::guard::Guard;
use crate::sni::{ClientHello, NameIndex, ja4};

/// The routes of a listener.
pub struct Routes {
    /// As configured.
    entries: Vec<Entry>,
    by_name: NameIndex<u32>,
    /// Those for hellos without a name, for names that no other has, and for what is not TLS.
    no_sni: Vec<u32>,
    default: Vec<u32>,
    plain: Vec<u32>,
    /// Whether a route looks at fingerprints, which take a microsecond.
    wants_ja4: bool,
    /// A client silent for so long is plain.
    pub silent_after: Option<Duration>,
    /// The largest ClientHello, bytes.
    pub sniff_max: usize,
    /// What comes before the ClientHello.
    pub starttls: Option<StartTls>,
}

/// A route and where it leads.
pub struct Entry {
    /// As configured.
    pub route: Route,
    /// `None`: it refuses.
    pub pool: Option<Arc<Pool>>,
    /// What it asks of its clients beyond what its listener asks; `None`: nothing.
    pub guard: Option<Box<Guard>>,
}

/// What a client asks for.
#[derive(Clone, Debug, Default)]
pub struct Asked<'a> {
    /// The server's name, in lower case and without a trailing dot.
    pub name: Option<Cow<'a, str>>,
    /// The application protocols, the preferred one first.
    pub alpn: Vec<Cow<'a, [u8]>>,
    /// The fingerprint, where somebody looks at it.
    pub ja4: Option<String>,
    /// Where it comes from; `None`: through a unix socket.
    pub source: Option<IpAddr>,
}

/// Why a route that takes a client's name does not take the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// None of the application protocols is offered.
    Alpn,
    /// The client comes from elsewhere.
    Client,
    /// The fingerprint is another.
    Ja4,
}

impl Routes {
    /// Indexes `entries`, of which there are fewer than 2^32.
    pub(super) fn new(entries: Vec<Entry>, model: &model::Routes) -> Self {
        let numbered = || (0_u32..).zip(&entries);
        let those = |takes: fn(&Route) -> bool| {
            let taken = numbered().filter(|(_, entry)| takes(&entry.route));
            taken.map(|(number, _)| number).collect()
        };
        let by_name = numbered().flat_map(|(number, entry)| {
            let patterns = entry.route.names.sni.iter().cloned();
            patterns.map(move |pattern| (pattern, number))
        });
        Self {
            by_name: by_name.collect(),
            no_sni: those(|route| route.names.no_sni),
            default: those(|route| route.names.default),
            plain: those(|route| route.names.plain),
            wants_ja4: entries.iter().any(|entry| !entry.route.ja4.is_empty()),
            silent_after: model.silent_after,
            sniff_max: model.sniff_max,
            starttls: model.starttls,
            entries,
        }
    }

    /// Every route, in the file's order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What a client with this hello asks for, as far as a route could want to know.
    pub fn asked<'a>(&self, hello: &'a ClientHello<'_>, source: Option<IpAddr>) -> Asked<'a> {
        Asked {
            name: hello.server_name().map(Cow::Borrowed),
            alpn: hello.alpn().map(Cow::Borrowed).collect(),
            ja4: self.wants_ja4.then(|| ja4(hello)),
            source,
        }
    }

    /// The routes that take the name asked for, the best first, whatever else they demand.
    ///
    /// An authority's check comes to a route that names its protocol before any other: what it checks
    /// is whether the name's owner answers to that protocol, and mostly somebody else does.
    pub fn candidates<'a>(&'a self, asked: &Asked<'_>) -> impl Iterator<Item = &'a Entry> {
        let named = asked.name.as_deref().into_iter();
        let named = named.flat_map(|name| self.by_name.lookup_all(name).copied());
        let unnamed: &[u32] = match asked.name {
            Some(_) => &[],
            None => &self.no_sni,
        };
        let mut found: Vec<u32> = named
            .chain(unnamed.iter().copied())
            .chain(self.default.iter().copied())
            .collect();
        if asked.alpn.iter().any(|one| **one == *ACME_TLS.as_bytes()) {
            let checks = |number: &u32| {
                let entry = self.entries.get(*number as usize);
                entry.is_some_and(|entry| entry.route.alpn.iter().any(|it| **it == *ACME_TLS))
            };
            found.sort_by_key(|number| !checks(number));
        }
        let entries = found.into_iter();
        entries.filter_map(|number| self.entries.get(number as usize))
    }

    /// The route for a client that speaks TLS.
    pub fn for_hello(&self, asked: &Asked<'_>) -> Option<&Entry> {
        let mut candidates = self.candidates(asked);
        candidates.find(|entry| entry.mismatch(asked).is_none())
    }

    /// The route for a client that does not speak TLS.
    pub fn for_plain(&self, source: Option<IpAddr>) -> Option<&Entry> {
        let asked = Asked {
            source,
            ..Asked::default()
        };
        let mut candidates = self.plain_candidates();
        candidates.find(|entry| entry.mismatch(&asked).is_none())
    }

    /// The routes that take what is not TLS, the best first, whatever else they demand.
    pub fn plain_candidates(&self) -> impl Iterator<Item = &Entry> {
        let plain = self.plain.iter();
        plain.filter_map(|number| self.entries.get(*number as usize))
    }
}

impl Entry {
    /// Why it does not take the client, of whatever name; `None`: it does.
    pub fn mismatch(&self, asked: &Asked<'_>) -> Option<Mismatch> {
        let Route {
            alpn, client, ja4, ..
        } = &self.route;
        let offered = |wanted: &Arc<str>| asked.alpn.iter().any(|it| **it == *wanted.as_bytes());
        if !alpn.is_empty() && !alpn.iter().any(offered) {
            return Some(Mismatch::Alpn);
        }
        let source = asked.source.map(|source| source.to_canonical());
        let within = source.is_some_and(|source| client.iter().any(|net| net.contains(&source)));
        if !client.is_empty() && !within {
            return Some(Mismatch::Client);
        }
        let known = |one: &Arc<str>| asked.ja4.as_deref() == Some(one);
        if !ja4.is_empty() && !ja4.iter().any(known) {
            return Some(Mismatch::Ja4);
        }
        None
    }
}
