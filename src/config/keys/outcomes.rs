//! The keys of `[pool.NAME.outliers]` and `[pool.NAME.breaker]`.

use super::Kind::{self, Number};
use super::Preset;
use super::limits::CONNECTIONS_MAX;
use super::{POSITIVE, Section, key};
use crate::config::text;

/// Failures and samples beyond this are never counted together.
const COUNT_MAX: u32 = 1_000_000;

pub(crate) static OUTLIERS: Section = Section {
    title: "[pool.NAME.outliers]",
    doc: "Which backends get no clients for a while because they fail them.",
    one_of: &[],
    later: &[],
    keys: &[
        key(
            "connect_failures",
            Number(0, COUNT_MAX),
            Preset::Number(5),
            "Failed connects in a row that eject a backend; 0: off.",
        ),
        key(
            "failure_rate",
            Kind::Text(&text::SHARE),
            Preset::Text("off"),
            "Share of a backend's new sessions that failed before its first byte that ejects it.",
        ),
        key(
            "window",
            POSITIVE,
            Preset::Text("30s"),
            "How long sessions count for `failure_rate`.",
        ),
        key(
            "min_samples",
            Number(1, COUNT_MAX),
            Preset::Number(20),
            "Sessions that it takes at the least.",
        ),
        key(
            "eject",
            POSITIVE,
            Preset::Text("30s"),
            "How long the first ejection is; each that follows soon is twice as long.",
        ),
        key(
            "eject_most",
            POSITIVE,
            Preset::Text("5m"),
            "The longest ejection.",
        ),
        key(
            "max_eject",
            Kind::Text(&text::PERCENT),
            Preset::Text("50%"),
            "Share of the pool's backends that may be ejected at a time; one of two or more may.",
        ),
    ],
};

pub(super) static BREAKER: Section = Section {
    title: "[pool.NAME.breaker]",
    doc: "Bounds of a pool, and a rest for one that fails.",
    one_of: &[],
    later: &[],
    keys: &[
        key(
            "max_connections",
            Number(0, CONNECTIONS_MAX),
            Preset::Number(0),
            "The most connections of the pool at a time; 0: any number.",
        ),
        key(
            "max_pending",
            Number(0, CONNECTIONS_MAX),
            Preset::Number(0),
            "The most connects under way at a time; 0: any number.",
        ),
        key(
            "failure_rate",
            Kind::Text(&text::SHARE),
            Preset::Text("50%"),
            "Share of the pool's connects that failed that opens it; \"off\": it never opens.",
        ),
        key(
            "window",
            POSITIVE,
            Preset::Text("10s"),
            "How long connects count for `failure_rate`.",
        ),
        key(
            "min_samples",
            Number(1, COUNT_MAX),
            Preset::Number(20),
            "Connects that it takes at the least.",
        ),
        key(
            "open",
            POSITIVE,
            Preset::Text("2s"),
            "How long it rejects all clients.",
        ),
        key(
            "probes",
            Number(1, COUNT_MAX),
            Preset::Number(5),
            "Connects that are let through then; if all succeed it closes.",
        ),
    ],
};
