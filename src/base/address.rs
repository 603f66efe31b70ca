//! Where a connection comes from or goes to.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// An address that a socket can be bound to or connected to as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// An IP address and port.
    Inet(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// A host name that has to be resolved, with the port to use on every answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// The name as configured, without a trailing dot, in lower case.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
}

/// A backend's address as the configuration gives it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// Usable as it stands.
    Endpoint(Endpoint),
    /// Each answer for the name becomes an endpoint.
    Name(HostPort),
    /// Each address of each host that the name's SRV records offer becomes one. The name as configured,
    /// without a trailing dot, in lower case.
    Service(Arc<str>),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(endpoint) => endpoint.fmt(f),
            Self::Name(name) => name.fmt(f),
            Self::Service(name) => write!(f, "srv:{name}"),
        }
    }
}
