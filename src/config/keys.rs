//! Every key of the configuration, once: what it takes, its default, what it does.
//!
//! Reading, its faults, the schema and the test of the example file all follow this table.

use super::choices;
use super::text::{self, Text};
use crate::base::limits::CONNECT_ATTEMPTS_MAX;

/// A table of the file.
#[derive(Debug)]
pub(crate) struct Section {
    /// How messages call it.
    pub(crate) title: &'static str,
    /// What it is for.
    pub(crate) doc: &'static str,
    /// What may stand in it.
    pub(crate) keys: &'static [Key],
    /// Keys of which exactly one must be there.
    pub(crate) one_of: &'static [&'static str],
    /// Keys that later versions will take. They are refused, because to ignore them would be to
    /// run with less protection than the file asks for.
    pub(crate) later: &'static [&'static str],
}

/// A key of a table.
#[derive(Debug)]
pub(crate) struct Key {
    /// How it is written.
    pub(crate) name: &'static str,
    /// What it takes.
    pub(crate) kind: Kind,
    /// What holds when it is left out.
    pub(crate) preset: Preset,
    /// What it does, in one line.
    pub(crate) doc: &'static str,
}

/// What holds when a key is left out.
#[derive(Debug)]
pub(crate) enum Preset {
    /// It must not be left out.
    Required,
    /// Nothing, or what the description says.
    Unset,
    /// An empty list, or a table with all its defaults.
    Empty,
    /// `true` or `false`.
    Flag(bool),
    /// A number.
    Number(u32),
    /// A text.
    Text(&'static str),
}

/// What a key takes.
#[derive(Debug)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number within these bounds.
    Number(u32, u32),
    /// A time with a unit.
    Time(Bounds),
    /// One of these words, or, refused, one that a later version will know.
    Choice(&'static [&'static str], &'static [&'static str]),
    /// Other text.
    Text(&'static Text),
    /// Any number of these.
    List(&'static Self),
    /// One of these, or a list of them.
    OneOrList(&'static Self),
    /// A table.
    Table(&'static Section),
    /// A table, or the word `off`.
    TableOrOff(&'static Section),
    /// `[[tables]]`.
    Tables(&'static Section),
    /// Tables under names of the operator's choice.
    Named(&'static Section),
}

/// Which times make sense.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Whether zero does.
    pub(crate) zero: Zero,
    /// The kernel takes this one in seconds, and no more than so many.
    pub(crate) whole_seconds: Option<u32>,
}

/// What a time of zero means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zero {
    /// It makes no sense.
    Refused,
    /// It means no time at all, or off, as the key's description says.
    Allowed,
}

use Kind::{Choice, Flag, List, Named, Number, OneOrList, Table, TableOrOff, Tables, Time};
use Preset::{Empty, Required, Unset};

const POSITIVE: Kind = Time(Bounds {
    zero: Zero::Refused,
    whole_seconds: None,
});
const ANY: Kind = Time(Bounds {
    zero: Zero::Allowed,
    whole_seconds: None,
});
// TCP_KEEPIDLE and TCP_KEEPINTVL end there (MAX_TCP_KEEPIDLE in the kernel's net/tcp.h).
const PROBE: Kind = Time(Bounds {
    zero: Zero::Refused,
    whole_seconds: Some(32_767),
});
// The kernel turns it into a count of SYN-ACKs; what exceeds its largest count, it rounds down.
const DEFER: Kind = Time(Bounds {
    zero: Zero::Allowed,
    whole_seconds: Some(32_767),
});

const fn key(name: &'static str, kind: Kind, preset: Preset, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        preset,
        doc,
    }
}

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
    later: &["max_connections", "overload"],
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

static LISTENER: Section = Section {
    title: "[[listener]]",
    doc: "Where clients connect.",
    one_of: &[],
    later: &[
        "route",
        "tls",
        "proxy_protocol",
        "allow",
        "allow_file",
        "deny",
        "deny_file",
        "limits",
        "max_connections",
        "mode",
        "starttls",
        "plain",
        "silent_after",
        "sniff_max",
    ],
    keys: &[
        key(
            "name",
            Kind::Text(&text::NAME),
            Unset,
            "Unique among listeners; the first address if left out.",
        ),
        key(
            "listen",
            OneOrList(&Kind::Text(&text::LISTEN)),
            Required,
            "One address or a list: \"ip:port\", \"[v6]:port\", \"ip:first-last\" or \"unix:/path\".",
        ),
        key(
            "pool",
            Kind::Text(&text::NAME),
            Required,
            "The pool that everything goes to.",
        ),
        key(
            "relay",
            Choice(&choices::RELAY_WORDS, &[]),
            Preset::Text("auto"),
            "How bytes are moved; auto copies small messages and splices bulk.",
        ),
        key(
            "timeouts",
            Table(&TIMEOUTS),
            Empty,
            "How long a session may do what.",
        ),
        key(
            "backlog",
            Number(1, 2_147_483_647),
            Preset::Number(4096),
            "Connections that may wait to be accepted, each socket.",
        ),
        key(
            "defer_accept",
            DEFER,
            Preset::Text("0s"),
            "Accept only when the client has sent something, waiting so long; 0s: off.",
        ),
        key(
            "fastopen",
            Number(0, 65_535),
            Preset::Number(0),
            "TCP Fast Open requests that may wait; 0: off.",
        ),
        key(
            "nodelay",
            Flag,
            Preset::Flag(true),
            "Send small segments at once.",
        ),
        key(
            "keepalive",
            TableOrOff(&KEEPALIVE),
            Empty,
            "Probes of silent peers, or \"off\".",
        ),
        key(
            "transparent",
            Flag,
            Preset::Flag(false),
            "Accept connections to addresses that are not this machine's (IP_TRANSPARENT).",
        ),
        key(
            "mptcp",
            Flag,
            Preset::Flag(false),
            "Multipath TCP where the kernel has it.",
        ),
        key(
            "v6only",
            Flag,
            Preset::Flag(true),
            "IPv6 addresses take no IPv4 connections.",
        ),
        key(
            "unix_mode",
            Kind::Text(&text::MODE),
            Preset::Text("0660"),
            "Permission bits of unix sockets, in octal.",
        ),
        key(
            "spread",
            Choice(&["kernel"], &["least"]),
            Preset::Text("kernel"),
            "How connections are spread over workers.",
        ),
    ],
};

static TIMEOUTS: Section = Section {
    title: "`timeouts`",
    doc: "How long a session may do what.",
    one_of: &[],
    later: &["sniff", "handshake"],
    keys: &[
        key(
            "idle",
            POSITIVE,
            Preset::Text("1h"),
            "Silence in both directions.",
        ),
        key(
            "half_closed",
            POSITIVE,
            Preset::Text("60s"),
            "Silence after one side has finished.",
        ),
        key(
            "first_byte",
            ANY,
            Preset::Text("0s"),
            "From the backend's connection to its first byte; 0s: off.",
        ),
        key(
            "max_lifetime",
            ANY,
            Preset::Text("0s"),
            "From accept to close; 0s: off.",
        ),
        key(
            "lifetime_jitter",
            Kind::Text(&text::PERCENT),
            Preset::Text("10%"),
            "How far a session's lifetime may be off either way.",
        ),
    ],
};

static KEEPALIVE: Section = Section {
    title: "`keepalive`",
    doc: "Probes of silent peers.",
    one_of: &[],
    later: &[],
    keys: &[
        key(
            "idle",
            PROBE,
            Preset::Text("60s"),
            "Silence before the first probe, in whole seconds.",
        ),
        key(
            "interval",
            PROBE,
            Preset::Text("10s"),
            "Between probes, in whole seconds.",
        ),
        key(
            "count",
            Number(1, 127),
            Preset::Number(6),
            "Unanswered probes before the connection counts as broken.",
        ),
    ],
};

static POOL: Section = Section {
    title: "[pool.NAME]",
    doc: "Where connections go.",
    one_of: &["backends", "backend"],
    later: &[
        "health",
        "tls",
        "proxy_protocol",
        "on_down",
        "on_remove",
        "on_drain",
        "all_down",
        "slow_start",
        "queue",
        "queue_timeout",
        "max_connections",
        "outliers",
        "breaker",
    ],
    keys: &[
        key(
            "balance",
            Choice(&choices::BALANCE_WORDS, &["peak_ewma"]),
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
    ],
};

static CONNECT: Section = Section {
    title: "`connect`",
    doc: "How connections to backends are made.",
    one_of: &[],
    later: &[],
    keys: &[
        key("timeout", POSITIVE, Preset::Text("5s"), "For one attempt."),
        key(
            "attempts",
            Number(1, CONNECT_ATTEMPTS_MAX as u32),
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
    later: &["max_connections", "health", "tls"],
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
            "\"ip:port\", \"[v6]:port\", \"name:port\" or \"unix:/path\".",
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
    ],
};

impl Section {
    /// The key of that name.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Kind {
    /// What should have been written, for a message.
    pub(crate) fn expected(&self) -> String {
        match self {
            Flag => "true or false".to_owned(),
            Number(least, most) => format!("a whole number from {least} to {most}"),
            Time(bounds) => bounds.expected(),
            Choice(words, _) => match words {
                [word] => format!("\"{word}\""),
                _ => format!("one of \"{}\"", words.join("\", \"")),
            },
            Self::Text(text) => text.expected.to_owned(),
            List(of) => format!("a list, each {}", of.expected()),
            OneOrList(of) => format!("{}, or a list of such", of.expected()),
            Table(section) => {
                let keys: Vec<_> = section.keys.iter().map(|key| key.name).collect();
                format!("a table with `{}`", keys.join("`, `"))
            }
            TableOrOff(section) => format!("{} or \"off\"", Table(section).expected()),
            Tables(section) | Named(section) => format!("{} tables", section.title),
        }
    }
}

impl Bounds {
    fn expected(&self) -> String {
        match (&self.zero, self.whole_seconds) {
            (Zero::Refused, None) => "a time above zero, such as \"30s\" or \"1h30m\"".to_owned(),
            (_, None) => "a time such as \"30s\" or \"1h30m\"".to_owned(),
            (Zero::Refused, Some(most)) => {
                format!("a time in whole seconds from \"1s\" to \"{most}s\"")
            }
            (_, Some(most)) => format!("a time in whole seconds from \"0s\" to \"{most}s\""),
        }
    }
}
