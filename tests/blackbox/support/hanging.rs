//! A backend that never answers a connect.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::{PATIENCE, address};

/// A listener whose queue is full, so that connections to it hang.
pub(crate) struct Hanging {
    pub(crate) address: SocketAddr,
    listener: Socket,
    waiting: Vec<Socket>,
}

impl Hanging {
    pub(crate) fn start() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&address().into()).unwrap();
        listener.listen(1).unwrap();
        let at = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        loop {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            match client.connect_timeout(&at, Duration::from_millis(200)) {
                Ok(()) => waiting.push(client),
                Err(error) if error.kind() == ErrorKind::TimedOut => break,
                Err(error) => panic!("{error}"),
            }
            assert!(waiting.len() < 100, "the queue does not fill");
        }
        Self {
            address: at.as_socket().unwrap(),
            listener,
            waiting,
        }
    }

    /// Answers after all: every connection, in the order in which they come.
    pub(crate) fn streams(self) -> impl Iterator<Item = TcpStream> {
        drop(self.waiting);
        let listener = self.listener;
        // accept(2) heeds it.
        listener.set_read_timeout(Some(PATIENCE)).unwrap();
        std::iter::from_fn(move || Some(listener.accept().ok()?.0.into()))
    }
}
