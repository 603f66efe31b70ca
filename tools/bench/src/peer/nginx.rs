//! nginx with its stream module, with two sizes of its buffer.

use std::fmt::Write as _;
use std::path::Path;

use super::Setup;

/// What its log says after a reload that worked.
pub(super) const RELOADED: &str = "start worker processes";

pub(super) fn arguments(file: &str, scratch: &Path) -> Vec<String> {
    let scratch = scratch.display();
    // Without -e it would open the log it was built with, before it reads the configuration.
    ["-c", file, "-p", &format!("{scratch}/"), "-e", "stderr"]
        .map(str::to_owned)
        .to_vec()
}

pub(super) fn configuration(setup: &Setup, buffer: &str, module: Option<&Path>) -> String {
    let scratch = setup.scratch.display();
    let mut text = String::new();
    if let Some(module) = module {
        let _ = writeln!(text, "load_module {};", module.display());
    }
    // Each session is two connections of nginx.
    let connections = 2 * setup.connections_max;
    let _ = write!(
        text,
        "user root root;
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {scratch}/nginx.pid;
error_log stderr notice;

events {{
    worker_connections {connections};
}}

stream {{
    access_log off;
    upstream bench {{
        least_conn;
",
        files = connections + 200,
    );
    for backend in &setup.backends {
        let _ = writeln!(text, "        server {backend};");
    }
    let _ = write!(
        text,
        "    }}
    server {{
        listen 127.0.0.1:{listen} reuseport backlog=4096;
        proxy_pass bench;
        proxy_connect_timeout 5s;
        proxy_timeout 1h;
        proxy_buffer_size {buffer};
    }}
}}
",
        listen = setup.listen,
    );
    text
}
