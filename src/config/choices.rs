//! The words of the file that stand for variants of the model, each pair once.

use super::model::{
    AllDown, Balance, Driver, Format, Initial, Level, LogOn, OverloadAction, OverloadReady,
    ProxyHeader, ProxyVersion, Relay, StartTls, TlsVersion,
};

/// `global.driver`
pub(crate) const DRIVERS: [(&str, Driver); 3] = [
    ("auto", Driver::Auto),
    ("io_uring", Driver::IoUring),
    ("epoll", Driver::Epoll),
];

/// `global.overload.action`
pub(crate) const OVERLOAD_ACTIONS: [(&str, OverloadAction); 2] = [
    ("pause", OverloadAction::Pause),
    ("reject", OverloadAction::Reject),
];

/// `global.overload.ready`
pub(crate) const OVERLOAD_READYS: [(&str, OverloadReady); 2] =
    [("keep", OverloadReady::Keep), ("fail", OverloadReady::Fail)];

/// `log.level`
pub(crate) const LEVELS: [(&str, Level); 4] = [
    ("error", Level::Error),
    ("warn", Level::Warn),
    ("info", Level::Info),
    ("debug", Level::Debug),
];

/// `log.format`
pub(crate) const FORMATS: [(&str, Format); 2] = [("json", Format::Json), ("text", Format::Text)];

/// `log.on`
pub(crate) const LOG_ONS: [(&str, LogOn); 2] =
    [("close", LogOn::Close), ("open+close", LogOn::OpenAndClose)];

/// `listener.relay`
pub(crate) const RELAYS: [(&str, Relay); 3] = [
    ("auto", Relay::Auto),
    ("splice", Relay::Splice),
    ("copy", Relay::Copy),
];

/// `pool.balance`; what a balancer has of its own stands beside the word.
pub(crate) const BALANCES: [(&str, Balance); 6] = [
    ("least_connections", Balance::LeastConnections),
    ("round_robin", Balance::RoundRobin),
    ("random_two", Balance::RandomTwo),
    ("source_hash", Balance::SourceHash { ipv6_prefix: 128 }),
    ("peak_ewma", Balance::PeakEwma),
    ("first", Balance::First),
];

/// `min_version` and `max_version`
pub(crate) const TLS_VERSIONS: [(&str, TlsVersion); 2] =
    [("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];

/// `listener.starttls`
pub(crate) const STARTTLS: [(&str, Option<StartTls>); 2] =
    [("off", None), ("postgres", Some(StartTls::Postgres))];

/// `listener.proxy_protocol.receive`
pub(crate) const RECEIVES: [(&str, Option<ProxyHeader>); 3] = [
    ("off", None),
    ("optional", Some(ProxyHeader::Optional)),
    ("require", Some(ProxyHeader::Require)),
];

/// `pool.proxy_protocol.send`
pub(crate) const SENDS: [(&str, Option<ProxyVersion>); 3] = [
    ("off", None),
    ("v1", Some(ProxyVersion::V1)),
    ("v2", Some(ProxyVersion::V2)),
];

/// `listener.tls.client_auth.mode`; the model has the files beside each.
pub(crate) const AUTH_WORDS: [&str; 3] = ["off", "request", "require"];

/// `pool.tls.verify`; the model has the file beside one.
pub(crate) const VERIFY_WORDS: [&str; 3] = ["system", "ca", "none"];

/// `pool.proxy_protocol.tlvs`, with the types of their fields (PROXY protocol 2.2).
pub(crate) const TLVS: [(&str, u32); 5] = [
    ("alpn", 0x01),
    ("authority", 0x02),
    ("unique_id", 0x05),
    ("ssl", 0x20),
    ("crc32c", 0x03),
];

/// `pool.all_down`
pub(crate) const ALL_DOWNS: [(&str, AllDown); 3] = [
    ("trickle", AllDown::Trickle),
    ("open", AllDown::Open),
    ("closed", AllDown::Closed),
];

/// `pool.health.initial`
pub(crate) const INITIALS: [(&str, Initial); 3] = [
    ("up", Initial::Up),
    ("down", Initial::Down),
    ("check", Initial::Check),
];

/// `pool.health.type`; the model has beside each what it is about.
pub(crate) const PROBE_WORDS: [&str; 4] = ["tcp", "tls", "http", "exchange"];

pub(crate) const DRIVER_WORDS: [&str; 3] = words(&DRIVERS);
pub(crate) const OVERLOAD_ACTION_WORDS: [&str; 2] = words(&OVERLOAD_ACTIONS);
pub(crate) const OVERLOAD_READY_WORDS: [&str; 2] = words(&OVERLOAD_READYS);
pub(crate) const LEVEL_WORDS: [&str; 4] = words(&LEVELS);
pub(crate) const FORMAT_WORDS: [&str; 2] = words(&FORMATS);
pub(crate) const LOG_ON_WORDS: [&str; 2] = words(&LOG_ONS);
pub(crate) const RELAY_WORDS: [&str; 3] = words(&RELAYS);
pub(crate) const BALANCE_WORDS: [&str; 6] = words(&BALANCES);
pub(crate) const TLS_VERSION_WORDS: [&str; 2] = words(&TLS_VERSIONS);
pub(crate) const STARTTLS_WORDS: [&str; 2] = words(&STARTTLS);
pub(crate) const RECEIVE_WORDS: [&str; 3] = words(&RECEIVES);
pub(crate) const SEND_WORDS: [&str; 3] = words(&SENDS);
pub(crate) const TLV_WORDS: [&str; 5] = words(&TLVS);
pub(crate) const ALL_DOWN_WORDS: [&str; 3] = words(&ALL_DOWNS);
pub(crate) const INITIAL_WORDS: [&str; 3] = words(&INITIALS);

/// What `word` stands for. The reader has let only words of the table pass; the first is the default.
pub(crate) fn meaning<T: Copy, const N: usize>(table: &[(&str, T); N], word: &str) -> T {
    table
        .iter()
        .find(|(name, _)| *name == word)
        .unwrap_or(&table[0])
        .1
}

/// The word for `value`.
pub(crate) fn word<T: PartialEq, const N: usize>(
    table: &[(&'static str, T); N],
    value: &T,
) -> &'static str {
    table
        .iter()
        .find(|(_, meaning)| meaning == value)
        .unwrap_or(&table[0])
        .0
}

const fn words<T, const N: usize>(table: &[(&'static str, T); N]) -> [&'static str; N] {
    let mut words = [""; N];
    let mut at = 0;
    while at < N {
        words[at] = table[at].0;
        at += 1;
    }
    words
}
