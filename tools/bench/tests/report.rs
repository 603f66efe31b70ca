//! Tables, verdicts and the picture of a run that was recorded.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use ringlane_bench::load::Errors;
use ringlane_bench::report::{Family, Measured, Report, Round, Row};
use ringlane_bench::statistics::bootstrap;
use ringlane_bench::targets::{Target, Verdict, targets};
use ringlane_bench::workload::Workload;
use ringlane_bench::{plot, table};

fn recorded() -> Report {
    Report::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded.json")).unwrap()
}

/// Renewed by `ringlane-bench --from-json tests/recorded.json > tests/recorded.txt`.
#[test]
fn the_table_is_the_recorded_one() {
    let table = table::render(&recorded());
    let expected = include_str!("recorded.txt");
    for (number, (line, expected)) in table.lines().zip(expected.lines()).enumerate() {
        assert_eq!(line, expected, "line {}", number + 1);
    }
    assert_eq!(table.lines().count(), expected.lines().count());
}

#[test]
fn a_report_survives_being_written() {
    let path = std::env::temp_dir().join(format!("ringlane-bench-test-{}", std::process::id()));
    let report = recorded();
    report.write(&path).unwrap();
    let again = Report::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let value = |report: &Report| serde_json::to_value(report).unwrap();
    assert!(value(&again) == value(&report), "it reads as another");
}

#[test]
fn pooled_runs_have_the_rounds_of_all() {
    let (mut pooled, more) = (recorded(), recorded());
    let other = Row::new(
        "other".to_owned(),
        more.workloads[0].rows[0].family,
        Vec::new(),
    );
    let mut more = more;
    more.workloads[0].rows.push(other);
    pooled.pool(more).unwrap();
    let (single, double) = (&recorded().workloads[0], &pooled.workloads[0]);
    assert_eq!(double.rows.len(), single.rows.len() + 1);
    assert_eq!(double.notes, single.notes);
    for (one, two) in single.rows.iter().zip(&double.rows) {
        assert_eq!(two.rounds.len(), 2 * one.rounds.len(), "{}", one.peer);
        let cost = |row: &Row| row.cost.map(|cost| (cost.min, cost.median, cost.max));
        assert_eq!(cost(one), cost(two), "{}", one.peer);
        let mut numbers: Vec<_> = two.rounds.iter().map(|round| round.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), two.rounds.len(), "{}", one.peer);
    }
    let mut foreign = recorded();
    foreign.environment.cpu = "another".to_owned();
    assert!(pooled.pool(foreign).is_err());
}

/// Younger than the record: the next one must hold them, and this list be empty then.
const NOT_YET_RECORDED: &[&str] = &["tls", "sni", "protected", "siege"];

fn is_recorded(workload: Workload) -> bool {
    let names = NOT_YET_RECORDED.iter();
    let younger = names.flat_map(|name| Workload::named(name).unwrap());
    !younger.into_iter().any(|it| it == workload)
}

#[test]
fn the_record_holds_every_workload_that_is_not_younger_and_what_reproduces_it() {
    let report = recorded();
    for workload in Workload::all() {
        let Some(measured) = report.measured(*workload) else {
            assert!(!is_recorded(*workload), "{workload} is not in the record");
            continue;
        };
        assert!(is_recorded(*workload), "{workload} has been recorded");
        for row in &measured.rows {
            assert!(!row.rounds.is_empty(), "{workload}: {}", row.peer);
            assert!(!row.is_faulty(), "{workload}: {}", row.peer);
        }
    }
    for peer in report.peers.iter().filter(|peer| peer.name != "direct") {
        assert!(peer.configuration.contains("9000"), "{}", peer.name);
        assert!(!peer.version.is_empty() && !peer.command.is_empty());
    }
    assert!(!report.environment.settings.is_empty());
}

/// The verdict on one workload's targets with ringlane's cost multiplied.
fn verdicts(workload: Workload, factor: f64) -> Vec<Target> {
    let mut report = recorded();
    let measured = find(&mut report, workload);
    for row in &mut measured.rows {
        if row.peer.starts_with("ringlane") && row.peer != "ringlane, one" {
            let rounds = row.rounds.iter().map(|round| Round {
                spent: round.spent.map(|spent| spent * factor),
                ..round.clone()
            });
            *row = Row::new(row.peer.clone(), row.family, rounds.collect());
        }
    }
    let all = targets(&report);
    all.into_iter()
        .filter(|it| it.workload == workload)
        .collect()
}

fn find(report: &mut Report, workload: Workload) -> &mut Measured {
    let all = &mut report.workloads;
    all.iter_mut().find(|it| it.workload == workload).unwrap()
}

#[test]
fn targets_of_cost_follow_the_cost() {
    for workload in [
        Workload::Small64,
        Workload::Small1k,
        Workload::Churn,
        Workload::Response100k,
        Workload::BulkUp1,
        Workload::BulkUp8,
        Workload::BulkDown1,
        Workload::BulkDown8,
        Workload::Idle,
        Workload::Backends100,
    ] {
        for (factor, verdict) in [(0.1, Verdict::Met), (100.0, Verdict::NotMet)] {
            let targets = verdicts(workload, factor);
            assert!(!targets.is_empty(), "{workload} has no target");
            for target in targets {
                assert_eq!(target.verdict, verdict, "{target:?}");
            }
        }
    }
}

/// One round of a workload: ringlane at this cost, the others as they are named, each its own best.
fn measured(workload: Workload, ringlane: f64, others: &[(&str, Family, f64)]) -> Report {
    let row = |name: &str, family, spent| {
        let round = Round {
            spent: Some(spent),
            units: 1.0,
            wall_s: 1.0,
            ..Round::default()
        };
        Row::new(name.to_owned(), family, vec![round])
    };
    let mut rows = vec![row("ringlane", Family::Ringlane, ringlane)];
    rows.extend(
        others
            .iter()
            .map(|(name, family, cost)| row(name, *family, *cost)),
    );
    let mut report = recorded();
    report.workloads = vec![Measured {
        workload,
        notes: Vec::new(),
        rows,
        paired: None,
    }];
    report
}

#[test]
fn targets_of_tls_are_over_the_best_of_all_others() {
    let all = [
        ("haproxy-copy", Family::Haproxy, 2.0),
        ("nginx-16k", Family::Nginx, 1.0),
        ("envoy", Family::Envoy, 0.5),
    ];
    for workload in Workload::all() {
        if !workload.terminates() || *workload == Workload::TlsIdle {
            continue;
        }
        let limit = if *workload == Workload::TlsSmall {
            0.92
        } else {
            0.85
        };
        let verdict = |cost: f64, others: &[_]| {
            let found = targets(&measured(*workload, cost, others));
            assert_eq!(found.len(), 1, "{workload}");
            found[0].verdict
        };
        // Envoy is the best where it takes part, and need not take part.
        assert_eq!(verdict(0.5 * limit, &all), Verdict::Met, "{workload}");
        assert_eq!(verdict(0.501 * limit, &all), Verdict::NotMet, "{workload}");
        assert_eq!(verdict(limit, &all[..2]), Verdict::Met, "{workload}");
        assert_eq!(verdict(1.01 * limit, &all[..2]), Verdict::NotMet);
        assert_eq!(verdict(0.1, &all[..1]), Verdict::Unknown, "{workload}");
    }
}

#[test]
fn memory_of_tls_is_judged_by_itself_and_names_by_one_name() {
    for (bytes, verdict) in [(7_168.0, Verdict::Met), (7_300.0, Verdict::NotMet)] {
        let found = targets(&measured(Workload::TlsIdle, bytes, &[]));
        assert_eq!((found.len(), found[0].verdict), (1, verdict), "{bytes}");
    }
    let one = [("ringlane, one", Family::Ringlane, 100.0)];
    for (cost, verdict) in [(105.0, Verdict::Met), (106.0, Verdict::NotMet)] {
        let found = targets(&measured(Workload::Sni1000, cost, &one));
        assert_eq!((found.len(), found[0].verdict), (1, verdict), "{cost}");
    }
    assert!(targets(&measured(Workload::Sni1, 1.0, &one)).is_empty());
}

#[test]
fn targets_of_latency_follow_the_latency() {
    for workload in [Workload::Latency30, Workload::Latency70] {
        for (factor, verdict) in [(0.01, Verdict::Met), (100.0, Verdict::NotMet)] {
            let mut report = recorded();
            let own = find(&mut report, workload).rows.iter_mut();
            for row in own.filter(|row| row.peer == "ringlane") {
                for latency in row.rounds.iter_mut().filter_map(|it| it.latency.as_mut()) {
                    latency.p999 *= factor;
                }
            }
            let all = targets(&report);
            let target = all.iter().find(|it| it.workload == workload).unwrap();
            assert_eq!(target.verdict, verdict, "{target:?}");
        }
    }
}

/// Two workers that had time to spare say nothing about how far two can go.
#[test]
fn scaling_is_judged_only_with_busy_workers() {
    for (busy, rate, verdict) in [
        (1.0, 2.0, Verdict::Unknown),
        (1.9, 1.95, Verdict::Met),
        (1.9, 1.8, Verdict::NotMet),
    ] {
        let mut report = recorded();
        for row in &mut find(&mut report, Workload::TwoWorkers).rows {
            let two = row.peer == "ringlane, two workers";
            let round = Round {
                spent: Some(if two { busy } else { 1.0 }),
                units: if two { rate } else { 1.0 },
                wall_s: 1.0,
                ..Round::default()
            };
            *row = Row::new(row.peer.clone(), row.family, vec![round]);
        }
        let all = targets(&report);
        let target = all
            .iter()
            .find(|it| it.workload == Workload::TwoWorkers)
            .unwrap();
        assert_eq!(target.verdict, verdict, "{target:?}");
    }
}

#[test]
fn errors_mark_the_row_and_void_its_verdict() {
    let mut report = recorded();
    let row = &mut find(&mut report, Workload::Churn).rows[0];
    row.rounds[0].errors = Errors {
        wrong_bytes: 2,
        reset: 1,
        ..Errors::default()
    };
    assert!(report.is_faulty());
    let table = table::render(&report);
    assert!(table.contains("  ringlane !  "), "{table}");
    assert!(
        table.contains("  ! ringlane: 1 reset, 2 wrong bytes"),
        "{table}"
    );
    let all = targets(&report);
    let target = all
        .iter()
        .find(|it| it.workload == Workload::Churn)
        .unwrap();
    assert_eq!(target.verdict, Verdict::Unknown);
}

/// The one that is best by its figure is not the one to beat if it lost bytes for it.
#[test]
fn a_faulty_peer_is_never_the_best() {
    let mut report = recorded();
    let measured = find(&mut report, Workload::Small64);
    let families = [Family::Haproxy, Family::Nginx];
    let best = measured.best(&families).unwrap().peer.clone();
    let row = measured
        .rows
        .iter_mut()
        .find(|row| row.peer == best)
        .unwrap();
    row.rounds[0].fault = Some("gone".to_owned());
    assert_ne!(measured.best(&families).unwrap().peer, best);
}

#[test]
fn a_comparison_of_revisions_shows_its_interval_and_no_targets() {
    let mut report = recorded();
    report.settings.against = Some("v1".to_owned());
    find(&mut report, Workload::Churn).paired = bootstrap(&[0.9, 0.95, 1.0], 1);
    let table = table::render(&report);
    let line = "  cost of here over v1: 0.950, 95 % interval 0.900 to 1.000 (seed 1)";
    assert!(table.contains(line), "{table}");
    assert!(!table.contains("targets"), "{table}");
}

#[test]
fn the_picture_shows_each_workload_and_is_well_formed() {
    let svg = plot::render(&recorded());
    well_formed(&svg);
    for workload in Workload::all() {
        let shown = svg.contains(&format!(">{workload}</text>"));
        let drawn = !matches!(workload, Workload::Reload | Workload::TwoWorkers);
        let expected = drawn && is_recorded(*workload);
        assert_eq!(shown, expected, "{workload}");
    }
    // One ground, and in each of twelve groups ringlane and the best variant of two others.
    assert_eq!(svg.matches("<rect").count(), 1 + 12 * 3);
    assert!(svg.matches(">1.00</text>").count() >= 12);
    assert!(svg.contains("HAProxy 2.6.12 · nginx 1.22.1"), "{svg}");
}

#[test]
fn the_picture_of_nothing_is_well_formed() {
    let mut report = recorded();
    for measured in &mut report.workloads {
        for row in &mut measured.rows {
            *row = Row::new(row.peer.clone(), row.family, Vec::new());
        }
    }
    well_formed(&plot::render(&report));
    assert!(!table::render(&report).contains("NaN"));
}

/// Every element is closed, in order, and no number is missing.
fn well_formed(svg: &str) {
    let mut open = Vec::new();
    for part in svg.split('<').skip(1) {
        let (tag, _) = part.split_once('>').unwrap();
        let name = tag.split([' ', '/']).find(|name| !name.is_empty()).unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
}
