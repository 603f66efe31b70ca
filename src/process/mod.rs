//! One process: start, reload, stop.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crossbeam::channel;
use parking_lot::RwLock;

use crate::admin::socket::bind;
use crate::admin::{Reloaded, Surface};
use crate::config::model::Model;
use crate::config::{Machine, Report};
use crate::control::{Control, Event};

/// Runs until a signal ends it; `source` is the file that a reload reads again.
pub fn run(model: Model, _warnings: Report, _source: Option<PathBuf>) -> ExitCode {
    let Model { global, admin, .. } = model;
    let (events, told) = channel::bounded(64);
    let surface = Arc::new(Surface {
        metrics: Box::new(String::new),
        healthy: Box::new(|| Ok(())),
        ready: AtomicBool::new(true),
        reload: Box::new(|| Reloaded::Busy),
        token: RwLock::new(None),
    });
    let Ok(control) = Control::start(&global.nameservers, surface, events) else {
        return ExitCode::FAILURE;
    };
    let socket = admin.listen.as_ref().map(bind).transpose();
    let Ok(socket) = socket else {
        return ExitCode::from(3);
    };
    control.serve_admin(socket);
    while told.recv().is_ok_and(|event| !matches!(event, Event::Stop)) {}
    control.stop();
    ExitCode::SUCCESS
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
