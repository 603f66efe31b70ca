//! `ringlane check`: what is wrong with a configuration, what it comes to, what it would change.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::base::clock::now;
use crate::config::model::Model;
use crate::config::{self, Checked, Machine, Report};
use crate::limits::store as lists;
use crate::tls::DefaultTimeProvider;
use crate::tls::store::{Prepared, Store};

use super::{print, refuse, show};

#[derive(clap::Args, Debug)]
pub(super) struct Check {
    /// The configuration file
    #[arg(required_unless_present = "schema")]
    file: Option<PathBuf>,
    /// Print the effective configuration, with every default
    #[arg(long)]
    print: bool,
    /// Print what a reload from the configuration RUNNING to FILE would change
    #[arg(long, value_name = "RUNNING", conflicts_with = "print")]
    diff: Option<PathBuf>,
    /// Print the JSON Schema of the configuration file
    #[arg(long, conflicts_with_all = ["file", "print", "diff"])]
    schema: bool,
}

/// Exits with 2 where a file has faults.
pub(super) fn check(flags: &Check) -> ExitCode {
    // The command line needs a file unless the schema is wanted.
    let Some(file) = &flags.file else {
        return print(&format!("{:#}\n", config::schema()));
    };
    let machine = Machine::here();
    let checked = match config::load(file, &machine) {
        Ok(checked) => checked,
        Err(report) => return refuse(&report),
    };
    if let Err(report) = lists::Store::default().prepare(&checked.model, &checked.places, now()) {
        return refuse(&report);
    }
    let certificates = match tls(&checked) {
        Ok(prepared) => prepared,
        Err(report) => return refuse(&report),
    };
    show(&checked.warnings.and(certificates.warnings));
    if flags.print {
        return print(&config::print(&checked.model));
    }
    match &flags.diff {
        None => print(&(summary(&checked.model) + &lines(&certificates.certificates))),
        Some(running) => match config::load(running, &machine) {
            Ok(running) => print(&changes(&config::diff(&running.model, &checked.model))),
            Err(report) => refuse(&report),
        },
    }
}

fn summary(model: &Model) -> String {
    let backends = model.pools.iter().map(|pool| pool.backends.len()).sum();
    format!(
        "ok: {}, {}, {}\n",
        count(model.listeners.len(), "listener"),
        count(model.pools.len(), "pool"),
        count(backends, "backend"),
    )
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn changes(changes: &[String]) -> String {
    if changes.is_empty() {
        return "nothing would change\n".to_owned();
    }
    lines(changes)
}

fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Reads every file that the configuration names of TLS.
fn tls(checked: &Checked) -> Result<Prepared, Report> {
    let store = Store::new(Arc::new(DefaultTimeProvider));
    store.prepare(&checked.model, &checked.places, now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_singular() {
        assert_eq!(count(0, "pool"), "0 pools");
        assert_eq!(count(1, "pool"), "1 pool");
        assert_eq!(count(2, "pool"), "2 pools");
    }

    #[test]
    fn no_change_is_said() {
        assert_eq!(changes(&[]), "nothing would change\n");
        assert_eq!(changes(&["a".to_owned(), "b".to_owned()]), "a\nb\n");
    }
}
