//! A page of Prometheus text: counters and gauges through the `metrics` exporter, histograms written
//! here, because the exporter wants samples and our buckets are counted already.

use std::fmt::Write;

use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

use super::histogram::{BOUNDS_NANOS, Histogram};
use super::names::{ALL, Kind, Metric};

const METADATA: Metadata<'_> = Metadata::new("ringlane", Level::INFO, None);

/// Labels of one series, names and values.
pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

/// A page that is being filled. It is made anew for each scrape, so that nothing stale can stay.
pub(super) struct Page {
    recorder: PrometheusRecorder,
    histograms: String,
    begun: Vec<&'static str>,
}

impl Page {
    pub(super) fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        for metric in ALL {
            let (name, unit) = (metric.name.into(), Some(metric.unit));
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, unit, metric.help.into()),
                Kind::Gauge => recorder.describe_gauge(name, unit, metric.help.into()),
                Kind::Histogram => {}
            }
        }
        Self {
            recorder,
            histograms: String::new(),
            begun: Vec::new(),
        }
    }

    /// Sets a series; each series at most once a page.
    pub(super) fn counter(&self, metric: &Metric, labels: Labels<'_>, value: u64) {
        let counter = self
            .recorder
            .register_counter(&key(metric, labels), &METADATA);
        counter.absolute(value);
    }

    /// Sets a series; each series at most once a page.
    pub(super) fn gauge(&self, metric: &Metric, labels: Labels<'_>, value: f64) {
        let gauge = self
            .recorder
            .register_gauge(&key(metric, labels), &METADATA);
        gauge.set(value);
    }

    /// Writes all series of a histogram; `rows` come with the value of `label`.
    pub(super) fn histogram<'a>(
        &mut self,
        metric: &Metric,
        label: &str,
        rows: impl Iterator<Item = (&'a str, &'a Histogram)>,
    ) {
        for (value, histogram) in rows {
            if !self.begun.contains(&metric.name) {
                self.begun.push(metric.name);
                self.begin_histogram(metric);
            }
            let label = format!("{label}=\"{}\"", escape(value));
            // Writing to a string cannot fail.
            let _ = write_histogram(&mut self.histograms, metric.name, &label, histogram);
        }
    }

    pub(super) fn finish(self) -> String {
        let mut text = self.recorder.handle().render();
        text.push_str(&self.histograms);
        text
    }

    fn begin_histogram(&mut self, metric: &Metric) {
        let Metric { name, help, .. } = metric;
        let text = &mut self.histograms;
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
    }
}

fn write_histogram(
    text: &mut String,
    name: &str,
    label: &str,
    histogram: &Histogram,
) -> std::fmt::Result {
    let cumulative = histogram.cumulative();
    for (bound, count) in BOUNDS_NANOS.iter().zip(cumulative) {
        let bound = Seconds(u128::from(*bound));
        writeln!(text, "{name}_bucket{{{label},le=\"{bound}\"}} {count}")?;
    }
    let count = cumulative[BOUNDS_NANOS.len()];
    writeln!(text, "{name}_bucket{{{label},le=\"+Inf\"}} {count}")?;
    let sum = Seconds(histogram.sum_nanos());
    writeln!(text, "{name}_sum{{{label}}} {sum}")?;
    writeln!(text, "{name}_count{{{label}}} {count}")
}

/// Nanoseconds, shown as seconds without rounding.
struct Seconds(u128);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, nanos) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        if nanos == 0 {
            return write!(f, "{whole}");
        }
        let fraction = format!("{nanos:09}");
        write!(f, "{whole}.{}", fraction.trim_end_matches('0'))
    }
}

fn key(metric: &Metric, labels: Labels<'_>) -> Key {
    // The exporter takes a backslash before `"`, `\` or `n` for an escape of the caller's; doubled,
    // it can only be a backslash.
    let labels = labels
        .iter()
        .map(|&(name, value)| Label::new(name, value.replace('\\', "\\\\")));
    Key::from_parts(metric.name, labels.collect::<Vec<_>>())
}

/// A label value as the text format wants it: backslash, quote and line feed escaped.
fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::names;

    #[test]
    fn seconds_are_exact() {
        let shown = |nanos| Seconds(nanos).to_string();
        assert_eq!(shown(0), "0");
        assert_eq!(shown(1), "0.000000001");
        assert_eq!(shown(2_500_000), "0.0025");
        assert_eq!(shown(100_000_000_000_000), "100000");
        assert_eq!(shown(u128::from(u64::MAX) * 10), "184467440737.09551615");
    }

    #[test]
    fn odd_label_values_are_escaped_alike_by_the_exporter_and_here() {
        let odd = "a\\b \"quoted\" \\\\ \\n \n \\\" end\\";
        let histogram = Histogram::default();
        let mut page = Page::new();
        page.counter(&names::ACCEPTED, &[("listener", odd)], 7);
        page.histogram(
            &names::SESSION_SECONDS,
            "listener",
            [(odd, &histogram)].into_iter(),
        );
        let text = page.finish();
        let escaped = r#"listener="a\\b \"quoted\" \\\\ \\n \n \\\" end\\""#;
        assert!(
            text.contains(&format!("ringlane_accepted_total{{{escaped}}} 7\n")),
            "{text}"
        );
        assert!(
            text.contains(&format!("ringlane_session_seconds_count{{{escaped}}} 0\n")),
            "{text}"
        );
    }

    #[test]
    fn a_page_remembers_nothing_of_the_one_before() {
        let page = Page::new();
        page.gauge(&names::DESCRIPTORS, &[], 5.0);
        assert!(page.finish().contains("ringlane_descriptors 5\n"));
        assert_eq!(Page::new().finish(), "");
    }
}
