//! ringlane: a layer-4 TCP and TLS load balancer on a thread-per-core io_uring runtime.
//!
//! This page is the architecture. How to run ringlane stands in [`manual::operations`], what it costs in
//! [`manual::performance`], why it is built this way in [`manual::decisions`], and the code is best begun at [`worker::session`](worker).
//!
//! # Bird's-eye view
//!
//! ```text
//!                     signals, admin requests, DNS answers
//!                                     │
//!  control thread (tokio)     ┌───────▼────────┐   session lines
//!  signals, names, admin ────►│  main thread   │   ┌────────────┐
//!            events           │ process::Process│   │ log thread │
//!                             └───────┬────────┘   └─────▲──────┘
//!              snapshot + sockets, one message each      │ 64 KiB buffers
//!             ┌───────────────────────┼──────────────────┤
//!      ┌──────▼─────┐          ┌──────▼─────┐     ┌──────┴─────┐
//!      │  worker 0  │          │  worker 1  │ ... │  worker n  │  one core each (monoio)
//!      └────────────┘          └────────────┘     └────────────┘
//! ```
//!
//! **Workers** accept, dial, relay and nothing else. Each has a listening socket of its own for every
//! address (SO_REUSEPORT; a unix socket is shared), so a connection lives and dies on one core. The
//! **control thread** does what waits for the outside: signals, host names, health checks, overload, the admin server,
//! the watchdog. It decides nothing; it turns what happens into [`control::Event`]s. The **main thread**
//! receives them in [`process`] and is the only one that changes the configuration. They meet in
//! atomics and bounded channels.
//!
//! A configuration file becomes a [`config::model::Model`] (checked, every default filled in), and a
//! model becomes a [`snapshot::Snapshot`] (tables that a session looks things up in). Both are
//! immutable. What lives longer than a configuration, such as the number of connections a backend
//! has, is kept beside the snapshot and only referred to.
//!
//! # The walk of one connection
//!
//! Four files, from accept to close, where bytes go on as they come:
//!
//! 1. [`worker::accept`](worker): a listening socket is readable. Up to 64 connections are accepted, as long as
//!    there are two descriptors for each. Whom a limit of numbers or the listener's [`limits::guard`] does not let
//!    in is turned away, before anything is made for it; every other becomes a task with the worker's present
//!    snapshot.
//! 2. [`worker::session`](worker) ★: `begin` enters the session in the timer wheel and counts it; `run` calls
//!    `serve`, guarded against panics. `serve` reads what the client has said by now, its opening, and asks
//!    the listener's pool for a backend.
//! 3. [`forward::dial`]: walks the candidates of [`balance::Walk`], each at most once, while attempts,
//!    time and the pool's [`backend::RetryBudget`] allow. A [`backend::Lease`] counts the connection
//!    from before the connect to the end of the session. The opening goes out with the segment that ends
//!    the handshake. If no backend is reached the client is reset.
//! 4. [`forward::relay`]: two [`forward::pump`](forward)s, one each way, in one task, share a
//!    [`forward::link::Link`]: both sockets, the counts, the time of the last byte, and how it ended.
//!    The end of one stream is passed on as a half-close; a break of one side resets the other.
//!
//! Where there is more to be said than to pass bytes on ([`snapshot::Listener::direct_pool`] says where not), step 2
//! calls [`worker::prepare`](worker), whose future lives only until the backend is there:
//!
//! 1. [`forward::preface`]: reads the PROXY header, a request for TLS such as PostgreSQL's, and the ClientHello
//!    ([`proxy_protocol`], [`sni`]), all within `sniff`, and finds the route ([`snapshot::routes`]). What belongs to
//!    the stream is kept to be replayed. Who is refused gets the alert that is due, or a reset. Then the lists and
//!    limits of the route are asked.
//! 2. [`forward::secure::handshake`] with the client where the route terminates, if the limits on handshakes
//!    ([`tls::rate`]) let it begin. The session of TLS stays in the link.
//! 3. The dial as above. The opening is what the backend gets first: a PROXY header, a request for TLS, what the
//!    client has said; only the last counts as payload.
//! 4. The handshake with the backend where its pool has `tls`.
//! 5. [`forward::secure::relay_secured`] where a side speaks TLS with us: direct calls as in the plain relay, through
//!    three buffers of the worker, with [`tls::seam::Session`] in between. Otherwise the plain relay, which splices.
//!
//! Back in `run` the session leaves the wheel, and its [`base::reason::Reason`] is counted and logged,
//! there and nowhere else. The sockets close as the task ends.
//!
//! # Layers
//!
//! A module may name only modules on lines above its own; `tests/layers.rs` holds this.
//!
//! | layer | what it is |
//! |---|---|
//! | [`base`] | addresses, clock, seeded generator, reasons, limits fixed at compile time |
//! | [`sys`] | system calls and the only `unsafe`: sockets, pipes, filters, affinity |
//! | [`config`] | the file: read, every fault found, resolved to a model, printed, compared |
//! | [`log`], [`metrics`], [`io`] | session lines and messages; cells and their page; waiting, buffers, wheel |
//! | [`backend`] | the facts about each backend, and the retry budget |
//! | [`limits`] | who may connect, how many and how often: lists of networks, a table of sources |
//! | [`proxy_protocol`] | the header that names a connection's client: bytes in, addresses out, and back |
//! | [`sni`] | the ClientHello: names and protocols asked for, fingerprint; values by name |
//! | [`balance`] | which backends to try in which order |
//! | [`tls`] | certificates, tickets, settings of both sides, and TLS itself: bytes in, bytes out |
//! | [`snapshot`] | everything a session looks up, and the registries of what outlives it |
//! | [`forward`] | dial, relay, close: the data path |
//! | [`health`] | which backends are probed when, and what that makes of them |
//! | [`worker`] | one core: runtime, accepting, sessions |
//! | [`admin`] | a request in, an answer out; who may change something |
//! | [`control`] | the control thread |
//! | [`process`] | start, reload, stop |
//! | [`cli`] | the commands |
//!
//! Only [`worker`], [`io`] and [`forward`] may name monoio; only [`control`] and [`cli`] tokio. Files that
//! decide (`backend`, `balance`, `health`, most of `limits`, `proxy_protocol`, `sni`, the validation of `config`, the
//! wheel) name no
//! runtime, no socket and no clock: they take the time as an argument.
//!
//! # Invariants
//!
//! What is absent, and why:
//!
//! - **No read, write, accept or splice is ever submitted to the ring,** only polls. A poll owns no
//!   buffer, so nothing is lost when it ends for another reason, and no kernel thread is parked on it.
//! - **No wait is dropped.** [`io::deadline`] is the only place where a wait meets a deadline, and it ends
//!   the wait by resetting its socket. There is no `select!` and no `timeout` on a worker.
//! - **No lock on the data path,** except around two maps, once for each handshake: of sources, where
//!   `handshake_rate` is set, and of sessions with backends, where whoever would wait goes without; around the
//!   keys that seal a TLS session's records, which nobody else ever asks for; around the orders of a backend that
//!   has some, once for each connect; and where a connect or the beginning of a session has failed. No atomic that
//!   two workers write except the facts of a backend, a pool's rotation, trickle, retry budget and breaker, the
//!   sources of a listener or route that limits them, the number of sessions of a route that limits it, and, once
//!   per buffer, the session log's queue.
//! - **No session edits its snapshot,** and none sees two of them.
//! - **A rejected configuration changes nothing:** building a snapshot and binding sockets touch no live
//!   state, and after the first change nothing can be refused.
//! - **An idle session owns no buffer, no pipe and no timer of the runtime.**
//! - **Nothing waits for the session log.** What does not fit is dropped and counted.
//! - **No panic leaves its session.** One that does (a worker's own) aborts the process.
//! - **Metric labels come from the configuration,** never from clients.
//! - **A TLS stream that ends without a close_notify never becomes a clean end** for the other side.
//! - **No worker reads a file,** of TLS or of anything else: it meets finished settings only.
//! - Not there at all: HTTP. The configuration knows its keys and says that they are not supported yet. Early data, renegotiation and TLS below 1.2
//!   have no keys.
//!
//! # Waiting and moving bytes
//!
//! [`io::socket::Socket`] offers two waits, `readable` and `writable`. The bytes are moved by direct,
//! non-blocking calls ([`sys::socket`], [`sys::pipe`]) until one would block; then the task waits again.
//! A read that did not fill its buffer is taken for the last, without asking again: the poll is
//! level-triggered and completes at once if more has come.
//!
//! A direction begins by **copying** through the worker's one 32 KiB buffer ([`io::lane`]), which is never
//! borrowed across a wait. A read that fills it is bulk: the direction turns to **splicing** through a
//! pipe borrowed from the worker's [`io::pipes::PipePool`], as much as 1 MiB in, then all of it out. Three
//! splices in a row below 16 KiB turn it back. Where no pipe is to be had it goes on copying and counts
//! it; where the kernel cannot splice it copies for good. After 1 MiB a direction waits for its source
//! again, so that others get their turn; on epoll, where such a wait does not yield, it first waits for
//! the next round of the worker's [`io::turns::Turns`].
//!
//! Where the client's source may move only so many bytes in a second ([`limits::bytes`]), a direction takes from
//! what is left before it reads, and is **held** while there is nothing.
//!
//! When the destination is full the direction **stalls**: it owns the rest of one read, or one pipe, and
//! waits for room. Nobody reads its source meanwhile. A side whose stream has ended is not read either,
//! nor is a client whose backend is being dialled or shakes hands. So these are **blind**: a reset there would go unnoticed. A blind session is therefore looked at every
//! 250 ms ([`forward::link::BLIND_INTERVAL`]) for a pending error, and a broken side resets the other.
//!
//! With TLS, bytes are received into one buffer of the worker, decrypted there into another, and sealed into a third,
//! from which they are sent. What a full socket leaves waits in the link or in TLS, and the direction stalls as
//! above.
//!
//! A client may be silent because its server speaks first. The wait for its first byte cannot be dropped when
//! `silent_after` is over, so it goes on beside the session and ends with it.
//!
//! Ways to end a connection, in [`sys::socket`]: `finish_sending` ends one half; `finish` ends both in an
//! orderly way, for timeouts; `reset` dissolves the association, which sends RST in every state, ends
//! every wait on the socket and leaves the descriptor to its owner.
//!
//! # Time
//!
//! One timer per worker ticks every 25 ms ([`worker::tick`](worker)). It writes the worker's heartbeat, flushes
//! session lines every fourth time, and visits the sessions that are due in the worker's
//! [`io::wheel::Wheel`]. A visit is [`forward::link::Link::check`]: it looks what the nearest deadline is
//! (idle or half-closed, first byte, lifetime), ends the session if it has passed, and says when to come
//! again. Bytes only stamp the time of the last tick in the link; they move no timer. A session is first visited
//! 250 ms after accept; a visit after 5 s with its backend turns on the backend's keepalive.
//!
//! A backend that goes down, leaves or is drained has [`backend::Orders`] for its sessions. Each worker looks through the
//! wheel for sessions with the backend's number (`worker::parting`) and gives each a time; a session that goes to such
//! a backend by an old snapshot finds the orders by itself (`forward::dial`).
//!
//! Connecting, the preface and handshakes have timers of their own: a sleep beside the wait, in [`io::deadline`], and pauses where a
//! descriptor or room in a unix socket's queue is lacking.
//!
//! # Snapshot, registries, reload
//!
//! [`snapshot::Registries`] find again by name what outlives a snapshot: a [`backend::Backend`] (by pool,
//! name and address), a pool's rotation and retry budget, a listener's number and its cells. A reload
//! ([`process::reload`](process)) goes:
//!
//! 1. Read and check the file; compare it with the running model; keep what needs a restart.
//! 2. Read and check every file that it names of TLS ([`tls::store`]). Read the token, bind the admin address, bind every new address, then listen on them, and last open
//!    the session log if it changes. Any refusal drops all of this, and the reload is rejected.
//! 3. Resolve new names, for at most 2 s. Build the snapshot aside, taking over live state by name.
//! 4. Commit: registries adopt the snapshot, listening sockets change hands, withdrawn ones stop taking
//!    connections, the pointer for the control thread is stored, and **each worker is sent one message**
//!    with the snapshot and the changes to its sockets ([`worker::mailbox::Adoption`]). It takes them in
//!    one step, so no connection meets a socket without its listener.
//! 5. Session log, level of messages, token and admin address follow.
//!
//! A withdrawn socket drops new SYNs ([`sys::filter`]), serves its queue by the snapshot before, and is
//! closed once nothing has come for 250 ms. Certificates and keys of TLS whose files change are swapped
//! beneath the snapshot that refers to them, by the main thread, without any of these steps. New answers for host names take steps 3 and 4 with the same
//! model and no change of sockets.
//!
//! # Stop
//!
//! [`process::stop`](process): readiness fails; clients are accepted for `pre_stop`; every listening socket is
//! withdrawn; the process waits until all are closed and no session is left, at most `drain`; what is
//! left is reset; workers flush their lines and return; the control thread ends; the log is written to
//! its end. A second signal skips the waits.
//!
//! # Threads
//!
//! | thread | runs | waits on |
//! |---|---|---|
//! | main | [`process`] | its channel of events |
//! | `worker-N` | [`worker::runtime`] | its ring or epoll |
//! | `control` | [`control`] | tokio |
//! | `log` | [`log::writer`] | its queue, and the target |
//! | `reload` | a reload asked for over the admin listener, while it lasts | the main thread |
//!
//! # State that crosses cores
//!
//! All of it; everything else stays on its thread.
//!
//! | state | written by | read by |
//! |---|---|---|
//! | a backend's counts and last failure ([`backend::Backend`]) | workers | balancers, metrics |
//! | a backend's health ([`backend::State`]) | control thread | balancers, metrics |
//! | who is ejected ([`backend::Ejector`]) | workers, control thread, main thread | balancers, metrics |
//! | a pool's breaker ([`backend::Breaker`]), if it has one | workers | workers, metrics |
//! | a pool's turns ([`balance::Rotation`]) and retry budget | workers | workers |
//! | metric cells ([`metrics::Cells`]) and heartbeats | one worker each | control thread, and workers for the number of sessions |
//! | sources, their connections and bytes ([`limits::sources`]), connections of routes ([`limits::crowd`]) | workers | workers, metrics |
//! | whether the process takes clients ([`limits::overload::Signal`]) | control thread | workers, metrics |
//! | lists of networks beneath a snapshot ([`limits::store`]) | main thread | workers, metrics |
//! | mailboxes ([`worker::mailbox`]): a channel, a set of backends and an eventfd | main thread, control thread | one worker each |
//! | what becomes of a backend's sessions ([`backend::Orders`]) | main thread, control thread | workers |
//! | the snapshot pointer | main thread | control thread |
//! | certificates, ticket keys and settings of TLS beneath a snapshot ([`tls::live`]) | main thread | workers, metrics |
//! | sessions with backends that can be resumed, and sources of handshakes by time ([`tls::rate`]) | workers | workers |
//! | events, and the control thread's commands | control and main thread | main and control thread |
//! | the log's queues, settings and count of dropped lines | workers, main, log thread | log thread, workers, metrics |
//! | readiness, token, reload counts ([`admin::Surface`]) | main thread | control thread |
//!
//! # Lexicon
//!
//! | word | meaning |
//! |---|---|
//! | client | who connects to ringlane |
//! | listener | addresses that clients connect to, with their settings; sends everything to one pool, or has routes |
//! | route | conditions on what a client says first, and the pool that it goes to then |
//! | pool | backends, and how to choose among them |
//! | backend | one address in a pool; each answer for a host name or a service is one |
//! | service, offer | a name with SRV records, and what one of them says |
//! | tier | backends of a pool that are used only when those of lower tiers could not be |
//! | member | a backend as one pool weighs it |
//! | session | one client connection, from accept to close |
//! | link | a session's two sockets and what their relay has come to |
//! | direction | up, from client to backend; down, the other way |
//! | pump | what moves one direction |
//! | preface | what a client says before its route is known: PROXY header, request for TLS, ClientHello |
//! | opening | what a backend gets first; mostly what its client has said by then |
//! | plain | without TLS, or not TLS |
//! | termination | TLS with the client ends here; without it, TLS goes on as it comes |
//! | secured | a side whose TLS ends here, or a link with such a side |
//! | seam | the one type over rustls that the data path drives |
//! | truncated | a TLS stream that ended without a close_notify |
//! | farewell | the alert that a refused peer gets, and the time to read it |
//! | lane | the buffer and pipes that all bytes of a worker pass through |
//! | lease | one connection counted on a backend |
//! | slot | a lease's share of `max_connections` |
//! | queue | clients that wait for a slot, first come, first served |
//! | orders | what becomes of the sessions that a backend has when it leaves |
//! | era | the time between two turns of a backend from up to down or back |
//! | walk | the order in which one session tries backends |
//! | worker | one core's thread, and all sessions on it |
//! | gate | one socket that a worker accepts from |
//! | snapshot | one configuration as tables for sessions; has a version |
//! | model | one configuration, checked, with every default |
//! | probe | one health check of one backend |
//! | up, down | what probes say of a backend; without them it is up |
//! | ejected | left out for a while because its connects or sessions failed |
//! | usable | up and not ejected |
//! | breaker | lets no client through to a pool that fails |
//! | registry | finds again what outlives snapshots |
//! | cells | counters that one worker writes |
//! | wheel | a worker's sessions by the time of their next visit; in [`balance`], turns by weight |
//! | blind | a side that could break without a call of ours noticing |
//! | held | the source is not read because the client has moved what it may |
//! | stalled | bytes wait for room at the destination |
//! | withdrawn | a listening socket that only serves what is queued |

pub mod admin;
pub mod backend;
pub mod balance;
pub mod base;
pub mod cli;
pub mod config;
pub mod control;
pub mod forward;
pub mod health;
pub mod io;
pub mod limits;
pub mod log;
pub mod manual;
pub mod metrics;
pub mod process;
pub mod proxy_protocol;
pub mod snapshot;
pub mod sni;
pub mod sys;
pub mod tls;
pub mod worker;
