//! What the process may use: cores and descriptors.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores that this process may run on, ascending.
pub fn allowed_cores() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..CpuSet::MAX_CPU)
        .filter(|&core| set.is_set(core))
        .collect()
}

/// Keeps the calling thread on one core.
///
/// # Errors
/// What sched_setaffinity(2) says.
pub fn pin_to(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// Lets others go first from now on where the calling thread would share a core with them; best once all threads
/// are there that should not, since a thread inherits it.
pub fn yield_to_others() {
    const NICE: i32 = 10;
    // Below whatever the process was started with; for the calling thread alone on Linux. Where that is
    // refused, it takes its share as before.
    let _ = nice(NICE);
}

/// Raises the descriptor limit as far as it goes.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Where that is refused, the limit stays what it is, and is asked for wherever it matters.
    let _ = setrlimit(Resource::Nofile, raised);
}

/// Descriptors that the process may have open.
pub fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Descriptors that are open now.
pub fn open_descriptors() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}
