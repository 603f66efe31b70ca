//! `ringlane demo`: it balances, reloads, leaves room for another one and cleans up.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{PATIENCE, binary, eventually};

/// A running `ringlane demo`, killed when dropped.
struct Demo {
    child: Child,
    told: String,
    directory: PathBuf,
}

impl Demo {
    fn start(name: &str) -> Self {
        let name = format!("ringlane-demo-of-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        let mut child = binary()
            .arg("demo")
            .env("TMPDIR", &directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(directory.join("messages")).unwrap())
            .spawn()
            .unwrap();
        let mut told = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        while !told.contains("Ctrl-C") {
            assert!(lines.read_line(&mut told).unwrap() > 0, "it ended: {told}");
        }
        let demo = Self {
            child,
            told,
            directory,
        };
        eventually("the demo is ready", || demo.get("admin", "/ready").ok());
        demo
    }

    fn address(&self, name: &str) -> SocketAddr {
        let mut lines = self.told.lines().map(str::split_whitespace);
        let found = lines.find_map(|mut words| {
            (words.next() == Some(name)).then(|| words.next()?.parse().ok())?
        });
        found.unwrap_or_else(|| panic!("no {name} in {}", self.told))
    }

    fn file(&self) -> PathBuf {
        let line = self
            .told
            .lines()
            .find(|line| line.contains("configuration  "));
        line.unwrap().split_whitespace().last().unwrap().into()
    }

    /// The body of the answer to one request on a connection of its own.
    fn get(&self, name: &str, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.address(name))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        match answer
            .strip_prefix("HTTP/1.1 200 ")
            .and_then(|rest| rest.split_once("\r\n\r\n"))
        {
            Some((_, body)) => Ok(body.to_owned()),
            None => Err(std::io::Error::other(answer)),
        }
    }

    fn shares(&self, count: usize) -> BTreeMap<String, usize> {
        let mut shares = BTreeMap::new();
        for _ in 0..count {
            *shares.entry(self.get("http", "/").unwrap()).or_insert(0) += 1;
        }
        shares
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "{}",
                fs::read_to_string(self.directory.join("messages")).unwrap()
            );
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn the_demo_balances_reloads_and_cleans_up() {
    let mut demo = Demo::start("one");
    let of = |red, blue| {
        BTreeMap::from([
            ("hello from red\n".to_owned(), red),
            ("hello from blue\n".to_owned(), blue),
        ])
    };
    assert_eq!(demo.shares(10), of(5, 5));
    assert_eq!(demo.get("http", "/bytes/100000").unwrap().len(), 100_000);

    let other = Demo::start("two");
    for name in ["http", "echo", "admin"] {
        assert_ne!(demo.address(name), other.address(name));
    }
    assert_eq!(other.shares(4), of(2, 2));

    let file = demo.file();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("weight = 1", "weight = 4", 1)).unwrap();
    demo.signal(Signal::HUP);
    eventually("the new weights are in force", || {
        let page = demo.get("admin", "/metrics").unwrap();
        page.contains("config_info{version=\"2\"} 1").then_some(())
    });
    assert_eq!(demo.shares(10), of(8, 2));

    demo.signal(Signal::INT);
    let status = eventually("the demo ends", || demo.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    assert!(!file.parent().unwrap().exists());
}
