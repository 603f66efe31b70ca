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
    &["backend"],
    &["balance"],
    &["snapshot"],
    &["forward"],
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
    "base/random.rs",
    "base/reason.rs",
    "config/validate",
    "io/wheel.rs",
];

/// Which modules may name a runtime; a worker must never meet the control plane's.
const RUNTIMES: &[(&str, &[&str])] = &[
    ("monoio", &["forward", "io", "worker"]),
    ("tokio", &["cli", "control"]),
];

const IMPURE_NAMES: &[&str] = &[
    "monoio::",
    "std::net::Tcp",
    "Instant::now",
    ".await",
    "async fn",
];

#[test]
fn modules_name_only_lower_layers() {
    let faults: Vec<String> = sources()
        .iter()
        .filter_map(|source| Some((source, source.module()?)))
        .flat_map(|(source, from)| {
            let named = named_modules(&source.code).into_iter();
            named.filter_map(move |to| import_fault(source, from, &to))
        })
        .collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn deciding_files_do_not_act() {
    let mut faults = Vec::new();
    for source in sources() {
        if PURE.iter().any(|pure| source.path.starts_with(pure)) {
            let named = IMPURE_NAMES
                .iter()
                .filter(|name| source.code.contains(**name));
            faults
                .extend(named.map(|name| format!("src/{}: pure, yet names `{name}`", source.path)));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn runtimes_stay_in_their_planes() {
    let mut faults = Vec::new();
    for source in sources() {
        for (runtime, users) in RUNTIMES {
            let named = source.code.contains(&format!("{runtime}::"));
            if named
                && !source
                    .module()
                    .is_some_and(|module| users.contains(&module))
            {
                faults.push(format!("src/{}: may not name `{runtime}`", source.path));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
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
    /// Without comment lines, so that prose may mention any module.
    code: String,
}

impl Source {
    /// `worker/session.rs` belongs to `worker`; the crate roots belong to nothing.
    fn module(&self) -> Option<&str> {
        let first = self.path.split('/').next()?;
        let name = first.strip_suffix(".rs").unwrap_or(first);
        (!matches!(name, "main" | "lib" | "manual")).then_some(name)
    }
}

/// First segments of `crate::a::b` and of every branch of `crate::{a, b::{c, d}}`.
fn named_modules(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, prefix) in code.match_indices("crate::") {
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
    let source = |file: PathBuf| Source {
        path: file
            .strip_prefix(&root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned(),
        code: without_comment_lines(&fs::read_to_string(&file).unwrap()),
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
