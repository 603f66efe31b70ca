//! New connections at a steady rate while the configuration is read again and again.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::load::{Plan, Reuse};
use crate::peer::{Peer, Setup, Style, local};
use crate::report::Round;

use super::case::Case;
use super::exchange::{Shape, round};
use super::loads::Load;
use super::{BACKEND_PORT, Bench};

/// New connections a second.
const RATE: f64 = 2_000.0;

const RELOADS: u32 = 5;

const APART: Duration = Duration::from_secs(1);

/// From the beginning of the window to the first reload, and from the last one to its end.
const MARGIN: Duration = Duration::from_millis(800);

/// A connection for every one that is due in the time after which it counts as lost.
const CONNECTIONS: usize = 4_000;

impl Bench {
    pub(super) fn reload(&self, case: &Case) -> Result<Round> {
        let mut setup = self.setup(case);
        setup.style = Style::Reloadable;
        let started = case.peer.start(&setup, &case.cores)?;
        let running = started
            .running
            .as_ref()
            .context("a peer without a process")?;
        let (signal, message) = case.peer.reload().context("a peer that cannot reload")?;
        let shape = Shape {
            connections: CONNECTIONS.min(self.settings.idle_connections),
            reuse: Reuse::Close,
            ..Shape::keep_alive(64, 64).at_rate(RATE)
        };
        let plan = Plan {
            measure: MARGIN + APART * (RELOADS - 1) + MARGIN,
            // Processes come and go, so their CPU time cannot be read at both ends.
            watch: Vec::new(),
            ..self.plan(shape, &started)?
        };
        let mut load = Load::start(&case.load_cores, &plan)?;
        load.wait_for_window()?;
        let mut next = Instant::now() + MARGIN;
        let before = count(&case.peer, &setup, message)?;
        for number in 1..=RELOADS {
            // Each time another backend, so that there is something to change.
            setup.backends = vec![local(BACKEND_PORT + u16::try_from(number % 2)?)];
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            case.peer.write_configuration(&setup)?;
            running.signal(signal)?;
            next += APART;
        }
        let outcome = load.outcome()?;
        let seen = count(&case.peer, &setup, message)? - before;
        if seen < RELOADS as usize {
            bail!(
                "{seen} of {RELOADS} reloads are in the log of {}",
                case.peer.name
            );
        }
        Ok(Round {
            spent: None,
            ..round(case.peer.family(), outcome)
        })
    }
}

/// How often the peer has said that a configuration is in force.
fn count(peer: &Peer, setup: &Setup, message: &str) -> Result<usize> {
    let log = peer.log(setup);
    let text = fs::read_to_string(&log).with_context(|| log.display().to_string())?;
    Ok(text.matches(message).count())
}
