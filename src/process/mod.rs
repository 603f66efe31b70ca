//! One process: start, reload, stop.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::model::Model;
use crate::config::{Machine, Report};

/// Runs until a signal ends it; `source` is the file that a reload reads again.
pub fn run(_model: Model, _warnings: Report, _source: Option<PathBuf>) -> ExitCode {
    ExitCode::FAILURE
}

impl Machine {
    /// This machine.
    pub const fn here() -> Self {
        Self {
            cores: 1,
            somaxconn: 4096,
            descriptors: 1024,
        }
    }
}
