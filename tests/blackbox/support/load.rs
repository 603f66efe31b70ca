//! Backends that say their name, clients from chosen addresses, and what the kernel knows of a process.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::{PATIENCE, loopback};

/// A backend that sends its name and a line feed to whoever connects, and then everything back.
pub(crate) struct Named {
    pub(crate) address: SocketAddr,
    open: Arc<AtomicBool>,
}

impl Named {
    pub(crate) fn start(name: &str) -> Self {
        Self::start_at(name, (loopback(), 0).into()).unwrap()
    }

    pub(crate) fn start_at(name: &str, address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let greeting = format!("{name}\n");
        let open = Arc::new(AtomicBool::new(true));
        let goes_on = Arc::clone(&open);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if !goes_on.load(Ordering::Relaxed) {
                    return;
                }
                let greeting = greeting.clone();
                thread::spawn(move || greet(&stream.unwrap(), &greeting));
            }
        });
        Ok(Self { address, open })
    }

    /// Refuses connections from now on.
    pub(crate) fn close(&self) {
        self.open.store(false, Ordering::Relaxed);
        // Wakes the thread that accepts, which then drops the listener.
        let _ = TcpStream::connect(self.address);
        super::eventually("a closed backend refuses", || {
            TcpStream::connect(self.address).is_err().then_some(())
        });
    }
}

fn greet(stream: &TcpStream, greeting: &str) {
    let (mut from, mut to) = (stream, stream);
    // Whatever the other side does is its own affair.
    let _ = to.write_all(greeting.as_bytes());
    let _ = io::copy(&mut from, &mut to);
    let _ = stream.shutdown(Shutdown::Write);
}

/// A connection through ringlane that has heard the name of its backend.
pub(crate) struct Visit {
    pub(crate) stream: TcpStream,
    pub(crate) backend: String,
}

impl Visit {
    pub(crate) fn to(front: SocketAddr) -> Self {
        Self::try_to(front, None).unwrap()
    }

    pub(crate) fn from(source: IpAddr, front: SocketAddr) -> Self {
        Self::try_to(front, Some(source)).unwrap()
    }

    pub(crate) fn try_to(front: SocketAddr, source: Option<IpAddr>) -> io::Result<Self> {
        Self::over(connect(front, source)?)
    }

    pub(crate) fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut backend = String::new();
        // One byte of buffer: what follows the name stays in the socket.
        BufReader::with_capacity(1, &stream).read_line(&mut backend)?;
        if backend.pop() != Some('\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Self { stream, backend })
    }

    /// Sends some bytes and gets them back.
    pub(crate) fn echo(&self) -> io::Result<()> {
        let mut back = [0; 4];
        (&self.stream).write_all(b"ping")?;
        (&self.stream).read_exact(&mut back)?;
        assert_eq!(&back, b"ping");
        Ok(())
    }

    /// Ends its own half and reads to the end.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest)?;
        assert_eq!(rest, b"");
        Ok(())
    }
}

/// Connects from a source address of choice, which spares the ports of the others.
pub(crate) fn connect(front: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(front), Type::STREAM, None)?;
    if let Some(source) = source {
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    socket.connect_timeout(&front.into(), PATIENCE)?;
    Ok(socket.into())
}

/// The same for a client that may be turned away: it may learn that before the call is over.
pub(crate) fn knock(front: SocketAddr, source: Ipv4Addr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    match socket.connect(&front.into()) {
        Ok(()) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
    }
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

/// Clients that connect, speak and close, one after the other, until told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    /// `threads` clients that each begin a session every `pause`.
    pub(crate) fn start(front: SocketAddr, threads: usize, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicUsize::new(0));
        let one = || {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            thread::spawn(move || {
                let source = loopback();
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let outcome = Visit::try_to(front, Some(source))
                        .and_then(|visit| visit.echo().and_then(|()| visit.finish()));
                    match outcome {
                        Ok(()) => drop(served.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => failures.push(error.to_string()),
                    }
                    // The pace of the clients, not a wait for something to happen.
                    thread::sleep(pause);
                }
                failures
            })
        };
        let threads = (0..threads).map(|_| one()).collect();
        Self {
            stop,
            served,
            threads,
        }
    }

    pub(crate) fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    /// Waits until so many more sessions have gone well.
    pub(crate) fn more(&self, count: usize) {
        let wanted = self.served() + count;
        super::eventually("clients are served", || {
            (self.served() >= wanted).then_some(())
        });
    }

    /// Ends the load; what went wrong, one line for each session.
    pub(crate) fn end(self) -> Vec<String> {
        self.end_counted().1
    }

    /// The same, and how many sessions went well.
    pub(crate) fn end_counted(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self
            .threads
            .into_iter()
            .map(|thread| thread.join().unwrap());
        let failures = failures.flatten().collect();
        (self.served.load(Ordering::Relaxed), failures)
    }
}

/// The inodes of the sockets that listen on an address.
pub(crate) fn listening_inodes(address: SocketAddr) -> BTreeSet<u64> {
    const LISTENING: &str = "0A";
    let (table, ip) = match address.ip() {
        IpAddr::V4(ip) => {
            let word = u32::from_ne_bytes(ip.octets());
            ("/proc/net/tcp", format!("{word:08X}"))
        }
        IpAddr::V6(ip) => {
            let words = ip.octets();
            let words = words.chunks_exact(4).map(|word| {
                let word = u32::from_ne_bytes(word.try_into().unwrap());
                format!("{word:08X}")
            });
            ("/proc/net/tcp6", words.collect())
        }
    };
    let local = format!("{ip}:{:04X}", address.port());
    let text = fs::read_to_string(table).unwrap();
    let fields = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields
        .filter(|fields| fields[1] == local && fields[3] == LISTENING)
        .map(|fields| fields[9].parse().unwrap())
        .collect()
}

/// Open descriptors of a process.
pub(crate) fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Resident memory of a process, KiB.
pub(crate) fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.unwrap().parse().unwrap()
}

/// A number from the environment, for the long form of a test.
pub(crate) fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

/// A `[[listener]]` and its pool of the same name.
pub(crate) fn service(
    name: &str,
    front: impl std::fmt::Display,
    backends: &[SocketAddr],
) -> String {
    let backends: Vec<_> = backends.iter().map(|at| format!("\"{at}\"")).collect();
    format!(
        "[[listener]]\nname = \"{name}\"\nlisten = \"{front}\"\npool = \"{name}\"\n\
         [pool.{name}]\nbackends = [{}]\n",
        backends.join(", ")
    )
}
