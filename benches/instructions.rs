//! Runs one of the hot parts so many times, for `tools/instructions` to count its instructions:
//!
//! ```sh
//! tools/instructions            # count, and compare with benches/instructions.json
//! tools/instructions --bless    # count, and make that the record
//! ```
//!
//! By itself it counts nothing. `instructions CASE N` runs a case; without arguments it names them.

mod cases;

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Cargo adds this where it runs all benchmarks.
    let arguments: Vec<String> = env::args().skip(1).filter(|a| a != "--bench").collect();
    let outcome = match &arguments[..] {
        [] => names(),
        [name, times] => run(name, times),
        _ => Err("expected CASE and N, or nothing to see the cases".to_owned()),
    };
    let Err(fault) = outcome else {
        return ExitCode::SUCCESS;
    };
    // Without standard error nobody can be told.
    let _ = writeln!(io::stderr(), "instructions: {fault}");
    ExitCode::from(2)
}

fn names() -> Result<(), String> {
    let mut out = io::stdout().lock();
    for case in cases::all() {
        writeln!(out, "{}", case.name).map_err(|error| format!("write the names: {error}"))?;
    }
    Ok(())
}

fn run(name: &str, times: &str) -> Result<(), String> {
    let times = times
        .parse()
        .map_err(|error| format!("expected a number of times, got {times:?}: {error}"))?;
    let case = cases::all().into_iter().find(|case| case.name == name);
    let case = case.ok_or_else(|| format!("no case {name:?}; without arguments they are named"))?;
    (case.prepare())(times);
    Ok(())
}
