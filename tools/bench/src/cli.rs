//! The command line.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};

use crate::against::{self, HERE};
use crate::measure::{self, Bench};
use crate::peer::{self, Peer, Programs};
use crate::report::{Report, Settings};
use crate::workload::Workload;
use crate::{machine, namespace, plot, process, siege, table};

/// Compares ringlane with HAProxy, nginx and Envoy on this machine, in one run.
///
/// Exits with 1 if any connection failed or any byte was wrong, with 2 if it could not measure.
#[derive(Debug, Parser)]
#[command(
    name = "ringlane-bench",
    version,
    args_conflicts_with_subcommands = true
)]
struct Flags {
    #[command(subcommand)]
    command: Option<Command>,
    /// These workloads, or all below a prefix: `tls`, `bulk-up`; default: all
    #[arg(long, value_delimiter = ',', value_name = "WORKLOADS", value_parser = selection)]
    only: Option<Vec<Selection>>,
    /// These peers; default: all that are found
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    peers: Option<Vec<String>>,
    /// Rounds of each workload [default: 5, with --against 9]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Length of a measured window
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// ringlane's program [default: target/release/ringlane of this repository]
    #[arg(long, value_name = "PATH")]
    ringlane: Option<PathBuf>,
    /// HAProxy's program [default: the one in PATH]
    #[arg(long, value_name = "PATH")]
    haproxy: Option<PathBuf>,
    /// nginx' program [default: the one in PATH]
    #[arg(long, value_name = "PATH")]
    nginx: Option<PathBuf>,
    /// Envoy's program; without it Envoy does not take part
    #[arg(long, value_name = "PATH")]
    envoy: Option<PathBuf>,
    /// The core of the balancer
    #[arg(long, default_value_t = 0)]
    balancer_core: usize,
    /// The cores of load generator and backends
    #[arg(long, value_delimiter = ',', default_value = "1")]
    load_cores: Vec<usize>,
    /// Connections of `idle`
    #[arg(long, default_value_t = 5_000)]
    idle_connections: usize,
    /// Compare this tree with a revision of it instead of with other programs
    #[arg(long, value_name = "REV", conflicts_with = "peers")]
    against: Option<String>,
    /// Write the report
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the picture, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Show reports that were written before, with the rounds of all of them; measure nothing
    #[arg(
        long,
        value_name = "FILES",
        value_delimiter = ',',
        conflicts_with = "against"
    )]
    from_json: Vec<PathBuf>,
    /// This process is the first one of its namespace
    #[arg(long, hide = true)]
    inside: bool,
    /// The program of the revision, built by the process outside of the namespace
    #[arg(long, hide = true, value_name = "PATH")]
    against_program: Option<PathBuf>,
}

/// The workloads that one word of the command line means.
#[derive(Clone, Debug)]
struct Selection(Vec<Workload>);

fn selection(word: &str) -> Result<Selection, String> {
    Workload::named(word).map(Selection)
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve as the backends; for the tool's own use
    #[command(hide = true)]
    Backend { plan: String },
    /// Generate load; for the tool's own use
    #[command(hide = true)]
    Load { plan: String },
    /// Besiege a balancer; for the tool's own use
    #[command(hide = true)]
    Siege { plan: String },
    /// Become a program on these cores; for the tool's own use
    #[command(hide = true)]
    Exec {
        #[arg(long, value_delimiter = ',', num_args = 0..=1)]
        cores: Vec<String>,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

/// Reads the command line, does what it says and returns the exit code.
pub fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            // If not even this can be written, the exit code has to do.
            let _ = writeln!(std::io::stderr(), "ringlane-bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode> {
    let flags = Flags::parse();
    match &flags.command {
        Some(Command::Backend { plan }) => measure::run_backend(plan)?,
        Some(Command::Load { plan }) => measure::run_load(plan)?,
        Some(Command::Siege { plan }) => siege::run_siege(plan)?,
        Some(Command::Exec { cores, command }) => {
            let numbers = cores.iter().filter(|core| !core.is_empty());
            let cores = numbers
                .map(|core| core.parse())
                .collect::<Result<Vec<_>, _>>();
            process::become_pinned(&cores.context("cores are numbers")?, command)?;
        }
        None if flags.inside => return measure_inside(&flags),
        None => {
            let Some((first, others)) = flags.from_json.split_first() else {
                return enter(&flags);
            };
            let mut report = Report::read(first)?;
            for other in others {
                report.pool(Report::read(other)?)?;
            }
            return publish(&flags, &report);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Checks what can be checked, builds what must be built, and goes on inside the namespace.
fn enter(flags: &Flags) -> Result<ExitCode> {
    check(flags)?;
    let mut arguments = vec!["--inside".to_owned()];
    if let Some(revision) = &flags.against {
        let builds = against::build(&root(), revision, flags.ringlane.as_deref())?;
        arguments.push("--against-program".to_owned());
        arguments.push(builds.revision.display().to_string());
        if flags.ringlane.is_none() {
            arguments.push("--ringlane".to_owned());
            arguments.push(builds.here.display().to_string());
        }
    }
    arguments.extend(std::env::args().skip(1));
    let status = namespace::enter(&arguments)?;
    match status.code().map(u8::try_from) {
        Some(Ok(code)) => Ok(ExitCode::from(code)),
        _ => bail!("the measurement was ended: {status}"),
    }
}

fn check(flags: &Flags) -> Result<()> {
    let available = machine::cores();
    ensure!(
        available.len() >= 2,
        "{} core may be used, and a balancer must not share its core with its load: 2 are needed",
        available.len()
    );
    for core in flags.load_cores.iter().chain([&flags.balancer_core]) {
        ensure!(
            available.contains(core),
            "core {core} may not be used; these may: {available:?}"
        );
    }
    ensure!(
        !flags.load_cores.contains(&flags.balancer_core),
        "core {} cannot serve both the balancer and the load",
        flags.balancer_core
    );
    ensure!(
        flags.seconds.is_finite() && (0.1..=600.0).contains(&flags.seconds),
        "--seconds {}: from 0.1 to 600",
        flags.seconds
    );
    Ok(())
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

fn measure_inside(flags: &Flags) -> Result<ExitCode> {
    let open_files = namespace::raise_open_files()?;
    let kernel = namespace::prepare()?;
    let settings = settings(flags);
    // Two descriptors for each session, and pipes for those that splice.
    let connections_max = Bench::connections_max(&settings);
    ensure!(
        2 * connections_max as u64 + 500 <= open_files,
        "{} idle connections and slack take {} open files, and the hard limit is {open_files}: lower --idle-connections or raise the limit",
        settings.idle_connections,
        2 * connections_max + 500,
    );
    let peers = find_peers(flags)?;
    let scratch = std::env::temp_dir().join(format!("ringlane-bench-{}", scratch_name()?));
    fs::create_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    let info = peers
        .iter()
        .map(|peer| {
            let setup = peer.setup(&scratch, &[peer::BACKEND_PORT], connections_max);
            peer.describe(&setup)
        })
        .collect();
    let environment = machine::environment(kernel, open_files)?;
    // In the order of the list: some are judged by others that come before.
    let ordered: Vec<Workload> = Workload::all()
        .iter()
        .copied()
        .filter(|workload| {
            flags
                .only
                .as_ref()
                .is_none_or(|only| only.iter().any(|meant| meant.0.contains(workload)))
        })
        .collect();
    let mut bench = Bench::new(peers, settings.clone(), scratch.clone())?;
    let mut measured = bench.run(&ordered)?;
    drop(bench);
    if let Some(revision) = &flags.against {
        against::pair(&mut measured, revision);
    }
    let report = Report {
        environment,
        settings,
        peers: info,
        workloads: measured,
    };
    if report.is_faulty() {
        let kept = scratch.display();
        writeln!(
            std::io::stderr(),
            "configurations and logs are kept in {kept}"
        )?;
    } else {
        fs::remove_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    }
    publish(flags, &report)
}

/// Process numbers begin anew in each namespace, so the directory is told apart by the clock.
fn scratch_name() -> Result<String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(now.as_nanos().to_string())
}

fn settings(flags: &Flags) -> Settings {
    let default = if flags.against.is_some() { 9 } else { 5 };
    let rounds = flags.rounds.unwrap_or(default);
    Settings {
        rounds: usize::from(rounds),
        seconds: flags.seconds,
        balancer_core: flags.balancer_core,
        load_cores: flags.load_cores.clone(),
        idle_connections: flags.idle_connections,
        against: flags.against.clone(),
    }
}

fn find_peers(flags: &Flags) -> Result<Vec<Peer>> {
    let ringlane = flags
        .ringlane
        .clone()
        .unwrap_or_else(|| root().join("target/release/ringlane"));
    if let (Some(revision), Some(program)) = (&flags.against, &flags.against_program) {
        let mut peers = vec![
            peer::ringlane_at(revision, program, 1)?,
            peer::ringlane_at(HERE, &ringlane, 1)?,
        ];
        peer::number(&mut peers);
        return Ok(peers);
    }
    let programs = Programs {
        ringlane,
        haproxy: flags.haproxy.clone(),
        nginx: flags.nginx.clone(),
        envoy: flags.envoy.clone(),
    };
    peer::find(&programs, flags.peers.as_deref())
}

/// Table, JSON and picture; the exit code says whether all was well.
fn publish(flags: &Flags, report: &Report) -> Result<ExitCode> {
    write!(std::io::stdout(), "{}", table::render(report)).context("write the table")?;
    if let Some(path) = &flags.json {
        report.write(path)?;
    }
    if let Some(path) = &flags.plot {
        fs::write(path, plot::render(report)).with_context(|| path.display().to_string())?;
    }
    Ok(if report.is_faulty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
