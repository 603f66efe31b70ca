//! The socket of the admin listener.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

use socket2::{Domain, Socket, Type};

use crate::base::address::Endpoint;
use crate::sys::listening::{SocketFile, bind_unix, listen};

/// A listening socket for the admin server.
#[derive(Debug)]
pub enum AdminSocket {
    /// On an IP address; non-blocking.
    Tcp(TcpListener),
    /// On a path; non-blocking.
    Unix(UnixListener, SocketFile),
}

/// Binds and listens.
///
/// A unix socket's file that is left over from a process that is gone is replaced; one on which
/// somebody answers is `AddrInUse`, and a file that is no socket is never touched.
pub fn bind(endpoint: &Endpoint) -> io::Result<AdminSocket> {
    match endpoint {
        Endpoint::Inet(address) => bind_tcp(*address).map(AdminSocket::Tcp),
        Endpoint::Unix(path) => {
            let (socket, file) = bind_unix(path, OWNER_ONLY)?;
            listen(socket.as_fd(), BACKLOG)?;
            Ok(AdminSocket::Unix(socket.into(), file))
        }
    }
}

/// Connections that may wait; the server takes at most 64 at once.
const BACKLOG: u32 = 128;

/// The permission bits of a unix socket's file.
const OWNER_ONLY: u32 = 0o600;

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    listen(socket.as_fd(), BACKLOG)?;
    Ok(socket.into())
}

impl AdminSocket {
    /// Where it listens: the port as the kernel chose it.
    pub fn local(&self) -> io::Result<Endpoint> {
        Ok(match self {
            Self::Tcp(listener) => Endpoint::Inet(listener.local_addr()?),
            Self::Unix(_, file) => Endpoint::Unix(file.path().to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("ringlane-{name}-{}.sock", std::process::id()))
    }

    #[test]
    fn a_unix_socket_is_private_and_leaves_no_file() {
        let path = path("private");
        let socket = bind(&Endpoint::Unix(path.clone())).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(socket.local().unwrap(), Endpoint::Unix(path.clone()));
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_left_over_socket_is_replaced_and_a_live_one_is_not() {
        let path = path("stale");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let live = bind(&Endpoint::Unix(path.clone())).unwrap();
        let error = bind(&Endpoint::Unix(path.clone())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(path.exists());
        drop(live);
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let path = path("file");
        fs::write(&path, "precious").unwrap();
        assert!(bind(&Endpoint::Unix(path.clone())).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_put_there_since_is_left_alone() {
        let path = path("since");
        let socket = bind(&Endpoint::Unix(path.clone())).unwrap();
        fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
        drop(other);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_port_is_chosen_by_the_kernel_and_told() {
        let any = Endpoint::Inet("127.0.0.1:0".parse().unwrap());
        let socket = bind(&any).unwrap();
        let local = socket.local().unwrap();
        assert_ne!(local, any);
        assert_eq!(bind(&local).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
