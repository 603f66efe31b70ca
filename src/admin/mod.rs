//! The operator's surface: which request gets which answer, and the socket that it is asked on.
//!
//! Nothing here accepts a connection or waits for one: a request that has been read goes in, an
//! answer comes out. [`crate::control`] runs the server.

pub mod access;
pub mod answer;
pub mod socket;

use std::fmt;
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::limits::overload::Signal;

/// What the admin server may ask of the rest of the process.
pub struct Surface {
    /// All metrics as text; takes a few milliseconds at the most.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// Whether every worker ticks; the error names the stuck one.
    pub healthy: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Whether new connections are wanted. The main thread writes, the control thread reads;
    /// relaxed is enough, since nothing else is published with it.
    pub ready: AtomicBool,
    /// Whether the process has more to do than it can.
    pub signal: Arc<Signal>,
    /// Reloads the configuration and waits for the result, so it is called on a thread of its own.
    pub reload: Box<dyn Fn() -> Reloaded + Send + Sync>,
    /// What must be presented to change anything; `None`: only this machine may change anything.
    /// A reload replaces it.
    pub token: RwLock<Option<String>>,
    /// The configuration file that a reload reads; `None`: there is none.
    pub source: Option<PathBuf>,
}

/// The header with which a client says which configuration file it wants reloaded: [`real_path`].
pub const CONFIGURATION_HEADER: &str = "ringlane-configuration";

/// One path for one file, however it is named, even where it cannot be found.
///
/// Not to be kept: what a link leads to may change.
pub fn real_path(path: &Path) -> PathBuf {
    path.canonicalize()
        .or_else(|_| absolute(path))
        .unwrap_or_else(|_| path.to_owned())
}

/// How a reload ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// The new configuration is in use.
    Applied(Applied),
    /// The old configuration is still in use.
    Rejected {
        /// Why, as `ringlane check` prints it.
        report: String,
    },
    /// Another reload is under way.
    Busy,
    /// The process is ending: nothing is reloaded any more.
    Stopping,
}

/// What a reload that went well did: the JSON that `POST /reload` answers and `ringlane reload` reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The number of the configuration now in use.
    pub version: u64,
    /// What it changed, one line each.
    pub changes: Vec<String>,
    /// What is allowed but probably not meant; empty: nothing.
    pub warnings: String,
}

impl fmt::Debug for Surface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token stays out of every log.
        f.debug_struct("Surface")
            .field("ready", &self.ready)
            .finish_non_exhaustive()
    }
}
