//! Work in which a balancer does more than pass bytes on: TLS ends in it, or it routes by name.

use anyhow::Result;

use crate::backend::{self, Opening};
use crate::certificates::{Certificate, Key};
use crate::load::tls::{Client, Resumption, Version};
use crate::load::{Dialect, Plan};
use crate::peer::{Front, local};
use crate::report::Round;
use crate::workload::Workload;

use super::Bench;
use super::case::Case;
use super::exchange::{Shape, round};
use super::loads::{Load, start_backend};

/// Where the backend that takes ClientHellos listens.
pub(super) const HELLO_PORT: u16 = 9_400;

/// Bytes of one request or response of bulk: so many that what comes between two does not count, so few
/// that the window holds many.
const PIECE: u32 = 4 << 20;

/// Connections of bulk.
const BULK_CONNECTIONS: usize = 4;

/// What the peer is set up for, and what its clients speak.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) front: Front,
    pub(super) dialect: Dialect,
}

impl Access {
    /// Bytes that are passed on.
    pub(super) fn plain() -> Self {
        Self {
            front: Front::Plain,
            dialect: Dialect::Plain,
        }
    }
}

/// A load through TLS that ends in the balancer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Termination {
    shape: Shape,
    key: Key,
    version: Version,
    resumption: Resumption,
    /// How many units one exchange counts for: 1, or its bytes.
    units: u32,
}

impl Termination {
    /// That of a workload that exchanges something; none for others.
    pub(super) fn of(workload: Workload) -> Option<Self> {
        let churn = |key, version, resumption| Self {
            shape: Shape::churn(),
            key,
            version,
            resumption,
            units: 1,
        };
        let full = |key, version| churn(key, version, Resumption::Never);
        let resumed = |version| churn(Key::Ecdsa, version, Resumption::Required);
        let keep_alive = |shape, units| Self {
            shape,
            units,
            ..full(Key::Ecdsa, Version::V13)
        };
        let bulk = |request, response| {
            let shape = Shape {
                connections: BULK_CONNECTIONS,
                ..Shape::keep_alive(request, response)
            };
            keep_alive(shape, PIECE)
        };
        Some(match workload {
            Workload::TlsFullEcdsa13 => full(Key::Ecdsa, Version::V13),
            Workload::TlsFullEcdsa12 => full(Key::Ecdsa, Version::V12),
            Workload::TlsFullRsa13 => full(Key::Rsa, Version::V13),
            Workload::TlsFullRsa12 => full(Key::Rsa, Version::V12),
            Workload::TlsResumed13 => resumed(Version::V13),
            Workload::TlsResumed12 => resumed(Version::V12),
            Workload::TlsSmall => keep_alive(Shape::keep_alive(64, 64), 1),
            Workload::TlsBulkUp => bulk(PIECE, 64),
            Workload::TlsBulkDown => bulk(64, PIECE),
            _ => return None,
        })
    }
}

impl Bench {
    /// Clients that speak this version of TLS, and a peer with that certificate.
    pub(super) fn encrypted(&self, key: Key, version: Version, resumption: Resumption) -> Access {
        let certificate = Certificate::below(&self.scratch, key);
        let client = Client {
            certificate: certificate.chain.clone(),
            version,
            resumption,
        };
        Access {
            front: Front::Tls(certificate),
            dialect: Dialect::Tls(client),
        }
    }

    pub(super) fn terminate(&self, work: Termination, case: &Case) -> Result<Round> {
        let access = self.encrypted(work.key, work.version, work.resumption);
        let round = self.exchange_through(work.shape, access, case)?;
        Ok(Round {
            units: round.units * f64::from(work.units),
            ..round
        })
    }

    /// Churn whose connections begin with a ClientHello for one of so many names.
    pub(super) fn route_by_name(&self, names: usize, case: &Case) -> Result<Round> {
        let plan = backend::Plan {
            port: HELLO_PORT,
            ports: 1,
            opening: Opening::Hello,
        };
        let backend = start_backend(&case.load_cores, plan)?;
        let mut setup = self.setup(case);
        setup.backends = vec![local(HELLO_PORT)];
        setup.front = Front::Names(names);
        let started = case.peer.start(&setup, &case.cores)?;
        let plan = Plan {
            dialect: Dialect::Hello { names },
            watch_load: vec![backend.pid()],
            ..self.plan(Shape::churn(), &started)?
        };
        let mut load = Load::start(&case.load_cores, &plan)?;
        Ok(round(case.peer.family(), load.outcome()?))
    }
}

#[cfg(test)]
mod tests {
    use super::Termination;
    use crate::workload::Workload;

    #[test]
    fn all_that_terminates_has_its_load_except_that_of_memory() {
        for workload in Workload::all() {
            let expected = workload.terminates() && *workload != Workload::TlsIdle;
            assert_eq!(Termination::of(*workload).is_some(), expected, "{workload}");
        }
    }
}
