//! The import rules of the architecture, checked against the source.
//!
//! A module may name only modules on an earlier line of `LAYERS`. A module without a layer is a
//! fault too, so the table cannot fall behind the tree.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};

const LAYERS: &[&[&str]] = &[
    &["base"],
    &["sys"],
    &["config"],
    &["log", "metrics", "io"],
    &["backend", "limits", "proxy_protocol", "sni"],
    &["balance", "tls"],
    &["snapshot"],
    &["forward", "health"],
    &["worker"],
    &["admin"],
    &["control"],
    &["process"],
    &["cli"],
];

/// Files that decide but never act: no runtime, no sockets, no clock.
const PURE: &[&str] = &[
    "backend/",
    "balance/",
    "base/address.rs",
    "base/name.rs",
    "base/random.rs",
    "base/reason.rs",
    "config/validate",
    "health/",
    "io/wheel.rs",
    "limits/bytes.rs",
    "limits/crowd.rs",
    "limits/guard.rs",
    "limits/networks.rs",
    "limits/overload.rs",
    "limits/sources.rs",
    "proxy_protocol/",
    "sni/",
];

/// Which modules may name a runtime; a worker must never meet the control plane's.
const RUNTIMES: &[(&str, &[&str])] = &[
    ("monoio", &["forward", "io", "worker"]),
    ("tokio", &["cli", "control"]),
];

const IMPURE_NAMES: &[&str] = &[
    "monoio",
    "tokio",
    "socket2",
    "rustix",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "std::fs",
    "clock::now",
    "now_coarse",
    "now(",
    ".await",
    "async fn",
];

/// What stands in `src` beside the modules with a layer.
const WITHOUT_LAYER: &[&str] = &["main", "lib", "manual"];

#[test]
fn the_source_keeps_the_rules() {
    let faults: Vec<String> = sources().iter().flat_map(faults).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn everything_in_the_source_has_a_layer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let names = fs::read_dir(root).unwrap().map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.strip_suffix(".rs").unwrap_or(&name).to_owned()
    });
    let faults: Vec<String> = names.filter_map(|name| place_fault(&name)).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn ways_around_the_rules_are_noticed() {
    for (path, code) in [
        ("balance/first.rs", "use crate::base::clock::now;"),
        (
            "balance/first.rs",
            "use crate::base::clock::{Instant, now}; fn f() { now(); }",
        ),
        ("balance/first.rs", "use std::net::{IpAddr, UdpSocket};"),
        ("balance/first.rs", "use std::os::unix::net::UnixStream;"),
        ("balance/first.rs", "use std::{fs, net::IpAddr};"),
        ("balance/first.rs", "use std::fs::read;"),
        ("balance/first.rs", "use socket2::Socket;"),
        ("balance/first.rs", "use rustix::io;"),
        ("forward/dial.rs", "use super::super::worker;"),
        ("forward/dial.rs", "use super::{super::worker};"),
        ("forward/mod.rs", "use super::worker;"),
        ("worker/accept.rs", "use tokio as t;"),
        ("worker/accept.rs", "use {tokio::net};"),
        ("forward/dial.rs", "use crate as c;"),
        ("forward/dial.rs", "use crate::{self as c};"),
        ("forward/dial.rs", "use {crate ::worker};"),
        ("forward/dial.rs", "use crate:: { base, worker };"),
    ] {
        let source = Source::new(path.to_owned(), code);
        assert!(!faults(&source).is_empty(), "{path}: {code}");
    }
    assert!(place_fault("sideways").is_some());
}

fn faults(source: &Source) -> Vec<String> {
    let (path, code) = (&source.path, &source.code);
    let mut faults = Vec::new();
    if let Some(from) = source.module() {
        let named = named_modules(source).into_iter();
        faults.extend(named.filter_map(|to| import_fault(source, from, &to)));
    }
    if names_word(code, "crate as") || code.contains("crate::{self") {
        faults.push(format!(
            "src/{path}: another name for the crate hides imports"
        ));
    }
    if code.contains("super::super") || code.contains("super::{super") {
        faults.push(format!(
            "src/{path}: name it from the crate instead of `super::super`"
        ));
    }
    if PURE.iter().any(|pure| path.starts_with(pure)) {
        let named = IMPURE_NAMES.iter().filter(|name| names_word(code, name));
        faults.extend(named.map(|name| format!("src/{path}: pure, yet names `{name}`")));
        if code.contains("std::{") {
            faults.push(format!(
                "src/{path}: pure, so what it takes from std stands in lines"
            ));
        }
    }
    for (runtime, users) in RUNTIMES {
        let may = source
            .module()
            .is_some_and(|module| users.contains(&module));
        if !may && names_word(code, runtime) {
            faults.push(format!("src/{path}: may not name `{runtime}`"));
        }
    }
    faults
}

fn place_fault(name: &str) -> Option<String> {
    let known = layer(name).is_some() || WITHOUT_LAYER.contains(&name);
    (!known).then(|| format!("src/{name}: give it a layer"))
}

/// Whether `name` stands in `code`, not as a part of longer words.
fn names_word(code: &str, name: &str) -> bool {
    let is_ident = |c: char| c.is_alphanumeric() || c == '_';
    let ends_inside = name.ends_with(is_ident);
    let starts_inside = name.starts_with(is_ident);
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].ends_with(is_ident);
        let after = code[at + name.len()..].starts_with(is_ident);
        !(before && starts_inside || after && ends_inside)
    })
}

#[test]
fn every_listed_file_exists() {
    let sources = sources();
    let known = |pure: &&&str| sources.iter().any(|source| source.path.starts_with(**pure));
    let gone: Vec<_> = PURE.iter().filter(|pure| !known(pure)).collect();
    assert!(gone.is_empty(), "listed as pure, but gone: {gone:?}");
}

fn import_fault(source: &Source, from: &str, to: &str) -> Option<String> {
    if from == to {
        return None;
    }
    let path = &source.path;
    match (layer(from), layer(to)) {
        (Some(upper), Some(lower)) if lower < upper => None,
        (Some(_), Some(_)) => Some(format!("src/{path}: `{from}` may not name `{to}`")),
        _ => Some(format!("src/{path}: give `{from}` and `{to}` a layer")),
    }
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

struct Source {
    /// Relative to `src`.
    path: String,
    /// Without comment lines, so that prose may mention any module, and with single spaces, none
    /// around `::` and `{`.
    code: String,
}

impl Source {
    fn new(path: String, text: &str) -> Self {
        let code = without_comment_lines(text);
        let mut code = code.split_whitespace().collect::<Vec<_>>().join(" ");
        for mark in ["::", "{"] {
            code = code
                .replace(&format!(" {mark}"), mark)
                .replace(&format!("{mark} "), mark);
        }
        Self { path, code }
    }

    /// `worker/session.rs` belongs to `worker`; the crate roots belong to nothing.
    fn module(&self) -> Option<&str> {
        let first = self.path.split('/').next()?;
        let name = first.strip_suffix(".rs").unwrap_or(first);
        (!WITHOUT_LAYER.contains(&name)).then_some(name)
    }
}

/// First segments of `crate::a::b` and of every branch of `crate::{a, b::{c, d}}`; in a module
/// directly below the crate, layers named through `super` as well.
fn named_modules(source: &Source) -> Vec<String> {
    let mut names = segments_after(&source.code, "crate::");
    if source.path.split('/').count() == 1 || source.path.split('/').nth(1) == Some("mod.rs") {
        let above = segments_after(&source.code, "super::").into_iter();
        names.extend(above.filter(|name| layer(name).is_some()));
    }
    names
}

fn segments_after(code: &str, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let path = &code[at + prefix.len()..];
        match path.strip_prefix('{') {
            Some(group) => names.extend(branches(group).iter().filter_map(|b| first_segment(b))),
            None => names.extend(first_segment(path)),
        }
    }
    names
}

/// `a, b::{c, d}} rest` splits into `a` and `b::{c, d}`.
fn branches(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

fn first_segment(path: &str) -> Option<String> {
    let is_ident = |c: &char| c.is_alphanumeric() || *c == '_';
    let name: String = path.trim_start().chars().take_while(is_ident).collect();
    name.starts_with(char::is_lowercase).then_some(name)
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let source = |file: PathBuf| {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap();
        Source::new(path.to_owned(), &fs::read_to_string(&file).unwrap())
    };
    rust_files(&root).into_iter().map(source).collect()
}

fn without_comment_lines(text: &str) -> String {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
