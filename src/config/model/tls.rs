//! What the configuration says of names, TLS and the PROXY protocol.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::Entrance;

use crate::base::name::NamePattern;

/// The application protocol of a certificate authority's check (RFC 8737).
pub const ACME_TLS: &str = "acme-tls/1";

/// Where a listener's connections go.
#[derive(Clone, Debug, PartialEq)]
pub enum Routing {
    /// All to one pool, as they come.
    Pool(Arc<str>),
    /// By what the client says first.
    ByHello(Box<Routes>),
}

/// `listener.route`, or what `listener.tls` with `listener.pool` stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct Routes {
    /// In the file's order, at least one; then the one that `listener.plain` stands for. Of several
    /// that take the same name, the first whose further conditions hold gets the connection.
    pub routes: Vec<Route>,
    /// How to terminate; there is one exactly if any route terminates.
    pub termination: Option<Termination>,
    /// A client that is silent for so long waits for its server to speak first, and so is plain; `None`:
    /// no pool takes plain connections.
    pub silent_after: Option<Duration>,
    /// The largest ClientHello, with its record headers, bytes.
    pub sniff_max: usize,
    /// What comes before the ClientHello; `None`: nothing.
    pub starttls: Option<StartTls>,
}

/// `[[listener.route]]`
#[derive(Clone, Debug)]
pub struct Route {
    /// Unique within the listener.
    pub name: Arc<str>,
    /// Where it stands: `file:line`. No part of what a configuration means: two routes are equal
    /// wherever they stand.
    pub place: Arc<str>,
    /// Which names it takes.
    pub names: RouteNames,
    /// Application protocols of which the client must offer one; empty: any or none.
    pub alpn: Vec<Arc<str>>,
    /// Networks of which the client must come from one; empty: any. Unix clients match only `any`.
    pub client: Vec<IpNet>,
    /// JA4 fingerprints of which the client must have one; empty: any.
    pub ja4: Vec<Arc<str>>,
    /// What happens to its connections.
    pub target: Target,
    /// Names of which a client's certificate must carry one; empty: any that the CA vouches for.
    pub client_names: Vec<NamePattern>,
    /// What it asks of its clients beyond what its listener asks; `None`: nothing.
    pub entrance: Option<Box<Entrance>>,
}

impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            name,
            place: _,
            names,
            alpn,
            client,
            ja4,
            target,
            client_names,
            entrance,
        } = self;
        *name == other.name
            && *names == other.names
            && *alpn == other.alpn
            && *client == other.client
            && *ja4 == other.ja4
            && *target == other.target
            && *client_names == other.client_names
            && *entrance == other.entrance
    }
}

/// Which connections a route takes; at least one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent kinds of connections, one each"
)]
pub struct RouteNames {
    /// `sni`
    pub sni: Vec<NamePattern>,
    /// A ClientHello without a name.
    pub no_sni: bool,
    /// Any name that no route matches by name, and a hello without a name that no route takes.
    pub default: bool,
    /// Connections that are not TLS; a route that takes them has no `sni`, `alpn` and `ja4`, and does
    /// not terminate.
    pub plain: bool,
}

/// What happens to a route's connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The bytes go on to the pool untouched.
    Pass(Arc<str>),
    /// TLS ends here; the pool gets what was inside.
    Terminate(Arc<str>),
    /// Refused.
    Reject,
}

/// `[listener.tls]`
#[derive(Clone, Debug, PartialEq)]
pub struct Termination {
    /// In the file's order; at least one.
    pub certificates: Vec<Certificate>,
    /// What a client gets whose name no certificate carries, or that gives none; `None`: it is refused.
    pub default_certificate: Option<usize>,
    /// The oldest version spoken.
    pub min_version: TlsVersion,
    /// The newest version spoken; not older than the oldest.
    pub max_version: TlsVersion,
    /// Application protocols, the preferred one first; empty: none is negotiated.
    pub alpn: Vec<Arc<str>>,
    /// Whether clients show certificates.
    pub client_auth: ClientAuth,
    /// How sessions are resumed.
    pub tickets: Tickets,
    /// Handshakes that one worker may have under way; at least 1.
    pub handshakes_max: u32,
    /// Handshakes that one source may begin; `None`: as many as it likes.
    pub handshake_rate: Option<Rate>,
}

/// An entry of `listener.tls.certificates`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// PEM: the certificate, then those that vouch for it.
    pub chain: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
    /// DER: an OCSP response to staple.
    pub ocsp: Option<PathBuf>,
}

/// A version of TLS; the older one is less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// `listener.tls.client_auth`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// No certificate is asked for.
    Off,
    /// One is asked for; what is shown must be valid.
    Request(ClientCa),
    /// Without a valid one the handshake fails.
    Require(ClientCa),
}

/// What clients' certificates are checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCa {
    /// PEM: the authorities.
    pub ca: PathBuf,
    /// PEM: revoked certificates.
    pub crl: Option<PathBuf>,
}

/// How sessions are resumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tickets {
    /// They are not.
    Off,
    /// With keys of this process, changed so often.
    Rotating(Duration),
    /// With the keys of a file, shared by machines: 80 bytes each in base64, one a line, the current
    /// one first.
    File(PathBuf),
}

/// So many within so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many; at least 1.
    pub count: u32,
    /// Within how long.
    pub per: Duration,
}

/// `listener.proxy_protocol`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyReceive {
    /// Whether a trusted peer may leave the header out.
    pub header: ProxyHeader,
    /// Who may send one; at least one network, unless every address of the listener is a unix socket.
    /// Unix peers are always trusted.
    pub trusted: Vec<IpNet>,
}

/// Whether a header must come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// It may be left out.
    Optional,
    /// It must come.
    Require,
}

/// `listener.starttls`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartTls {
    /// PostgreSQL's SSLRequest.
    Postgres,
}

/// `pool.proxy_protocol`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySend {
    /// The form of the header.
    pub version: ProxyVersion,
    /// What else is said; nothing in version 1.
    pub tlvs: ProxyTlvs,
}

/// `pool.proxy_protocol.send`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// One line of text.
    V1,
    /// Binary.
    V2,
}

/// What a header of version 2 says besides addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent parts of the header, one each"
)]
pub struct ProxyTlvs {
    /// The application protocol that was negotiated or offered first.
    pub alpn: bool,
    /// The name the client asked for.
    pub authority: bool,
    /// The session's id.
    pub unique_id: bool,
    /// What was negotiated when TLS ends here, and the client certificate's common name.
    pub ssl: bool,
    /// A checksum of the header.
    pub crc32c: bool,
    /// Types that are passed on from the header that was received; none that this header has anyway.
    pub pass: Vec<u8>,
    /// Types 0xE0 to 0xF7 with fixed values of at most 256 bytes.
    pub custom: Vec<(u8, Arc<str>)>,
}

/// `pool.tls`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolTls {
    /// Whom backends are checked against.
    pub verify: Verify,
    /// The name asked for and checked.
    pub sni: PoolSni,
    /// What we show: chain and key, PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Application protocols offered; empty: none.
    pub alpn: Vec<Arc<str>>,
    /// The oldest version spoken.
    pub min_version: TlsVersion,
}

/// `pool.tls.verify`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verify {
    /// The system's authorities.
    System,
    /// The authorities of a PEM file.
    Ca(PathBuf),
    /// Not at all.
    None,
}

/// `pool.tls.sni`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolSni {
    /// Always this name.
    Fixed(Arc<str>),
    /// The name the client asked for; the backend's own where it gave none.
    Client,
    /// The backend's host name, or its IP address, which goes unsaid in the hello (RFC 6066 §3).
    Backend,
}
