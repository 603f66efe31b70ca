//! The picture: what a unit of work costs each program, with ringlane as the measure.
//!
//! Plain SVG text: bars, lines and words need no library.

use std::fmt::Write as _;

use crate::report::{Family, Measured, Report, Row};
use crate::statistics::Spread;
use crate::table::digits;
use crate::workload::Workload;

const WIDTH: f64 = 960.0;
/// Where the bars begin.
const LEFT: f64 = 262.0;
/// Where the longest bar ends.
const RIGHT: f64 = 760.0;
const TOP: f64 = 96.0;
const BAR: f64 = 13.0;
const STEP: f64 = 17.0;
const GAP: f64 = 15.0;
/// Longer bars are cut, and say how long they would be.
const LONGEST: f64 = 3.0;

/// Draws every workload that ringlane took part in.
pub fn render(report: &Report) -> String {
    let groups: Vec<Group<'_>> = report.workloads.iter().filter_map(group).collect();
    let longest = groups
        .iter()
        .flat_map(|group| group.bars.iter().map(|bar| bar.cost.max / group.unit))
        .fold(1.5, f64::max)
        .min(LONGEST);
    // A little more, so that the mark of a cut bar lies behind the last grid line.
    let scale = Scale {
        pixels_per_unit: (RIGHT - LEFT) / (longest * 1.04),
        longest,
    };
    let height = TOP + groups.iter().map(Group::height).sum::<f64>() + 46.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, 'DejaVu Sans', Helvetica, sans-serif\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    svg += &heading(report);
    svg += &scale.grid(height - 46.0);
    let mut y = TOP;
    for group in &groups {
        svg += &group.draw(y, &scale);
        y += group.height();
    }
    svg += &scale.axis(height - 46.0);
    svg += "</svg>\n";
    svg
}

struct Scale {
    pixels_per_unit: f64,
    longest: f64,
}

struct Group<'a> {
    measured: &'a Measured,
    /// ringlane's cost.
    unit: f64,
    bars: Vec<Bar<'a>>,
}

struct Bar<'a> {
    row: &'a Row,
    cost: Spread,
    color: &'static str,
}

/// None without a cost of ringlane's, and for workloads whose point is another.
fn group(measured: &Measured) -> Option<Group<'_>> {
    if matches!(
        measured.workload,
        Workload::Reload
            | Workload::TwoWorkers
            | Workload::Siege
            | Workload::ProtectedSmall64
            | Workload::ProtectedChurn
    ) {
        return None;
    }
    let own = measured.row("ringlane").filter(|row| !row.is_faulty())?;
    let shown = [
        (Some(own), "#0f766e"),
        (cheapest(measured, Family::Haproxy), "#5b6f96"),
        (cheapest(measured, Family::Nginx), "#7a7a7a"),
        (cheapest(measured, Family::Envoy), "#9a6f4b"),
    ];
    let bars = shown.into_iter().filter_map(|(row, color)| {
        let row = row?;
        let cost = row.cost.filter(|cost| cost.median > 0.0)?;
        Some(Bar { row, cost, color })
    });
    let unit = own.cost.filter(|cost| cost.median > 0.0)?.median;
    Some(Group {
        measured,
        unit,
        bars: bars.collect(),
    })
}

/// The variant of a family with the lowest cost. What a workload is judged by may be another figure.
fn cheapest(measured: &Measured, family: Family) -> Option<&Row> {
    measured
        .rows
        .iter()
        .filter(|row| row.family == family && !row.is_faulty())
        .filter_map(|row| Some((row.cost?.median, row)))
        .min_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, row)| row)
}

fn heading(report: &Report) -> String {
    let environment = &report.environment;
    let names = [
        (Family::Ringlane, "ringlane"),
        (Family::Haproxy, "HAProxy"),
        (Family::Nginx, "nginx"),
        (Family::Envoy, "Envoy"),
    ];
    let peer = |family: Family| report.peers.iter().find(|peer| peer.family == family);
    let programs = names
        .iter()
        .filter_map(|(family, name)| Some(short_version(name, &peer(*family)?.version)))
        .collect::<Vec<_>>()
        .join(" · ");
    let run = format!(
        "{} · Linux {} · one worker each · medians of {} × {} s, whiskers from the least to the most",
        environment.cpu, environment.kernel, report.settings.rounds, report.settings.seconds
    );
    let mut svg = text(24.0, 34.0, "What the same work costs, ringlane = 1", TITLE);
    svg += &text(24.0, 56.0, &format!("Shorter is better. {programs}"), SMALL);
    svg += &text(24.0, 73.0, &run, SMALL);
    svg
}

/// `HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://…` is too much for a picture: the name, and
/// of the first number the release.
fn short_version(name: &str, version: &str) -> String {
    let is_release =
        |word: &&str| word.contains('.') && word.starts_with(|it: char| it.is_ascii_digit());
    let mut words = version.split([' ', '/', '-', '+']);
    format!("{name} {}", words.find(is_release).unwrap_or_default())
}

impl Group<'_> {
    fn height(&self) -> f64 {
        self.bars.len() as f64 * STEP + GAP
    }

    fn draw(&self, top: f64, scale: &Scale) -> String {
        let unit = self.measured.workload.unit();
        let about = match self.measured.workload {
            Workload::Idle | Workload::TlsIdle => "memory",
            Workload::Latency30 | Workload::Latency70 => "CPU at that load",
            _ => "",
        };
        let mut svg = text(24.0, top + 11.0, &self.measured.workload.to_string(), GROUP);
        svg += &text(24.0, top + 27.0, about, SMALL);
        for (number, bar) in (0_u32..).zip(&self.bars) {
            let y = top + f64::from(number) * STEP;
            let cost = format!(
                "{} {}",
                digits(bar.cost.median * unit.cost_scale),
                unit.cost
            );
            svg += &bar.draw(y, self.unit, scale);
            svg += &text(RIGHT + 12.0, y + 11.0, &cost, SMALL);
        }
        svg
    }
}

impl Bar<'_> {
    fn draw(&self, y: f64, unit: f64, scale: &Scale) -> String {
        let ratio = self.cost.median / unit;
        let length = ratio.min(scale.longest);
        let end = scale.x(length);
        let middle = y + BAR / 2.0;
        let mut svg = text(LEFT - 8.0, y + 11.0, &self.row.peer, LABEL);
        let _ = writeln!(
            svg,
            "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{}\"/>",
            end - LEFT,
            self.color
        );
        let low = scale.x((self.cost.min / unit).min(scale.longest));
        let high = scale.x((self.cost.max / unit).min(scale.longest));
        let (upper, lower) = (middle - 3.0, middle + 3.0);
        if ratio > scale.longest {
            // Two strokes across the end: the bar goes on.
            let _ = writeln!(
                svg,
                "<path d=\"M{:.1} {}l4 {}m3 0l-4 -{}\" stroke=\"#ffffff\" stroke-width=\"2\" fill=\"none\"/>",
                end - 12.0,
                y,
                BAR,
                BAR
            );
        } else {
            let _ = writeln!(
                svg,
                "<path d=\"M{low:.1} {middle}H{high:.1}M{low:.1} {upper}V{lower}M{high:.1} {upper}V{lower}\" \
                 stroke=\"#111827\" stroke-width=\"1\" fill=\"none\"/>"
            );
        }
        let number = format!("{ratio:.2}");
        if high + 40.0 > RIGHT {
            svg += &text(end - 18.0, y + 10.5, &number, INSIDE);
        } else {
            svg += &text(high.max(end) + 6.0, y + 10.5, &number, NUMBER);
        }
        svg
    }
}

impl Scale {
    fn x(&self, value: f64) -> f64 {
        LEFT + value * self.pixels_per_unit
    }

    fn steps(&self) -> impl Iterator<Item = f64> + '_ {
        (0_u32..)
            .map(|step| f64::from(step) * 0.5)
            .take_while(|value| *value <= self.longest + 1e-9)
    }

    fn grid(&self, bottom: f64) -> String {
        let mut svg = String::new();
        for value in self.steps() {
            let x = self.x(value);
            let color = if (value - 1.0).abs() < 1e-9 {
                "#0f766e"
            } else {
                "#e5e7eb"
            };
            let _ = writeln!(
                svg,
                "<path d=\"M{x:.1} {:.1}V{bottom:.1}\" stroke=\"{color}\" stroke-width=\"1\"/>",
                TOP - 6.0
            );
        }
        svg
    }

    fn axis(&self, bottom: f64) -> String {
        let mut svg = String::new();
        for value in self.steps() {
            svg += &text(self.x(value), bottom + 16.0, &format!("{value:.1}"), AXIS);
        }
        svg + &text(
            self.x(self.longest / 2.0),
            bottom + 34.0,
            "cost of a unit of work, relative to ringlane",
            AXIS,
        )
    }
}

const TITLE: &str = "font-size=\"20\" font-weight=\"600\" fill=\"#111827\"";
const SMALL: &str = "font-size=\"11\" fill=\"#4b5563\"";
const GROUP: &str = "font-size=\"13\" font-weight=\"600\" fill=\"#111827\"";
const LABEL: &str = "font-size=\"11\" fill=\"#111827\" text-anchor=\"end\"";
/// On a white ground of its own, so that no line runs through it.
const NUMBER: &str = "font-size=\"11\" fill=\"#111827\" stroke=\"#ffffff\" stroke-width=\"4\" paint-order=\"stroke\"";
const INSIDE: &str = "font-size=\"11\" fill=\"#ffffff\" font-weight=\"600\" text-anchor=\"end\"";
const AXIS: &str = "font-size=\"11\" fill=\"#4b5563\" text-anchor=\"middle\"";

fn text(x: f64, y: f64, words: &str, style: &str) -> String {
    let words = words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{words}</text>\n")
}
