//! A running ringlane with its own directory and addresses, and peers to put around it.

pub(crate) mod dns;
pub(crate) mod hanging;
pub(crate) mod load;
pub(crate) mod peer;
pub(crate) mod resources;
pub(crate) mod schedule;
pub(crate) mod tls;
pub(crate) mod victim;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long anything that must happen may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A loopback address that no other test of this run uses, with a port that was free just now.
pub(crate) fn address() -> SocketAddr {
    let listener = TcpListener::bind((loopback(), 0)).unwrap();
    listener.local_addr().unwrap()
}

/// A loopback IP that no other test of this run uses, so that a free port stays free.
pub(crate) fn loopback() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed) + (std::process::id() % 200) * 1000;
    let [_, a, b, c] = number.to_be_bytes();
    Ipv4Addr::new(127, a + 1, b, c).into()
}

/// Waits until `ready` gives a value; panics with `what` when it takes too long.
pub(crate) fn eventually<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// The program under test.
pub(crate) fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ringlane"))
}

/// A running ringlane; killed when dropped.
pub(crate) struct Ringlane {
    child: Child,
    directory: PathBuf,
    pub(crate) admin: SocketAddr,
}

impl Ringlane {
    /// Starts with this configuration, to which an admin listener and a session log are added.
    pub(crate) fn start(configuration: &str) -> Self {
        Self::start_as(configuration, |_| {})
    }

    /// The same, with a change to the command before it runs.
    pub(crate) fn start_as(configuration: &str, change: impl FnOnce(&mut Command)) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringlane-test-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        let admin = address();
        let mut command = binary();
        command
            .args(["run", "-c"])
            .arg(directory.join("ringlane.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(directory.join("messages")).unwrap());
        change(&mut command);
        write_configuration(&directory, admin, configuration);
        let child = command.spawn().unwrap();
        let mut ringlane = Self {
            child,
            directory,
            admin,
        };
        eventually("ringlane is ready", || {
            if let Some(status) = ringlane.child.try_wait().unwrap() {
                panic!("ended at once, {status}:\n{}", ringlane.messages());
            }
            ringlane
                .ask("GET", "/ready")
                .is_ok_and(|(status, _)| status == 200)
                .then_some(())
        });
        ringlane
    }

    /// Replaces the configuration file.
    pub(crate) fn write(&self, configuration: &str) {
        write_configuration(&self.directory, self.admin, configuration);
    }

    /// Replaces the configuration file and has it read by `ringlane reload`.
    pub(crate) fn reload(&self, configuration: &str) -> Output {
        self.write(configuration);
        binary()
            .args(["reload", "-c"])
            .arg(self.file())
            .output()
            .unwrap()
    }

    /// The configuration file.
    pub(crate) fn file(&self) -> PathBuf {
        self.directory.join("ringlane.toml")
    }

    /// A place for files of the test, removed with the rest.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// What ringlane has said on standard error so far.
    pub(crate) fn messages(&self) -> String {
        fs::read_to_string(self.directory.join("messages")).unwrap()
    }

    /// The session lines of closed sessions, once there are at least `count`.
    pub(crate) fn session_lines(&self, count: usize) -> Vec<Value> {
        eventually("session lines are written", || {
            let lines = self.lines_so_far();
            (lines.len() >= count).then_some(lines)
        })
    }

    /// The session lines that are whole so far.
    pub(crate) fn lines_so_far(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.directory.join("sessions")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The value of one series, by its name with labels as the page shows it.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let (_, page) = self.ask("GET", "/metrics").unwrap();
        let line = page.lines().find(|line| {
            line.strip_prefix(series)
                .is_some_and(|rest| rest.starts_with(' '))
        })?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// One request to the admin listener: status and body.
    pub(crate) fn ask(&self, method: &str, path: &str) -> io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.admin)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            self.admin
        );
        stream.write_all(request.as_bytes())?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        let status = response
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let body = response
            .split_once("\r\n\r\n")
            .map(|(_, body)| body.to_owned());
        let both = status.zip(body);
        both.ok_or_else(|| io::Error::other(format!("not HTTP: {response}")))
    }

    /// Asks for an orderly end and waits for it.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("ringlane ends", || child.try_wait().unwrap())
    }
}

impl Drop for Ringlane {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- messages\n{}", self.messages());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn write_configuration(directory: &Path, admin: SocketAddr, configuration: &str) {
    let sessions = directory.join("sessions");
    let mut text = configuration.to_owned();
    if !text.contains("[admin]") {
        text += &format!("\n[admin]\nlisten = \"{admin}\"\n");
    }
    if !text.contains("[log]") {
        text += &format!("\n[log]\nsessions = \"{}\"\n", sessions.display());
    }
    fs::write(directory.join("ringlane.toml"), text).unwrap();
}

/// A backend that sends everything back.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
}

impl Echo {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((loopback(), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || {
                    let (mut from, mut to) = (&stream, &stream);
                    // The client's reset is no fault of the backend's.
                    let _ = io::copy(&mut from, &mut to);
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                });
            }
        });
        Self { address }
    }
}
