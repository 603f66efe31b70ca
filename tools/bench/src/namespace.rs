//! A network and process namespace of its own: no port, no setting and no process outlives a run.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::process;

/// Settings of the namespace, as `net/…` under `/proc/sys`.
const SETTINGS: &[(&str, &str)] = &[
    ("net/ipv4/tcp_congestion_control", "cubic"),
    ("net/ipv4/tcp_tw_reuse", "1"),
    // Listeners are on ports below, so no connection can take one of them.
    ("net/ipv4/ip_local_port_range", "15000 65000"),
    ("net/core/somaxconn", "4096"),
    ("net/ipv4/tcp_max_syn_backlog", "4096"),
];

/// Read into the report, not set.
const READ: &[&str] = &[
    "net/ipv4/tcp_rmem",
    "net/ipv4/tcp_wmem",
    "net/ipv4/tcp_max_tw_buckets",
    "net/ipv4/tcp_timestamps",
];

/// Runs this program again inside new namespaces, with `arguments`, and waits for it.
///
/// Should this process end in whatever way, the kernel ends `unshare`, by that the first process of
/// the namespace, and by that all others in it.
pub(crate) fn enter(arguments: &[String]) -> Result<ExitStatus> {
    let this = std::env::current_exe().context("the path of this program")?;
    let mut command = vec!["unshare".to_owned()];
    if !rustix::process::geteuid().is_root() {
        command.push("--map-root-user".to_owned());
    }
    for flag in ["--net", "--pid", "--fork", "--kill-child", "--mount-proc"] {
        command.push(flag.to_owned());
    }
    command.push("--".to_owned());
    command.push(this.display().to_string());
    command.extend(arguments.iter().cloned());
    let status = process::pinned(&[], &command)?
        .status()
        .context("unshare, of the package util-linux")?;
    Ok(status)
}

/// Prepares the namespace that this process is the first one of; gives its settings for the report.
pub(crate) fn prepare() -> Result<Vec<(String, String)>> {
    if std::process::id() != 1 {
        bail!("`--inside` is for this program's own use: it belongs into a fresh namespace");
    }
    let status = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .context("ip, of the package iproute2")?;
    if !status.success() {
        bail!("`ip link set lo up` inside the network namespace: {status}");
    }
    for (name, value) in SETTINGS {
        let path = Path::new("/proc/sys").join(name);
        fs::write(&path, value).with_context(|| format!("write {value} to {}", path.display()))?;
    }
    let names = SETTINGS.iter().map(|(name, _)| name).chain(READ);
    names
        .map(|name| Ok(((*name).to_owned(), read(name)?)))
        .collect()
}

fn read(name: &str) -> Result<String> {
    let path = Path::new("/proc/sys").join(name);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Raises the number of files that may be open as far as is allowed; gives that number.
pub(crate) fn raise_open_files() -> Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).context("raise the number of open files")?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}
