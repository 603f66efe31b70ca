//! The model as a list of keys and values: what printing writes and what a difference compares.

mod health;
mod limits;
mod outcomes;
mod overload;
mod routes;

use std::net::IpAddr;
use std::time::Duration;

use toml::{Table, Value};

use super::choices::{ALL_DOWNS, BALANCES, DRIVERS, FORMATS, LEVELS, LOG_ONS, RELAYS, word};
use super::model::{
    Admin, Backend, Balance, Global, Keepalive, Listener, Log, Pool, Route, Routing, SessionLog,
    SocketOptions, Timeouts, Waiting,
};
use super::text::parting_text;
use super::units::duration_text;
pub(crate) use limits::limits;
pub(crate) use routes::route;

/// One key of a table with its value; `None`: there is no text for it, it has to be left out.
pub(crate) type Setting = (&'static str, Option<Value>);

/// `[global]`
pub(crate) fn global(global: &Global) -> Vec<Setting> {
    let mut all = vec![
        ("workers", Some(whole(global.workers))),
        ("pin", Some(global.pin.into())),
        ("driver", Some(word(&DRIVERS, &global.driver).into())),
        (
            "max_connections",
            Some(i64::from(global.connections_max.unwrap_or(0)).into()),
        ),
    ];
    all.extend(overload::overload(global.overload.as_ref()));
    all.extend([
        ("shutdown.pre_stop", Some(time(global.shutdown.pre_stop))),
        ("shutdown.drain", Some(time(global.shutdown.drain))),
        ("resolver.nameservers", Some(list(&global.nameservers))),
    ]);
    all
}

/// `[admin]`
pub(crate) fn admin(admin: &Admin) -> Vec<Setting> {
    let listen = admin
        .listen
        .as_ref()
        .map_or_else(|| "off".to_owned(), ToString::to_string);
    let token_file = admin
        .token_file
        .as_ref()
        .map(|path| path.to_string_lossy().into_owned());
    vec![
        ("listen", Some(listen.into())),
        ("token_file", token_file.map(Value::from)),
    ]
}

/// `[log]`
pub(crate) fn log(log: &Log) -> Vec<Setting> {
    let sessions = match &log.sessions {
        SessionLog::Off => "off".to_owned(),
        SessionLog::Stdout => "stdout".to_owned(),
        SessionLog::File(path) => path.to_string_lossy().into_owned(),
    };
    vec![
        ("level", Some(word(&LEVELS, &log.level).into())),
        ("sessions", Some(sessions.into())),
        ("format", Some(word(&FORMATS, &log.format).into())),
        ("on", Some(word(&LOG_ONS, &log.on).into())),
    ]
}

/// `[[listener]]`, without the name and the routes.
pub(crate) fn listener(listener: &Listener) -> Vec<Setting> {
    let mut all = vec![("listen", Some(list(&listener.listen)))];
    all.extend(routes::routing(&listener.routing));
    all.extend(routes::proxy_receive(listener.proxy_protocol.as_ref()));
    all.extend(limits::access(&listener.access));
    all.extend(limits(&listener.limits));
    all.push(("relay", Some(word(&RELAYS, &listener.relay).into())));
    all.extend(timeouts(&listener.timeouts));
    all.extend(socket_options(&listener.socket));
    all
}

fn timeouts(timeouts: &Timeouts) -> Vec<Setting> {
    vec![
        ("timeouts.idle", Some(time(timeouts.idle))),
        ("timeouts.half_closed", Some(time(timeouts.half_closed))),
        (
            "timeouts.first_byte",
            Some(time_or_off(timeouts.first_byte)),
        ),
        (
            "timeouts.max_lifetime",
            Some(time_or_off(timeouts.max_lifetime)),
        ),
        (
            "timeouts.lifetime_jitter",
            Some(percent(timeouts.lifetime_jitter)),
        ),
        ("timeouts.sniff", Some(time(timeouts.sniff))),
        ("timeouts.handshake", Some(time(timeouts.handshake))),
    ]
}

fn socket_options(socket: &SocketOptions) -> Vec<Setting> {
    vec![
        ("backlog", Some(i64::from(socket.backlog).into())),
        ("defer_accept", Some(time_or_off(socket.defer_accept))),
        (
            "fastopen",
            Some(i64::from(socket.fastopen.unwrap_or(0)).into()),
        ),
        ("nodelay", Some(socket.nodelay.into())),
        ("transparent", Some(socket.transparent.into())),
        ("mptcp", Some(socket.mptcp.into())),
        ("v6only", Some(socket.v6only.into())),
        (
            "unix_mode",
            Some(format!("{:04o}", socket.unix_mode).into()),
        ),
        ("keepalive", Some(keepalive(socket.keepalive.as_ref()))),
        ("spread", Some("kernel".into())),
    ]
}

/// `[pool.NAME]`, without its backends.
pub(crate) fn pool(pool: &Pool) -> Vec<Setting> {
    // The table of words has the balancer with its own settings at their defaults.
    let (balance, ipv6_prefix) = match pool.balance {
        Balance::SourceHash { ipv6_prefix } => (
            Balance::SourceHash { ipv6_prefix: 128 },
            Some(i64::from(ipv6_prefix)),
        ),
        other => (other, None),
    };
    let queue = pool.queue.unwrap_or(Waiting {
        most: 0,
        timeout: Duration::from_secs(5),
    });
    let mut all = vec![
        ("balance", Some(word(&BALANCES, &balance).into())),
        ("source_hash.ipv6_prefix", ipv6_prefix.map(Value::from)),
        ("connect.timeout", Some(time(pool.connect.timeout))),
        (
            "connect.attempts",
            Some(i64::from(pool.connect.attempts).into()),
        ),
        ("connect.total", Some(time(pool.connect.total))),
        ("slow_start", Some(time_or_off(pool.slow_start))),
        ("queue", Some(i64::from(queue.most).into())),
        ("queue_timeout", Some(time(queue.timeout))),
        ("retry_budget", Some(percent(pool.retry_budget))),
        (
            "source",
            pool.source.as_ref().map(IpAddr::to_string).map(Value::from),
        ),
    ];
    all.extend(routes::proxy_send(pool.proxy_protocol.as_ref()));
    all.extend(pool.tls.iter().flat_map(routes::pool_tls));
    all.push(("all_down", Some(word(&ALL_DOWNS, &pool.all_down).into())));
    let partings = &pool.partings;
    for (key, parting) in [
        ("on_down", partings.down),
        ("on_remove", partings.removed),
        ("on_drain", partings.drained),
    ] {
        all.push((key, Some(parting_text(parting).into())));
    }
    all.extend(pool.health.iter().flat_map(health::health));
    all.extend(outcomes::outliers(&pool.outliers));
    all.extend(pool.breaker.iter().flat_map(outcomes::breaker));
    all
}

/// The routes of a listener; none where everything goes to one pool.
pub(crate) fn routes_of(listener: &Listener) -> &[Route] {
    match &listener.routing {
        Routing::Pool(_) => &[],
        Routing::ByHello(routes) => &routes.routes,
    }
}

/// `[[pool.NAME.backend]]`, without the name.
pub(crate) fn backend(backend: &Backend) -> Vec<Setting> {
    vec![
        ("address", Some(backend.address.to_string().into())),
        ("weight", Some(i64::from(backend.weight).into())),
        ("tier", Some(i64::from(backend.tier).into())),
        (
            "max_connections",
            Some(i64::from(backend.max_connections).into()),
        ),
    ]
}

/// Either a table or a word, so this one key cannot be dotted like the others.
fn keepalive(keepalive: Option<&Keepalive>) -> Value {
    let Some(keepalive) = keepalive else {
        return "off".into();
    };
    Value::Table(Table::from_iter([
        ("idle".to_owned(), time(keepalive.idle)),
        ("interval".to_owned(), time(keepalive.interval)),
        ("count".to_owned(), i64::from(keepalive.count).into()),
    ]))
}

fn whole(number: usize) -> Value {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

fn time(time: Duration) -> Value {
    duration_text(time).into()
}

fn time_or_off(duration: Option<Duration>) -> Value {
    time(duration.unwrap_or_default())
}

fn percent(percent: u8) -> Value {
    format!("{percent}%").into()
}

fn list<T: ToString>(items: &[T]) -> Value {
    Value::Array(items.iter().map(|item| item.to_string().into()).collect())
}
