//! The tables for reading.

use std::fmt::Write as _;

use crate::report::{Family, Measured, Report, Row};
use crate::targets::{Target, Verdict, targets};
use crate::workload::{Unit, Workload};

/// The whole report as text.
pub fn render(report: &Report) -> String {
    let mut text = heading(report);
    for measured in &report.workloads {
        text.push('\n');
        text += &workload(measured, report.settings.against.as_deref());
    }
    let targets = targets(report);
    if report.settings.against.is_none() && !targets.is_empty() {
        text += "\ntargets: ringlane over …\n";
        text += &columns(&verdicts(&targets));
    }
    text
}

fn heading(report: &Report) -> String {
    let environment = &report.environment;
    let settings = &report.settings;
    let mut text = format!(
        "{}, {} cores, Linux {}, {}\nrounds: {}, seconds: {}; balancer on core {}, load on {:?}\n",
        environment.cpu,
        environment.cores,
        environment.kernel,
        environment.date,
        settings.rounds,
        settings.seconds,
        settings.balancer_core,
        settings.load_cores,
    );
    for peer in report
        .peers
        .iter()
        .filter(|peer| peer.family != Family::Direct)
    {
        let _ = writeln!(text, "  {:<16} {}", peer.name, peer.version);
    }
    text
}

fn workload(measured: &Measured, against: Option<&str>) -> String {
    let workload = measured.workload;
    let mut text = format!("{workload}: {}\n", workload.about());
    for note in &measured.notes {
        let _ = writeln!(text, "  note: {note}");
    }
    text += &columns(&rows(measured));
    for row in measured.rows.iter().filter(|row| row.is_faulty()) {
        let _ = writeln!(text, "  ! {}: {}", row.peer, faults(row));
    }
    if let (Some(revision), Some(interval)) = (against, &measured.paired) {
        let what = if workload.is_judged_by_latency() {
            "p99.9"
        } else {
            "cost"
        };
        let _ = writeln!(
            text,
            "  {what} of here over {revision}: {:.3}, 95 % interval {:.3} to {:.3} (seed {})",
            interval.median, interval.low, interval.high, interval.seed
        );
    }
    text
}

fn faults(row: &Row) -> String {
    let mut parts = Vec::new();
    if row.errors().total() > 0 {
        parts.push(row.errors().describe());
    }
    parts.extend(row.rounds.iter().filter_map(|round| round.fault.clone()));
    parts.join("; ")
}

fn rows(measured: &Measured) -> Vec<Vec<String>> {
    let workload = measured.workload;
    let unit = workload.unit();
    let ratio = if workload.is_judged_by_latency() {
        "p99.9 to best"
    } else {
        "to best"
    };
    let heads = [
        "peer",
        unit.cost,
        "min–max",
        unit.rate,
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        ratio,
    ];
    let mut lines = vec![heads.map(str::to_owned).to_vec()];
    for row in &measured.rows {
        lines.push(line(measured, row, unit));
    }
    // A column that says nothing in any row is left out.
    let kept: Vec<bool> = (0..heads.len())
        .map(|column| lines.iter().skip(1).any(|line| !line[column].is_empty()))
        .collect();
    for line in &mut lines {
        let mut kept = kept.iter();
        line.retain(|_| kept.next().copied().unwrap_or(true));
    }
    lines
}

fn line(measured: &Measured, row: &Row, unit: Unit) -> Vec<String> {
    let mark = if row.is_faulty() { " !" } else { "" };
    let cost = row.cost;
    let latency = |figure: fn(&crate::load::Latency) -> f64| {
        row.latency(figure).map_or_else(String::new, digits)
    };
    let ratio = if row.family == Family::Direct || measured.workload == Workload::Reload {
        None
    } else {
        measured.over_best(row)
    };
    vec![
        format!("{}{mark}", row.peer),
        cost.map_or_else(String::new, |it| digits(it.median * unit.cost_scale)),
        cost.map_or_else(String::new, |it| {
            let (low, high) = (it.min * unit.cost_scale, it.max * unit.cost_scale);
            format!("{}–{}", digits(low), digits(high))
        }),
        row.rate
            .map_or_else(String::new, |it| digits(it.median * unit.rate_scale)),
        latency(|it| it.p50),
        latency(|it| it.p99),
        latency(|it| it.p999),
        ratio.map_or_else(String::new, |it| format!("{it:.2}")),
    ]
}

fn verdicts(targets: &[Target]) -> Vec<Vec<String>> {
    let heads = ["workload", "of what", "target", "here", ""];
    let mut lines = vec![heads.map(str::to_owned).to_vec()];
    for target in targets {
        let verdict = match target.verdict {
            Verdict::Met => "met",
            Verdict::NotMet => "NOT MET",
            Verdict::Unknown => "not measured",
        };
        lines.push(vec![
            target.workload.to_string(),
            target.what.clone(),
            target.limit.clone(),
            target
                .value
                .map_or_else(|| "–".to_owned(), |value| format!("{value:.3}")),
            verdict.to_owned(),
        ]);
    }
    lines
}

/// Three significant digits, or all before the point.
pub(crate) fn digits(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 0.1 => format!("{value:.4}"),
        size if size < 1.0 => format!("{value:.3}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// The first column to the left, the others to the right; texts of the second to the left as well
/// where it holds no number.
fn columns(lines: &[Vec<String>]) -> String {
    let count = lines.first().map_or(0, Vec::len);
    let cell = |line: &[String], column: usize| line.get(column).cloned().unwrap_or_default();
    let widths: Vec<usize> = (0..count)
        .map(|column| {
            let widths = lines.iter().map(|line| cell(line, column).chars().count());
            widths.max().unwrap_or(0)
        })
        .collect();
    let is_number = |text: &str| text.chars().any(|letter| letter.is_ascii_digit());
    let mut text = String::new();
    for line in lines {
        let mut out = String::new();
        for (column, width) in widths.iter().enumerate() {
            let words = lines
                .iter()
                .skip(1)
                .all(|line| !is_number(&cell(line, column)) || column == 0);
            let value = cell(line, column);
            let _ = if words {
                write!(out, "  {value:<width$}")
            } else {
                write!(out, "  {value:>width$}")
            };
        }
        text += out.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::digits;

    #[test]
    fn numbers_have_three_digits() {
        let shown: Vec<String> = [0.0, 0.01234, 0.1234, 1.234, 12.34, 123.4, 12_345.6]
            .map(digits)
            .to_vec();
        assert_eq!(
            shown,
            ["0", "0.0123", "0.123", "1.23", "12.3", "123", "12346"]
        );
    }
}
