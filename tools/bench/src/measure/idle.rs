//! Memory of connections that are open and silent.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::load::Plan;
use crate::process::pss_bytes;
use crate::report::Round;

use super::Bench;
use super::case::Case;
use super::exchange::Shape;
use super::front::Access;
use super::loads::Load;

/// Long enough for whatever a program tidies up after its work.
const SETTLE: Duration = Duration::from_millis(700);

/// Connections opened and closed before the first reading, so that what is set up once is there.
const FIRST: usize = 10;

impl Bench {
    /// So many connections of this kind.
    pub(super) fn idle(&self, connections: usize, access: &Access, case: &Case) -> Result<Round> {
        let mut setup = self.setup(case);
        setup.front = access.front.clone();
        let started = case.peer.start(&setup, &case.cores)?;
        let running = started
            .running
            .as_ref()
            .context("a peer without a process")?;
        let once = |connections| -> Result<Plan> {
            Ok(Plan {
                dialect: access.dialect.clone(),
                ..self.plan(Shape::once(connections, 64, 64), &started)?
            })
        };
        let first = once(FIRST)?;
        let mut load = Load::start(&case.load_cores, &first)?;
        let mut errors = load.outcome()?.errors;
        errors = errors.plus(load.finish()?);
        std::thread::sleep(SETTLE);

        let before = pss_bytes(&running.tree()?)?;
        let plan = once(connections)?;
        let mut load = Load::start(&case.load_cores, &plan)?;
        let outcome = load.outcome()?;
        std::thread::sleep(SETTLE);
        let after = pss_bytes(&running.tree()?)?;
        // The outcome's errors and those of connections that did not stay open.
        errors = errors.plus(outcome.errors).plus(load.finish()?);
        Ok(Round {
            spent: Some(after - before),
            units: connections as f64,
            errors,
            ..Round::default()
        })
    }
}
