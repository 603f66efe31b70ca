//! What ringlane is held to, and whether this run holds it.

use crate::report::{Family, Measured, Report};
use crate::workload::Workload;

/// A ratio, or an amount, with its limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The workload it is about.
    pub workload: Workload,
    /// What is compared with what.
    pub what: String,
    /// `≤ 1.00`
    pub limit: String,
    /// What this run found; none if it cannot say.
    pub value: Option<f64>,
    /// Whether that is within the limit.
    pub verdict: Verdict,
}

/// Whether a target is met.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is.
    Met,
    /// It is not.
    NotMet,
    /// This run did not measure what it takes, or not without errors.
    Unknown,
}

enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// ringlane's row.
const RINGLANE: &str = "ringlane";

/// The targets of all workloads that ran.
pub fn targets(report: &Report) -> Vec<Target> {
    report.workloads.iter().flat_map(of_workload).collect()
}

fn of_workload(measured: &Measured) -> Vec<Target> {
    let best = || over_best(measured);
    let over = |peer: &str| over(measured, RINGLANE, peer);
    let target =
        |what: &str, bound: Bound, value: Option<f64>| judge(measured, what, &bound, value);
    match measured.workload {
        Workload::Small64 | Workload::Small1k => {
            vec![target(
                "CPU, best of HAProxy and nginx",
                Bound::AtMost(1.0),
                best(),
            )]
        }
        Workload::Churn => {
            vec![target(
                "CPU, best of HAProxy and nginx",
                Bound::AtMost(0.95),
                best(),
            )]
        }
        Workload::Response100k => {
            vec![target(
                "CPU, haproxy-splice",
                Bound::AtMost(0.92),
                over("haproxy-splice"),
            )]
        }
        Workload::BulkUp1 | Workload::BulkUp8 | Workload::BulkDown1 | Workload::BulkDown8 => vec![
            target(
                "CPU, haproxy-splice",
                Bound::AtMost(1.0),
                over("haproxy-splice"),
            ),
            target(
                "CPU, haproxy-auto",
                Bound::AtMost(0.6),
                over("haproxy-auto"),
            ),
        ],
        Workload::Latency30 | Workload::Latency70 => {
            vec![target(
                "p99.9, best of HAProxy and nginx",
                Bound::AtMost(1.0),
                best(),
            )]
        }
        Workload::Idle => vec![
            target(
                "memory, best of HAProxy and nginx",
                Bound::AtMost(0.45),
                best(),
            ),
            target("KB a connection", Bound::AtMost(1.7), kilobytes(measured)),
        ],
        Workload::Backends100
        | Workload::ProtectedSmall64
        | Workload::ProtectedChurn
        | Workload::Siege => of_own(measured),
        Workload::TwoWorkers => vec![target(
            "requests/s, ringlane with one worker",
            Bound::AtLeast(1.9),
            scaling(measured),
        )],
        Workload::Reload => Vec::new(),
        _ => of_front(measured),
    }
}

/// Those of the workloads in which ringlane is compared with itself.
fn of_own(measured: &Measured) -> Vec<Target> {
    let (what, limit, other) = match measured.workload {
        Workload::Backends100 => ("CPU, ringlane with one backend", 1.02, "ringlane, one"),
        Workload::Siege => ("p99, ringlane in peace", 2.0, "ringlane, in peace"),
        _ => ("CPU, ringlane without any of it", 1.03, "ringlane, without"),
    };
    let value = over(measured, RINGLANE, other);
    vec![judge(measured, what, &Bound::AtMost(limit), value)]
}

/// Those of the workloads in which TLS ends in the balancer, or it routes by name.
fn of_front(measured: &Measured) -> Vec<Target> {
    let (what, limit, value) = match measured.workload {
        Workload::Sni1 => return Vec::new(),
        Workload::Sni1000 => {
            let value = over(measured, RINGLANE, "ringlane, one");
            ("CPU, ringlane with one name", 1.05, value)
        }
        Workload::TlsIdle => {
            let value = figure(measured, RINGLANE).map(|bytes| bytes / 1_024.0);
            ("KiB a connection", 7.0, value)
        }
        Workload::TlsSmall => ("CPU, best of the others", 0.92, over_best(measured)),
        _ => ("CPU, best of the others", 0.85, over_best(measured)),
    };
    vec![judge(measured, what, &Bound::AtMost(limit), value)]
}

fn judge(measured: &Measured, what: &str, bound: &Bound, value: Option<f64>) -> Target {
    let (limit, is_met) = match bound {
        Bound::AtMost(limit) => (format!("≤ {limit:.2}"), value.map(|value| value <= *limit)),
        Bound::AtLeast(limit) => (format!("≥ {limit:.2}"), value.map(|value| value >= *limit)),
    };
    Target {
        workload: measured.workload,
        what: what.to_owned(),
        limit,
        value,
        verdict: match is_met {
            Some(true) => Verdict::Met,
            Some(false) => Verdict::NotMet,
            None => Verdict::Unknown,
        },
    }
}

fn over_best(measured: &Measured) -> Option<f64> {
    let row = measured.row(RINGLANE).filter(|row| !row.is_faulty())?;
    // The best of both is known only where both took part.
    measured.best(&[Family::Haproxy])?;
    measured.best(&[Family::Nginx])?;
    measured.over_best(row)
}

fn over(measured: &Measured, peer: &str, other: &str) -> Option<f64> {
    Some(figure(measured, peer)? / figure(measured, other)?)
}

fn figure(measured: &Measured, peer: &str) -> Option<f64> {
    let row = measured.row(peer).filter(|row| !row.is_faulty())?;
    row.figure(measured.workload)
}

fn kilobytes(measured: &Measured) -> Option<f64> {
    let row = measured.row(RINGLANE).filter(|row| !row.is_faulty())?;
    Some(row.cost?.median / 1_000.0)
}

/// Throughput of two workers over that of one, if two workers had as much to do as they could.
fn scaling(measured: &Measured) -> Option<f64> {
    const FULL: f64 = 0.9;
    let row = |label: &str| measured.row(label).filter(|row| !row.is_faulty());
    let (one, two) = (row("ringlane, one worker")?, row("ringlane, two workers")?);
    let busy = crate::statistics::median(
        two.rounds
            .iter()
            .filter_map(|round| Some(round.spent? / round.wall_s)),
    )?;
    (busy >= 2.0 * FULL).then_some(two.rate?.median / one.rate?.median)
}
