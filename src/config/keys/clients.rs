//! The keys of `[[listener]]`.

use super::Kind::{
    self, Choice, Flag, List, Number, OneOrList, Size, Table, TableOrOff, Tables, Time,
};
use super::Preset::{self, Empty, Required, Unset};
use super::limits::{ALLOW_FILE, CONNECTIONS_MAX, DENY_FILE, LIMITS};
use super::proxy::RECEIVE;
use super::routes::ROUTE;
use super::tls::TERMINATION;
use super::{ANY, Bounds, POSITIVE, Section, Zero, key};
use crate::config::choices;
use crate::config::text;

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

pub(super) static LISTENER: Section = Section {
    title: "[[listener]]",
    doc: "Where clients connect.",
    one_of: &["pool", "route"],
    later: &["mode"],
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
            Kind::Text(&text::POOL),
            Unset,
            "The pool that everything goes to; with `tls`, what was inside of it.",
        ),
        key(
            "route",
            Tables(&ROUTE),
            Unset,
            "Where connections go by what the client says first, instead of `pool`.",
        ),
        key(
            "tls",
            Table(&TERMINATION),
            Unset,
            "How TLS ends here; for routes with `terminate`, or for everything that goes to `pool`.",
        ),
        key(
            "plain",
            Kind::Text(&text::PLAIN),
            Preset::Text("reject"),
            "What happens to connections that are not TLS: \"reject\", or the pool that they go to.",
        ),
        key(
            "silent_after",
            POSITIVE,
            Preset::Text("200ms"),
            "A client that has said nothing for so long is plain, if plain connections go to a pool.",
        ),
        key(
            "sniff_max",
            Size(1024, 65_536),
            Preset::Text("64k"),
            "The largest ClientHello.",
        ),
        key(
            "starttls",
            Choice(&choices::STARTTLS_WORDS, &["mysql", "smtp", "imap"]),
            Preset::Text("off"),
            "The protocol in which clients ask for TLS first.",
        ),
        key(
            "proxy_protocol",
            Table(&RECEIVE),
            Empty,
            "Who says in the PROXY protocol whom it speaks for.",
        ),
        key(
            "allow",
            List(&Kind::Text(&text::NETWORK)),
            Empty,
            "Networks of clients that are let in; everybody if there are none here and no `allow_file`.",
        ),
        ALLOW_FILE,
        key(
            "deny",
            List(&Kind::Text(&text::NETWORK)),
            Empty,
            "Networks of clients that are refused; a smaller network in `allow` is let in.",
        ),
        DENY_FILE,
        key(
            "max_connections",
            Number(0, CONNECTIONS_MAX),
            Preset::Number(0),
            "Connections that the listener may have at a time; 0: any number.",
        ),
        key(
            "limits",
            Table(&LIMITS),
            Empty,
            "What one source may do, and what happens to who is over a limit.",
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
    later: &[],
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
        key(
            "sniff",
            POSITIVE,
            Preset::Text("3s"),
            "Until the client has said enough to be routed: its PROXY header and its ClientHello.",
        ),
        key(
            "handshake",
            POSITIVE,
            Preset::Text("10s"),
            "A TLS handshake, with the client or with a backend.",
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
