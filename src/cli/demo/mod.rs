//! `ringlane demo`: ringlane in front of backends of its own, so that it can be tried at once.

mod backends;

use std::fmt::Write;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::base::clock;
use crate::config::{self, Machine};
use crate::process;

use super::{complain, print, refuse};

#[derive(clap::Args, Debug)]
pub(super) struct Demo {
    /// The port in front of the HTTP backends
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    http_port: u16,
    /// The port in front of the echo backend
    #[arg(long, value_name = "PORT", default_value_t = 7000)]
    echo_port: u16,
}

/// Runs until Ctrl-C.
pub(super) fn demo(flags: &Demo) -> ExitCode {
    match Stage::set(flags) {
        Ok(stage) => stage.play(),
        Err(error) => {
            complain(&format!("demo: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// All that the demo puts up.
struct Stage {
    directory: Directory,
    http: SocketAddr,
    echo: SocketAddr,
    admin: SocketAddr,
    backends: backends::Addresses,
}

impl Stage {
    fn set(flags: &Demo) -> io::Result<Self> {
        // Held until all are chosen, so that no two are the same.
        let (http, echo, admin) = (
            probe(flags.http_port)?,
            probe(flags.echo_port)?,
            probe(ADMIN_PORT)?,
        );
        Ok(Self {
            directory: Directory::create()?,
            http: http.local_addr()?,
            echo: echo.local_addr()?,
            admin: admin.local_addr()?,
            backends: backends::start()?,
        })
    }

    fn play(self) -> ExitCode {
        let file = self.directory.path.join("ringlane.toml");
        if let Err(error) = fs::write(&file, self.configuration()) {
            complain(&format!("{}: {error}", file.display()));
            return ExitCode::FAILURE;
        }
        match config::load(&file, &Machine::here()) {
            Ok(checked) => {
                print(&self.programme(&file));
                process::run(checked, Some(file))
            }
            Err(report) => refuse(&report),
        }
    }

    fn sessions(&self) -> PathBuf {
        self.directory.path.join("sessions.log")
    }

    fn configuration(&self) -> String {
        format!(
            "\
# The configuration of this demo. Edit it, then: kill -HUP {pid}

[admin]
listen = \"{admin}\"

[log]
sessions = {sessions}
format = \"text\"

[global.shutdown]
drain = \"1s\"

[[listener]]
name = \"http\"
listen = \"{http}\"
pool = \"http\"

[[listener]]
name = \"echo\"
listen = \"{echo}\"
pool = \"echo\"

[pool.http]
balance = \"round_robin\"

[[pool.http.backend]]
name = \"red\"
address = \"{red}\"
weight = 1

[[pool.http.backend]]
name = \"blue\"
address = \"{blue}\"
weight = 1

[pool.echo]
backends = [\"{echo_backend}\"]
",
            pid = std::process::id(),
            admin = self.admin,
            sessions = toml::Value::from(&*self.sessions().to_string_lossy()),
            http = self.http,
            echo = self.echo,
            red = self.backends.red,
            blue = self.backends.blue,
            echo_backend = self.backends.echo,
        )
    }

    /// What runs, and what to try.
    fn programme(&self, file: &Path) -> String {
        let mut text = String::from("\n  ringlane demo\n\n");
        let runs = [
            (
                "http",
                self.http,
                format!("red {}, blue {}", self.backends.red, self.backends.blue),
            ),
            ("echo", self.echo, format!("{}", self.backends.echo)),
            ("admin", self.admin, "/healthz /ready /metrics".to_owned()),
        ];
        for (name, address, what) in runs {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "    {name:<6} {:<18} ->  {what}", address.to_string());
        }
        let _ = writeln!(text, "\n    configuration  {}", file.display());
        let _ = writeln!(text, "    session lines  {}", self.sessions().display());
        text.push_str("\n  Try\n\n");
        for (what, command) in self.commands(file) {
            let _ = writeln!(text, "    # {what}\n    {command}\n");
        }
        text.push_str("  Ctrl-C stops everything and removes the files.\n\n");
        text
    }

    fn commands(&self, file: &Path) -> Vec<(&'static str, String)> {
        let Self {
            http, echo, admin, ..
        } = self;
        vec![
            ("one request", format!("curl http://{http}/")),
            (
                "red and blue take turns",
                format!("for i in 1 2 3 4 5 6; do curl -s http://{http}/; done"),
            ),
            (
                "many small requests",
                format!("wrk -t1 -c64 -d5s http://{http}/"),
            ),
            (
                "one gigabyte",
                format!(
                    "curl -o /dev/null http://{http}/bytes/{}",
                    backends::BYTES_MAX
                ),
            ),
            (
                "what you type comes back",
                format!("nc {} {}", echo.ip(), echo.port()),
            ),
            (
                "the counters",
                format!("curl -s http://{admin}/metrics | grep ^ringlane_"),
            ),
            (
                "one line per connection",
                format!("tail -f {}", self.sessions().display()),
            ),
            (
                "change a weight while it runs, then see the turns change",
                format!(
                    "sed -i '0,/weight = 1/s//weight = 5/' {} && kill -HUP {}",
                    file.display(),
                    std::process::id()
                ),
            ),
        ]
    }
}

const ADMIN_PORT: u16 = 9900;

/// Binds this port of the loopback address, or one that the kernel chooses where it is taken.
///
/// Ringlane binds it again soon after; the start reports it should somebody else be faster.
fn probe(port: u16) -> io::Result<TcpListener> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    bind(port).or_else(|_| bind(0))
}

/// A directory of our own, removed with all that is in it when this is dropped.
struct Directory {
    path: PathBuf,
}

impl Directory {
    fn create() -> io::Result<Self> {
        let name = format!(
            "ringlane-demo-{}-{:x}",
            std::process::id(),
            clock::now().as_nanos()
        );
        let path = std::env::temp_dir().join(name);
        // Fails where it exists, so nobody can have prepared it for us.
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // A file left over in the temporary directory is not worth a message at the end.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage() -> Stage {
        Stage::set(&Demo {
            http_port: 0,
            echo_port: 0,
        })
        .unwrap()
    }

    #[test]
    fn a_taken_port_falls_back_to_a_free_one() {
        let taken = probe(0).unwrap();
        let port = taken.local_addr().unwrap().port();
        let other = probe(port).unwrap().local_addr().unwrap().port();
        assert_ne!(other, port);
        assert_ne!(other, 0);
        drop(taken);
        assert_eq!(probe(port).unwrap().local_addr().unwrap().port(), port);
    }

    #[test]
    fn the_directory_goes_with_the_stage() {
        let stage = stage();
        let path = stage.directory.path.clone();
        fs::write(path.join("sessions.log"), "line").unwrap();
        drop(stage);
        assert!(!path.exists());
    }

    #[test]
    fn the_configuration_names_all_that_runs() {
        let stage = stage();
        let text = stage.configuration();
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(
            table["listener"][0]["listen"].as_str(),
            Some(&*stage.http.to_string())
        );
        assert_eq!(
            table["pool"]["echo"]["backends"][0].as_str(),
            Some(&*stage.backends.echo.to_string())
        );
        let programme = stage.programme(Path::new("/tmp/x/ringlane.toml"));
        for address in [stage.http, stage.echo, stage.admin] {
            assert!(programme.contains(&address.to_string()), "{programme}");
        }
        assert!(programme.lines().all(|line| line.len() <= 140));
    }
}
