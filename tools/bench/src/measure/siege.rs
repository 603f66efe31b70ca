//! Clients that are served while others that nobody wants besiege the balancer, and its configuration is
//! read again and again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::backend::{self, Opening};
use crate::load::{Dialect, Plan};
use crate::peer::{Front, local};
use crate::report::Round;
use crate::siege;

use super::Bench;
use super::case::Case;
use super::exchange::{Shape, round};
use super::front::HELLO_PORT;
use super::loads::{Load, Siege, start_backend};

/// Requests a second of those who are served.
const RATE: f64 = 5_000.0;

/// New connections of the flood a second.
const FLOOD: f64 = 1_000.0;

/// Between two reloads.
const APART: Duration = Duration::from_millis(100);

/// In this the siege is laid.
const PREPARATION: Duration = Duration::from_secs(6);

impl Bench {
    /// Clients with a ClientHello of theirs, over connections that they keep.
    pub(super) fn siege(&self, case: &Case) -> Result<Round> {
        let plan = backend::Plan {
            port: HELLO_PORT,
            ports: 2,
            opening: Opening::Hello,
        };
        let backend = start_backend(&case.load_cores, plan)?;
        let mut setup = self.setup(case);
        setup.backends = vec![local(HELLO_PORT)];
        setup.front = Front::Names(1);
        let started = case.peer.start(&setup, &case.cores)?;
        let plan = Plan {
            dialect: Dialect::Hello { names: 1 },
            watch_load: vec![backend.pid()],
            warm_up: PREPARATION,
            ..self.plan(Shape::keep_alive(64, 64).at_rate(RATE), &started)?
        };
        let mut load = Load::start(&case.load_cores, &plan)?;
        if !case.is_besieged {
            return Ok(round(case.peer.family(), load.outcome()?));
        }
        let begun = Instant::now();
        let siege = siege::Plan {
            target: started.address,
            slow: siege::slow_clients(),
            flood: FLOOD,
        };
        let siege = Siege::start(&case.load_cores, &siege)?;
        ensure!(
            begun.elapsed() < PREPARATION,
            "the siege was laid too late: after {:?}",
            begun.elapsed()
        );
        let running = started
            .running
            .as_ref()
            .context("a peer without a process")?;
        let (signal, _) = case.peer.reload().context("a peer that cannot reload")?;
        let mut number = 0_usize;
        let end = begun + PREPARATION + plan.measure;
        while Instant::now() < end {
            number += 1;
            // Each time other backends, so that there is something to change.
            setup.backends = (HELLO_PORT..).take(1 + number % 2).map(local).collect();
            case.peer.write_configuration(&setup)?;
            running.signal(signal)?;
            std::thread::sleep(APART);
        }
        let outcome = load.outcome()?;
        let besiegers = siege.finish()?;
        ensure!(
            besiegers.slow_ended > 0 && besiegers.flood_ended > besiegers.flood_begun / 4,
            "they were let in: {besiegers:?}"
        );
        Ok(round(case.peer.family(), outcome))
    }
}
