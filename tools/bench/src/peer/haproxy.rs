//! HAProxy, with four ways to move bytes.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::hello;

use super::{Front, SUITES_12, SUITES_13, Setup, Style};

/// What its log says after a reload that worked.
pub(super) const RELOADED: &str = "Loading success";

/// How it moves bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Splicing {
    /// Always inside the kernel, through pipes of 1 MiB.
    Always,
    /// Inside the kernel where it thinks that worth while, through pipes of the default size.
    Auto,
    /// Through its buffers.
    Never,
    /// Through buffers of 64 KiB, in place of 16: where it encrypts, it can do no better for bulk.
    NeverInLargeBuffers,
}

pub(super) fn arguments(file: &str, style: Style) -> Vec<String> {
    let style = match style {
        Style::Plain => "-db",
        // A master that starts a new worker for each configuration; without -D it stays in front.
        Style::Reloadable => "-W",
    };
    [style, "-f", file].map(str::to_owned).to_vec()
}

pub(super) fn configuration(setup: &Setup, splicing: Splicing) -> String {
    let mut text = format!(
        "global\n    nbthread 1\n    maxconn {}\n",
        setup.connections_max
    );
    if splicing == Splicing::Always {
        text.push_str("    tune.pipesize 1048576\n");
    }
    if splicing == Splicing::NeverInLargeBuffers {
        text.push_str("    tune.bufsize 65536\n");
    }
    if matches!(setup.front, Front::Tls(_)) {
        // Clients come back with tickets, so entries of a cache would be made for nobody.
        text.push_str("    tune.ssl.cachesize 0\n");
    }
    if setup.style == Style::Reloadable {
        // The new worker takes the listening sockets over from the old one by way of this socket.
        let scratch = setup.scratch.display();
        let _ = writeln!(
            text,
            "    stats socket {scratch}/stats.sock mode 600 level admin expose-fd listeners"
        );
    }
    text.push_str(
        "\ndefaults\n    mode tcp\n    timeout connect 5s\n    timeout client 1h\n    timeout server 1h\n",
    );
    match splicing {
        Splicing::Always => {
            text.push_str("    option splice-request\n    option splice-response\n")
        }
        Splicing::Auto => text.push_str("    option splice-auto\n"),
        Splicing::Never | Splicing::NeverInLargeBuffers => {}
    }
    let _ = writeln!(
        text,
        "\n{section}\n    bind 127.0.0.1:{listen} backlog 4096{encryption}",
        section = match setup.front {
            Front::Plain | Front::Tls(_) => "listen bench",
            Front::Names(_) => "frontend names",
        },
        listen = setup.listen,
        encryption = encryption(setup),
    );
    if let Front::Names(_) = setup.front {
        // One look at a hash of all names, not a rule for each.
        let _ = writeln!(
            text,
            "    tcp-request inspect-delay 3s\n    \
             tcp-request content accept if {{ req.ssl_hello_type 1 }}\n    \
             use_backend %[req.ssl_sni,lower,map({map})]\n\n\
             backend bench",
            map = map_file(setup).display(),
        );
    }
    text.push_str("    balance leastconn\n");
    for (number, backend) in setup.backends.iter().enumerate() {
        let _ = writeln!(text, "    server b{number} {backend}");
    }
    text
}

fn encryption(setup: &Setup) -> String {
    let Front::Tls(certificate) = &setup.front else {
        return String::new();
    };
    format!(
        " ssl crt {} ssl-min-ver TLSv1.2 curves X25519 ciphers {SUITES_12} ciphersuites {SUITES_13}",
        certificate.both.display()
    )
}

/// Where the table from names to backends is.
pub(super) fn map_file(setup: &Setup) -> PathBuf {
    setup.scratch.join("names.map")
}

/// That table.
pub(super) fn map(names: usize) -> String {
    (0..names)
        .map(|number| format!("{} bench\n", hello::name(number)))
        .collect()
}
