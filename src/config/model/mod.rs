//! The configuration with every default filled in and every reference checked.
//!
//! Nothing here can mean "default", and no two fields can contradict each other.

mod health;
mod limits;
mod outcomes;
mod overload;
mod parting;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::base::address::{Address, Endpoint};

pub use health::{AllDown, BytesPattern, Exchange, Expect, Health, HttpProbe, Initial, Probe};
pub use limits::{Access, Action, Enforcement, Entrance, Limits};
pub use outcomes::{Breaker, Outliers};
pub use overload::{Memory, Overload, OverloadAction, OverloadReady};
pub use parting::{Parting, Partings};
pub use tls::{
    ACME_TLS, Certificate, ClientAuth, ClientCa, PoolSni, PoolTls, ProxyHeader, ProxyReceive,
    ProxySend, ProxyTlvs, ProxyVersion, Rate, Route, RouteNames, Routes, Routing, StartTls, Target,
    Termination, Tickets, TlsVersion, Verify,
};

/// A whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// `[global]`
    pub global: Global,
    /// `[admin]`
    pub admin: Admin,
    /// `[log]`
    pub log: Log,
    /// `[[listener]]`, in the file's order.
    pub listeners: Vec<Listener>,
    /// `[pool.NAME]`, in the order of their names.
    pub pools: Vec<Pool>,
}

/// `[global]`
#[derive(Clone, Debug, PartialEq)]
pub struct Global {
    /// Worker threads; at least 1.
    pub workers: usize,
    /// Whether worker n stays on the nth core that the process may run on.
    pub pin: bool,
    /// What the workers wait with.
    pub driver: Driver,
    /// Connections that all listeners together may have; `None`: as many as there are descriptors for.
    pub connections_max: Option<u32>,
    /// When the process takes no more clients; `None`: never.
    pub overload: Option<Overload>,
    /// How a stop goes.
    pub shutdown: Shutdown,
    /// DNS servers to ask instead of the system's; empty: the system's.
    pub nameservers: Vec<SocketAddr>,
}

/// `global.driver`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring where the kernel allows it, else epoll.
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// epoll.
    Epoll,
}

/// `[global.shutdown]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// How long to go on accepting after readiness has failed; may be zero.
    pub pre_stop: Duration,
    /// How long sessions may go on after accepting has stopped; may be zero.
    pub drain: Duration,
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Where the admin listener is; `None`: off.
    pub listen: Option<Endpoint>,
    /// The file whose content must be presented as bearer token to change anything; `None`: nothing
    /// may be changed but over a loopback address or a unix socket.
    pub token_file: Option<PathBuf>,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// The least severe of the program's own messages that is written.
    pub level: Level,
    /// Where session lines go.
    pub sessions: SessionLog,
    /// How a session line looks.
    pub format: Format,
    /// When a session line is written.
    pub on: LogOn,
}

/// `log.level`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Only what stops ringlane from working.
    Error,
    /// What an operator should look at, too.
    Warn,
    /// What an operator did, too.
    Info,
    /// What a developer wants, too.
    Debug,
}

/// `log.sessions`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionLog {
    /// No session lines.
    Off,
    /// To standard output.
    Stdout,
    /// Appended to a file.
    File(PathBuf),
}

/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// `key=value` pairs.
    Text,
}

/// `log.on`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogOn {
    /// One line when a session ends.
    Close,
    /// One line when it begins, too.
    OpenAndClose,
}

/// `[[listener]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Unique among listeners.
    pub name: Arc<str>,
    /// Every address, port ranges spelt out; at least one, no two alike among all listeners.
    pub listen: Vec<Endpoint>,
    /// Where its connections go; every name is that of a pool in [`Model::pools`].
    pub routing: Routing,
    /// Who says in the PROXY protocol whom it speaks for; `None`: nobody.
    pub proxy_protocol: Option<ProxyReceive>,
    /// Who may connect.
    pub access: Access,
    /// How many, and how often.
    pub limits: Limits,
    /// How bytes are moved.
    pub relay: Relay,
    /// How long a session may do what.
    pub timeouts: Timeouts,
    /// How the listening sockets are set up.
    pub socket: SocketOptions,
}

/// `listener.relay`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relay {
    /// Copy small messages, splice bulk.
    Auto,
    /// Splice everything.
    Splice,
    /// Copy everything.
    Copy,
}

/// `listener.timeouts`; no duration here is zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timeouts {
    /// Silence in both directions.
    pub idle: Duration,
    /// Silence after one side has finished.
    pub half_closed: Duration,
    /// From the backend's connection to its first byte; `None`: off.
    pub first_byte: Option<Duration>,
    /// From accept to close; `None`: off.
    pub max_lifetime: Option<Duration>,
    /// Until the client has said enough to be routed: its PROXY header and its ClientHello.
    pub sniff: Duration,
    /// A TLS handshake, with the client or with a backend.
    pub handshake: Duration,
    /// How far the lifetime of one session may be off either way, percent, 0 to 100.
    pub lifetime_jitter: u8,
}

/// How listening sockets are set up; accepted sockets inherit the TCP part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches of the kernel, one each"
)]
pub struct SocketOptions {
    /// Connections that may wait to be accepted, each socket.
    pub backlog: u32,
    /// Wake only when the client has sent something, for so long; `None`: off.
    pub defer_accept: Option<Duration>,
    /// Connections whose first bytes came in their SYN that may wait; `None`: off.
    pub fastopen: Option<u32>,
    /// Send small segments at once.
    pub nodelay: bool,
    /// Probe silent peers; `None`: off.
    pub keepalive: Option<Keepalive>,
    /// Accept connections to addresses that are not ours (IP_TRANSPARENT).
    pub transparent: bool,
    /// Multipath TCP where the kernel has it.
    pub mptcp: bool,
    /// An IPv6 address takes no IPv4 connections.
    pub v6only: bool,
    /// Permission bits of unix sockets.
    pub unix_mode: u32,
}

/// TCP keepalive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe; whole seconds.
    pub idle: Duration,
    /// Between probes; whole seconds.
    pub interval: Duration,
    /// Unanswered probes before the connection counts as broken.
    pub count: u32,
}

/// `[pool.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Unique among pools.
    pub name: Arc<str>,
    /// How a backend is chosen.
    pub balance: Balance,
    /// In the file's order; at least one; names and addresses unique within the pool.
    pub backends: Vec<Backend>,
    /// How connections to backends are made.
    pub connect: Connect,
    /// How long a backend that comes beside others takes to get its whole share; `None`: off.
    pub slow_start: Option<Duration>,
    /// How clients wait while every backend is full; `None`: they do not.
    pub queue: Option<Waiting>,
    /// Retries allowed, percent of the connections of the last 10 s; never less than 3 a second.
    pub retry_budget: u8,
    /// The local address of connections to backends; `None`: the kernel's choice.
    pub source: Option<IpAddr>,
    /// What backends are told of the client; `None`: nothing.
    pub proxy_protocol: Option<ProxySend>,
    /// How connections to backends are encrypted; `None`: not by us.
    pub tls: Option<PoolTls>,
    /// How backends are probed; `None`: not at all, and none is ever down.
    pub health: Option<Health>,
    /// What happens to clients once all backends are down.
    pub all_down: AllDown,
    /// What becomes of the sessions of a backend that leaves.
    pub partings: Partings,
    /// Which backends are ejected because of their failures, and for how long.
    pub outliers: Outliers,
    /// What the pool is spared; `None`: nothing.
    pub breaker: Option<Breaker>,
}

/// `pool.balance`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// In turn, by weight.
    RoundRobin,
    /// The fewest active connections for its weight.
    LeastConnections,
    /// The better of two chosen at random by weight.
    RandomTwo,
    /// The better of two by connect time and connections, for its weight.
    PeakEwma,
    /// By the client's address, so that a client stays with its backend.
    SourceHash {
        /// How many leading bits of an IPv6 address count: 1 to 128.
        ipv6_prefix: u8,
    },
    /// The first in the file's order that can be used.
    First,
}

/// `pool.queue` and `pool.queue_timeout`; neither is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Clients that may wait.
    pub most: u32,
    /// How long one may.
    pub timeout: Duration,
}

/// `pool.connect`; no duration here is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect {
    /// One attempt.
    pub timeout: Duration,
    /// Backends tried at the most, 1 to [`crate::base::limits::CONNECT_ATTEMPTS_MAX`].
    pub attempts: u8,
    /// All attempts together.
    pub total: Duration,
}

/// `[[pool.NAME.backend]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// Unique within the pool; the address where the file gives no name.
    pub name: Arc<str>,
    /// Where it is.
    pub address: Address,
    /// Its share; 0 takes no new connections.
    pub weight: u16,
    /// Used only when no lower tier can be.
    pub tier: u8,
    /// The most connections at a time; 0: any number.
    pub max_connections: u32,
}
