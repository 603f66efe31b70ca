//! Whom to probe, and how, by a snapshot.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::backend::Backend;
use crate::base::address::Endpoint;
use crate::config::model::{Health, ProxySend};
use crate::snapshot::{Pool, Snapshot};
use crate::tls::ServerName;
use crate::tls::live::Encrypting;

/// A backend that is to be probed.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where its state is kept.
    pub backend: Arc<Backend>,
    /// How.
    pub plan: Arc<Plan>,
    /// What it is called by itself; `None`: it is on a unix socket.
    pub name: Option<ServerName<'static>>,
}

/// How the backends of a pool are probed.
#[derive(Debug)]
pub struct Plan {
    /// As configured.
    pub health: Arc<Health>,
    /// The local address to connect from.
    pub source: Option<IpAddr>,
    /// The header that every connection to the pool's backends begins with.
    pub proxy_protocol: Option<ProxySend>,
    /// How connections to the pool's backends are encrypted.
    pub tls: Option<Arc<Encrypting>>,
}

impl Plan {
    fn new(pool: &Pool) -> Option<Self> {
        Some(Self {
            health: Arc::clone(pool.health.as_ref()?),
            source: pool.source,
            proxy_protocol: pool.proxy_protocol.clone(),
            tls: pool.tls.clone(),
        })
    }

    /// Whether probes by `other` mean the same, so that what they have come to holds on.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        self.health == other.health
            && self.source == other.source
            && self.proxy_protocol == other.proxy_protocol
    }
}

impl Target {
    /// Where the probe goes.
    pub fn endpoint(&self) -> Endpoint {
        let Health { address, port, .. } = *self.plan.health;
        match (self.backend.endpoint(), address, port) {
            (Endpoint::Inet(own), address, port) => {
                let ip = address.unwrap_or_else(|| own.ip());
                Endpoint::Inet(SocketAddr::new(ip, port.unwrap_or_else(|| own.port())))
            }
            (Endpoint::Unix(_), Some(ip), Some(port)) => Endpoint::Inet(SocketAddr::new(ip, port)),
            (unix, ..) => unix.clone(),
        }
    }

    /// What an HTTP request is addressed to.
    pub fn host(&self) -> String {
        match (&self.name, self.endpoint()) {
            (Some(ServerName::DnsName(name)), Endpoint::Inet(address)) => {
                format!("{}:{}", name.as_ref(), address.port())
            }
            (_, Endpoint::Inet(address)) => address.to_string(),
            (_, Endpoint::Unix(_)) => "localhost".to_owned(),
        }
    }
}

/// Every backend of the pools that are probed.
pub fn targets(snapshot: &Snapshot) -> Vec<Target> {
    let mut targets = Vec::new();
    for pool in snapshot.pools() {
        let Some(plan) = Plan::new(pool).map(Arc::new) else {
            continue;
        };
        targets.extend(pool.balancer.members().iter().map(|member| Target {
            backend: Arc::clone(&member.backend),
            plan: Arc::clone(&plan),
            name: pool.server_names.get(&member.backend.id().name).cloned(),
        }));
    }
    targets
}
