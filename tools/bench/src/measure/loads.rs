//! Load and backend processes: both ends of the pipes through which they are spoken to.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{ChildStdin, ChildStdout};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;

use crate::backend::{self, Backend};
use crate::load::{self, Errors, Outcome, Plan};
use crate::process::Running;
use crate::siege;

/// Written by a backend that listens.
const READY: &str = "ready";

/// Written by a load process when its measured window begins.
const WINDOW: &str = "window";

/// The hidden command `backend`.
pub(crate) fn run_backend(plan: &str) -> Result<()> {
    let backend = Backend::listen(serde_json::from_str(plan).context("backend's plan")?)?;
    writeln!(std::io::stdout(), "{READY}")?;
    backend.serve()
}

/// The hidden command `load`: writes the beginning of its window, its outcome, and when its input is
/// closed, what became of its open connections.
pub(crate) fn run_load(plan: &str) -> Result<()> {
    let plan: Plan = serde_json::from_str(plan).context("load's plan")?;
    let (outcome, mut engine) = load::run(plan, || {
        // Whoever waits for this line has ended if it cannot be written, and so will this process.
        let _ = writeln!(std::io::stdout(), "{WINDOW}");
    })?;
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&outcome)?)?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    let errors = engine.inspect()?;
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&errors)?)?;
    Ok(())
}

fn this_program(command: &str, plan: &impl serde::Serialize) -> Result<Vec<String>> {
    let this = std::env::current_exe().context("the path of this program")?;
    Ok(vec![
        this.display().to_string(),
        command.to_owned(),
        serde_json::to_string(plan)?,
    ])
}

/// Starts a backend process and waits until it listens.
pub(super) fn start_backend(cores: &[usize], plan: backend::Plan) -> Result<Running> {
    let mut running = Running::start_piped(cores, &this_program("backend", &plan)?)?;
    let output = running.child().stdout.take().context("backend's output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    if line.trim_end() != READY {
        running.check_alive()?;
        anyhow::bail!("the backend process says `{}`", line.trim_end());
    }
    Ok(running)
}

/// A siege process at work.
pub(super) struct Siege(Load);

impl Siege {
    /// Starts one and waits until all its slow clients are there.
    pub(super) fn start(cores: &[usize], plan: &siege::Plan) -> Result<Self> {
        let mut load = Load::of(cores, &this_program("siege", plan)?)?;
        let line = load.line()?;
        anyhow::ensure!(line == siege::READY, "the siege process says `{line}`");
        Ok(Self(load))
    }

    /// Ends it; what came of it.
    pub(super) fn finish(mut self) -> Result<siege::Outcome> {
        self.0.input = None;
        self.0.json()
    }
}

/// A load process at work.
pub(super) struct Load {
    running: Running,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Load {
    pub(super) fn start(cores: &[usize], plan: &Plan) -> Result<Self> {
        Self::of(cores, &this_program("load", plan)?)
    }

    fn of(cores: &[usize], command: &[String]) -> Result<Self> {
        let mut running = Running::start_piped(cores, command)?;
        let input = running.child().stdin.take();
        let output = running.child().stdout.take().context("load's output")?;
        Ok(Self {
            running,
            input,
            output: BufReader::new(output),
        })
    }

    /// Waits for the measured window.
    pub(super) fn wait_for_window(&mut self) -> Result<()> {
        let line = self.line()?;
        anyhow::ensure!(line == WINDOW, "the load process says `{line}`");
        Ok(())
    }

    /// Waits for what came out; the connections stay open.
    pub(super) fn outcome(&mut self) -> Result<Outcome> {
        self.json()
    }

    /// Has the load process look at its open connections, and ends it.
    pub(super) fn finish(mut self) -> Result<Errors> {
        self.input = None;
        self.json()
    }

    fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = self.line()?;
        if line == WINDOW {
            line = self.line()?;
        }
        serde_json::from_str(&line).with_context(|| format!("the load process says `{line}`"))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() {
            let status = self.running.child().wait()?;
            anyhow::bail!("the load process has ended: {status}");
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }
}
