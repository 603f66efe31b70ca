//! The keys of the file itself, of `[global]`, `[admin]` and `[log]`.

use super::Kind::{self, Choice, Flag, List, Named, Number, Table, Tables};
use super::Preset::{self, Empty, Unset};
use super::backends::POOL;
use super::clients::LISTENER;
use super::limits::CONNECTIONS_MAX;
use super::overload::OVERLOAD;
use super::{ANY, Section, key};
use crate::config::choices;
use crate::config::text;

/// The whole file.
pub(crate) static ROOT: Section = Section {
    title: "the file",
    doc: "The configuration of ringlane.",
    one_of: &[],
    later: &[],
    keys: &[
        key(
            "include",
            List(&Kind::Text(&text::FILE)),
            Empty,
            "Patterns of further files, relative to this one, read in name order.",
        ),
        key("global", Table(&GLOBAL), Empty, "The process."),
        key(
            "admin",
            Table(&ADMIN),
            Empty,
            "Health, metrics and reload over HTTP.",
        ),
        key("log", Table(&LOG), Empty, "Messages and session lines."),
        key(
            "listener",
            Tables(&LISTENER),
            Empty,
            "Where clients connect; at least one in all files together.",
        ),
        key(
            "pool",
            Named(&POOL),
            Empty,
            "Where their connections go, by name.",
        ),
    ],
};

static GLOBAL: Section = Section {
    title: "[global]",
    doc: "The process.",
    one_of: &[],
    later: &[],
    keys: &[
        key(
            "workers",
            Number(1, 1024),
            Unset,
            "Worker threads; one per core that the process may run on if left out.",
        ),
        key(
            "pin",
            Flag,
            Preset::Flag(true),
            "Whether worker n stays on the nth of those cores.",
        ),
        key(
            "driver",
            Choice(&choices::DRIVER_WORDS, &[]),
            Preset::Text("auto"),
            "What the workers wait with; auto is io_uring where the kernel allows it.",
        ),
        key(
            "max_connections",
            Number(0, CONNECTIONS_MAX),
            Preset::Number(0),
            "Connections that all listeners together may have; 0: as many as there are descriptors for.",
        ),
        key(
            "overload",
            Table(&OVERLOAD),
            Empty,
            "When the process takes no more clients, and how.",
        ),
        key("shutdown", Table(&SHUTDOWN), Empty, "How a stop goes."),
        key(
            "resolver",
            Table(&RESOLVER),
            Empty,
            "How names of backends are resolved.",
        ),
    ],
};

static SHUTDOWN: Section = Section {
    title: "[global.shutdown]",
    doc: "How a stop goes.",
    one_of: &[],
    later: &[],
    keys: &[
        key(
            "pre_stop",
            ANY,
            Preset::Text("0s"),
            "How long to go on accepting after readiness has failed.",
        ),
        key(
            "drain",
            ANY,
            Preset::Text("30s"),
            "How long sessions may go on after accepting has stopped.",
        ),
    ],
};

static RESOLVER: Section = Section {
    title: "`resolver`",
    doc: "How names of backends are resolved.",
    one_of: &[],
    later: &[],
    keys: &[key(
        "nameservers",
        List(&Kind::Text(&text::SERVER)),
        Empty,
        "DNS servers to ask instead of the system's.",
    )],
};

static ADMIN: Section = Section {
    title: "[admin]",
    doc: "Health, metrics and reload over HTTP.",
    one_of: &[],
    later: &["tls", "allow", "deny"],
    keys: &[
        key(
            "listen",
            Kind::Text(&text::ADMIN),
            Preset::Text("127.0.0.1:9900"),
            "An address, \"unix:/path\" or \"off\"; never one that clients reach.",
        ),
        key(
            "token_file",
            Kind::Text(&text::FILE),
            Unset,
            "A file with the bearer token that changes need; if left out, only loopback and unix peers may change anything.",
        ),
    ],
};

static LOG: Section = Section {
    title: "[log]",
    doc: "Messages and session lines.",
    one_of: &[],
    later: &[],
    keys: &[
        key(
            "level",
            Choice(&choices::LEVEL_WORDS, &[]),
            Preset::Text("info"),
            "The least severe of ringlane's own messages, on standard error.",
        ),
        key(
            "sessions",
            Kind::Text(&text::SESSIONS),
            Preset::Text("stdout"),
            "Where the line for each session goes: stdout, off or the path of a file.",
        ),
        key(
            "format",
            Choice(&choices::FORMAT_WORDS, &[]),
            Preset::Text("json"),
            "How session lines look.",
        ),
        key(
            "on",
            Choice(&choices::LOG_ON_WORDS, &[]),
            Preset::Text("close"),
            "When session lines are written.",
        ),
    ],
};
