//! The peers: which programs there are, how each is set up, and how one is started.

mod envoy;
mod find;
pub(crate) mod haproxy;
mod nginx;
pub(crate) mod ringlane;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::certificates::{Certificate, Key};
use crate::process::{Running, tree};
use crate::report::{Family, PeerInfo};
use ringlane::Protection;

pub(crate) use find::{Programs, find, number, ringlane as ringlane_at};

/// The backends' first port.
pub(crate) const BACKEND_PORT: u16 = 9_000;

/// How many ports the backend process listens on.
pub(crate) const BACKENDS: u16 = 100;

/// The first port of the balancers. Each has its own, so that what one leaves in TIME-WAIT is not in
/// the way of the next.
const LISTEN_PORT: u16 = 8_000;

/// A program with one way to configure it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) program: PathBuf,
    pub(crate) version: String,
    /// Its place among the peers of this run.
    pub(crate) number: u16,
}

/// How a program is configured.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Ringlane {
        workers: usize,
        protection: Protection,
    },
    Haproxy(haproxy::Splicing),
    Nginx {
        buffer: &'static str,
        module: Option<PathBuf>,
    },
    Envoy,
    Direct,
}

/// What a peer is to balance.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) listen: u16,
    pub(crate) backends: Vec<SocketAddr>,
    /// Sessions at the same time.
    pub(crate) connections_max: usize,
    pub(crate) style: Style,
    pub(crate) front: Front,
    /// Where files may be written.
    pub(crate) scratch: PathBuf,
}

/// What a peer does with the bytes of its clients.
#[derive(Clone, Debug)]
pub(crate) enum Front {
    /// It passes them on.
    Plain,
    /// TLS ends in it, with this certificate.
    Tls(Certificate),
    /// It passes them on where their ClientHello asks for one of so many names.
    Names(usize),
}

/// The cipher suites that peers whose defaults are wider are told to take, as OpenSSL names them. The
/// clients offer no others: this spares a peer to look for them.
const SUITES_12: &str = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256";
const SUITES_13: &str = "TLS_AES_128_GCM_SHA256";

/// How a peer is started.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Style {
    /// As simply as it can be.
    Plain,
    /// So that it can take a new configuration without losing a connection.
    Reloadable,
}

/// A peer that accepts connections.
pub(crate) struct Started {
    /// None for `direct`.
    pub(crate) running: Option<Running>,
    pub(crate) address: SocketAddr,
}

impl Peer {
    pub(crate) fn family(&self) -> Family {
        match self.kind {
            Kind::Ringlane { .. } => Family::Ringlane,
            Kind::Haproxy(_) => Family::Haproxy,
            Kind::Nginx { .. } => Family::Nginx,
            Kind::Envoy => Family::Envoy,
            Kind::Direct => Family::Direct,
        }
    }

    /// What it balances: backends at these ports.
    pub(crate) fn setup(&self, scratch: &Path, ports: &[u16], connections_max: usize) -> Setup {
        Setup {
            listen: LISTEN_PORT + self.number,
            backends: ports.iter().copied().map(local).collect(),
            connections_max,
            style: Style::Plain,
            front: Front::Plain,
            scratch: scratch.join(self.name.replace('/', "-")),
        }
    }

    /// What is written into its configuration file.
    pub(crate) fn configuration(&self, setup: &Setup) -> String {
        match &self.kind {
            Kind::Ringlane {
                workers,
                protection,
            } => ringlane::configuration(setup, *workers, *protection),
            Kind::Haproxy(splicing) => haproxy::configuration(setup, *splicing),
            Kind::Nginx { buffer, module } => {
                nginx::configuration(setup, buffer, module.as_deref())
            }
            Kind::Envoy => envoy::configuration(setup),
            Kind::Direct => String::new(),
        }
    }

    /// Its command line.
    pub(crate) fn command(&self, setup: &Setup) -> Vec<String> {
        let file = self.file(setup).display().to_string();
        let arguments = match &self.kind {
            Kind::Ringlane { .. } => ringlane::arguments(&file),
            Kind::Haproxy(_) => haproxy::arguments(&file, setup.style),
            Kind::Nginx { .. } => nginx::arguments(&file, &setup.scratch),
            Kind::Envoy => envoy::arguments(&file),
            Kind::Direct => return Vec::new(),
        };
        let program = self.program.display().to_string();
        std::iter::once(program).chain(arguments).collect()
    }

    fn file(&self, setup: &Setup) -> PathBuf {
        let name = match self.kind {
            Kind::Ringlane { .. } => "ringlane.toml",
            Kind::Haproxy(_) => "haproxy.cfg",
            Kind::Nginx { .. } => "nginx.conf",
            Kind::Envoy => "envoy.json",
            Kind::Direct => "none",
        };
        setup.scratch.join(name)
    }

    /// Writes its configuration file.
    pub(crate) fn write_configuration(&self, setup: &Setup) -> Result<()> {
        fs::create_dir_all(&setup.scratch).with_context(|| setup.scratch.display().to_string())?;
        let file = self.file(setup);
        // Whole or not at all: a program may be reading it.
        let aside = file.with_extension("new");
        fs::write(&aside, self.configuration(setup))
            .with_context(|| aside.display().to_string())?;
        fs::rename(&aside, &file).with_context(|| file.display().to_string())?;
        if let Kind::Ringlane {
            protection: Protection::On | Protection::Narrow,
            ..
        } = self.kind
        {
            let denied = ringlane::denied_file(setup);
            // A list does not change with each configuration.
            if !denied.exists() {
                fs::write(&denied, ringlane::denied())
                    .with_context(|| denied.display().to_string())?;
            }
        }
        if let (Kind::Haproxy(_), Front::Names(names)) = (&self.kind, &setup.front) {
            let map = haproxy::map_file(setup);
            fs::write(&map, haproxy::map(*names)).with_context(|| map.display().to_string())?;
        }
        Ok(())
    }

    /// Starts it on the cores and waits until it accepts connections.
    pub(crate) fn start(&self, setup: &Setup, cores: &[usize]) -> Result<Started> {
        if matches!(self.kind, Kind::Direct) {
            let address = *setup
                .backends
                .first()
                .context("a set-up without backends")?;
            return Ok(Started {
                running: None,
                address,
            });
        }
        wait_until_free(setup.listen)?;
        self.write_configuration(setup)?;
        let address = local(setup.listen);
        let log = self.log(setup);
        let mut running = Running::start(cores, &self.command(setup), &log)?;
        let processes = self.processes(setup.style);
        running
            .wait_until(|pid| {
                listens(setup.listen) && tree(pid).is_ok_and(|tree| tree.len() >= processes)
            })
            .with_context(|| {
                let text = fs::read_to_string(&log).unwrap_or_default();
                format!("{} says:\n{}", self.name, text.trim_end())
            })?;
        Ok(Started {
            running: Some(running),
            address,
        })
    }

    /// Processes of it that there are when it serves: a master may listen before it has a worker.
    fn processes(&self, style: Style) -> usize {
        match (&self.kind, style) {
            (Kind::Nginx { .. }, _) | (Kind::Haproxy(_), Style::Reloadable) => 2,
            _ => 1,
        }
    }

    /// Where its messages go.
    pub(crate) fn log(&self, setup: &Setup) -> PathBuf {
        setup.scratch.join("log")
    }

    /// The signal that makes it read its configuration again, and what it then logs.
    pub(crate) fn reload(&self) -> Option<(Signal, &'static str)> {
        match self.kind {
            Kind::Ringlane { .. } => Some((Signal::HUP, ringlane::RELOADED)),
            Kind::Haproxy(_) => Some((Signal::USR2, haproxy::RELOADED)),
            Kind::Nginx { .. } => Some((Signal::HUP, nginx::RELOADED)),
            Kind::Envoy | Kind::Direct => None,
        }
    }

    /// What the report says of it.
    pub(crate) fn describe(&self, setup: &Setup) -> PeerInfo {
        PeerInfo {
            name: self.name.clone(),
            family: self.family(),
            program: self.program.display().to_string(),
            version: self.version.clone(),
            command: self.command(setup),
            configuration: self.configuration(setup),
            others: self.others(setup),
        }
    }

    /// The configurations of the workloads in which it does not simply pass bytes on.
    fn others(&self, setup: &Setup) -> Vec<(String, String)> {
        let scratch = setup.scratch.parent().unwrap_or(&setup.scratch);
        let certificate = Certificate::below(scratch, Key::Ecdsa);
        let fronts = [("tls", Front::Tls(certificate)), ("sni-1", Front::Names(1))];
        let written = fronts.map(|(name, front)| {
            let setup = Setup {
                front,
                ..setup.clone()
            };
            (name.to_owned(), self.configuration(&setup))
        });
        written
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .collect()
    }
}

/// Waits for the sockets of a program that has ended: the kernel takes a ring of io_uring apart a
/// little later than the process that owned it.
fn wait_until_free(port: u16) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let deadline = Instant::now() + PATIENCE;
    while listens(port) {
        if Instant::now() > deadline {
            bail!("somebody still listens on port {port} after {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Whether somebody listens on a port. A connection to try it would be passed on to the backend, which
/// may take it for work, so the kernel's list is read instead.
pub(crate) fn listens(port: u16) -> bool {
    // Local address and state, as the kernel writes them; 0A is LISTEN.
    let wanted = format!(":{port:04X} ");
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|path| {
        fs::read_to_string(path).is_ok_and(|text| {
            text.lines()
                .any(|line| line.contains(&wanted) && line.contains(" 0A "))
        })
    })
}

pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::haproxy::Splicing;
    use super::ringlane::Protection;
    use super::{Front, Kind, Peer, Setup};
    use crate::certificates::{Certificate, Key};
    use crate::hello;

    fn peers() -> Vec<Peer> {
        let kinds = [
            Kind::Ringlane {
                workers: 1,
                protection: Protection::Off,
            },
            Kind::Haproxy(Splicing::Never),
            Kind::Nginx {
                buffer: "16k",
                module: None,
            },
            Kind::Envoy,
        ];
        let peer = |kind| Peer {
            name: "peer".to_owned(),
            kind,
            program: "program".into(),
            version: "1".to_owned(),
            number: 1,
        };
        kinds.map(peer).into()
    }

    fn setup(peer: &Peer, scratch: &Path, front: Front) -> Setup {
        let setup = peer.setup(scratch, &[9_000], 100);
        Setup { front, ..setup }
    }

    #[test]
    fn each_peer_is_told_all_names_and_no_other() {
        let scratch = std::env::temp_dir().join(format!("names-{}", std::process::id()));
        for peer in peers() {
            let setup = setup(&peer, &scratch, Front::Names(1_000));
            peer.write_configuration(&setup).unwrap();
            let files = std::fs::read_dir(&setup.scratch).unwrap();
            let text: String = files
                .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
                .collect();
            for number in [0, 1, 999] {
                assert_eq!(text.matches(&hello::name(number)).count(), 1, "{peer:?}");
            }
            assert!(!text.contains(&hello::name(1_000)), "{peer:?}");
            std::fs::remove_dir_all(&scratch).unwrap();
        }
    }

    #[test]
    fn each_peer_is_told_its_certificate() {
        let scratch = Path::new("/scratch");
        for peer in peers() {
            let certificate = Certificate::below(scratch, Key::Rsa);
            let setup = setup(&peer, scratch, Front::Tls(certificate));
            let text = peer.configuration(&setup);
            assert!(text.contains("/scratch/rsa."), "{text}");
            assert!(!text.contains("ecdsa."), "{text}");
        }
    }

    #[test]
    fn a_report_has_the_configurations_of_all_kinds() {
        for peer in peers() {
            let info = peer.describe(&setup(&peer, Path::new("/scratch"), Front::Plain));
            let kinds: Vec<&str> = info.others.iter().map(|(kind, _)| &**kind).collect();
            assert_eq!(kinds, ["tls", "sni-1"]);
            for (_, text) in &info.others {
                assert_ne!(*text, info.configuration);
            }
        }
    }
}
