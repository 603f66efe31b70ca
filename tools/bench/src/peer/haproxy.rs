//! HAProxy, with three ways to move bytes.

use std::fmt::Write as _;

use super::{Setup, Style};

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
        Splicing::Never => {}
    }
    let listen = setup.listen;
    let _ = writeln!(
        text,
        "\nlisten bench\n    bind 127.0.0.1:{listen} backlog 4096\n    balance leastconn"
    );
    for (number, backend) in setup.backends.iter().enumerate() {
        let _ = writeln!(text, "    server b{number} {backend}");
    }
    text
}
