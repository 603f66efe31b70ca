//! What the configuration says of names, TLS and the PROXY protocol, as keys and values.

use std::path::Path;

use toml::{Table, Value};

use super::{Setting, limits, list, time, time_or_off};
use crate::config::choices::{RECEIVES, SENDS, STARTTLS, TLS_VERSIONS, TLVS, word};
use crate::config::model::{
    Certificate, ClientAuth, PoolSni, PoolTls, ProxyReceive, ProxySend, ProxyTlvs, Route, Routes,
    Routing, Target, Termination, Tickets, Verify,
};
use crate::config::text::rate_text;
use crate::config::units::size_text;

/// Where a listener's connections go, but for its routes.
pub(super) fn routing(routing: &Routing) -> Vec<Setting> {
    match routing {
        Routing::Pool(pool) => vec![("pool", Some(pool.as_ref().into()))],
        Routing::ByHello(routes) => {
            let mut all = by_hello(routes);
            all.extend(routes.termination.iter().flat_map(termination));
            all
        }
    }
}

fn by_hello(routes: &Routes) -> Vec<Setting> {
    let sniff_max = u32::try_from(routes.sniff_max).unwrap_or(u32::MAX);
    vec![
        // A pool for plain connections is among the routes.
        ("plain", Some("reject".into())),
        ("silent_after", routes.silent_after.map(time)),
        ("sniff_max", Some(size_text(sniff_max).into())),
        ("starttls", Some(word(&STARTTLS, &routes.starttls).into())),
    ]
}

/// `[[listener.route]]`, without the name.
pub(crate) fn route(route: &Route) -> Vec<Setting> {
    let names = &route.names;
    let (pool, terminate) = match &route.target {
        Target::Pass(pool) => (Some(pool), false),
        Target::Terminate(pool) => (Some(pool), true),
        Target::Reject => (None, false),
    };
    let mut all = vec![
        ("sni", some_of(&names.sni)),
        ("no_sni", Some(names.no_sni.into())),
        ("default", Some(names.default.into())),
        ("plain", Some(names.plain.into())),
        ("alpn", some_of(&route.alpn)),
        ("client", some_of(&route.client)),
        ("ja4", some_of(&route.ja4)),
        ("pool", pool.map(|pool| pool.as_ref().into())),
        ("reject", Some((route.target == Target::Reject).into())),
        ("terminate", Some(terminate.into())),
        ("client_names", some_of(&route.client_names)),
    ];
    all.extend(limits::entrance(route.entrance.as_deref()));
    all
}

fn termination(tls: &Termination) -> Vec<Setting> {
    let certificates = tls.certificates.iter().map(certificate).collect();
    let default = tls.default_certificate.map(super::whole);
    let (mode, ca) = match &tls.client_auth {
        ClientAuth::Off => ("off", None),
        ClientAuth::Request(ca) => ("request", Some(ca)),
        ClientAuth::Require(ca) => ("require", Some(ca)),
    };
    let (ticket_keys, ticket_rotation) = match &tls.tickets {
        Tickets::Off => (None, Some(time_or_off(None))),
        Tickets::Rotating(rotation) => (None, Some(time(*rotation))),
        Tickets::File(file) => (Some(path(file)), None),
    };
    let rate = tls.handshake_rate.map(rate_text);
    vec![
        ("tls.certificates", Some(Value::Array(certificates))),
        ("tls.default_certificate", default),
        (
            "tls.min_version",
            Some(word(&TLS_VERSIONS, &tls.min_version).into()),
        ),
        (
            "tls.max_version",
            Some(word(&TLS_VERSIONS, &tls.max_version).into()),
        ),
        ("tls.alpn", Some(list(&tls.alpn))),
        ("tls.client_auth.mode", Some(mode.into())),
        ("tls.client_auth.ca", ca.map(|ca| path(&ca.ca))),
        (
            "tls.client_auth.crl",
            ca.and_then(|ca| ca.crl.as_deref()).map(path),
        ),
        ("tls.ticket_keys", ticket_keys),
        ("tls.ticket_rotation", ticket_rotation),
        (
            "tls.handshakes_max",
            Some(i64::from(tls.handshakes_max).into()),
        ),
        (
            "tls.handshake_rate",
            Some(rate.unwrap_or_else(|| "off".to_owned()).into()),
        ),
    ]
}

fn certificate(certificate: &Certificate) -> Value {
    let mut table = Table::from_iter([
        ("chain".to_owned(), path(&certificate.chain)),
        ("key".to_owned(), path(&certificate.key)),
    ]);
    table.extend(
        certificate
            .ocsp
            .iter()
            .map(|ocsp| ("ocsp".to_owned(), path(ocsp))),
    );
    Value::Table(table)
}

/// `listener.proxy_protocol`
pub(super) fn proxy_receive(receive: Option<&ProxyReceive>) -> Vec<Setting> {
    let header = receive.map(|receive| receive.header);
    let trusted = receive.and_then(|receive| some_of(&receive.trusted));
    vec![
        (
            "proxy_protocol.receive",
            Some(word(&RECEIVES, &header).into()),
        ),
        ("proxy_protocol.trusted", trusted),
    ]
}

/// `pool.proxy_protocol`
pub(super) fn proxy_send(send: Option<&ProxySend>) -> Vec<Setting> {
    let none = ProxyTlvs::default();
    let tlvs = send.map_or(&none, |send| &send.tlvs);
    let has = |name: &str| match name {
        "alpn" => tlvs.alpn,
        "authority" => tlvs.authority,
        "unique_id" => tlvs.unique_id,
        "ssl" => tlvs.ssl,
        _ => tlvs.crc32c,
    };
    let said: Vec<_> = TLVS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| has(name))
        .collect();
    let pass = tlvs
        .pass
        .iter()
        .map(|kind| i64::from(*kind).into())
        .collect();
    let custom = tlvs.custom.iter().map(|(kind, value)| {
        Value::Table(Table::from_iter([
            ("type".to_owned(), i64::from(*kind).into()),
            ("value".to_owned(), value.as_ref().into()),
        ]))
    });
    let version = send.map(|send| send.version);
    vec![
        ("proxy_protocol.send", Some(word(&SENDS, &version).into())),
        ("proxy_protocol.tlvs", Some(list(&said))),
        ("proxy_protocol.pass", Some(Value::Array(pass))),
        (
            "proxy_protocol.custom",
            Some(Value::Array(custom.collect())),
        ),
    ]
}

/// `pool.tls`
pub(super) fn pool_tls(tls: &PoolTls) -> Vec<Setting> {
    let (verify, ca) = match &tls.verify {
        Verify::System => ("system", None),
        Verify::Ca(ca) => ("ca", Some(path(ca))),
        Verify::None => ("none", None),
    };
    let sni = match &tls.sni {
        PoolSni::Fixed(name) => Some(name.as_ref().into()),
        PoolSni::Client => Some("client".into()),
        PoolSni::Backend => None,
    };
    let own = tls.certificate.as_ref();
    vec![
        ("tls.verify", Some(verify.into())),
        ("tls.ca", ca),
        ("tls.sni", sni),
        (
            "tls.certificate",
            own.map(|(certificate, _)| path(certificate)),
        ),
        ("tls.key", own.map(|(_, key)| path(key))),
        ("tls.alpn", Some(list(&tls.alpn))),
        (
            "tls.min_version",
            Some(word(&TLS_VERSIONS, &tls.min_version).into()),
        ),
    ]
}

/// A list that must not be empty where it is given.
fn some_of<T: ToString>(items: &[T]) -> Option<Value> {
    (!items.is_empty()).then(|| list(items))
}

fn path(path: &Path) -> Value {
    path.to_string_lossy().into_owned().into()
}
