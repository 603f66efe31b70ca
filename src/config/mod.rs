//! The configuration file: read raw, validated with every fault in its place, resolved to a model.

pub mod model;

mod choices;
mod diff;
mod files;
mod in_force;
mod keys;
mod places;
mod print;
mod read;
mod report;
mod schema;
mod settings;
mod source;
mod suggest;
mod syntax;
mod table;
mod text;
mod units;
mod validate;
mod wording;

use std::path::Path;
use std::sync::Arc;

use rustix::process::{Resource, getrlimit};

pub use diff::diff;
use files::Gathered;
pub use in_force::{limits_in_force, pool_in_force};
use model::Model;
pub use places::{Owner, Places, Remark, Spot};
pub use print::print;
pub use report::Report;
use report::{Findings, Severity};
pub use schema::schema;
use suggest::Advice;
pub(crate) use text::network;
use validate::Check;

use crate::sys::memory::room;

/// Facts about the machine that defaults and warnings depend on.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Cores that the process may run on.
    pub cores: usize,
    /// `net.core.somaxconn`.
    pub somaxconn: u32,
    /// The descriptor limit that the process can raise itself to.
    pub descriptors: u64,
    /// The memory that the process may have, bytes; 0: that cannot be found out.
    pub memory: u64,
}

/// A configuration without faults.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What it says.
    pub model: Model,
    /// What is allowed but probably not meant.
    pub warnings: Report,
    /// Where in the files it says what about TLS.
    pub places: Places,
}

/// Reads and checks the file at `path` and all that it includes.
pub fn load(path: &Path, machine: &Machine) -> Result<Checked, Report> {
    check(files::gather(path), machine)
}

/// Checks `text`, which came from `name`; it cannot include files.
pub fn parse(name: &str, text: &str, machine: &Machine) -> Result<Checked, Report> {
    check(files::single(name, text), machine)
}

/// The texts of the file at `path` and of what it includes, the main file first, as far as they can be
/// read: for what must be known of a configuration that has faults.
pub fn texts(path: &Path) -> Vec<String> {
    let sources = files::gather(path).sources.into_iter();
    sources.map(|source| source.text).collect()
}

fn check(gathered: Gathered, machine: &Machine) -> Result<Checked, Report> {
    let sources = Arc::new(gathered.sources);
    let Some(root) = gathered.root else {
        return Err(gathered.faults.into_report(Severity::Fault, &sources));
    };
    let pools = || root.named("pool").iter();
    let encrypting = pools().filter(|(_, _, pool)| pool.table("tls").is_some());
    let warnings = Findings::default();
    let mut check = Check {
        machine,
        sources: &sources,
        pools: pools().map(|(_, name, _)| Arc::clone(name)).collect(),
        encrypting: encrypting.map(|(_, name, _)| Arc::clone(name)).collect(),
        faults: gathered.faults,
        warnings,
        advice: Advice::default(),
    };
    let model = check.model(&root);
    if !check.faults.is_empty() {
        return Err(check.faults.into_report(Severity::Fault, &sources));
    }
    Ok(Checked {
        places: Places::gather(&root, &model, &sources),
        model,
        warnings: check.warnings.into_report(Severity::Warning, &sources),
    })
}

impl Machine {
    /// The machine that this process runs on.
    pub fn here() -> Self {
        // Where /proc is not mounted: the kernel's own default since 5.4.
        let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(4096);
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            somaxconn,
            descriptors: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
            memory: room().map_or(0, |room| room.total()),
        }
    }
}
