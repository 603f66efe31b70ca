//! The listening sockets of the process: which there are, and how they come and go by reload.
//!
//! A reload first binds what is new and touches nothing else; only when nothing can be refused any
//! more does it listen, and give sockets to workers and take them away.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};

use rustix::io::Errno;

use crate::base::address::Endpoint;
use crate::base::limits::DESCRIPTORS_RESERVED;
use crate::config::model::{Listener, Model, SocketOptions};
use crate::snapshot::{ListenerId, Snapshot};
use crate::sys::filter::ignore_new_connections;
use crate::sys::listening::{
    BirthSettings, SocketFile, TcpSettings, bind_tcp, bind_unix, listen, must_be_free,
    set_unix_mode, set_up_tcp,
};
use crate::sys::process::{descriptor_limit, open_descriptors};
use crate::worker::mailbox::Listening;

/// An address that cannot be listened on.
#[derive(Debug)]
pub(super) struct BindFault {
    listener: Arc<str>,
    endpoint: Endpoint,
    error: io::Error,
}

/// Every listening socket, by address.
pub(super) struct Sockets {
    workers: usize,
    bound: HashMap<Endpoint, Bound>,
    /// Withdrawn sockets that some worker still accepts from.
    leaving: Vec<(Endpoint, Weak<OwnedFd>)>,
}

/// The sockets of one address.
struct Bound {
    /// One for each worker; of a unix socket the same one for all.
    sockets: Vec<Arc<OwnedFd>>,
    listener: ListenerId,
    options: SocketOptions,
    file: Option<SocketFile>,
}

/// What a reload has bound so far; dropped, it leaves no trace.
pub(super) struct Prepared(HashMap<Endpoint, Fresh>);

struct Fresh {
    sockets: Vec<Arc<OwnedFd>>,
    /// The workers' own descriptors of these: made now, so that a lack of them is a reason to reject.
    duplicates: Vec<OwnedFd>,
    file: Option<SocketFile>,
}

/// What the workers have to be told, by worker and for all.
pub(super) struct Moves {
    pub(super) listen: Vec<Vec<Listening>>,
    pub(super) reassign: Vec<(Endpoint, ListenerId)>,
    pub(super) withdraw: Vec<Endpoint>,
}

impl Moves {
    fn none(workers: usize) -> Self {
        Self {
            listen: (0..workers).map(|_| Vec::new()).collect(),
            reassign: Vec::new(),
            withdraw: Vec::new(),
        }
    }
}

impl Sockets {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            workers,
            bound: HashMap::new(),
            leaving: Vec::new(),
        }
    }

    /// Binds the addresses that `model` has and we have not, and queues connections on them.
    ///
    /// # Errors
    /// The first address that is refused; then everything is as before.
    pub(super) fn prepare(&self, model: &Model) -> Result<Prepared, BindFault> {
        let mut left = descriptor_limit().saturating_sub(open_descriptors() + DESCRIPTORS_RESERVED);
        let mut fresh = HashMap::new();
        for listener in &model.listeners {
            for endpoint in &listener.listen {
                if self.has(endpoint, &listener.socket) {
                    continue;
                }
                let fault = |error| BindFault {
                    listener: Arc::clone(&listener.name),
                    endpoint: endpoint.clone(),
                    error,
                };
                // What is taken here is missing for sessions, and for the admin listener.
                left = left
                    .checked_sub(2 * self.workers as u64)
                    .ok_or_else(|| fault(Errno::MFILE.into()))?;
                fresh.insert(
                    endpoint.clone(),
                    self.bind(listener, endpoint).map_err(fault)?,
                );
            }
        }
        // A client may connect from here on, so every address has to be bound before.
        for listener in &model.listeners {
            for endpoint in &listener.listen {
                let sockets = fresh
                    .get(endpoint)
                    .into_iter()
                    .flat_map(|fresh| &fresh.sockets);
                for socket in sockets {
                    listen(socket.as_fd(), listener.socket.backlog).map_err(|error| BindFault {
                        listener: Arc::clone(&listener.name),
                        endpoint: endpoint.clone(),
                        error,
                    })?;
                }
            }
        }
        Ok(Prepared(fresh))
    }

    /// Whether there is a socket that can be given these settings.
    fn has(&self, endpoint: &Endpoint, options: &SocketOptions) -> bool {
        self.bound
            .get(endpoint)
            .is_some_and(|bound| match endpoint {
                Endpoint::Inet(_) => birth(&bound.options) == birth(options),
                Endpoint::Unix(_) => bound.file.as_ref().is_some_and(SocketFile::is_in_place),
            })
    }

    /// Whether sockets of ours have the port, perhaps on all addresses: those may be shared.
    fn shares_port(&self, address: SocketAddr) -> bool {
        let left = self.leaving.iter();
        let left = left.filter(|(_, socket)| socket.strong_count() > 0);
        let mut ours = self.bound.keys().chain(left.map(|(endpoint, _)| endpoint));
        ours.any(|at| matches!(at, Endpoint::Inet(at) if at.port() == address.port()))
    }

    fn bind(&self, listener: &Listener, endpoint: &Endpoint) -> io::Result<Fresh> {
        let options = &listener.socket;
        match endpoint {
            Endpoint::Inet(address) => {
                if !self.shares_port(*address) {
                    must_be_free(*address, birth(options))?;
                }
                let one = || {
                    let socket = bind_tcp(*address, birth(options))?;
                    set_up_tcp(socket.as_fd(), &tcp_settings(options))?;
                    Ok(Arc::new(socket))
                };
                let sockets = (0..self.workers)
                    .map(|_| one())
                    .collect::<io::Result<_>>()?;
                Fresh::new(sockets, None)
            }
            Endpoint::Unix(path) => {
                let (socket, file) = bind_unix(path, options.unix_mode)?;
                let sockets = std::iter::repeat_n(Arc::new(socket), self.workers);
                Fresh::new(sockets.collect(), Some(file))
            }
        }
    }

    /// Takes over what was prepared for `snapshot` and lets go of what it does not have.
    pub(super) fn commit(&mut self, prepared: Prepared, snapshot: &Snapshot) -> Moves {
        let mut prepared = prepared.0;
        let mut before = std::mem::take(&mut self.bound);
        let mut moves = Moves::none(self.workers);
        for listener in &snapshot.model.listeners {
            let Some(id) = snapshot.listener_id(&listener.name) else {
                continue;
            };
            for endpoint in &listener.listen {
                let bound = match prepared.remove(endpoint) {
                    Some(fresh) => begin(fresh, endpoint, id, listener, &mut moves),
                    None => match before.remove(endpoint) {
                        Some(kept) => keep(kept, endpoint, id, listener, &mut moves),
                        None => continue,
                    },
                };
                self.bound.insert(endpoint.clone(), bound);
            }
        }
        for (endpoint, bound) in before {
            self.leave(endpoint, bound, &mut moves);
        }
        moves
    }

    /// Moves nothing.
    pub(super) fn keep_all(&self) -> Moves {
        Moves::none(self.workers)
    }

    /// Lets go of every socket.
    pub(super) fn withdraw_all(&mut self) -> Moves {
        let mut moves = Moves::none(self.workers);
        for (endpoint, bound) in std::mem::take(&mut self.bound) {
            self.leave(endpoint, bound, &mut moves);
        }
        moves
    }

    /// Descriptors that the listening sockets take.
    pub(super) fn descriptors(&self) -> u64 {
        // Each worker has one of its own beside ours.
        let sockets = self
            .bound
            .values()
            .map(|bound| 2 * bound.sockets.len() as u64);
        sockets.sum()
    }

    /// Whether no worker accepts from a withdrawn socket any more.
    pub(super) fn all_dry(&mut self) -> bool {
        self.leaving.retain(|(_, socket)| socket.strong_count() > 0);
        self.leaving.is_empty()
    }

    /// Lets workers run the sockets of one address dry. A unix socket's file goes at once, so that
    /// nobody finds the socket any more.
    fn leave(&mut self, endpoint: Endpoint, bound: Bound, moves: &mut Moves) {
        let Bound { sockets, .. } = bound;
        for socket in &sockets {
            if matches!(endpoint, Endpoint::Inet(_))
                && let Err(error) = ignore_new_connections(socket.as_fd())
            {
                tracing::warn!("withdraw {endpoint}: {error}; late connections may be reset");
            }
            self.leaving
                .push((endpoint.clone(), Arc::downgrade(socket)));
        }
        self.leaving.retain(|(_, socket)| socket.strong_count() > 0);
        moves.withdraw.push(endpoint);
    }
}

impl Fresh {
    fn new(sockets: Vec<Arc<OwnedFd>>, file: Option<SocketFile>) -> io::Result<Self> {
        let duplicates = sockets.iter().map(|socket| socket.try_clone());
        Ok(Self {
            duplicates: duplicates.collect::<io::Result<_>>()?,
            sockets,
            file,
        })
    }
}

fn begin(
    fresh: Fresh,
    endpoint: &Endpoint,
    id: ListenerId,
    listener: &Listener,
    moves: &mut Moves,
) -> Bound {
    let sockets = fresh.duplicates.into_iter().zip(&fresh.sockets);
    for (worker, (descriptor, socket)) in moves.listen.iter_mut().zip(sockets) {
        worker.push(Listening {
            endpoint: endpoint.clone(),
            listener: id,
            descriptor,
            socket: Arc::clone(socket),
        });
    }
    Bound {
        sockets: fresh.sockets,
        listener: id,
        options: listener.socket,
        file: fresh.file,
    }
}

/// The same sockets go on, perhaps for another listener or with other settings.
fn keep(
    mut bound: Bound,
    endpoint: &Endpoint,
    id: ListenerId,
    listener: &Listener,
    moves: &mut Moves,
) -> Bound {
    if bound.listener != id {
        bound.listener = id;
        moves.reassign.push((endpoint.clone(), id));
    }
    if bound.options != listener.socket {
        bound.options = listener.socket;
        for socket in &bound.sockets {
            if let Err(error) = change(socket, endpoint, &listener.socket) {
                tracing::warn!(
                    "listener {}: settings of {endpoint}: {error}",
                    listener.name
                );
            }
        }
    }
    bound
}

fn change(socket: &OwnedFd, endpoint: &Endpoint, options: &SocketOptions) -> io::Result<()> {
    match endpoint {
        Endpoint::Inet(_) => set_up_tcp(socket.as_fd(), &tcp_settings(options))?,
        Endpoint::Unix(path) => set_unix_mode(path, options.unix_mode)?,
    }
    listen(socket.as_fd(), options.backlog)
}

const fn birth(options: &SocketOptions) -> BirthSettings {
    BirthSettings {
        transparent: options.transparent,
        mptcp: options.mptcp,
        v6only: options.v6only,
    }
}

fn tcp_settings(options: &SocketOptions) -> TcpSettings {
    TcpSettings {
        nodelay: options.nodelay,
        keepalive: options
            .keepalive
            .map(|keepalive| (keepalive.idle, keepalive.interval, keepalive.count)),
        defer_accept: options.defer_accept,
        fastopen: options.fastopen,
    }
}

impl fmt::Display for BindFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "listener {}: listen on {}: {}",
            self.listener, self.endpoint, self.error
        )
    }
}
