//! ringlane: the defaults, but one worker, pinned from outside, and no line per session.

use super::Setup;

/// What its log says after a reload that worked.
pub(super) const RELOADED: &str = "reload applied as version";

pub(super) fn arguments(file: &str) -> Vec<String> {
    ["run", "--config", file].map(str::to_owned).to_vec()
}

pub(super) fn configuration(setup: &Setup, workers: usize) -> String {
    let backends: Vec<String> = setup
        .backends
        .iter()
        .map(|backend| format!("\"{backend}\""))
        .collect();
    format!(
        r#"[global]
workers = {workers}
pin = false

[global.shutdown]
drain = "0s"

[admin]
listen = "unix:{scratch}/admin.sock"

[log]
sessions = "off"

[[listener]]
listen = "127.0.0.1:{listen}"
pool = "bench"

[pool.bench]
balance = "least_connections"
backends = [{backends}]
"#,
        scratch = setup.scratch.display(),
        listen = setup.listen,
        backends = backends.join(", "),
    )
}
