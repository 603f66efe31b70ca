//! Bulk: iperf3 for the figures, and before that our own generator for every byte.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::load::{Errors, Outcome, Plan};
use crate::peer::{listens, local};
use crate::process::{Running, cpu_s, pinned};
use crate::report::{Family, Round};

use super::Bench;
use super::case::Case;
use super::exchange;
use super::loads::Load;

/// Where the iperf3 server listens.
const IPERF_PORT: u16 = 9_500;

/// Bytes whose every one is checked, each way.
const VERIFIED: u32 = 64 << 20;

/// Bytes moved before the clocks are read.
const WARM_UP: &str = "128M";

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Direction {
    /// From client to server.
    Up,
    /// From server to client.
    Down,
}

/// One kind of bulk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    direction: Direction,
    connections: u32,
}

impl Shape {
    pub(super) fn new(direction: Direction, connections: u32) -> Self {
        Self {
            direction,
            connections,
        }
    }
}

impl Bench {
    pub(super) fn bulk(&self, shape: Shape, case: &Case, number: usize) -> Result<Round> {
        let errors = if number == 0 {
            self.verify(case)?
        } else {
            Errors::default()
        };
        let mut setup = self.setup(case);
        setup.backends = vec![local(IPERF_PORT)];
        let started = case.peer.start(&setup, &case.cores)?;
        let port = started.address.port();
        self.test(case, port, shape, &["-n", WARM_UP])?;
        let watch = match &started.running {
            Some(running) => running.tree()?,
            None => Vec::new(),
        };
        let before = cpu_s(&watch)?;
        // iperf3 takes whole seconds.
        let seconds = self.settings.seconds.ceil().max(1.0).to_string();
        let result = self.test(case, port, shape, &["-t", &seconds])?;
        let spent = cpu_s(&watch)? - before;
        let mut round = read(&result, case.peer.family(), spent)?;
        round.errors = errors;
        Ok(round)
    }

    /// One run of iperf3, each with a server of its own: a server is deaf for a while between two.
    fn test(&self, case: &Case, port: u16, shape: Shape, extent: &[&str]) -> Result<Value> {
        let command = ["iperf3", "-s", "-1", "-p", &IPERF_PORT.to_string()].map(str::to_owned);
        let log = self.scratch.join("iperf3.log");
        let mut server = Running::start(&case.load_cores, &command, &log)
            .context("iperf3, of the package of that name")?;
        server.wait_until(|_| listens(IPERF_PORT))?;
        client(&case.load_cores, port, shape, extent)
    }

    /// Sends and fetches a pattern through the peer and compares it byte by byte.
    fn verify(&self, case: &Case) -> Result<Errors> {
        let setup = self.setup(case);
        let started = case.peer.start(&setup, &case.cores)?;
        let mut errors = Errors::default();
        for (request, response) in [(VERIFIED, 64), (64, VERIFIED)] {
            let shape = exchange::Shape::once(1, request, response);
            let plan = Plan {
                timeout: Duration::from_secs(60),
                ..self.plan(shape, &started)?
            };
            let mut load = Load::start(&case.load_cores, &plan)?;
            let outcome: Outcome = load.outcome()?;
            errors = errors.plus(outcome.errors);
            let intact = outcome.latency.is_some() || outcome.completed == 1;
            ensure!(
                intact || outcome.errors.total() > 0,
                "the verified pass neither ended nor failed"
            );
        }
        Ok(errors)
    }
}

fn client(cores: &[usize], port: u16, shape: Shape, extent: &[&str]) -> Result<Value> {
    let port = port.to_string();
    let connections = shape.connections.to_string();
    let fixed = [
        "iperf3",
        "-c",
        "127.0.0.1",
        "-p",
        &port,
        "-J",
        "-P",
        &connections,
    ];
    let mut command: Vec<String> = fixed.map(str::to_owned).to_vec();
    if shape.direction == Direction::Down {
        command.push("-R".to_owned());
    }
    command.extend(extent.iter().copied().map(str::to_owned));
    let output = pinned(cores, &command)?.output().context("iperf3")?;
    let result: Value = serde_json::from_slice(&output.stdout).with_context(|| {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        format!("iperf3 says `{}`", text.trim_end())
    })?;
    if let Some(error) = result.get("error") {
        bail!("iperf3: {error}");
    }
    Ok(result)
}

fn read(result: &Value, family: Family, balancer_s: f64) -> Result<Round> {
    let number = |pointer: &str| {
        result
            .pointer(pointer)
            .and_then(Value::as_f64)
            .with_context(|| format!("iperf3's report has no {pointer}"))
    };
    let wall_s = number("/end/sum_received/seconds")?;
    let used = number("/end/cpu_utilization_percent/host_total")?
        + number("/end/cpu_utilization_percent/remote_total")?;
    let load_cpu_s = used / 100.0 * wall_s;
    Ok(Round {
        spent: Some(if family == Family::Direct {
            load_cpu_s
        } else {
            balancer_s
        }),
        units: number("/end/sum_received/bytes")?,
        wall_s,
        load_cpu_s: Some(load_cpu_s),
        ..Round::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::read;
    use crate::report::Family;

    #[test]
    fn figures_of_iperf3_are_read() {
        let result = json!({"end": {
            "sum_received": {"bytes": 4_000_000_000_u64, "seconds": 2.0},
            "cpu_utilization_percent": {"host_total": 30.0, "remote_total": 20.0},
        }});
        let balanced = read(&result, Family::Haproxy, 0.5).unwrap();
        assert_eq!(balanced.cost().unwrap() * 1e9, 0.125);
        assert_eq!(balanced.rate().unwrap(), 2e9);
        let direct = read(&result, Family::Direct, 0.0).unwrap();
        assert_eq!(direct.spent, Some(1.0));
    }

    #[test]
    fn a_report_without_figures_is_an_error() {
        assert!(read(&json!({"end": {}}), Family::Direct, 0.0).is_err());
    }
}
