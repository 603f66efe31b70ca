//! What changes between two models, in words.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use toml::Value;

use super::model::{Backend, Listener, Model, Pool, Route};
use super::settings::{self, Setting};

/// What a reload from `old` to `new` would change, one line each; empty: nothing.
pub fn diff(old: &Model, new: &Model) -> Vec<String> {
    let mut lines = Vec::new();
    let (before, after) = (settings::global(&old.global), settings::global(&new.global));
    for line in changes("", &before, &after) {
        let needs_restart = ["workers", "pin", "driver"]
            .iter()
            .any(|key| line.starts_with(&format!("{key} ")));
        let note = if needs_restart {
            " (needs a restart)"
        } else {
            ""
        };
        lines.push(format!("global.{line}{note}"));
    }
    lines.extend(changes(
        "admin.",
        &settings::admin(&old.admin),
        &settings::admin(&new.admin),
    ));
    lines.extend(changes(
        "log.",
        &settings::log(&old.log),
        &settings::log(&new.log),
    ));
    listeners(&old.listeners, &new.listeners, &mut lines);
    pools(&old.pools, &new.pools, &mut lines);
    lines
}

fn listeners(old: &[Listener], new: &[Listener], lines: &mut Vec<String>) {
    let what = |listener: &Listener| format!("listener \"{}\"", listener.name);
    let pairs = Pairs::new(old, new, |listener| &listener.name);
    lines.extend(
        pairs
            .removed
            .iter()
            .map(|gone| format!("{} removed", what(gone))),
    );
    for (before, after) in pairs.kept {
        let prefix = format!("{}: ", what(after));
        lines.extend(changes(
            &prefix,
            &settings::listener(before),
            &settings::listener(after),
        ));
        let (before, after) = (settings::routes_of(before), settings::routes_of(after));
        routes(&prefix, before, after, lines);
    }
    lines.extend(
        pairs
            .added
            .iter()
            .map(|added| format!("{} added", what(added))),
    );
}

fn routes(listener: &str, old: &[Route], new: &[Route], lines: &mut Vec<String>) {
    let what = |route: &Route| format!("{listener}route \"{}\"", route.name);
    let pairs = Pairs::new(old, new, |route| &route.name);
    lines.extend(
        pairs
            .removed
            .iter()
            .map(|gone| format!("{} removed", what(gone))),
    );
    for (before, after) in &pairs.kept {
        let before = settings::route(before);
        lines.extend(changes(
            &format!("{}: ", what(after)),
            &before,
            &settings::route(after),
        ));
    }
    lines.extend(
        pairs
            .added
            .iter()
            .map(|added| format!("{} added", what(added))),
    );
    // Of several routes for one name the first is taken.
    if pairs.is_reordered {
        lines.push(format!("{listener}routes come in another order"));
    }
}

fn pools(old: &[Pool], new: &[Pool], lines: &mut Vec<String>) {
    let pairs = Pairs::new(old, new, |pool| &pool.name);
    lines.extend(
        pairs
            .removed
            .iter()
            .map(|gone| format!("pool \"{}\" removed", gone.name)),
    );
    for (before, after) in pairs.kept {
        let prefix = format!("pool \"{}\": ", after.name);
        lines.extend(changes(
            &prefix,
            &settings::pool(before),
            &settings::pool(after),
        ));
        backends(&prefix, &before.backends, &after.backends, lines);
    }
    lines.extend(
        pairs
            .added
            .iter()
            .map(|added| format!("pool \"{}\" added", added.name)),
    );
}

fn backends(pool: &str, old: &[Backend], new: &[Backend], lines: &mut Vec<String>) {
    let what = |backend: &Backend| format!("{pool}backend \"{}\"", backend.name);
    let pairs = Pairs::new(old, new, |backend| &backend.name);
    lines.extend(
        pairs
            .removed
            .iter()
            .map(|gone| format!("{} removed", what(gone))),
    );
    for (before, after) in &pairs.kept {
        let before = settings::backend(before);
        lines.extend(changes(
            &format!("{}: ", what(after)),
            &before,
            &settings::backend(after),
        ));
    }
    lines.extend(
        pairs
            .added
            .iter()
            .map(|added| format!("{} added", what(added))),
    );
    if pairs.is_reordered {
        lines.push(format!("{pool}backends come in another order"));
    }
}

/// The elements of two lists, matched by name.
struct Pairs<'m, T> {
    removed: Vec<&'m T>,
    kept: Vec<(&'m T, &'m T)>,
    added: Vec<&'m T>,
    is_reordered: bool,
}

impl<'m, T> Pairs<'m, T> {
    fn new(old: &'m [T], new: &'m [T], name: impl Fn(&T) -> &Arc<str>) -> Self {
        let before: HashMap<_, _> = old
            .iter()
            .enumerate()
            .map(|(at, one)| (name(one), (at, one)))
            .collect();
        let mut pairs = Self {
            removed: Vec::new(),
            kept: Vec::new(),
            added: Vec::new(),
            is_reordered: false,
        };
        let mut last = None;
        for after in new {
            if let Some((at, before)) = before.get(name(after)) {
                pairs.is_reordered |= last > Some(*at);
                last = Some(*at);
                pairs.kept.push((before, after));
            } else {
                pairs.added.push(after);
            }
        }
        let after: HashSet<_> = new.iter().map(&name).collect();
        pairs.removed = old
            .iter()
            .filter(|one| !after.contains(name(one)))
            .collect();
        pairs
    }
}

/// A line for each key whose value differs; a key may also come or go.
fn changes(prefix: &str, old: &[Setting], new: &[Setting]) -> Vec<String> {
    let find = |settings: &[Setting], key: &str| -> Option<Value> {
        settings
            .iter()
            .find(|(name, _)| *name == key)
            .and_then(|(_, value)| value.clone())
    };
    let gone = old
        .iter()
        .filter(|(key, _)| !new.iter().any(|(name, _)| name == key));
    let mut lines = Vec::new();
    for (key, _) in new.iter().chain(gone) {
        let (before, after) = (find(old, key), find(new, key));
        if before != after {
            lines.push(format!("{prefix}{key} {} -> {}", show(before), show(after)));
        }
    }
    lines
}

fn show(value: Option<Value>) -> String {
    match value {
        None => "(not set)".to_owned(),
        // Control characters in a path must not break the line.
        Some(Value::String(text)) if !text.contains(char::is_control) => text,
        Some(other) => other.to_string().replace('\n', "\\n"),
    }
}
