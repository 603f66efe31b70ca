//! What a reload costs before anything is put in force: from the file's text to a snapshot.

use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;

use ringlane::base::clock::Instant;
use ringlane::config::model::Model;
use ringlane::config::{Machine, parse};
use ringlane::limits::store::Lists;
use ringlane::metrics;
use ringlane::snapshot::{Answers, Made, Registries, Snapshot};
use ringlane::tls::live::Settings;

use super::{Case, seeded};

/// Fixed, so that defaults and warnings are the same on every machine.
const MACHINE: Machine = Machine {
    cores: 2,
    somaxconn: 4096,
    descriptors: 1 << 20,
    memory: 8 << 30,
};

/// What is in a configuration: listeners, and one pool for them all.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) listeners: usize,
    pub(super) backends: usize,
    pub(super) balance: &'static str,
}

const LARGE: Shape = Shape {
    listeners: 1,
    backends: 10_000,
    balance: "least_connections",
};

const LARGE_HASHED: Shape = Shape {
    balance: "source_hash",
    ..LARGE
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("config/check/10000", || check(LARGE)),
        Case::new("config/build/10000", || build(LARGE)),
        Case::new("config/build_source_hash/10000", || build(LARGE_HASHED)),
        Case::new("config/rebuild/10000", || rebuild(LARGE)),
    ]
}

/// Text to model, every fault looked for; and the model given back.
fn check(shape: Shape) -> impl FnMut() -> usize {
    let text = text(&shape);
    move || {
        let checked = parse("bench.toml", black_box(&text), &MACHINE);
        checked.map_or(0, |checked| checked.model.pools.len())
    }
}

/// Model to snapshot at the start, when no backend is known; and the snapshot given back.
fn build(shape: Shape) -> impl FnMut() -> usize {
    let model = Arc::new(model(&shape));
    let registries = registries();
    move || {
        let snapshot = snapshot(&registries, &model, 1);
        black_box(&snapshot).pools().len()
    }
}

/// Model to snapshot at a reload, when every backend is found by its id; and the snapshot given back.
fn rebuild(shape: Shape) -> impl FnMut() -> usize {
    let model = Arc::new(model(&shape));
    let mut registries = registries();
    let running = snapshot(&registries, &model, 1);
    registries.adopt(&running, Instant::from_millis(1));
    move || {
        let version = running.version + 1;
        let snapshot = snapshot(&registries, &model, version);
        black_box(&snapshot).pools().len()
    }
}

/// The checked configuration of this shape.
pub(super) fn model(shape: &Shape) -> Model {
    match parse("bench.toml", &text(shape), &MACHINE) {
        Ok(checked) => checked.model,
        Err(report) => unreachable!("the text has no fault: {}", report.render(false)),
    }
}

/// Registries that know nothing yet, for two workers.
pub(super) fn registries() -> Registries {
    Registries::new(Arc::new(metrics::Registry::new(MACHINE.cores)))
}

/// Of a model without names and files.
pub(super) fn snapshot(registries: &Registries, model: &Arc<Model>, version: u64) -> Snapshot {
    let made = Made {
        tls: &Settings::default(),
        lists: &Lists::new(),
    };
    registries.build(Arc::clone(model), &Answers::new(), made, version)
}

/// The file, every backend in the long form with a name and a weight of 1 to 4.
fn text(shape: &Shape) -> String {
    let mut random = seeded();
    let mut text = String::new();
    for number in 0..shape.listeners {
        line(&mut text, format_args!("[[listener]]"));
        line(&mut text, format_args!("name = \"listener-{number}\""));
        let port = 8_000 + number;
        line(&mut text, format_args!("listen = \"127.0.0.1:{port}\""));
        line(&mut text, format_args!("pool = \"web\"\n"));
    }
    line(&mut text, format_args!("[pool.web]"));
    line(&mut text, format_args!("balance = \"{}\"\n", shape.balance));
    for number in 0..shape.backends {
        let [.., high, low] = number.to_be_bytes();
        let weight = 1 + random.below(4);
        line(&mut text, format_args!("[[pool.web.backend]]"));
        line(&mut text, format_args!("name = \"backend-{number}\""));
        line(
            &mut text,
            format_args!("address = \"10.1.{high}.{low}:8080\""),
        );
        line(&mut text, format_args!("weight = {weight}\n"));
    }
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes any text");
}
