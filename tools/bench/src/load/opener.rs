//! Opens connections in the way that a plan asks for.

use std::net::SocketAddr;

use anyhow::Result;

use crate::pattern::Request;

use super::connection::{Connection, Fault, Start};
use super::tls::{Clients, Complete, hellos};
use super::{Dialect, Plan};

/// Opens the connections of a plan.
pub(super) struct Opener {
    target: SocketAddr,
    source: Source,
}

enum Source {
    Plain,
    Tls(Clients),
    /// ClientHellos, and the number of the next one.
    Hello(Vec<Vec<u8>>, usize),
}

impl Opener {
    pub(super) fn new(plan: &Plan) -> Result<Self> {
        let source = match &plan.dialect {
            Dialect::Plain => Source::Plain,
            Dialect::Tls(client) => Source::Tls(Clients::new(client, plan.connections)?),
            Dialect::Hello { names } => Source::Hello(hellos((*names).max(1))?, 0),
        };
        Ok(Self {
            target: plan.target,
            source,
        })
    }

    /// Begins to connect for a slot.
    pub(super) fn open(&mut self, slot: usize, request: Request) -> Result<Connection, Fault> {
        let start = match &mut self.source {
            Source::Plain => Start::Plain,
            Source::Tls(clients) => {
                let (tls, must_resume) = clients.connection(slot).map_err(|_| Fault::Tls)?;
                Start::Tls {
                    tls: Box::new(tls),
                    must_resume,
                }
            }
            Source::Hello(hellos, next) => {
                let place = *next % hellos.len();
                *next += 1;
                Start::Hello(hellos[place].clone())
            }
        };
        Connection::open(self.target, request, start)
    }

    /// The request of a slot has its response.
    pub(super) fn completed(&mut self, slot: usize) {
        if let Source::Tls(clients) = &mut self.source {
            clients.remember(slot, Complete::Yes);
        }
    }

    /// The request of a slot came to nothing: what was remembered of its sessions is in doubt.
    pub(super) fn failed(&mut self, slot: usize) {
        if let Source::Tls(clients) = &mut self.source {
            clients.remember(slot, Complete::No);
        }
    }
}
