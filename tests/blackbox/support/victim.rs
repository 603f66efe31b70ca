//! A backend in a process of its own, which is killed, stopped or cut off from the network.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use socket2::{Domain, SockRef, Socket, Type};

use super::{address, eventually};

/// What the process is told by: the name that it greets with, and where it listens.
const TOLD: &str = "RINGLANE_TEST_VICTIM";

/// Connections that may wait to be accepted; where namespaces cannot be made, so many fill it.
const BACKLOG: i32 = 64;

/// The test program once more, which serves as a backend until it is ended.
pub(crate) struct Victim {
    pub(crate) address: SocketAddr,
    name: &'static str,
    child: Child,
    network: Option<Network>,
    /// What fills the queue of one that cannot be cut off.
    waiting: Vec<Socket>,
}

impl Victim {
    pub(crate) fn start(name: &'static str) -> Self {
        Self::start_at(name, address(), None)
    }

    /// In a network of its own, where such a thing can be made.
    pub(crate) fn start_apart(name: &'static str) -> Self {
        match Network::make() {
            Ok(network) => Self::start_at(name, (network.inside(), 7000).into(), Some(network)),
            Err(cause) => {
                eprintln!("no network namespace ({cause}): a full queue stands in for a blackhole");
                Self::start(name)
            }
        }
    }

    fn start_at(name: &'static str, address: SocketAddr, network: Option<Network>) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = match &network {
            Some(network) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &network.name]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command
            .args(["--ignored", "--exact", "support::victim::serve"])
            .env(TOLD, format!("{name} {address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let child = command.spawn().unwrap();
        eventually("a backend of its own process listens", || {
            TcpStream::connect(address).ok()
        });
        Self {
            address,
            name,
            child,
            network,
            waiting: Vec::new(),
        }
    }

    /// Its kernel resets all connections and refuses others from now on.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The same backend once more.
    pub(crate) fn start_again(&mut self) {
        *self = Self::start_at(self.name, self.address, self.network.take());
    }

    /// Its kernel goes on taking connections, and it does nothing.
    pub(crate) fn stop(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }

    pub(crate) fn go_on(&mut self) {
        self.waiting.clear();
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }

    /// Nothing that it sends arrives, and it is told nothing of that.
    pub(crate) fn cut_off(&mut self) {
        if let Some(network) = &self.network {
            network.drops(true);
            return;
        }
        self.stop();
        loop {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            match client.connect_timeout(&self.address.into(), Duration::from_millis(200)) {
                Ok(()) => self.waiting.push(client),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return,
                Err(error) => panic!("{error}"),
            }
            assert!(self.waiting.len() < 200, "the queue does not fill");
        }
    }

    pub(crate) fn reconnect(&mut self) {
        match &self.network {
            Some(network) => network.drops(false),
            None => self.go_on(),
        }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A network namespace, joined to this one by a pair of interfaces.
struct Network {
    name: String,
    number: u32,
}

impl Network {
    fn make() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = std::process::id() * 4 + NEXT.fetch_add(1, Ordering::Relaxed);
        let network = Self {
            name: format!("ringlane-test-{number}"),
            number: number % (1 << 15),
        };
        let (name, inner) = (&network.name, format!("rt{number}i"));
        let outer = format!("rt{number}o");
        let [outside, inside] = [1, 2].map(|end| format!("{}/30", network.end(end)));
        ip(&format!("netns add {name}"))?;
        ip(&format!(
            "link add {outer} type veth peer name {inner} netns {name}"
        ))?;
        ip(&format!("address add {outside} dev {outer}"))?;
        ip(&format!("-n {name} address add {inside} dev {inner}"))?;
        ip(&format!("link set {outer} up"))?;
        ip(&format!("-n {name} link set {inner} up"))?;
        Ok(network)
    }

    /// One of the four addresses, out of those for measurements between networks (RFC 2544).
    fn end(&self, end: u32) -> Ipv4Addr {
        (u32::from(Ipv4Addr::new(198, 18, 0, 0)) + 4 * self.number + end).into()
    }

    fn inside(&self) -> IpAddr {
        self.end(2).into()
    }

    /// Whether what is sent from inside is dropped without a word.
    fn drops(&self, drops: bool) {
        let verb = if drops { "add" } else { "del" };
        let (name, outside) = (&self.name, self.end(1));
        ip(&format!("-n {name} route {verb} blackhole {outside}/32")).unwrap();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The interfaces go with it.
        let _ = ip(&format!("netns del {}", self.name));
    }
}

fn ip(words: &str) -> io::Result<()> {
    let output = Command::new("ip").args(words.split(' ')).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("ip {words}: {}", said.trim()))),
    }
}

#[test]
#[ignore = "it is what the process of a victim does"]
fn serve() {
    let Ok(told) = std::env::var(TOLD) else {
        return;
    };
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let (name, address) = told.split_once(' ').unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.set_reuse_address(true).unwrap();
    listener.bind(&address.into()).unwrap();
    listener.listen(BACKLOG).unwrap();
    loop {
        let stream = TcpStream::from(listener.accept().unwrap().0);
        let greeting = format!("{name}\n");
        thread::spawn(move || greet(stream, &greeting));
    }
}

fn greet(mut stream: TcpStream, greeting: &str) {
    // When the process is killed its connections are reset.
    let reset = Some(Duration::ZERO);
    SockRef::from(&stream).set_linger(reset).unwrap();
    // Whatever the other side does is its own affair.
    let _ = stream.write_all(greeting.as_bytes());
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        let _ = stream.write_all(&buffer[..read]);
    }
    let _ = SockRef::from(&stream).set_linger(None);
    let _ = stream.shutdown(Shutdown::Write);
}
