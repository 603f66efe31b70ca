//! From listening sockets to sessions: accepts, changes what it accepts from, and runs queues dry.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::mailbox::{Adoption, Inbox, Listening, Message};
use super::session::{self, Client};
use super::{Pinned, Worker};
use crate::base::address::Endpoint;
use crate::base::clock::now;
use crate::base::limits::ACCEPTS_PER_TURN;
use crate::base::reason::Reason;
use crate::base::seldom::Seldom;
use crate::io::socket::Socket;
use crate::limits::guard::Pass;
use crate::limits::overload::Stance;
use crate::snapshot::ListenerId;
use crate::sys::socket::{accept, finish};

/// Clients of one turn that are accepted without a descriptor for their backend.
const BURST: u64 = 8;

/// How long accepting pauses when the process has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// A withdrawn socket is closed once nothing has come for so long: several round trips of a handshake
/// that was under way when it was withdrawn.
const QUIET: Duration = Duration::from_millis(250);

/// How often a withdrawn socket is looked at.
const QUIET_CHECK: Duration = Duration::from_millis(25);

/// A new connection and its peer's address.
type Accepted = (OwnedFd, Option<SocketAddr>);

/// One that may stay.
type Admitted = (Accepted, Pass);

/// All sockets that one worker accepts from.
pub(super) struct Accepting {
    worker: Rc<Worker>,
    gates: HashMap<Endpoint, Rc<Gate>>,
}

/// One socket that a worker accepts from.
struct Gate {
    socket: Socket,
    listener: Cell<ListenerId>,
    /// Set once withdrawn: what its last sessions live by.
    withdrawn: RefCell<Option<Pinned>>,
    closed: Cell<bool>,
    /// A client that waits for a descriptor for its backend.
    held: RefCell<Option<Admitted>>,
    /// Closing the last of these closes the listening socket itself.
    _kept: Arc<OwnedFd>,
}

impl Accepting {
    pub(super) fn new(worker: &Rc<Worker>) -> Self {
        Self {
            worker: Rc::clone(worker),
            gates: HashMap::new(),
        }
    }

    /// Accepts from one more socket.
    pub(super) fn begin(&mut self, listening: Listening) {
        let socket = match Socket::new(listening.descriptor) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::error!("accept on {}: {error}", listening.endpoint);
                return;
            }
        };
        let gate = Rc::new(Gate {
            socket,
            listener: Cell::new(listening.listener),
            withdrawn: RefCell::new(None),
            closed: Cell::new(false),
            held: RefCell::new(None),
            _kept: listening.socket,
        });
        monoio::spawn(accept_all(Rc::clone(&gate), Rc::clone(&self.worker)));
        self.gates.insert(listening.endpoint, gate);
    }

    /// Does what the process says until it says that this is the end.
    pub(super) async fn obey(&mut self, inbox: Inbox) {
        let Ok(wake) = inbox
            .wake
            .as_fd()
            .try_clone_to_owned()
            .and_then(Socket::new)
        else {
            tracing::error!("worker {} cannot hear the process", self.worker.index);
            return;
        };
        loop {
            wake.readable().await;
            inbox.wake.clear();
            while let Ok(message) = inbox.messages.try_recv() {
                match message {
                    Message::Adopt(adoption) => self.adopt(adoption),
                    Message::ResetAll(reason) => {
                        let sessions = self.worker.sessions.borrow();
                        sessions.values().for_each(|link| link.kill(reason));
                    }
                    Message::End => return,
                }
            }
            // Behind the snapshot that may have brought it about: who begins from here on knows of it.
            let changed = inbox.changed();
            if !changed.is_empty() {
                self.worker.part(changed).await;
            }
        }
    }

    /// Changes snapshot and sockets together: no connection meets one without the other.
    fn adopt(&mut self, adoption: Adoption) {
        let before = self.worker.snapshot.replace(Rc::new(adoption.snapshot));
        for endpoint in adoption.withdraw {
            if let Some(gate) = self.gates.remove(&endpoint) {
                gate.withdrawn.replace(Some(Rc::clone(&before)));
                monoio::spawn(run_dry(gate, Rc::clone(&self.worker)));
            }
        }
        // Who waits at a withdrawn socket is served whatever there is to do: there is no later for it.
        self.worker.pause.look();
        for (endpoint, listener) in adoption.reassign {
            if let Some(gate) = self.gates.get(&endpoint) {
                gate.listener.set(listener);
            }
        }
        for listening in adoption.listen {
            self.begin(listening);
        }
    }
}

/// Accepts from one socket until it is closed.
async fn accept_all(gate: Rc<Gate>, worker: Rc<Worker>) {
    let mut seldom = Seldom::default();
    while !gate.closed.get() || gate.holds_client() {
        if !gate.holds_client() {
            gate.socket.readable().await;
            let may_accept = || !worker.pauses() || gate.is_withdrawn();
            worker.pause.wait(may_accept).await;
        }
        match gate.accept_waiting(&worker) {
            Ok(ACCEPTS_PER_TURN) => worker.lane.end_turn().await,
            Ok(_) => {}
            Err(error) if is_shortage(error) => {
                worker.cells().accept_paused.inc();
                worker.shortage.note(now());
                monoio::time::sleep(PAUSE).await;
            }
            Err(_) if gate.closed.get() => {}
            Err(error) => {
                // Workers share a unix socket: the first to find it dry closes it for all.
                if !gate.is_withdrawn() && seldom.is_due(now()) {
                    tracing::error!("accept: {error}");
                }
                monoio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Accepts what still waits at a withdrawn socket, then closes it.
async fn run_dry(gate: Rc<Gate>, worker: Rc<Worker>) {
    let mut last_accepted = now();
    while now() - last_accepted < QUIET {
        match gate.accept_waiting(&worker) {
            Ok(0) => {}
            Ok(_) => last_accepted = now(),
            // Somebody waits until there are descriptors again.
            Err(error) if is_shortage(error) => last_accepted = now(),
            Err(_) => {}
        }
        monoio::time::sleep(QUIET_CHECK).await;
    }
    gate.closed.set(true);
    // Ends the wait of `accept_all`, which then lets go of the socket.
    finish(gate.socket.as_fd());
}

/// A descriptor that is kept until the backend of `client` takes its place.
fn spare(client: &OwnedFd) -> Result<OwnedFd, Errno> {
    fcntl_dupfd_cloexec(client, 0)
}

/// Whether an error is of the one client that was next: it has left, or its network has gone
/// (accept(2), "Error handling").
const fn is_clients(error: Errno) -> bool {
    matches!(
        error,
        Errno::CONNABORTED
            | Errno::INTR
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH
            | Errno::PERM
    )
}

/// Whether accepting has to wait for others to give something back.
const fn is_shortage(error: Errno) -> bool {
    matches!(
        error,
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM
    )
}

impl Gate {
    /// Makes sessions of connections that wait, at most a turn's worth; returns how many.
    ///
    /// A client is not taken from the queue when there would be no descriptor for its backend: clients
    /// without backends would use up the last descriptors, and nobody be served. A descriptor has to be
    /// kept for that only in a burst or after a shortage: before the next few, the sessions of the last
    /// few have dialled.
    fn accept_waiting(&self, worker: &Rc<Worker>) -> Result<u64, Errno> {
        let most = worker.room().min(ACCEPTS_PER_TURN);
        if most == 0 {
            return Err(Errno::MFILE);
        }
        for accepted in 0..most {
            let ((socket, address), pass) = match self.next_client(worker) {
                Ok(Some(admitted)) => admitted,
                Ok(None) => continue,
                Err(Errno::AGAIN) => return Ok(accepted),
                Err(error) if is_clients(error) => continue,
                Err(error) => return Err(error),
            };
            let careful = accepted >= BURST || worker.shortage.is_recent();
            let spare = match careful.then(|| spare(&socket)) {
                None => None,
                Some(Ok(spare)) => Some(spare),
                Some(Err(error)) => {
                    self.held.replace(Some(((socket, address), pass)));
                    return Err(error);
                }
            };
            let snapshot = self.snapshot(worker);
            let client = Client {
                socket,
                spare,
                address,
                pass,
                listener: self.listener.get(),
            };
            session::begin(client, snapshot, worker);
        }
        Ok(most)
    }

    /// The client that was held back, or else the next that waits; `None`: it was turned away.
    fn next_client(&self, worker: &Rc<Worker>) -> Result<Option<Admitted>, Errno> {
        if let Some(held) = self.held.borrow_mut().take() {
            return Ok(Some(held));
        }
        let stance = match worker.signal.stance() {
            // Who waits at a withdrawn socket is served all the same.
            _ if self.is_withdrawn() => Stance::Accept,
            Stance::Pause => return Err(Errno::AGAIN),
            stance => stance,
        };
        let accepted = accept(self.socket.as_fd())?;
        let snapshot = self.snapshot(worker);
        // Snapshot and sockets change together, so the listener is there.
        let Some(listener) = snapshot.listener(self.listener.get()) else {
            return Ok(None);
        };
        let verdict = match stance {
            Stance::Reject => Err(Reason::Overload),
            _ => worker.admit(&snapshot, listener, accepted.1),
        };
        match verdict {
            Ok(pass) => Ok(Some((accepted, pass))),
            Err(reason) => {
                worker.turn_away(accepted, reason, (&snapshot, listener));
                Ok(None)
            }
        }
    }

    fn is_withdrawn(&self) -> bool {
        self.withdrawn.borrow().is_some()
    }

    fn holds_client(&self) -> bool {
        self.held.borrow().is_some()
    }

    /// The snapshot that a session from this socket lives by.
    fn snapshot(&self, worker: &Worker) -> Pinned {
        let last = self.withdrawn.borrow();
        last.as_ref().map_or_else(|| worker.snapshot(), Rc::clone)
    }
}
