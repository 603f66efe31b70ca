//! The keys of `[pool.NAME]`.

use super::Kind::{self, Choice, List, Number, Table, Tables};
use super::Preset::{self, Empty, Required, Unset};
use super::health::HEALTH;
use super::outcomes::{BREAKER, OUTLIERS};
use super::proxy::SEND;
use super::tls::ENCRYPTION;
use super::{ANY, POSITIVE, Section, key};
use crate::base::limits::CONNECT_ATTEMPTS_MAX;
use crate::config::choices;
use crate::config::text;

pub(super) static POOL: Section = Section {
    title: "[pool.NAME]",
    doc: "Where connections go.",
    one_of: &["backends", "backend"],
    later: &[],
    keys: &[
        key(
            "balance",
            Choice(&choices::BALANCE_WORDS, &[]),
            Preset::Text("least_connections"),
            "How a backend is chosen.",
        ),
        key(
            "backends",
            List(&Kind::Text(&text::BACKEND)),
            Unset,
            "The addresses of the backends, the short form.",
        ),
        key(
            "backend",
            Tables(&BACKEND),
            Unset,
            "The backends, the long form.",
        ),
        key(
            "connect",
            Table(&CONNECT),
            Empty,
            "How connections to backends are made.",
        ),
        key(
            "slow_start",
            ANY,
            Preset::Text("0s"),
            "How long a backend that comes beside others takes to get its whole share; 0s: off.",
        ),
        key(
            "queue",
            Number(0, 65_535),
            Preset::Number(0),
            "Clients that may wait while every backend has its `max_connections`.",
        ),
        key(
            "queue_timeout",
            POSITIVE,
            Preset::Text("5s"),
            "How long one may wait.",
        ),
        key(
            "retry_budget",
            Kind::Text(&text::PERCENT),
            Preset::Text("20%"),
            "Retries allowed, of the connections of the last 10 s; never less than 3 a second.",
        ),
        key(
            "source",
            Kind::Text(&text::IP),
            Unset,
            "The local address of connections to backends; the kernel's choice if left out.",
        ),
        key(
            "source_hash",
            Table(&SOURCE_HASH),
            Unset,
            "Only with balance = \"source_hash\".",
        ),
        key(
            "proxy_protocol",
            Table(&SEND),
            Empty,
            "What backends are told of the client in the PROXY protocol.",
        ),
        key(
            "tls",
            Table(&ENCRYPTION),
            Unset,
            "How connections to backends are encrypted; not at all if left out.",
        ),
        key(
            "health",
            Table(&HEALTH),
            Unset,
            "How the backends are probed; not at all if left out.",
        ),
        key(
            "all_down",
            Choice(&choices::ALL_DOWN_WORDS, &[]),
            Preset::Text("trickle"),
            "With all backends down: one client a second is tried, all are, or none.",
        ),
        key(
            "on_down",
            Kind::Text(&text::PARTING),
            Preset::Text("keep"),
            "The sessions of a backend that health checks have taken down: keep, reset, or end them in time.",
        ),
        key(
            "on_remove",
            Kind::Text(&text::PARTING),
            Preset::Text("keep"),
            "The same for one that a reload, or a host name's answers, no longer have.",
        ),
        key(
            "on_drain",
            Kind::Text(&text::PARTING),
            Preset::Text("keep"),
            "The same for one whose weight a reload has set to 0.",
        ),
        key(
            "outliers",
            Table(&OUTLIERS),
            Empty,
            "Which backends get no clients for a while because they fail them.",
        ),
        key(
            "breaker",
            Table(&BREAKER),
            Unset,
            "Bounds of the pool, and a rest when it fails; none if left out.",
        ),
    ],
};

#[expect(
    clippy::cast_possible_truncation,
    reason = "a count of backends far below 2^32"
)]
const ATTEMPTS_MAX: u32 = CONNECT_ATTEMPTS_MAX as u32;

static CONNECT: Section = Section {
    title: "`connect`",
    doc: "How connections to backends are made.",
    one_of: &[],
    later: &[],
    keys: &[
        key("timeout", POSITIVE, Preset::Text("5s"), "For one attempt."),
        key(
            "attempts",
            Number(1, ATTEMPTS_MAX),
            Preset::Number(3),
            "Backends tried at the most.",
        ),
        key(
            "total",
            POSITIVE,
            Preset::Text("10s"),
            "For all attempts together.",
        ),
    ],
};

static SOURCE_HASH: Section = Section {
    title: "`source_hash`",
    doc: "What of the client's address counts.",
    one_of: &[],
    later: &[],
    keys: &[key(
        "ipv6_prefix",
        Number(1, 128),
        Preset::Number(128),
        "Leading bits of an IPv6 address that count.",
    )],
};

static BACKEND: Section = Section {
    title: "[[pool.NAME.backend]]",
    doc: "One backend.",
    one_of: &[],
    later: &["health", "tls"],
    keys: &[
        key(
            "name",
            Kind::Text(&text::NAME),
            Unset,
            "Unique within the pool; the address if left out.",
        ),
        key(
            "address",
            Kind::Text(&text::BACKEND),
            Required,
            "\"ip:port\", \"[v6]:port\", \"name:port\", \"srv:name\" (SRV records) or \"unix:/path\".",
        ),
        key(
            "weight",
            Number(0, 65_535),
            Preset::Number(1),
            "Its share; 0 takes no new connections.",
        ),
        key(
            "tier",
            Number(0, 255),
            Preset::Number(0),
            "Used only when no backend of a lower tier can be.",
        ),
        key(
            "max_connections",
            Number(0, 4_000_000_000),
            Preset::Number(0),
            "The most connections at a time, for each address of a host name; 0: any number.",
        ),
    ],
};
