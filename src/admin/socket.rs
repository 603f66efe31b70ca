//! The socket of the admin listener.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::base::address::Endpoint;

/// A listening socket for the admin server.
#[derive(Debug)]
pub enum AdminSocket {
    /// On an IP address; non-blocking.
    Tcp(TcpListener),
    /// On a path; non-blocking.
    Unix(UnixListener, SocketFile),
}

/// The file of a unix socket, removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode, so that a file that somebody else has put there since is left alone.
    identity: (u64, u64),
}

/// Binds and listens.
///
/// A unix socket's file that is left over from a process that is gone is replaced; one on which
/// somebody answers is `AddrInUse`, and a file that is no socket is never touched.
pub fn bind(endpoint: &Endpoint) -> io::Result<AdminSocket> {
    match endpoint {
        Endpoint::Inet(address) => bind_tcp(*address).map(AdminSocket::Tcp),
        Endpoint::Unix(path) => {
            let (listener, file) = bind_unix(path)?;
            Ok(AdminSocket::Unix(listener, file))
        }
    }
}

/// Connections that may wait; the server takes at most 64 at once.
const BACKLOG: i32 = 128;

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Nobody can connect before `listen`, so there is no moment at which the mode is too wide.
    let file = fs::symlink_metadata(path).map(|metadata| SocketFile {
        path: path.to_owned(),
        identity: (metadata.dev(), metadata.ino()),
    })?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    Ok((socket.into(), file))
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is not a socket is in the way",
        ));
    }
    // Non-blocking, so that a full backlog does not hold up the start.
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Connected, or a full backlog, or no leave to connect: somebody is there.
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

impl AdminSocket {
    /// Where it listens: the port as the kernel chose it.
    pub fn local(&self) -> io::Result<Endpoint> {
        Ok(match self {
            Self::Tcp(listener) => Endpoint::Inet(listener.local_addr()?),
            Self::Unix(_, file) => Endpoint::Unix(file.path.clone()),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if ours {
            // Whoever finds the file left over replaces it, so a failure here harms nobody.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
