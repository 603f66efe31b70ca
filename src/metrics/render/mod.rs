//! The metrics page: what each cell and each fact from elsewhere is called.

mod protection;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::cells::{Absorb, Counter, Gauge, ListenerCells, PoolCells};
use super::exposition::Page;
use super::names::{self, OTHER, VALUES_MAX};
use super::outcomes::{BreakerFacts, Ejections, breakers, ejections};
use super::registry::{Registry, Row};
use crate::base::clock::Instant;
use crate::base::reason::Reason;

pub use protection::{GuardFacts, OverloadFacts};
use protection::{guards, overload};

/// A worker that has not given a sign of life for so long counts as down.
const HEARTBEAT_AGE_MAX: Duration = Duration::from_secs(1);

/// What a metrics page shows that the cells do not hold.
#[derive(Clone, Debug)]
pub struct Scrape {
    /// The time of the scrape.
    pub now: Instant,
    /// ringlane's version.
    pub version: &'static str,
    /// What the workers wait with.
    pub driver: &'static str,
    /// The version of the snapshot in force.
    pub snapshot: u64,
    /// Reloads that took effect.
    pub reloads_applied: u64,
    /// Reloads that changed nothing, because the configuration had faults.
    pub reloads_rejected: u64,
    /// Changed files of certificates, keys and authorities that are in use.
    pub certificates_applied: u64,
    /// Those that were not taken because of a fault.
    pub certificates_rejected: u64,
    /// Every certificate that is shown to anybody, in any order.
    pub certificates: Vec<CertificateFacts>,
    /// Changed lists of networks that are in use.
    pub lists_applied: u64,
    /// Those that were not taken because of a fault.
    pub lists_rejected: u64,
    /// Every listener that asks something of its clients, in the same order at each scrape.
    pub guards: Vec<GuardFacts>,
    /// How busy the process is.
    pub overload: OverloadFacts,
    /// The time of day, seconds since 1970.
    pub today: u64,
    /// File descriptors that the process has open.
    pub descriptors: u64,
    /// Session lines that were not written.
    pub log_dropped: u64,
    /// Every configured pool, so that one without any backend shows as unusable.
    pub pools: Vec<Arc<str>>,
    /// Every backend of every pool, in the same order at each scrape: the first
    /// [`names::VALUES_MAX`] are shown by name.
    pub backends: Vec<BackendFacts>,
    /// Every pool's breaker, in the same order at each scrape.
    pub breakers: Vec<BreakerFacts>,
}

/// What a metrics page shows of one backend.
#[derive(Clone, Debug)]
pub struct BackendFacts {
    /// The pool's name.
    pub pool: Arc<str>,
    /// The backend's name.
    pub name: Arc<str>,
    /// Connections open or being opened.
    pub active: u64,
    /// Attempts to connect that gave a connection.
    pub connects: u64,
    /// Attempts to connect that failed.
    pub failures: u64,
    /// Whether it may be tried now.
    pub usable: bool,
    /// Its ejections.
    pub ejections: Ejections,
    /// What came of its probes; `None`: there are none.
    pub probed: Option<Probed>,
}

/// What a metrics page shows of the probes of a backend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Probed {
    /// Probes that found it good.
    pub passed: u64,
    /// Probes that did not.
    pub failed: u64,
    /// How long the last one took.
    pub took: Duration,
}

/// What a metrics page shows of one certificate.
#[derive(Clone, Debug)]
pub struct CertificateFacts {
    /// The first name that it carries.
    pub name: Arc<str>,
    /// When it expires, seconds since 1970.
    pub expires: u64,
}

/// Sums of one or, under [`OTHER`], many backends.
#[derive(Default)]
struct BackendSums {
    active: u64,
    connects: u64,
    failures: u64,
    usable: u64,
    ejections: Ejections,
    probed: Option<Probed>,
}

/// The metrics page in Prometheus' text format 0.0.4.
pub fn render(registry: &Registry, scrape: &Scrape) -> String {
    let mut page = Page::new();
    process(&page, scrape);
    workers(&page, registry, scrape.now);
    rejected(&page, registry);
    listeners(&mut page, &registry.listener_rows());
    pools(&mut page, &registry.pool_rows());
    backends(&page, scrape);
    breakers(&page, scrape);
    usable(&page, scrape);
    certificates(&page, scrape);
    guards(&page, scrape);
    overload(&page, &scrape.overload);
    page.finish()
}

fn process(page: &Page, scrape: &Scrape) {
    let build = [("version", scrape.version), ("driver", scrape.driver)];
    page.gauge(&names::BUILD_INFO, &build, 1.0);
    let snapshot = scrape.snapshot.to_string();
    page.gauge(&names::CONFIG_INFO, &[("version", &snapshot)], 1.0);
    let reloads = [
        ("applied", scrape.reloads_applied),
        ("rejected", scrape.reloads_rejected),
    ];
    for (result, count) in reloads {
        page.counter(&names::CONFIG_RELOAD, &[("result", result)], count);
    }
    page.gauge(&names::DESCRIPTORS, &[], number(scrape.descriptors));
    page.counter(&names::LOG_DROPPED, &[], scrape.log_dropped);
}

fn workers(page: &Page, registry: &Registry, now: Instant) {
    let mut panics = 0;
    for (index, cells) in registry.workers().all().enumerate() {
        let index = index.to_string();
        let worker = [("worker", index.as_str())];
        page.counter(&names::ACCEPT_PAUSED, &worker, cells.accept_paused.read());
        page.counter(&names::PIPES_REFUSED, &worker, cells.pipes_refused.read());
        page.gauge(&names::TARPITTED, &worker, whole(&cells.tarpitted));
        panics += cells.panics.read();

        let has_started = cells.last() != Instant::ZERO;
        let age = now.since(cells.last());
        let is_up = has_started && age <= HEARTBEAT_AGE_MAX;
        page.gauge(&names::WORKER_UP, &worker, f64::from(u8::from(is_up)));
        if has_started {
            page.gauge(&names::WORKER_HEARTBEAT_AGE, &worker, age.as_secs_f64());
        }
    }
    page.counter(&names::SESSION_PANICS, &[], panics);
}

fn rejected(page: &Page, registry: &Registry) {
    for reason in Reason::ALL.into_iter().filter(|r| r.is_rejection()) {
        let labels = [("reason", reason.as_str())];
        page.counter(&names::REJECTED, &labels, registry.ended(reason));
    }
}

fn listeners(page: &mut Page, rows: &[Row<ListenerCells>]) {
    let totals: Vec<_> = rows.iter().map(total).collect();
    for ((_, cells), (name, total)) in rows.iter().zip(&totals) {
        let listener = ("listener", &**name);
        page.counter(&names::ACCEPTED, &[listener], total.accepted.read());
        for reason in Reason::ALL {
            let labels = [listener, ("result", reason.as_str())];
            let ended = total.ended[reason.index()].read();
            page.counter(&names::CONNECTIONS, &labels, ended);
        }
        for (index, cells) in cells.all().enumerate() {
            let labels = [listener, ("worker", &index.to_string())];
            page.gauge(&names::CONNECTIONS_ACTIVE, &labels, whole(&cells.active));
        }
        let directions = [("up", &total.bytes_up), ("down", &total.bytes_down)];
        counters(page, &names::BYTES, (listener, "direction"), &directions);
        let handshakes = [
            ("full", &total.handshakes_full),
            ("resumed", &total.handshakes_resumed),
            ("failed", &total.handshakes_failed),
        ];
        counters(page, &names::HANDSHAKES, (listener, "result"), &handshakes);
        let over = [
            (Reason::LimitSource.as_str(), &total.over_source),
            (Reason::LimitRate.as_str(), &total.over_rate),
            ("limit_bytes", &total.over_bytes),
        ];
        counters(page, &names::LIMITS_LOGGED, (listener, "reason"), &over);
        page.counter(&names::SLOWED, &[listener], total.slowed.read());
    }
    let rows = totals
        .iter()
        .map(|(name, total)| (&**name, &total.session_seconds));
    page.histogram(&names::SESSION_SECONDS, "listener", rows);
}

fn pools(page: &mut Page, rows: &[Row<PoolCells>]) {
    let totals: Vec<_> = rows.iter().map(total).collect();
    for (name, total) in &totals {
        let outcomes = [
            ("ok", &total.retries_succeeded),
            ("failed", &total.retries_failed),
            ("denied", &total.retries_denied),
        ];
        let pool = ("pool", &**name);
        counters(page, &names::RETRIES, (pool, "outcome"), &outcomes);
        let left_out = total.proxy_values_left_out.read();
        page.counter(&names::PROXY_VALUES_LEFT_OUT, &[pool], left_out);
        page.gauge(&names::QUEUE, &[pool], whole(&total.queue));
        page.counter(&names::QUEUED, &[pool], total.queued.read());
    }
    let connect = totals
        .iter()
        .map(|(name, total)| (&**name, &total.connect_seconds));
    page.histogram(&names::CONNECT_SECONDS, "pool", connect);
    let first = totals
        .iter()
        .map(|(name, total)| (&**name, &total.first_byte_seconds));
    page.histogram(&names::FIRST_BYTE_SECONDS, "pool", first);
}

fn backends(page: &Page, scrape: &Scrape) {
    let mut sums = BTreeMap::<(&str, &str), BackendSums>::new();
    for facts in &scrape.backends {
        let own = (&*facts.pool, &*facts.name);
        let is_known = sums.contains_key(&own);
        let place = if is_known || sums.len() < VALUES_MAX {
            own
        } else {
            (OTHER, OTHER)
        };
        let sum = sums.entry(place).or_default();
        sum.active += facts.active;
        sum.connects += facts.connects;
        sum.failures += facts.failures;
        sum.usable += u64::from(facts.usable);
        sum.ejections.add(facts.ejections);
        if let Some(probed) = facts.probed {
            let before = sum.probed.unwrap_or_default();
            sum.probed = Some(Probed {
                passed: before.passed + probed.passed,
                failed: before.failed + probed.failed,
                took: before.took.max(probed.took),
            });
        }
    }
    for ((pool, backend), sum) in sums {
        let labels = [("pool", pool), ("backend", backend)];
        page.gauge(&names::BACKEND_UP, &labels, number(sum.usable));
        page.gauge(
            &names::BACKEND_CONNECTIONS_ACTIVE,
            &labels,
            number(sum.active),
        );
        ejections(page, labels, sum.ejections);
        for (result, count) in [("ok", sum.connects), ("failed", sum.failures)] {
            let labels = [labels[0], labels[1], ("result", result)];
            page.counter(&names::BACKEND_CONNECTS, &labels, count);
        }
        if let Some(probed) = sum.probed {
            for (result, count) in [("ok", probed.passed), ("failed", probed.failed)] {
                let labels = [labels[0], labels[1], ("result", result)];
                page.counter(&names::BACKEND_PROBES, &labels, count);
            }
            let took = probed.took.as_secs_f64();
            page.gauge(&names::BACKEND_PROBE_SECONDS, &labels, took);
        }
    }
}

fn certificates(page: &Page, scrape: &Scrape) {
    let reloads = [
        ("applied", scrape.certificates_applied),
        ("rejected", scrape.certificates_rejected),
    ];
    for (result, count) in reloads {
        page.counter(&names::CERTIFICATE_RELOADS, &[("result", result)], count);
    }
    let mut first = BTreeMap::<&str, u64>::new();
    for facts in &scrape.certificates {
        let expires = first.entry(&facts.name).or_insert(u64::MAX);
        *expires = facts.expires.min(*expires);
    }
    let mut shown = BTreeMap::<&str, u64>::new();
    for (name, at) in first {
        let place = if shown.len() < VALUES_MAX {
            name
        } else {
            OTHER
        };
        let expires = shown.entry(place).or_insert(u64::MAX);
        *expires = at.min(*expires);
    }
    for (name, expires) in shown {
        let left = number(expires) - number(scrape.today);
        page.gauge(&names::CERTIFICATE_EXPIRY, &[("name", name)], left);
    }
}

fn usable(page: &Page, scrape: &Scrape) {
    let mut usable = BTreeMap::<&str, u64>::new();
    let mut sums = BTreeMap::<&str, u64>::new();
    for facts in scrape.backends.iter().filter(|facts| facts.usable) {
        *usable.entry(&facts.pool).or_default() += 1;
    }
    for pool in &scrape.pools {
        let count = usable.get(&**pool).copied().unwrap_or(0);
        let place = if sums.len() < VALUES_MAX { pool } else { OTHER };
        *sums.entry(place).or_default() += count;
    }
    for (pool, count) in sums {
        page.gauge(&names::POOL_USABLE, &[("pool", pool)], number(count));
    }
}

/// One series of `metric` for each of `values`, which are labelled with the second name.
fn counters(
    page: &Page,
    metric: &names::Metric,
    (first, second): ((&'static str, &str), &'static str),
    values: &[(&str, &Counter)],
) {
    for (value, counter) in values {
        page.counter(metric, &[first, (second, value)], counter.read());
    }
}

/// All workers' cells of one row together.
fn total<T: Absorb + Default>((name, cells): &Row<T>) -> (Arc<str>, T) {
    let total = T::default();
    cells.all().for_each(|cells| total.absorb(cells));
    (Arc::clone(name), total)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "gauges are floating point; no count reaches 2^53"
)]
pub(super) const fn number(count: u64) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "gauges are floating point; no count reaches 2^53"
)]
fn whole(gauge: &Gauge) -> f64 {
    gauge.read() as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    fn scrape() -> Scrape {
        Scrape {
            now: Instant::from_millis(10_000),
            version: "1.2.3",
            driver: "io_uring",
            snapshot: 4,
            reloads_applied: 2,
            reloads_rejected: 1,
            certificates_applied: 6,
            certificates_rejected: 5,
            certificates: vec![
                certificate("a.example", 5_000),
                certificate("a.example", 1_500),
                certificate("old.example", 10),
            ],
            lists_applied: 8,
            lists_rejected: 9,
            overload: OverloadFacts {
                is_overloaded: true,
                begun: [("memory", 3), ("loop_lag", 4)],
                memory: Some(2_000),
                memory_limit: Some(1_000),
                lag: Some(Duration::from_millis(15)),
            },
            guards: vec![GuardFacts {
                listener: Arc::from("web"),
                prefixes: 100_000,
                sources: 12,
                uncounted: 3,
            }],
            today: 1_000,
            descriptors: 99,
            log_dropped: 17,
            pools: vec![Arc::from("db"), Arc::from("empty")],
            backends: vec![backend("a", true), backend("b", false)],
            breakers: vec![BreakerFacts {
                pool: Arc::from("db"),
                state: 2,
                turns: [3, 4, 5],
                connections: 70,
                pending: 2,
            }],
        }
    }

    fn certificate(name: &str, expires: u64) -> CertificateFacts {
        let name = Arc::from(name);
        CertificateFacts { name, expires }
    }

    fn backend(name: &str, usable: bool) -> BackendFacts {
        BackendFacts {
            pool: Arc::from("db"),
            name: Arc::from(name),
            active: 3,
            connects: 5,
            failures: 7,
            usable,
            ejections: Ejections {
                now: u64::from(!usable),
                connect_failures: 6,
                failure_rate: 8,
            },
            probed: usable.then(|| Probed {
                passed: 9,
                failed: 4,
                took: Duration::from_millis(12),
            }),
        }
    }

    fn filled() -> Registry {
        let registry = Registry::new(2);
        let listener = registry.listener(&Arc::from("front \"door\""));
        for worker in 0..2 {
            let cells = listener.worker(worker);
            cells.accepted.add(4);
            cells.active.inc();
            cells.ended[Reason::Eof.index()].add(2);
            cells.ended[Reason::NoBackend.index()].inc();
            cells.bytes_up.add(100);
            cells.bytes_down.add(2_000);
            cells.session_seconds.record(Duration::from_millis(1_500));
        }
        let pool = registry.pool(&Arc::from("db"));
        pool.worker(0)
            .connect_seconds
            .record(Duration::from_micros(100));
        pool.worker(1)
            .first_byte_seconds
            .record(Duration::from_secs(200_000));
        pool.worker(1).retries_denied.inc();
        registry.worker(0).accept_paused.add(8);
        registry.worker(1).panics.inc();
        registry.worker(0).beat(Instant::from_millis(9_500));
        registry
    }

    #[test]
    fn cells_of_all_workers_appear_under_their_names() {
        let text = render(&filled(), &scrape());
        let front = r#"listener="front \"door\"""#;
        for line in [
            format!("ringlane_accepted_total{{{front}}} 8"),
            format!("ringlane_connections_total{{{front},result=\"eof\"}} 4"),
            format!("ringlane_connections_total{{{front},result=\"idle\"}} 0"),
            format!("ringlane_connections_active{{{front},worker=\"1\"}} 1"),
            format!("ringlane_bytes_total{{{front},direction=\"up\"}} 200"),
            format!("ringlane_bytes_total{{{front},direction=\"down\"}} 4000"),
            format!("ringlane_session_seconds_bucket{{{front},le=\"1\"}} 0"),
            format!("ringlane_session_seconds_bucket{{{front},le=\"2.5\"}} 2"),
            format!("ringlane_session_seconds_sum{{{front}}} 3"),
            format!("ringlane_session_seconds_count{{{front}}} 2"),
            "ringlane_connect_seconds_bucket{pool=\"db\",le=\"0.00005\"} 0".into(),
            "ringlane_connect_seconds_bucket{pool=\"db\",le=\"0.0001\"} 1".into(),
            "ringlane_first_byte_seconds_bucket{pool=\"db\",le=\"100000\"} 0".into(),
            "ringlane_first_byte_seconds_bucket{pool=\"db\",le=\"+Inf\"} 1".into(),
            "ringlane_retries_total{pool=\"db\",outcome=\"denied\"} 1".into(),
            "ringlane_rejected_total{reason=\"no_backend\"} 2".into(),
            "ringlane_accept_paused_total{worker=\"0\"} 8".into(),
            "ringlane_session_panics_total 1".into(),
            "ringlane_worker_up{worker=\"0\"} 1".into(),
            "ringlane_worker_up{worker=\"1\"} 0".into(),
            "ringlane_worker_heartbeat_age_seconds{worker=\"0\"} 0.5".into(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn facts_from_elsewhere_appear_under_their_names() {
        let text = render(&Registry::new(1), &scrape());
        for line in [
            "ringlane_build_info{version=\"1.2.3\",driver=\"io_uring\"} 1",
            "ringlane_config_info{version=\"4\"} 1",
            "ringlane_config_reload_total{result=\"applied\"} 2",
            "ringlane_config_reload_total{result=\"rejected\"} 1",
            "ringlane_certificate_expiry_seconds{name=\"a.example\"} 500",
            "ringlane_certificate_expiry_seconds{name=\"old.example\"} -990",
            "ringlane_certificate_reloads_total{result=\"applied\"} 6",
            "ringlane_certificate_reloads_total{result=\"rejected\"} 5",
            "ringlane_descriptors 99",
            "ringlane_log_dropped_total 17",
            "ringlane_pool_usable{pool=\"db\"} 1",
            "ringlane_pool_usable{pool=\"empty\"} 0",
            "ringlane_backend_up{pool=\"db\",backend=\"a\"} 1",
            "ringlane_backend_up{pool=\"db\",backend=\"b\"} 0",
            "ringlane_backend_connections_active{pool=\"db\",backend=\"a\"} 3",
            "ringlane_backend_probes_total{pool=\"db\",backend=\"a\",result=\"ok\"} 9",
            "ringlane_backend_probes_total{pool=\"db\",backend=\"a\",result=\"failed\"} 4",
            "ringlane_backend_probe_seconds{pool=\"db\",backend=\"a\"} 0.012",
            "ringlane_backend_connects_total{pool=\"db\",backend=\"b\",result=\"ok\"} 5",
            "ringlane_backend_connects_total{pool=\"db\",backend=\"b\",result=\"failed\"} 7",
            "ringlane_backend_ejected{pool=\"db\",backend=\"a\"} 0",
            "ringlane_backend_ejected{pool=\"db\",backend=\"b\"} 1",
            "ringlane_ejections_total{pool=\"db\",backend=\"b\",reason=\"connect_failures\"} 6",
            "ringlane_ejections_total{pool=\"db\",backend=\"b\",reason=\"failure_rate\"} 8",
            "ringlane_breaker_state{pool=\"db\"} 2",
            "ringlane_breaker_connections{pool=\"db\"} 70",
            "ringlane_breaker_pending{pool=\"db\"} 2",
            "ringlane_breaker_turns_total{pool=\"db\",to=\"closed\"} 3",
            "ringlane_breaker_turns_total{pool=\"db\",to=\"half_open\"} 4",
            "ringlane_breaker_turns_total{pool=\"db\",to=\"open\"} 5",
            "ringlane_list_reloads_total{result=\"applied\"} 8",
            "ringlane_list_reloads_total{result=\"rejected\"} 9",
            "ringlane_access_prefixes{listener=\"web\"} 100000",
            "ringlane_overloaded 1",
            "ringlane_overloads_total{cause=\"memory\"} 3",
            "ringlane_overloads_total{cause=\"loop_lag\"} 4",
            "ringlane_overload_memory_bytes 2000",
            "ringlane_overload_memory_threshold_bytes 1000",
            "ringlane_overload_lag_seconds 0.015",
            "ringlane_limit_sources{listener=\"web\"} 12",
            "ringlane_limit_uncounted_total{listener=\"web\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn each_name_is_described_once_and_no_series_comes_twice() {
        let text = render(&filled(), &scrape());
        for metric in names::ALL {
            for keyword in ["HELP", "TYPE"] {
                let start = format!("# {keyword} {} ", metric.name);
                let count = text.lines().filter(|line| line.starts_with(&start)).count();
                assert_eq!(count, 1, "{start}\n{text}");
            }
        }
        let mut seen = BTreeSet::new();
        for line in text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
        {
            let (series, _) = line.rsplit_once(' ').unwrap();
            assert!(seen.insert(series), "twice: {series}");
            let name = series.split('{').next().unwrap();
            assert!(
                names::ALL.iter().any(|m| name.starts_with(m.name)),
                "{name}"
            );
        }
    }

    #[test]
    fn backends_and_pools_past_the_cap_are_summed_as_other() {
        let mut scrape = scrape();
        let names: Vec<String> = (0..VALUES_MAX + 20).map(|n| format!("n{n:05}")).collect();
        scrape.backends = names.iter().map(|name| backend(name, true)).collect();
        scrape.pools = names.iter().map(|name| Arc::from(name.as_str())).collect();
        let expires = |at: u64| 2_000 - at;
        let numbered = names.iter().zip(0..);
        scrape.certificates = numbered
            .map(|(name, at)| certificate(name, expires(at)))
            .collect();
        let text = render(&Registry::new(1), &scrape);
        let count = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
        assert_eq!(count("ringlane_backend_up{"), VALUES_MAX + 1);
        assert_eq!(count("ringlane_pool_usable{"), VALUES_MAX + 1);
        for line in [
            // Of those beyond the cap the first to expire.
            "ringlane_certificate_expiry_seconds{name=\"other\"} -19\n",
            "ringlane_backend_connections_active{pool=\"other\",backend=\"other\"} 60\n",
            "ringlane_backend_up{pool=\"other\",backend=\"other\"} 20\n",
            "ringlane_backend_connects_total{pool=\"other\",backend=\"other\",result=\"ok\"} 100\n",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }

    #[test]
    fn names_follow_the_conventions() {
        let mut seen = BTreeSet::new();
        for metric in names::ALL {
            let name = metric.name;
            assert!(seen.insert(name), "twice: {name}");
            assert!(name.starts_with("ringlane_"), "{name}");
            let is_counter = metric.kind == names::Kind::Counter;
            assert_eq!(name.ends_with("_total"), is_counter, "{name}");
            let in_seconds = metric.unit == metrics::Unit::Seconds;
            assert_eq!(name.ends_with("_seconds"), in_seconds, "{name}");
            assert!(metric.help.ends_with('.'), "{name}");
            assert!(!metric.help.contains(['\\', '\n']), "{name}");
        }
    }

    #[test]
    fn promtool_finds_nothing_to_complain_about() {
        let promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        // Where promtool is not installed, the tests above check the text.
        let Ok(mut promtool) = promtool else { return };
        let text = render(&filled(), &scrape());
        let mut stdin = promtool.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        drop(stdin);
        let output = promtool.wait_with_output().unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{complaints}\n{text}");
        assert_eq!(complaints, "");
    }
}
