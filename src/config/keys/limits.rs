//! The keys of `listener.limits`.

use super::Kind::{self, Flag, List, Number};
use super::Preset::{self, Empty, Unset};
use super::{Key, Section, key};
use crate::config::text;

/// More connections than a machine has descriptors for, and what a counter of a source holds.
pub(super) const CONNECTIONS_MAX: u32 = 1_000_000;

/// Beside `allow`, of a listener and of a route.
pub(super) const ALLOW_FILE: Key = file("allow_file");

/// Beside `deny`, likewise.
pub(super) const DENY_FILE: Key = file("deny_file");

const fn file(name: &'static str) -> Key {
    key(
        name,
        Kind::Text(&text::FILE),
        Unset,
        "A file with more of them, one a line; watched and read again when it changes.",
    )
}

pub(super) static LIMITS: Section = Section {
    title: "`limits`",
    doc: "What one source may do, and what happens to who is over a limit.",
    one_of: &[],
    later: &[],
    keys: &[
        key(
            "per_source",
            Number(0, CONNECTIONS_MAX),
            Preset::Number(0),
            "Connections that one source may have at a time; 0: any number.",
        ),
        key(
            "rate_per_source",
            Kind::Text(&text::RATE),
            Preset::Text("off"),
            "New connections that one source may make, such as \"50/s\", or \"off\".",
        ),
        key(
            "burst",
            Number(1, CONNECTIONS_MAX),
            Unset,
            "How many of these may come at once; as many as the rate's number if left out.",
        ),
        key(
            "bytes_per_source",
            Kind::Text(&text::BYTE_RATE),
            Preset::Text("off"),
            "Bytes that one source may move, both ways together, such as \"10m/s\", or \"off\"; more is slowed.",
        ),
        key(
            "action",
            Kind::Text(&text::ACTION),
            Preset::Text("rst"),
            "What happens to who is over a limit: \"rst\", \"fin\", \"silent\" or \"tarpit 10s\".",
        ),
        key(
            "exempt",
            List(&Kind::Text(&text::NETWORK)),
            Empty,
            "Networks to which the limits of sources do not apply.",
        ),
        key(
            "ipv4_prefix",
            Number(1, 32),
            Preset::Number(32),
            "Leading bits of an IPv4 address that are one source.",
        ),
        key(
            "ipv6_prefix",
            Number(1, 128),
            Preset::Number(64),
            "Leading bits of an IPv6 address that are one source.",
        ),
        key(
            "log_only",
            Flag,
            Preset::Flag(false),
            "Count and log who is over a limit of sources, and serve it as if it were not.",
        ),
    ],
};
