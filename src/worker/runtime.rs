//! A worker's thread and its runtime: io_uring with the flags that serve us best, or epoll.

use std::io;
use std::rc::Rc;
use std::thread::JoinHandle;

use crossbeam::channel::{Sender, bounded};
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use super::mailbox::{Inbox, Listening};
use super::{Seat, Worker, accept, tick};
use crate::base::clock::now;
use crate::io::turns::Turns;
use crate::sys::process::pin_to;

/// Entries of a worker's ring: waits that can begin between two system calls.
const RING_ENTRIES: u32 = 1024;

/// What a worker waits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring: the worker itself runs what completions need, when it asks for them
    /// (SINGLE_ISSUER and DEFER_TASKRUN, Linux 6.1). A third of the cost of the plain ring.
    UringDeferred,
    /// io_uring: completions do not interrupt the worker (COOP_TASKRUN, Linux 5.19).
    UringCooperative,
    /// io_uring without flags.
    Uring,
    /// epoll.
    Epoll,
}

impl Driver {
    /// The word in messages and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UringDeferred | Self::UringCooperative | Self::Uring => "io_uring",
            Self::Epoll => "epoll",
        }
    }

    /// The best form of io_uring that the kernel allows.
    ///
    /// # Errors
    /// What the kernel says of the plainest form.
    pub fn probe_uring() -> io::Result<Self> {
        for driver in [Self::UringDeferred, Self::UringCooperative] {
            if driver.ring().build(RING_ENTRIES).is_ok() {
                return Ok(driver);
            }
        }
        Self::Uring.ring().build(RING_ENTRIES)?;
        Ok(Self::Uring)
    }

    fn ring(self) -> io_uring::Builder {
        let mut builder = io_uring::IoUring::builder();
        match self {
            Self::UringDeferred => {
                builder.setup_single_issuer().setup_defer_taskrun();
            }
            Self::UringCooperative => {
                builder.setup_coop_taskrun();
            }
            Self::Uring | Self::Epoll => {}
        }
        builder
    }
}

/// Starts a worker's thread; returns once it accepts connections.
///
/// # Errors
/// What starting the thread, pinning it or building its runtime says.
pub fn start(
    seat: Seat,
    driver: Driver,
    core: Option<usize>,
    inbox: Inbox,
    listening: Vec<Listening>,
) -> io::Result<JoinHandle<()>> {
    let (ready, started) = bounded(1);
    let name = format!("worker-{}", seat.index);
    let run = move || {
        let _guard = AbortOnPanic;
        if let Err(error) = pin(core).and_then(|()| run(seat, driver, inbox, listening, &ready)) {
            // Only the start can fail, and it is waited for.
            let _ = ready.send(Err(error));
        }
    };
    let thread = std::thread::Builder::new().name(name).spawn(run)?;
    let gone = || Err(io::Error::other("the worker ended before it began"));
    started.recv().unwrap_or_else(|_| gone())?;
    Ok(thread)
}

/// A worker that panics outside a session cannot go on, and its queue would swallow its share of the
/// clients: better that the process ends and is started again.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a worker has panicked, which it cannot survive");
            std::process::abort();
        }
    }
}

fn pin(core: Option<usize>) -> io::Result<()> {
    core.map_or(Ok(()), pin_to)
}

fn run(
    seat: Seat,
    driver: Driver,
    inbox: Inbox,
    listening: Vec<Listening>,
    ready: &Sender<io::Result<()>>,
) -> io::Result<()> {
    let turns = (driver == Driver::Epoll).then(Turns::new).transpose()?;
    let work = move || work(Worker::new(seat, turns), inbox, listening, ready.clone());
    // A runtime is never dropped: tasks that still wait would be torn down without their driver, and
    // the process ends right after its workers.
    if driver == Driver::Epoll {
        let mut runtime = RuntimeBuilder::<LegacyDriver>::new()
            .enable_timer()
            .build()?;
        runtime.block_on(work());
        std::mem::forget(runtime);
    } else {
        let builder = RuntimeBuilder::<IoUringDriver>::new()
            .with_entries(RING_ENTRIES)
            .uring_builder(driver.ring());
        let mut runtime = builder.enable_timer().build()?;
        runtime.block_on(work());
        std::mem::forget(runtime);
    }
    Ok(())
}

async fn work(
    worker: Rc<Worker>,
    inbox: Inbox,
    listening: Vec<Listening>,
    ready: Sender<io::Result<()>>,
) {
    let mut accepting = accept::Accepting::new(&worker);
    for listening in listening {
        accepting.begin(listening);
    }
    monoio::spawn(tick::run(Rc::clone(&worker)));
    monoio::spawn(run_turns(Rc::clone(&worker)));
    // Before its first tick it would pass for stuck.
    worker.cells().beat(now());
    let _ = ready.send(Ok(()));
    accepting.obey(inbox).await;
    worker.log.borrow_mut().flush();
}

async fn run_turns(worker: Rc<Worker>) {
    if let Some(turns) = &worker.lane.turns
        && let Err(error) = turns.run().await
    {
        tracing::error!("worker {}: turns: {error}", worker.index);
    }
}
