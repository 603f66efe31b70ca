//! What is said of a client, as JSON has it; `text` writes the same for people.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use toml::Value;

/// What becomes of a client.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    pub(super) listener: String,
    pub(super) client: Asking,
    /// What was read from its captured hello.
    pub(super) hello: Option<HelloRead>,
    /// The route that takes it; `None` also where the listener has no routes.
    pub(super) route: Option<Taken>,
    /// Of the listener, then of the route, where they have any.
    pub(super) limits: Vec<LimitsShown>,
    pub(super) outcome: Outcome,
    pub(super) pool: Option<PoolShown>,
    /// Routes that come before the one that takes it, and do not.
    pub(super) skipped: Vec<Skipped>,
    pub(super) notes: Vec<String>,
}

/// What the client asks for.
#[derive(Debug, Serialize)]
pub(super) struct Asking {
    pub(super) source: Option<IpAddr>,
    pub(super) speaks: Speaks,
    pub(super) name: Option<String>,
    pub(super) alpn: Vec<String>,
    pub(super) ja4: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Speaks {
    Tls,
    Plain,
    /// It cannot be told, or is of no interest.
    Unknown,
}

/// A ClientHello.
#[derive(Debug, Serialize)]
pub(super) struct HelloRead {
    /// Of the whole capture.
    pub(super) bytes: usize,
    pub(super) versions: Vec<String>,
    pub(super) ja4: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Taken {
    pub(super) name: String,
    /// `file:line`
    pub(super) place: String,
    /// What of it takes the client: a pattern, `no_sni`, `default` or `plain`.
    pub(super) by: String,
}

#[derive(Debug, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub(super) enum Outcome {
    /// The bytes go on to the pool.
    Passed,
    /// TLS ends here.
    Terminated {
        /// Of several, the first that the client can check the signature of; at least one.
        certificates: Vec<CertificateShown>,
        client_certificate: ClientCertificate,
        /// Of which that certificate must carry one; empty: any.
        client_names: Vec<String>,
    },
    Refused(Refused),
}

#[derive(Debug, Serialize)]
pub(super) struct CertificateShown {
    /// Its first name, or its file where it has none.
    pub(super) name: String,
    pub(super) key: &'static str,
    pub(super) file: String,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ClientCertificate {
    Off,
    Requested,
    Required,
}

#[derive(Debug, Serialize)]
pub(super) struct Refused {
    /// As the session line has it.
    pub(super) reason: &'static str,
    /// `None`: the connection is reset.
    pub(super) alert: Option<u8>,
    pub(super) why: String,
}

/// Limits that the client counts for; whether it is over one is not known here.
#[derive(Debug, Serialize)]
pub(super) struct LimitsShown {
    /// `listener` or `route`
    pub(super) of: &'static str,
    /// As the file has them.
    pub(super) keys: BTreeMap<&'static str, Value>,
    /// The limits of sources do not hold for it.
    pub(super) is_exempt: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct PoolShown {
    pub(super) name: String,
    pub(super) balance: &'static str,
    pub(super) order: Order,
    /// In the order in which they are tried, as far as `connect.attempts` allows.
    pub(super) candidates: Vec<BackendShown>,
    /// Backends that the pool has, those of weight 0 too.
    pub(super) backends: usize,
    /// What it does about backends that are down, full or failing, as the file has it.
    pub(super) keys: BTreeMap<&'static str, Value>,
    /// Whether connections to backends are encrypted by us.
    pub(super) tls: bool,
}

/// How far the order of backends holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// Every such client meets it.
    Certain,
    /// It depends on other connections, or on chance.
    OneOfSeveral,
    /// It depends on what was not said: the client's address, or the addresses of names.
    Unknown,
}

#[derive(Debug, Serialize)]
pub(super) struct BackendShown {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) tier: u8,
    /// At a time; 0: any number.
    pub(super) max_connections: u32,
}

/// A route that does not take the client.
#[derive(Debug, Serialize)]
pub(super) struct Skipped {
    pub(super) name: String,
    pub(super) place: String,
    pub(super) why: Why,
    pub(super) detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Why {
    /// It takes other clients.
    Names,
    /// It would, but another takes the name by a better pattern.
    Better,
    Alpn,
    Client,
    Ja4,
}

impl Explanation {
    /// Whether a route or the listener's pool takes the client.
    pub(super) const fn is_taken(&self) -> bool {
        self.route.is_some() || self.pool.is_some()
    }
}
