//! Why the routes before the one that takes a client do not take it.

use std::collections::HashSet;
use std::ptr;

use super::shown::{Skipped, Speaks, Why};
use crate::base::name::NamePattern;
use crate::config::model::ACME_TLS;
use crate::snapshot::routes::{Asked, Entry, Mismatch, Routes};
use crate::sni::NameIndex;

/// Names and networks that are spelt out; of more, it is said how many.
const SPELT_OUT: usize = 3;

/// A client and the route that takes it.
pub(super) struct Search<'a> {
    pub(super) routes: &'a Routes,
    pub(super) asked: &'a Asked<'a>,
    pub(super) speaks: Speaks,
    pub(super) taken: Option<&'a Entry>,
}

impl Search<'_> {
    /// Those that take the name and were tried before, in that order; then those that stand before it in
    /// the file. Where no route takes the client, all.
    pub(super) fn skipped(&self) -> Vec<Skipped> {
        let mut seen = HashSet::new();
        let candidates: Vec<&Entry> = match self.speaks {
            Speaks::Plain => self.routes.plain_candidates().collect(),
            Speaks::Tls | Speaks::Unknown => self.routes.candidates(self.asked).collect(),
        };
        let mut distinct = candidates.clone();
        distinct.retain(|entry| seen.insert(ptr::from_ref::<Entry>(entry)));
        let is_taken = |entry: &Entry| self.taken.is_some_and(|taken| ptr::eq(taken, entry));
        let mut skipped = Vec::new();
        let mut tried = HashSet::new();
        for entry in distinct.into_iter().take_while(|entry| !is_taken(entry)) {
            if let Some(mismatch) = entry.mismatch(self.asked) {
                tried.insert(ptr::from_ref(entry));
                skipped.push(self.mismatched(entry, mismatch));
            }
        }
        let before = self.routes.entries().iter();
        for entry in before.take_while(|entry| !is_taken(entry)) {
            let entry_at = ptr::from_ref(entry);
            if tried.contains(&entry_at) {
                continue;
            }
            skipped.push(match (seen.contains(&entry_at), self.taken) {
                (true, Some(taken)) => self.worse(entry, taken),
                _ => skip(entry, Why::Names, format!("it takes {}", takes(entry))),
            });
        }
        skipped
    }

    fn mismatched(&self, entry: &Entry, mismatch: Mismatch) -> Skipped {
        let route = &entry.route;
        match mismatch {
            Mismatch::Alpn => {
                let detail = format!("the client offers none of {}", few(&route.alpn));
                skip(entry, Why::Alpn, detail)
            }
            Mismatch::Client => {
                let networks = few(&route.client);
                let detail = match self.asked.source {
                    Some(source) => format!("{source} is not in {networks}"),
                    None => format!("the client has to come from {networks}: no --src was given"),
                };
                skip(entry, Why::Client, detail)
            }
            Mismatch::Ja4 => {
                let prints = few(&route.ja4);
                let detail = match &self.asked.ja4 {
                    Some(ja4) => format!("the fingerprint {ja4} is not {prints}"),
                    None => format!("the fingerprint has to be {prints}: no --ja4 was given"),
                };
                skip(entry, Why::Ja4, detail)
            }
        }
    }

    /// A route that takes the name, but less well than the one that has it.
    fn worse(&self, entry: &Entry, taken: &Entry) -> Skipped {
        let checks = |entry: &Entry| entry.route.alpn.iter().any(|one| **one == *ACME_TLS);
        let is_check = self
            .asked
            .alpn
            .iter()
            .any(|one| **one == *ACME_TLS.as_bytes());
        let name = &taken.route.name;
        let detail = if is_check && checks(taken) && !checks(entry) {
            format!("\"{name}\" names {ACME_TLS}, which comes before any name")
        } else {
            format!(
                "it takes the client by {}; \"{name}\" does by {}, which is better",
                self.by(entry),
                self.by(taken)
            )
        };
        skip(entry, Why::Better, detail)
    }

    /// What of a route takes the client: a pattern, or the key of a kind of clients.
    pub(super) fn by(&self, entry: &Entry) -> String {
        let names = &entry.route.names;
        if self.speaks == Speaks::Plain {
            return "plain".to_owned();
        }
        let Some(name) = &self.asked.name else {
            let key = if names.no_sni { "no_sni" } else { "default" };
            return key.to_owned();
        };
        let patterns = names.sni.iter().map(|one| (one.clone(), one.clone()));
        let patterns: NameIndex<NamePattern> = patterns.collect();
        let best = patterns.lookup(name);
        best.map_or_else(|| "default".to_owned(), ToString::to_string)
    }
}

fn skip(entry: &Entry, why: Why, detail: String) -> Skipped {
    Skipped {
        name: entry.route.name.to_string(),
        place: entry.route.place.to_string(),
        why,
        detail,
    }
}

/// Which clients a route takes, whatever else it demands.
fn takes(entry: &Entry) -> String {
    let names = &entry.route.names;
    let mut kinds = Vec::new();
    if !names.sni.is_empty() {
        kinds.push(few(&names.sni));
    }
    for (has, kind) in [
        (names.no_sni, "TLS without a name"),
        (names.default, "TLS with other names"),
        (names.plain, "what is not TLS"),
    ] {
        if has {
            kinds.push(kind.to_owned());
        }
    }
    kinds.join(", ")
}

fn few(values: &[impl ToString]) -> String {
    let shown: Vec<String> = values
        .iter()
        .take(SPELT_OUT)
        .map(ToString::to_string)
        .collect();
    let shown = shown.join(", ");
    match values.len().checked_sub(SPELT_OUT) {
        Some(more) if more > 0 => format!("{shown} and {more} more"),
        _ => shown,
    }
}
