//! What a run found: the JSON that is written, and the figures that are drawn from it.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::load::{Errors, Latency};
use crate::statistics::{Interval, Spread, median};
use crate::workload::Workload;

/// A whole run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Report {
    /// The machine and its settings.
    pub environment: Environment,
    /// The flags that shape the measurement.
    pub settings: Settings,
    /// What was measured.
    pub peers: Vec<PeerInfo>,
    /// One entry for each workload, in the order they ran.
    pub workloads: Vec<Measured>,
}

/// The machine and its settings.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Environment {
    /// When the run began, UTC.
    pub date: String,
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name.
    pub cpu: String,
    /// Cores this run may use.
    pub cores: usize,
    /// Memory of the machine.
    pub memory: String,
    /// The limit of open files, hard and soft.
    pub open_files: u64,
    /// Kernel settings inside the namespace.
    pub settings: Vec<(String, String)>,
}

/// The flags that shape the measurement.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Settings {
    /// Rounds of each workload.
    pub rounds: usize,
    /// Length of a measured window.
    pub seconds: f64,
    /// The core of the balancer.
    pub balancer_core: usize,
    /// The cores of load generator and backends.
    pub load_cores: Vec<usize>,
    /// Connections of `idle`.
    pub idle_connections: usize,
    /// The revision that `here` is compared with.
    pub against: Option<String>,
}

/// A measured program.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PeerInfo {
    /// As it is selected and shown.
    pub name: String,
    /// Whose program it is.
    pub family: Family,
    /// The file that was run.
    pub program: String,
    /// What the program calls itself.
    pub version: String,
    /// Its command line.
    pub command: Vec<String>,
    /// Its configuration, with one backend.
    pub configuration: String,
    /// Its configurations for workloads of other kinds, by kind.
    #[serde(default)]
    pub others: Vec<(String, String)>,
}

/// Whose program a peer is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// This repository's.
    Ringlane,
    /// HAProxy.
    Haproxy,
    /// nginx with its stream module.
    Nginx,
    /// Envoy.
    Envoy,
    /// No balancer: what the load itself costs.
    Direct,
}

/// One workload over all peers.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Measured {
    /// Which.
    pub workload: Workload,
    /// What the figures do not say by themselves.
    pub notes: Vec<String>,
    /// One row for each peer.
    pub rows: Vec<Row>,
    /// With a revision to compare with: cost of `here` over that of the revision, round by round.
    pub paired: Option<Interval>,
}

/// One workload over one peer.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Row {
    /// The peer's name.
    pub peer: String,
    /// Whose program it is.
    pub family: Family,
    /// Spread of the cost of a unit.
    pub cost: Option<Spread>,
    /// Spread of units a second.
    pub rate: Option<Spread>,
    /// Every round.
    pub rounds: Vec<Round>,
}

/// One round of one peer, as measured.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Round {
    /// Its number; rounds of equal number ran one after the other.
    pub number: usize,
    /// CPU seconds, or bytes of memory for `idle`; none where the cost means nothing.
    pub spent: Option<f64>,
    /// Units of work done for that.
    pub units: f64,
    /// The time it took.
    pub wall_s: f64,
    /// CPU seconds of load generator and backends.
    pub load_cpu_s: Option<f64>,
    /// CPU seconds of processes that are no part of the run, where measured.
    pub foreign_cpu_s: Option<f64>,
    /// Latencies, where measured.
    pub latency: Option<Latency>,
    /// Errors by kind.
    pub errors: Errors,
    /// An error that left nothing to count.
    pub fault: Option<String>,
}

impl Round {
    /// Cost of one unit.
    pub fn cost(&self) -> Option<f64> {
        let spent = self.spent?;
        (self.units > 0.0).then(|| spent / self.units)
    }

    /// Units a second.
    pub fn rate(&self) -> Option<f64> {
        (self.wall_s > 0.0).then(|| self.units / self.wall_s)
    }
}

impl Row {
    /// Sums up the rounds.
    pub fn new(peer: String, family: Family, rounds: Vec<Round>) -> Self {
        Self {
            peer,
            family,
            cost: Spread::of(rounds.iter().filter_map(Round::cost)),
            rate: Spread::of(rounds.iter().filter_map(Round::rate)),
            rounds,
        }
    }

    fn extend(&mut self, mut more: Vec<Round>) {
        let next = self.rounds.iter().map(|round| round.number + 1).max();
        for round in &mut more {
            round.number += next.unwrap_or(0);
        }
        self.rounds.append(&mut more);
        *self = Self::new(
            self.peer.clone(),
            self.family,
            std::mem::take(&mut self.rounds),
        );
    }

    /// The median over rounds of one figure of the latencies.
    pub fn latency(&self, figure: impl Fn(&Latency) -> f64) -> Option<f64> {
        median(
            self.rounds
                .iter()
                .filter_map(|round| round.latency.as_ref().map(&figure)),
        )
    }

    /// Errors of all rounds.
    pub fn errors(&self) -> Errors {
        self.rounds
            .iter()
            .fold(Errors::default(), |sum, round| sum.plus(round.errors))
    }

    /// Whether anything went wrong.
    pub fn is_faulty(&self) -> bool {
        self.errors().total() > 0 || self.rounds.iter().any(|round| round.fault.is_some())
    }

    /// What the workload is judged by: the cost, or the 99.9th percentile, or the 99th.
    pub fn figure(&self, workload: Workload) -> Option<f64> {
        if workload == Workload::Siege {
            self.latency(|latency| latency.p99)
        } else if workload.is_judged_by_latency() {
            self.latency(|latency| latency.p999)
        } else {
            self.cost.map(|spread| spread.median)
        }
    }
}

impl Measured {
    /// A peer's row.
    pub fn row(&self, peer: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.peer == peer)
    }

    /// The row that a family does best with.
    pub fn best(&self, families: &[Family]) -> Option<&Row> {
        self.rows
            .iter()
            .filter(|row| families.contains(&row.family) && !row.is_faulty())
            .filter_map(|row| Some((row.figure(self.workload)?, row)))
            .min_by(|(left, _), (right, _)| left.total_cmp(right))
            .map(|(_, row)| row)
    }

    /// A peer's figure over that of the best of HAProxy and nginx, and where TLS ends in the balancer, of
    /// Envoy too if it took part.
    pub fn over_best(&self, row: &Row) -> Option<f64> {
        let families: &[Family] = if self.workload.terminates() {
            &[Family::Haproxy, Family::Nginx, Family::Envoy]
        } else {
            &[Family::Haproxy, Family::Nginx]
        };
        let best = self.best(families)?;
        Some(row.figure(self.workload)? / best.figure(self.workload)?)
    }
}

impl Report {
    /// What was measured of a workload.
    pub fn measured(&self, workload: Workload) -> Option<&Measured> {
        self.workloads.iter().find(|it| it.workload == workload)
    }

    /// Whether any row holds an error.
    pub fn is_faulty(&self) -> bool {
        self.workloads
            .iter()
            .any(|measured| measured.rows.iter().any(Row::is_faulty))
    }

    /// Reads a report that was written with `--json`.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is not a report of this tool", path.display()))
    }

    /// Adds the rounds of another run to those of this one, workload by workload and peer by peer: where a
    /// machine is noisy, several runs say more than one. What only one of them measured stays as it is.
    ///
    /// # Errors
    /// Another machine, or another set-up of a peer.
    pub fn pool(&mut self, other: Self) -> Result<()> {
        let machine = |it: &Self| (it.environment.cpu.clone(), it.environment.kernel.clone());
        ensure!(machine(self) == machine(&other), "runs on two machines");
        for peer in &other.peers {
            let known = self.peers.iter().find(|it| it.name == peer.name);
            let same = known.is_none_or(|known| known.version == peer.version);
            ensure!(same, "two versions of {}", peer.name);
        }
        self.settings.rounds += other.settings.rounds;
        for measured in other.workloads {
            let mine = self.workloads.iter_mut();
            let Some(mine) = mine.into_iter().find(|it| it.workload == measured.workload) else {
                self.workloads.push(measured);
                continue;
            };
            mine.paired = None;
            for note in measured.notes {
                if !mine.notes.contains(&note) {
                    mine.notes.push(note);
                }
            }
            for row in measured.rows {
                match mine.rows.iter_mut().find(|it| it.peer == row.peer) {
                    Some(known) => known.extend(row.rounds),
                    None => mine.rows.push(row),
                }
            }
        }
        Ok(())
    }

    /// Writes the report.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self).context("report as JSON")?;
        text.push('\n');
        std::fs::write(path, text).with_context(|| path.display().to_string())
    }
}
