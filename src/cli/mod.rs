//! The commands: what an operator types, and what it exits with.

mod check;
mod demo;
mod explain;
mod reload;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::{self, Machine, Report};
use crate::process;

/// Where the configuration is, if nothing else is said.
pub const CONFIG_FILE: &str = "/etc/ringlane/ringlane.toml";

/// Faults of the configuration; so that a script can tell them from all others.
const EXIT_CONFIGURATION: u8 = 2;

/// A layer-4 load balancer on a thread-per-core io_uring runtime.
#[derive(Debug, Parser)]
#[command(name = "ringlane", version = version(), args_conflicts_with_subcommands = true)]
struct Flags {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Balance load as the configuration says (the default command)
    Run(Run),
    /// Show what ringlane does, in front of built-in backends; needs no file and no set-up
    Demo(demo::Demo),
    /// Check a configuration without using it
    Check(check::Check),
    /// Say what becomes of a client: its route, its backends, and why not the other routes
    Explain(explain::Explain),
    /// Make a running ringlane read its configuration again
    Reload(reload::Reload),
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Args, Debug)]
struct Run {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = CONFIG_FILE)]
    config: PathBuf,
}

/// Reads the command line, does what it says and returns the exit code: 0 ok, 1 run-time failure,
/// 2 configuration or command line, 3 cannot bind, 4 nothing takes the client to be explained.
pub fn main() -> ExitCode {
    let flags = Flags::parse();
    match flags.command.unwrap_or(Command::Run(flags.run)) {
        Command::Run(run) => self::run(&run.config),
        Command::Demo(demo) => demo::demo(&demo),
        Command::Check(check) => check::check(&check),
        Command::Explain(explain) => explain::explain(&explain),
        Command::Reload(reload) => reload::reload(&reload),
        Command::Completions { shell } => print(&completions(shell)),
    }
}

fn run(path: &Path) -> ExitCode {
    match config::load(path, &Machine::here()) {
        Ok(checked) => process::run(checked, Some(path.to_owned())),
        Err(report) => {
            let code = refuse(&report);
            if path == Path::new(CONFIG_FILE) && !path.exists() {
                complain("name another file with -c FILE, or try `ringlane demo`");
            }
            code
        }
    }
}

fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Flags::command(), "ringlane", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

fn version() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        format!(
            "{} ({} build, {}-{}{}; drivers: io_uring, epoll)",
            env!("CARGO_PKG_VERSION"),
            if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            },
            std::env::consts::ARCH,
            std::env::consts::OS,
            if cfg!(target_env = "musl") {
                "-musl"
            } else {
                "-gnu"
            },
        )
    });
    &TEXT
}

/// Writes to standard output; one that nobody reads any more (`| head`) is no failure.
fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("standard output: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Writes one message to standard error.
fn complain(message: &str) {
    // With standard error gone there is no place left to complain at.
    let _ = writeln!(io::stderr().lock(), "ringlane: {message}");
}

/// Writes faults to standard error.
fn refuse(report: &Report) -> ExitCode {
    show(report);
    ExitCode::from(EXIT_CONFIGURATION)
}

/// Writes faults or warnings to standard error, in colour where that is a terminal.
fn show(report: &Report) {
    if !report.is_empty() {
        let mut err = io::stderr().lock();
        let text = report.render(color(err.is_terminal()));
        let newline = if text.ends_with('\n') { "" } else { "\n" };
        let _ = write!(err, "{text}{newline}");
    }
}

/// Whether to use colour (<https://no-color.org>).
fn color(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flags, clap::Error> {
        Flags::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_sound() {
        Flags::command().debug_assert();
    }

    #[test]
    fn running_is_the_default() {
        let flags = parse("ringlane").unwrap();
        assert!(flags.command.is_none());
        assert_eq!(flags.run.config, Path::new(CONFIG_FILE));
        let flags = parse("ringlane -c a.toml").unwrap();
        assert!(flags.command.is_none());
        assert_eq!(flags.run.config, Path::new("a.toml"));
        let flags = parse("ringlane run -c a.toml").unwrap();
        assert!(
            matches!(flags.command, Some(Command::Run(run)) if run.config == Path::new("a.toml"))
        );
    }

    #[test]
    fn a_check_needs_a_file_or_wants_the_schema() {
        assert!(parse("ringlane check").is_err());
        assert!(parse("ringlane check --schema").is_ok());
        assert!(parse("ringlane check --schema a.toml").is_err());
        assert!(parse("ringlane check a.toml --print").is_ok());
        assert!(parse("ringlane check a.toml --diff b.toml").is_ok());
    }

    #[test]
    fn the_version_names_the_build() {
        let error = parse("ringlane --version").unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("ringlane 0.1.0 ("), "{text}");
        assert!(text.contains("drivers: io_uring, epoll"), "{text}");
    }

    #[test]
    fn every_shell_gets_completions_of_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = completions(shell);
            for command in ["run", "demo", "check", "explain", "reload", "completions"] {
                assert!(script.contains(command), "{shell}: {command}");
            }
        }
    }
}
