//! Child processes: pinned to cores, ended with their children, never left behind.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use rustix::thread::CpuSet;

use crate::sys::process_cpu_ns;

/// The longest that a program may take to begin or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Becomes `command` on `cores`, to be killed when the process that started it ends.
///
/// This is what the hidden command `exec` does: a step between fork and exec that is plain code in a
/// process of its own, where a callback after fork would have to be unsafe.
pub(crate) fn become_pinned(cores: &[usize], command: &[String]) -> Result<()> {
    let (program, arguments) = command.split_first().context("exec without a program")?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have ended before the signal was asked for. Its number is 0 when it lives
    // outside of the namespace of this process, which none of the callers does.
    if rustix::process::getppid().is_none() {
        bail!("the process that started {program} has ended");
    }
    if !cores.is_empty() {
        let mut set = CpuSet::new();
        cores.iter().for_each(|core| set.set(*core));
        rustix::thread::sched_setaffinity(None, &set)
            .with_context(|| format!("{program} cannot be pinned to cores {cores:?}"))?;
    }
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("{program} cannot be started"))
}

/// The command that runs `command` by way of [`become_pinned`].
pub(crate) fn pinned(cores: &[usize], command: &[String]) -> Result<Command> {
    let this = std::env::current_exe().context("the path of this program")?;
    let list: Vec<String> = cores.iter().map(usize::to_string).collect();
    let mut outer = Command::new(this);
    outer.args(["exec", "--cores", &list.join(","), "--"]);
    outer.args(command);
    outer.stdin(Stdio::null());
    Ok(outer)
}

/// A running program; dropping it ends it and all its children.
pub(crate) struct Running {
    name: String,
    child: Child,
}

impl Running {
    /// Starts a program whose output goes to `log`.
    pub(crate) fn start(cores: &[usize], command: &[String], log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| log.display().to_string())?;
        let mut outer = pinned(cores, command)?;
        outer.stdout(file.try_clone()?).stderr(file);
        Self::spawn(command, outer)
    }

    /// Starts a program that is spoken to over pipes; its messages go to stderr.
    pub(crate) fn start_piped(cores: &[usize], command: &[String]) -> Result<Self> {
        let mut outer = pinned(cores, command)?;
        outer.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self::spawn(command, outer)
    }

    fn spawn(command: &[String], mut outer: Command) -> Result<Self> {
        let name = command.first().cloned().unwrap_or_default();
        let child = outer.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { name, child })
    }

    /// The process that was started.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its pipes.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// It and all its descendants.
    pub(crate) fn tree(&self) -> Result<Vec<u32>> {
        tree(self.pid())
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("signal {}", self.name))
    }

    /// Fails if it has ended.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} has ended: {status}", self.name);
        }
        Ok(())
    }

    /// Waits until `ready` says so.
    pub(crate) fn wait_until(&mut self, ready: impl Fn(u32) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !ready(self.pid()) {
            self.check_alive()?;
            if Instant::now() > deadline {
                bail!("{} is not ready after {PATIENCE:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.check_alive()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let tree = self.tree().unwrap_or_else(|_| vec![self.pid()]);
        // The first is the one that would start others anew, so it goes first.
        for pid in &tree {
            if let Some(pid) = as_pid(*pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        let _ = self.child.wait();
        // Orphans become children of the first process of the namespace, which is this one.
        for pid in tree.into_iter().skip(1).filter_map(as_pid) {
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

fn as_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// A process and all its descendants, parents first.
pub(crate) fn tree(root: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process may end between the listing and the reading.
        if let Some(parent) = parent_of(pid) {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|p| p.0));
        next += 1;
    }
    Ok(found)
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // pid (name) state parent …; the name may hold spaces and brackets.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// CPU time of the processes together, in seconds.
pub(crate) fn cpu_s(pids: &[u32]) -> io::Result<f64> {
    let mut sum = 0;
    for pid in pids {
        sum += process_cpu_ns(*pid)?;
    }
    Ok(sum as f64 / 1e9)
}

/// Memory of the processes together in bytes, pages they share counted once.
pub(crate) fn pss_bytes(pids: &[u32]) -> Result<f64> {
    let mut sum = 0.0;
    for pid in pids {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).with_context(|| path.clone())?;
        let kilobytes: f64 = text
            .lines()
            .find_map(|line| line.strip_prefix("Pss:"))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|number| number.parse().ok())
            .with_context(|| format!("{path} has no line `Pss:`"))?;
        sum += kilobytes * 1024.0;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::{parent_of, pss_bytes, tree};

    #[test]
    fn a_child_is_in_the_tree_of_its_parent() {
        let mut child = std::process::Command::new("sleep")
            .arg("30")
            .spawn()
            .unwrap();
        let tree = tree(std::process::id()).unwrap();
        assert_eq!(tree[0], std::process::id());
        assert!(tree.contains(&child.id()));
        assert_eq!(parent_of(child.id()), Some(std::process::id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn memory_of_this_process_is_read() {
        assert!(pss_bytes(&[std::process::id()]).unwrap() > 100_000.0);
        assert!(pss_bytes(&[u32::MAX]).is_err());
    }
}
