//! What a report says of the machine it was made on.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::report::Environment;

/// Reads kernel, processor and date; `settings` are those of the namespace.
pub(crate) fn environment(settings: Vec<(String, String)>, open_files: u64) -> Result<Environment> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("kernel release")?;
    let processors = fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let memory = fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    let memory = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .map_or("unknown", str::trim);
    Ok(Environment {
        date: date()?,
        kernel: release.trim().to_owned(),
        cpu: model.to_owned(),
        cores: cores().len(),
        memory: memory.to_owned(),
        open_files,
        settings,
    })
}

/// CPU time that all cores have spent on anything, in nanoseconds; exact to a tick of 10 ms.
pub(crate) fn busy_ns() -> Result<u64> {
    const TICK_NS: u64 = 10_000_000;
    let text = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let first = text.lines().next().unwrap_or_default();
    // cpu user nice system idle iowait irq softirq steal …; guests are part of user and nice.
    let fields: Vec<u64> = first
        .split_whitespace()
        .skip(1)
        .map(str::parse)
        .collect::<Result<_, _>>()
        .context("/proc/stat")?;
    let busy = fields.iter().take(8).enumerate();
    let ticks: u64 = busy
        .filter(|(place, _)| !matches!(place, 3 | 4))
        .map(|(_, ticks)| ticks)
        .sum();
    Ok(ticks * TICK_NS)
}

/// The cores this process may use.
pub(crate) fn cores() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|core| set.is_set(*core))
        .collect()
}

fn date() -> Result<String> {
    first_line(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]))
}

/// The first line a program writes, to stdout or else to stderr.
pub(crate) fn first_line(command: &mut Command) -> Result<String> {
    let name = command.get_program().display().to_string();
    let output = command.output().with_context(|| name.clone())?;
    if !output.status.success() {
        bail!("{name}: {}", output.status);
    }
    let text = if output.stdout.is_empty() {
        output.stderr
    } else {
        output.stdout
    };
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().find(|line| !line.trim().is_empty());
    Ok(line.unwrap_or_default().trim().to_owned())
}
