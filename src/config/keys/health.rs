//! The keys of `[pool.NAME.health]`.

use super::Kind::{self, Choice, Number, OneOrList, Table};
use super::Preset::{self, Unset};
use super::{POSITIVE, Section, key};
use crate::config::choices;
use crate::config::text;

/// Results in a row that change a backend's state.
const STREAK_MAX: u32 = 1_000;

pub(super) static HEALTH: Section = Section {
    title: "[pool.NAME.health]",
    doc: "How the backends of the pool are probed.",
    one_of: &[],
    later: &[],
    keys: &[
        key(
            "type",
            Choice(&choices::PROBE_WORDS, &[]),
            Preset::Text("tcp"),
            "What a probe does: connect, shake hands, ask by HTTP, or send and expect bytes.",
        ),
        key(
            "interval",
            POSITIVE,
            Preset::Text("5s"),
            "From one probe of a backend to the next, give or take 10 %.",
        ),
        key(
            "timeout",
            POSITIVE,
            Preset::Text("2s"),
            "For a whole probe.",
        ),
        key(
            "rise",
            Number(1, STREAK_MAX),
            Preset::Number(2),
            "Good probes in a row that bring a backend up.",
        ),
        key(
            "fall",
            Number(1, STREAK_MAX),
            Preset::Number(3),
            "Bad probes in a row that take a backend down.",
        ),
        key(
            "port",
            Number(1, 65_535),
            Unset,
            "The port that is probed; the backend's own if left out.",
        ),
        key(
            "address",
            Kind::Text(&text::IP),
            Unset,
            "The address that is probed; the backend's own if left out.",
        ),
        key(
            "initial",
            Choice(&choices::INITIAL_WORDS, &[]),
            Preset::Text("up"),
            "What a new backend is before its probes say more; \"check\": its first probe decides.",
        ),
        key("http", Table(&HTTP), Unset, "Only with type = \"http\"."),
        key(
            "exchange",
            Table(&EXCHANGE),
            Unset,
            "Only with type = \"exchange\".",
        ),
    ],
};

static HTTP: Section = Section {
    title: "[pool.NAME.health.http]",
    doc: "What is asked, and which answers are good.",
    one_of: &[],
    later: &[],
    keys: &[
        key(
            "method",
            Kind::Text(&text::METHOD),
            Preset::Text("GET"),
            "The method of the request.",
        ),
        key(
            "path",
            Kind::Text(&text::PATH),
            Preset::Text("/"),
            "What is asked for.",
        ),
        key(
            "host",
            Kind::Text(&text::HOST),
            Unset,
            "The host that is asked; the backend's own host name or address if left out.",
        ),
        key(
            "status",
            OneOrList(&Kind::Text(&text::STATUS)),
            Unset,
            "Good answers; \"200-399\" if left out.",
        ),
    ],
};

static EXCHANGE: Section = Section {
    title: "[pool.NAME.health.exchange]",
    doc: "What is sent, and what must come back.",
    one_of: &["expect", "expect_regex"],
    later: &[],
    keys: &[
        key(
            "send",
            Kind::Text(&text::BYTES),
            Unset,
            "Sent first, with escapes; nothing if left out.",
        ),
        key(
            "expect",
            Kind::Text(&text::EXPECTED_BYTES),
            Unset,
            "What the answer must begin with, with escapes.",
        ),
        key(
            "expect_regex",
            Kind::Text(&text::REGEX),
            Unset,
            "What must be found in the first 4 KiB of the answer.",
        ),
    ],
};
