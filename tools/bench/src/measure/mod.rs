//! The measurement: rounds over peers, each started afresh, in an order that rotates.

mod bulk;
mod case;
mod exchange;
mod front;
mod idle;
mod loads;
mod reload;
mod siege;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::backend::{self, Opening};
use crate::certificates::{self, Key};
use crate::load::tls::{Resumption, Version};
use crate::peer::{BACKEND_PORT, BACKENDS, Peer};
use crate::process::Running;
use crate::report::{Family, Measured, Round, Row, Settings};
use crate::statistics::{Spread, median};
use crate::workload::Workload;

use case::{Case, cases};
use exchange::Shape;
use front::{Access, Termination};
pub(crate) use loads::{run_backend, run_load};

/// A balancer takes so many more sessions than `idle` opens.
const SLACK: usize = 1_000;

/// Connections of `tls-idle`, or fewer if `idle` has fewer: each is a TLS client in the load generator.
const TLS_IDLE_CONNECTIONS: usize = 2_000;

/// Everything that rounds need.
pub(crate) struct Bench {
    peers: Vec<Peer>,
    settings: Settings,
    scratch: PathBuf,
    /// Keeps the backends alive.
    backend: Running,
}

impl Bench {
    /// Starts the backends.
    pub(crate) fn new(peers: Vec<Peer>, settings: Settings, scratch: PathBuf) -> Result<Self> {
        let plan = backend::Plan {
            port: BACKEND_PORT,
            ports: BACKENDS,
            opening: Opening::Request,
        };
        let backend = loads::start_backend(&settings.load_cores, plan)?;
        Ok(Self {
            peers,
            settings,
            scratch,
            backend,
        })
    }

    /// Sessions that a balancer must be able to hold.
    pub(crate) fn connections_max(settings: &Settings) -> usize {
        settings.idle_connections + SLACK
    }

    /// Measures the workloads, one after the other.
    pub(crate) fn run(&mut self, workloads: &[Workload]) -> Result<Vec<Measured>> {
        if workloads.iter().any(|workload| workload.terminates()) {
            certificates::make(&self.scratch)?;
        }
        let mut all: Vec<Measured> = Vec::new();
        for workload in workloads {
            let base = match workload {
                Workload::Latency30 | Workload::Latency70 => {
                    let small = all.iter().find(|it| it.workload == Workload::Small64);
                    Some(small.map_or_else(|| self.calibrate(), slowest)?)
                }
                _ => None,
            };
            all.push(self.measure(*workload, base)?);
        }
        Ok(all)
    }

    /// The rate that the open loops are a share of, where small-64 itself is not asked for.
    fn calibrate(&mut self) -> Result<f64> {
        say("calibration: small-64, one round");
        let rounds = std::mem::replace(&mut self.settings.rounds, 1);
        let measured = self.measure(Workload::Small64, None);
        self.settings.rounds = rounds;
        slowest(&measured?)
    }

    fn measure(&mut self, workload: Workload, base: Option<f64>) -> Result<Measured> {
        let (cases, mut notes) = cases(workload, &self.peers, &self.settings);
        let mut rounds: Vec<Vec<Round>> = vec![Vec::new(); cases.len()];
        let mut work = Work::of(workload);
        if let (Work::Exchange(shape), Some(base)) = (&mut work, base) {
            let share = if workload == Workload::Latency30 {
                0.3
            } else {
                0.7
            };
            let rate = (base * share).round();
            notes.push(format!(
                "{rate} requests/s: {:.0} % of the {base:.0} that the slowest peer reached in small-64",
                share * 100.0
            ));
            *shape = shape.at_rate(rate);
        }
        for number in 0..rounds_of(workload, self.settings.rounds) {
            for turn in 0..cases.len() {
                let place = (turn + number) % cases.len();
                let case = &cases[place];
                let round = match self.round(workload, &work, case, number) {
                    Ok(round) => checked(Round { number, ..round }),
                    Err(error) => Round {
                        number,
                        fault: Some(format!("{error:#}")),
                        ..Round::default()
                    },
                };
                report(workload, &case.label, &round);
                rounds[place].push(round);
            }
        }
        let rows = cases
            .into_iter()
            .zip(rounds)
            .map(|(case, rounds)| Row::new(case.label.clone(), case.peer.family(), rounds))
            .collect();
        let mut measured = Measured {
            workload,
            notes,
            rows,
            paired: None,
        };
        note_saturation(&mut measured);
        note_company(&mut measured);
        Ok(measured)
    }

    fn round(
        &mut self,
        workload: Workload,
        work: &Work,
        case: &Case,
        number: usize,
    ) -> Result<Round> {
        match work {
            Work::Exchange(shape)
                if case.load_cores.len() > 1 && workload == Workload::TwoWorkers =>
            {
                self.exchange_from_many(*shape, case)
            }
            Work::Exchange(shape) => self.exchange(*shape, case),
            Work::Bulk(shape) => self.bulk(*shape, case, number),
            Work::Idle => {
                let connections = self.settings.idle_connections;
                self.idle(connections, &Access::plain(), case)
            }
            Work::Terminated(work) => self.terminate(*work, case),
            Work::TlsIdle => {
                let connections = self.settings.idle_connections.min(TLS_IDLE_CONNECTIONS);
                let access = self.encrypted(Key::Ecdsa, Version::V13, Resumption::Never);
                self.idle(connections, &access, case)
            }
            Work::ByName => self.route_by_name(case.names, case),
            Work::Reload => self.reload(case),
            Work::Siege => self.siege(case),
        }
    }
}

/// Work that cost nothing was not measured, whatever the clocks say.
fn checked(round: Round) -> Round {
    let free = round.spent.is_some_and(|spent| spent <= 0.0);
    let fault = if free {
        "the clocks of its processes did not advance"
    } else if round.units <= 0.0 {
        "no work was done"
    } else {
        return round;
    };
    Round {
        spent: None,
        fault: Some(fault.to_owned()),
        ..round
    }
}

/// What is done in a round.
enum Work {
    Exchange(Shape),
    Bulk(bulk::Shape),
    Idle,
    Reload,
    Siege,
    Terminated(Termination),
    TlsIdle,
    ByName,
}

impl Work {
    fn of(workload: Workload) -> Self {
        use bulk::Direction::{Down, Up};
        if let Some(work) = Termination::of(workload) {
            return Self::Terminated(work);
        }
        match workload {
            Workload::Small64
            | Workload::Latency30
            | Workload::Latency70
            | Workload::ProtectedSmall64 => Self::Exchange(Shape::keep_alive(64, 64)),
            Workload::Small1k | Workload::TwoWorkers => {
                Self::Exchange(Shape::keep_alive(1_024, 1_024))
            }
            Workload::Churn | Workload::Backends100 | Workload::ProtectedChurn => {
                Self::Exchange(Shape::churn())
            }
            Workload::Response100k => Self::Exchange(Shape::keep_alive(64, 102_400)),
            Workload::BulkUp1 => Self::Bulk(bulk::Shape::new(Up, 1)),
            Workload::BulkUp8 => Self::Bulk(bulk::Shape::new(Up, 8)),
            Workload::BulkDown1 => Self::Bulk(bulk::Shape::new(Down, 1)),
            Workload::BulkDown8 => Self::Bulk(bulk::Shape::new(Down, 8)),
            Workload::Idle => Self::Idle,
            Workload::Reload => Self::Reload,
            Workload::Siege => Self::Siege,
            Workload::Sni1 | Workload::Sni1000 => Self::ByName,
            // The others that terminate have been found above.
            _ => Self::TlsIdle,
        }
    }
}

/// Memory hardly varies, and a round of reloads is long: three of these show their spread.
fn rounds_of(workload: Workload, rounds: usize) -> usize {
    match workload {
        Workload::Idle | Workload::TlsIdle | Workload::Reload | Workload::Siege => rounds.min(3),
        _ => rounds,
    }
}

fn slowest(small: &Measured) -> Result<f64> {
    small
        .rows
        .iter()
        .filter(|row| row.family != Family::Direct)
        .filter_map(|row| median(row.rounds.iter().filter_map(Round::rate)))
        .min_by(f64::total_cmp)
        .context("no peer got through small-64, so there is no rate for an open loop")
}

/// An open loop whose load core is full measures the load, not the balancer.
fn note_saturation(measured: &mut Measured) {
    if !measured.workload.is_judged_by_latency() {
        return;
    }
    let busy = |round: &Round| Some(round.load_cpu_s? / round.wall_s);
    for row in &measured.rows {
        let share = median(row.rounds.iter().filter_map(busy));
        if let Some(share) = share.filter(|share| *share > 0.95) {
            measured.notes.push(format!(
                "{}: load generator and backends used {:.0} % of a core, so the latencies are theirs as well",
                row.peer,
                share * 100.0
            ));
        }
    }
}

/// Other work on the machine costs caches and turns: figures taken beside it are not to be trusted.
fn note_company(measured: &mut Measured) {
    const DISTURBING: f64 = 0.05;
    let foreign = |round: &Round| Some(round.foreign_cpu_s? / round.wall_s);
    let rounds = measured.rows.iter().flat_map(|row| &row.rounds);
    let share = Spread::of(rounds.filter_map(foreign)).map_or(0.0, |spread| spread.median);
    if share > DISTURBING {
        measured.notes.push(format!(
            "processes that are no part of this run took {:.0} % of a core meanwhile: the figures are disturbed",
            share * 100.0
        ));
    }
}

fn report(workload: Workload, label: &str, round: &Round) {
    let unit = workload.unit();
    let mut line = format!("{workload:<17} round {:<2} {label:<16}", round.number + 1);
    if let Some(cost) = round.cost() {
        line += &format!(" {:.3} {}", cost * unit.cost_scale, unit.cost);
    }
    if let Some(latency) = &round.latency {
        line += &format!(" p99.9 {:.0} µs", latency.p999);
    }
    if round.errors.total() > 0 {
        line += &format!(" ERRORS: {}", round.errors.describe());
    }
    if let Some(fault) = &round.fault {
        line += &format!(" FAULT: {fault}");
    }
    say(&line);
}

/// Progress, apart from the results on stdout.
fn say(line: &str) {
    // Nothing is lost if nobody reads it.
    let _ = writeln!(std::io::stderr(), "{line}");
}
