//! nginx with its stream module, with two sizes of its buffer.

use std::fmt::Write as _;
use std::path::Path;

use crate::hello;

use super::{Front, SUITES_12, SUITES_13, Setup};

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
    text.push_str("    }\n");
    let (encrypted, pool) = match setup.front {
        Front::Plain => ("", "bench"),
        Front::Tls(_) => (" ssl", "bench"),
        Front::Names(_) => ("", "$pool"),
    };
    if let Front::Names(names) = setup.front {
        text.push_str(&map(names));
    }
    let _ = write!(
        text,
        "    server {{
        listen 127.0.0.1:{listen}{encrypted} reuseport backlog=4096;
{front}        proxy_pass {pool};
        proxy_connect_timeout 5s;
        proxy_timeout 1h;
        proxy_buffer_size {buffer};
    }}
}}
",
        listen = setup.listen,
        front = front(setup),
    );
    text
}

fn front(setup: &Setup) -> String {
    match &setup.front {
        Front::Plain => String::new(),
        // No cache: clients come back with tickets.
        Front::Tls(certificate) => format!(
            "        ssl_certificate {chain};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_ciphers {SUITES_12};
        ssl_conf_command Ciphersuites {SUITES_13};
        ssl_ecdh_curve X25519;
        ssl_session_cache none;
        ssl_session_tickets on;
",
            chain = certificate.chain.display(),
            key = certificate.key.display(),
        ),
        Front::Names(_) => "        ssl_preread on;\n".to_owned(),
    }
}

fn map(names: usize) -> String {
    let mut text = String::from(
        "    map_hash_max_size 8192;
    map_hash_bucket_size 128;
    map $ssl_preread_server_name $pool {
",
    );
    for name in (0..names).map(hello::name) {
        let _ = writeln!(text, "        {name} bench;");
    }
    text.push_str("    }\n");
    text
}
