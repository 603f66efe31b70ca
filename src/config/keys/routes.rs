//! The keys of `[[listener.route]]`.

use super::Kind::{self, Flag, Number, OneOrList, Table};
use super::Preset::{self, Unset};
use super::limits::{ALLOW_FILE, CONNECTIONS_MAX, DENY_FILE, LIMITS};
use super::{Section, key};
use crate::config::text;

pub(super) static ROUTE: Section = Section {
    title: "[[listener.route]]",
    doc: "Where some of a listener's connections go. All conditions must hold; of several routes for one name the first whose further conditions hold is taken.",
    one_of: &[],
    later: &["mode"],
    keys: &[
        key(
            "name",
            Kind::Text(&text::NAME),
            Unset,
            "Unique within the listener; the first of what it takes if left out.",
        ),
        key(
            "sni",
            OneOrList(&Kind::Text(&text::PATTERN)),
            Unset,
            "Names that clients ask for: \"NAME\", \"*.NAME\" (one label more) or \"**.NAME\" (any number).",
        ),
        key(
            "no_sni",
            Flag,
            Preset::Flag(false),
            "Takes clients that ask for no name.",
        ),
        key(
            "default",
            Flag,
            Preset::Flag(false),
            "Takes names that no route has, and no name if no route takes that.",
        ),
        key(
            "plain",
            Flag,
            Preset::Flag(false),
            "Takes connections that are not TLS.",
        ),
        key(
            "alpn",
            OneOrList(&Kind::Text(&text::PROTOCOL)),
            Unset,
            "Application protocols of which the client must offer one.",
        ),
        key(
            "client",
            OneOrList(&Kind::Text(&text::NETWORK)),
            Unset,
            "Networks of which the client must come from one.",
        ),
        key(
            "ja4",
            OneOrList(&Kind::Text(&text::JA4)),
            Unset,
            "Fingerprints of which the client must have one.",
        ),
        key(
            "pool",
            Kind::Text(&text::POOL),
            Unset,
            "The pool that its connections go to.",
        ),
        key(
            "reject",
            Flag,
            Preset::Flag(false),
            "Refuses its connections, instead of a pool.",
        ),
        key(
            "terminate",
            Flag,
            Preset::Flag(false),
            "TLS ends here, with the listener's `tls`; the pool gets what was inside.",
        ),
        key(
            "client_names",
            OneOrList(&Kind::Text(&text::PATTERN)),
            Unset,
            "Names of which the client's certificate must carry one; any that the authority vouches for if left out.",
        ),
        key(
            "allow",
            OneOrList(&Kind::Text(&text::NETWORK)),
            Unset,
            "Networks whose clients may take the route, as for the listener; others are refused.",
        ),
        ALLOW_FILE,
        key(
            "deny",
            OneOrList(&Kind::Text(&text::NETWORK)),
            Unset,
            "Networks whose clients may not; a smaller network in `allow` may.",
        ),
        DENY_FILE,
        key(
            "max_connections",
            Number(0, CONNECTIONS_MAX),
            Unset,
            "Connections that may take the route at a time; any number if left out or 0.",
        ),
        key(
            "limits",
            Table(&LIMITS),
            Unset,
            "What one source may do on the route, beside what it may on the listener.",
        ),
    ],
};
