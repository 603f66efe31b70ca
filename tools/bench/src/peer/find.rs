//! Which programs are there, and which of their variants were asked for.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::machine::first_line;

use super::haproxy::Splicing;
use super::ringlane::Protection;
use super::{Kind, Peer};

/// Programs as the command line names them.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) ringlane: PathBuf,
    pub(crate) haproxy: Option<PathBuf>,
    pub(crate) nginx: Option<PathBuf>,
    pub(crate) envoy: Option<PathBuf>,
}

/// All peers whose program is there, or of these the ones that `names` asks for.
pub(crate) fn find(programs: &Programs, names: Option<&[String]>) -> Result<Vec<Peer>> {
    let mut peers = Vec::new();
    // Whoever leaves it out need not have built it.
    if names.is_none_or(|names| names.iter().any(|name| name == "ringlane")) {
        peers.push(ringlane("ringlane", &programs.ringlane, 1)?);
    }
    if let Some(program) = locate(programs.haproxy.as_deref(), "haproxy") {
        let version = first_line(Command::new(&program).arg("-v"))?;
        for (name, splicing) in [
            ("haproxy-splice", Splicing::Always),
            ("haproxy-auto", Splicing::Auto),
            ("haproxy-copy", Splicing::Never),
        ] {
            peers.push(peer(name, Kind::Haproxy(splicing), &program, &version));
        }
    }
    if let Some(program) = locate(programs.nginx.as_deref(), "nginx") {
        let version = first_line(Command::new(&program).arg("-v"))?;
        let module = stream_module(&program)?;
        for (name, buffer) in [("nginx-16k", "16k"), ("nginx-64k", "64k")] {
            let module = module.clone();
            peers.push(peer(
                name,
                Kind::Nginx { buffer, module },
                &program,
                &version,
            ));
        }
    }
    if let Some(program) = &programs.envoy {
        let version = first_line(Command::new(program).arg("--version"))?;
        // It begins with its own path.
        let version = version.split_once("version: ").map_or(&*version, |it| it.1);
        peers.push(peer("envoy", Kind::Envoy, program, version));
    }
    peers.push(peer("direct", Kind::Direct, Path::new(""), "no balancer"));
    let mut peers = select(peers, names)?;
    number(&mut peers);
    Ok(peers)
}

/// ringlane of some build, under some name.
pub(crate) fn ringlane(name: &str, program: &Path, workers: usize) -> Result<Peer> {
    let version = first_line(Command::new(program).arg("--version")).with_context(|| {
        format!(
            "ringlane is not at {}: build it with `cargo build --release`, or name it with --ringlane",
            program.display()
        )
    })?;
    Ok(peer(
        name,
        Kind::Ringlane {
            workers,
            protection: Protection::Off,
        },
        program,
        &version,
    ))
}

/// Gives each peer the place that its port depends on.
pub(crate) fn number(peers: &mut [Peer]) {
    for (number, peer) in (1..).zip(peers) {
        peer.number = number;
    }
}

fn peer(name: &str, kind: Kind, program: &Path, version: &str) -> Peer {
    Peer {
        name: name.to_owned(),
        kind,
        program: program.to_owned(),
        version: version.to_owned(),
        number: 0,
    }
}

fn select(peers: Vec<Peer>, names: Option<&[String]>) -> Result<Vec<Peer>> {
    let Some(names) = names else {
        return Ok(peers);
    };
    for name in names {
        if !peers.iter().any(|peer| peer.name == *name) {
            let known: Vec<&str> = peers.iter().map(|peer| peer.name.as_str()).collect();
            bail!("no peer `{name}`; there are {}", known.join(", "));
        }
    }
    Ok(peers
        .into_iter()
        .filter(|peer| names.contains(&peer.name))
        .collect())
}

/// The program that was named, or the one that a shell would find.
fn locate(named: Option<&Path>, name: &str) -> Option<PathBuf> {
    if let Some(path) = named {
        return Some(path.to_owned());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// The stream module's file, or none where it is part of the program.
fn stream_module(nginx: &Path) -> Result<Option<PathBuf>> {
    let output = Command::new(nginx)
        .arg("-V")
        .output()
        .with_context(|| nginx.display().to_string())?;
    let text = String::from_utf8_lossy(&output.stderr);
    let mut options = text.split_whitespace();
    if options.clone().any(|option| option == "--with-stream") {
        return Ok(None);
    }
    let directory = options
        .find_map(|option| option.strip_prefix("--modules-path="))
        .unwrap_or("/usr/lib/nginx/modules");
    let module = Path::new(directory).join("ngx_stream_module.so");
    if !module.is_file() {
        bail!(
            "{} has no stream module, neither inside nor at {}; install it, or leave nginx out with --peers",
            nginx.display(),
            module.display()
        );
    }
    Ok(Some(module))
}
