//! Requests and responses of our own load generator.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::backend::{self, Opening};
use crate::load::{Dialect, Outcome, Pace, Plan, Reuse};
use crate::peer::{Started, local};
use crate::report::{Family, Round};

use super::case::Case;
use super::front::Access;
use super::loads::{Load, start_backend};
use super::{BACKEND_PORT, Bench};

/// Work before each measured window: caches fill, pools and buffers find their size.
const WARM_UP: Duration = Duration::from_millis(400);

/// A request that takes longer is an error.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// Connections of the request workloads.
const CONNECTIONS: usize = 64;

/// Backend processes of a load from many cores listen from here on.
const MANY_PORT: u16 = BACKEND_PORT + 200;

/// What the load generator does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) connections: usize,
    pub(super) request: u32,
    pub(super) response: u32,
    pub(super) reuse: Reuse,
    pub(super) pace: Pace,
}

impl Shape {
    pub(super) fn keep_alive(request: u32, response: u32) -> Self {
        Self {
            connections: CONNECTIONS,
            request,
            response,
            reuse: Reuse::KeepAlive,
            pace: Pace::Closed,
        }
    }

    pub(super) fn churn() -> Self {
        Self {
            reuse: Reuse::Close,
            ..Self::keep_alive(64, 64)
        }
    }

    pub(super) fn once(connections: usize, request: u32, response: u32) -> Self {
        Self {
            connections,
            pace: Pace::Once,
            ..Self::keep_alive(request, response)
        }
    }

    pub(super) fn at_rate(self, rate: f64) -> Self {
        Self {
            pace: Pace::Open(rate),
            ..self
        }
    }
}

impl Bench {
    /// A plan of this shape against a started peer.
    pub(super) fn plan(&self, shape: Shape, started: &Started) -> Result<Plan> {
        let watch = match &started.running {
            Some(running) => running.tree()?,
            None => Vec::new(),
        };
        Ok(Plan {
            target: started.address,
            dialect: Dialect::Plain,
            connections: shape.connections,
            request: shape.request,
            response: shape.response,
            reuse: shape.reuse,
            pace: shape.pace,
            warm_up: if shape.pace == Pace::Once {
                Duration::ZERO
            } else {
                WARM_UP
            },
            measure: Duration::from_secs_f64(self.settings.seconds),
            timeout: TIMEOUT,
            watch,
            watch_load: vec![self.backend.pid()],
        })
    }

    pub(super) fn exchange(&self, shape: Shape, case: &Case) -> Result<Round> {
        self.exchange_through(shape, Access::plain(), case)
    }

    pub(super) fn exchange_through(
        &self,
        shape: Shape,
        access: Access,
        case: &Case,
    ) -> Result<Round> {
        let mut setup = self.setup(case);
        setup.front = access.front;
        let started = case.peer.start(&setup, &case.cores)?;
        let plan = Plan {
            dialect: access.dialect,
            ..self.plan(shape, &started)?
        };
        let mut load = Load::start(&case.load_cores, &plan)?;
        let outcome = load.outcome()?;
        Ok(round(case.peer.family(), outcome))
    }

    /// The same from one load and one backend process on each of the load's cores.
    pub(super) fn exchange_from_many(&self, shape: Shape, case: &Case) -> Result<Round> {
        let mut setup = self.setup(case);
        setup.backends.clear();
        let mut backends = Vec::new();
        for (port, core) in (MANY_PORT..).zip(&case.load_cores) {
            let plan = backend::Plan {
                port,
                ports: 1,
                opening: Opening::Request,
            };
            backends.push(start_backend(&[*core], plan)?);
            setup.backends.push(local(port));
        }
        let started = case.peer.start(&setup, &case.cores)?;
        let plan = self.plan(shape, &started)?;
        let mut loads = Vec::new();
        for (core, backend) in case.load_cores.iter().zip(&backends) {
            let plan = Plan {
                watch_load: vec![backend.pid()],
                ..plan.clone()
            };
            loads.push(Load::start(&[*core], &plan)?);
        }
        let mut sum: Option<Round> = None;
        for load in &mut loads {
            let one = round(case.peer.family(), load.outcome()?);
            sum = Some(match sum {
                // The windows lie over one another; the balancer's CPU time is that of the first.
                Some(sum) => Round {
                    units: sum.units + one.units,
                    errors: sum.errors.plus(one.errors),
                    load_cpu_s: sum.load_cpu_s.zip(one.load_cpu_s).map(|(a, b)| a + b),
                    ..sum
                },
                None => one,
            });
        }
        sum.context("no core for the load")
    }

    pub(super) fn setup(&self, case: &Case) -> crate::peer::Setup {
        let connections_max = Self::connections_max(&self.settings);
        case.peer.setup(&self.scratch, &case.ports, connections_max)
    }
}

/// Without a balancer the cost is that of the load itself.
pub(super) fn round(family: Family, outcome: Outcome) -> Round {
    let spent = if family == Family::Direct {
        outcome.load_cpu_s
    } else {
        outcome.cpu_s
    };
    Round {
        spent: Some(spent),
        units: outcome.completed as f64,
        wall_s: outcome.wall_s,
        load_cpu_s: Some(outcome.load_cpu_s),
        foreign_cpu_s: Some(outcome.foreign_cpu_s),
        latency: outcome.latency,
        errors: outcome.errors,
        ..Round::default()
    }
}
