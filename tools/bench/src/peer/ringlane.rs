//! ringlane: the defaults, but one worker, pinned from outside, and no line per session.

use std::fmt::Write as _;

use crate::hello;

use super::{Front, Setup};

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
{front}
[pool.bench]
balance = "least_connections"
backends = [{backends}]
"#,
        scratch = setup.scratch.display(),
        listen = setup.listen,
        front = front(setup),
        backends = backends.join(", "),
    )
}

/// Where connections go. With names each has a route of its own, as if each had a pool.
fn front(setup: &Setup) -> String {
    match &setup.front {
        Front::Plain => "pool = \"bench\"\n".to_owned(),
        Front::Tls(certificate) => format!(
            r#"pool = "bench"

[listener.tls]
certificates = [{{ chain = "{chain}", key = "{key}" }}]
"#,
            chain = certificate.chain.display(),
            key = certificate.key.display(),
        ),
        Front::Names(names) => {
            let mut text = String::new();
            for name in (0..*names).map(hello::name) {
                let _ = write!(
                    text,
                    "\n[[listener.route]]\nsni = [\"{name}\"]\npool = \"bench\"\n"
                );
            }
            text
        }
    }
}
