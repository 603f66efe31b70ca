//! What the kernel says a running ringlane uses, and what it says itself.

use std::fs;
use std::time::Duration;

use ringlane::base::clock::now;

use super::Ringlane;

impl Ringlane {
    /// Descriptors that are sockets; the workers keep pipes for later use.
    pub(crate) fn sockets(&self) -> usize {
        self.descriptors("socket:")
    }

    /// Descriptors that are ends of pipes.
    pub(crate) fn pipe_ends(&self) -> usize {
        self.descriptors("pipe:")
    }

    fn descriptors(&self, kind: &str) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .unwrap()
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .filter(|link| link.to_string_lossy().starts_with(kind))
            .count()
    }

    pub(crate) fn threads(&self) -> usize {
        self.status("Threads:")
    }

    /// Resident memory, bytes.
    pub(crate) fn resident(&self) -> usize {
        self.status("VmRSS:") * 1024
    }

    fn status(&self, key: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let number = line.unwrap().split_whitespace().next();
        number.unwrap().parse().unwrap()
    }

    /// Processor time used so far, in user and kernel mode.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // The name in parentheses may hold anything.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks: u64 = [11, 12]
            .iter()
            .map(|&field: &usize| fields[field].parse::<u64>().unwrap())
            .sum();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// Whether it uses little of a processor while nothing is to be done.
    pub(crate) fn processor_is_idle(&self) -> bool {
        let (begun, used) = (now(), self.processor_time());
        std::thread::sleep(Duration::from_millis(500));
        self.processor_time() - used < (now() - begun) / 5
    }

    /// The sum of all series of one metric.
    pub(crate) fn metric_sum(&self, name: &str) -> f64 {
        let (_, page) = self.ask("GET", "/metrics").unwrap();
        page.lines()
            .filter(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Sessions that are open now, as both counts have it.
    pub(crate) fn sessions_active(&self) -> (f64, f64) {
        (
            self.metric_sum("ringlane_connections_active"),
            self.metric_sum("ringlane_backend_connections_active"),
        )
    }
}
