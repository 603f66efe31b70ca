//! A backend that never answers a connect.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::address;

/// A listener whose queue is full, so that connections to it hang.
pub(crate) struct Hanging {
    pub(crate) address: SocketAddr,
    _listener: Socket,
    _waiting: Vec<Socket>,
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
            _listener: listener,
            _waiting: waiting,
        }
    }
}
