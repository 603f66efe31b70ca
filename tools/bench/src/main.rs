//! Flags in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringlane_bench::cli::main()
}
