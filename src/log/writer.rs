//! The writer's end of the session log: one thread that takes workers' buffers from a bounded queue
//! and writes them to standard output or a file.
//!
//! Only this thread ever waits for the target. While it does, the queue fills (4 MiB), and then
//! workers drop lines and count them.

use std::io;
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded, select};
use parking_lot::Mutex;

pub use super::session_log::SessionLog;
use super::session_log::{Batch, Shared};
use super::target::{Sink, Target};
use crate::base::clock::now_coarse;
use crate::base::seldom::Seldom;
use crate::config::model;

/// Buffers that may wait for the writer, of 64 KiB each.
const QUEUE_BUFFERS: usize = 64;

/// Empty buffers kept for workers.
const EMPTY_BUFFERS: usize = 8;

/// The session log, as the control side sees it.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    orders: Arc<Mutex<Orders>>,
    /// Tells the thread to look at its orders; one token is enough, because it looks at all of them.
    wake: Sender<()>,
    full: Sender<Batch>,
    empty: Receiver<Vec<u8>>,
    /// Closed by the thread's end.
    done: Receiver<()>,
}

/// A change of `[log]` that can no longer fail.
#[derive(Debug)]
pub struct Prepared {
    log: model::Log,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Nowhere,
    Stdout(Target),
    File(PathBuf, Target),
}

/// What the control side wants of the thread. The newest wish replaces an older one that was not yet
/// seen, so there is never a queue of them.
#[derive(Debug, Default)]
struct Orders {
    place: Option<Place>,
    reopen: bool,
    stop: bool,
}

/// The thread's own state.
struct Thread {
    shared: Arc<Shared>,
    orders: Arc<Mutex<Orders>>,
    sink: Option<Sink<Target>>,
    /// The file to open again when told to.
    path: Option<PathBuf>,
    seldom: Seldom,
    lines_unreported: u64,
}

#[derive(PartialEq, Eq)]
enum Next {
    GoOn,
    Stop,
}

impl Writer {
    /// Opens what `log` names and starts the thread.
    pub fn start(log: &model::Log) -> io::Result<Self> {
        let prepared = Self::prepare(log)?;
        let shared = Arc::new(Shared::new());
        let orders = Arc::new(Mutex::new(Orders::default()));
        let (wake, wakes) = bounded(1);
        let (full, batches) = bounded(QUEUE_BUFFERS);
        let (recycle, empty) = bounded(EMPTY_BUFFERS);
        let (running, done) = bounded(0);
        let state = Thread {
            shared: Arc::clone(&shared),
            orders: Arc::clone(&orders),
            sink: None,
            path: None,
            seldom: Seldom::default(),
            lines_unreported: 0,
        };
        thread::Builder::new().name("log".into()).spawn(move || {
            state.run(&batches, &recycle, &wakes);
            drop(running);
        })?;
        let writer = Self {
            shared,
            orders,
            wake,
            full,
            empty,
            done,
        };
        writer.commit(prepared);
        Ok(writer)
    }

    /// A session log for one worker, to be moved to the worker's thread.
    pub fn session_log(&self) -> SessionLog {
        let shared = Arc::clone(&self.shared);
        SessionLog::new(shared, self.full.clone(), self.empty.clone())
    }

    /// Opens what `log` names; nothing else changes yet, but a file may have been created.
    pub fn prepare(log: &model::Log) -> io::Result<Prepared> {
        let place = match &log.sessions {
            model::SessionLog::Off => Place::Nowhere,
            model::SessionLog::Stdout => Place::Stdout(Target::stdout()?),
            model::SessionLog::File(path) => Place::File(path.clone(), Target::open(path)?),
        };
        let log = log.clone();
        Ok(Prepared { log, place })
    }

    /// Logs as prepared from now on. Lines that wait already are written in the old format to the
    /// new target.
    pub fn commit(&self, prepared: Prepared) {
        self.shared.set(&prepared.log);
        self.order(|orders| orders.place = Some(prepared.place));
    }

    /// Opens the file by its path again, for one that was renamed. Where that fails, the old file
    /// goes on being written.
    pub fn reopen(&self) {
        self.order(|orders| orders.reopen = true);
    }

    /// Lines that were dropped since the start, because the target was slow or failed.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped()
    }

    /// Writes all that workers have handed over and ends the thread. `false` if that took longer
    /// than `patience`: then the target blocks, and the thread is left to the end of the process.
    pub fn stop(&self, patience: Duration) -> bool {
        self.order(|orders| orders.stop = true);
        self.done.recv_timeout(patience) != Err(RecvTimeoutError::Timeout)
    }

    fn order(&self, wish: impl FnOnce(&mut Orders)) {
        wish(&mut self.orders.lock());
        // A full channel holds a token that the thread has yet to take: it will see this wish, too.
        let _ = self.wake.try_send(());
    }
}

impl Thread {
    fn run(mut self, batches: &Receiver<Batch>, empty: &Sender<Vec<u8>>, wakes: &Receiver<()>) {
        loop {
            select! {
                recv(batches) -> batch => {
                    // A reopen or a new target applies to everything that is written after it.
                    self.obey();
                    if let Ok(batch) = batch {
                        self.write(batch, empty);
                    }
                }
                recv(wakes) -> wake => {
                    // An error: nobody can give orders any more.
                    if self.obey() == Next::Stop || wake.is_err() {
                        break;
                    }
                }
            }
        }
        while let Ok(batch) = batches.try_recv() {
            self.write(batch, empty);
        }
        self.turn_to(None, None);
    }

    fn write(&mut self, batch: Batch, empty: &Sender<Vec<u8>>) {
        match &mut self.sink {
            Some(sink) => {
                if let Err(failure) = sink.write(&batch.bytes) {
                    self.lost(failure.lines, &failure.error);
                }
            }
            // Logging was switched off while these were on their way.
            None => self.shared.drop_lines(batch.lines),
        }
        // If enough buffers lie ready this one is freed.
        let _ = empty.try_send(batch.recycle());
    }

    fn lost(&mut self, lines: u64, error: &io::Error) {
        self.shared.drop_lines(lines);
        self.lines_unreported += lines;
        if self.seldom.is_due(now_coarse()) {
            let lines = mem::take(&mut self.lines_unreported);
            tracing::error!(
                "write session log: {error}; {lines} lines dropped since the last report"
            );
        }
    }

    fn obey(&mut self) -> Next {
        let (place, reopen, stop) = {
            let mut orders = self.orders.lock();
            (
                orders.place.take(),
                mem::take(&mut orders.reopen),
                orders.stop,
            )
        };
        match place {
            Some(Place::Nowhere) => self.turn_to(None, None),
            Some(Place::Stdout(target)) => self.turn_to(Some(target), None),
            Some(Place::File(path, target)) => self.turn_to(Some(target), Some(path)),
            None => {}
        }
        if reopen {
            self.reopen();
        }
        if stop { Next::Stop } else { Next::GoOn }
    }

    fn reopen(&mut self) {
        let Some(path) = self.path.clone() else {
            return;
        };
        match Target::open(&path) {
            Ok(target) => self.turn_to(Some(target), Some(path)),
            Err(error) => tracing::error!("reopen session log {error}; the old file stays"),
        }
    }

    fn turn_to(&mut self, target: Option<Target>, path: Option<PathBuf>) {
        let torn = self.sink.as_ref().map_or(0, Sink::torn);
        self.shared.drop_lines(torn);
        self.sink = target.map(Sink::new);
        self.path = path;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{PipeReader, Read};
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::base::clock::now;
    use crate::base::reason::{Reason, Side};
    use crate::config::model::{Format, Level, LogOn};
    use crate::log::session::{Asked, Client, Closed, Event, SessionIds, SessionLine};

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A directory of the test's own, removed at its end.
    struct Directory(PathBuf);

    impl Directory {
        fn new(test: &str) -> Self {
            let name = format!("ringlane-log-{test}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn to(sessions: model::SessionLog) -> model::Log {
        model::Log {
            level: Level::Info,
            sessions,
            format: Format::Json,
            on: LogOn::Close,
        }
    }

    fn to_file(path: impl Into<PathBuf>) -> model::Log {
        to(model::SessionLog::File(path.into()))
    }

    /// A pipe, and a configuration that writes to it.
    fn pipe() -> (PipeReader, model::Log, Writer) {
        let (reader, pipe) = io::pipe().unwrap();
        let log = to_file(format!("/proc/self/fd/{}", pipe.as_raw_fd()));
        let writer = Writer::start(&log).unwrap();
        (reader, log, writer)
    }

    /// A line that can be told from others by its worker and its count of bytes.
    fn push(log: &mut SessionLog, worker: usize, number: u64) {
        let closed = Closed {
            asked: Asked::default(),
            backend: Some("b"),
            endpoint: None,
            attempts: 1,
            queued: None,
            held: None,
            connect: None,
            first_byte: None,
            duration: Duration::from_millis(5),
            bytes_up: number,
            bytes_down: 0,
            client_tcp: None,
            backend_tcp: None,
            reason: Reason::Eof,
            side: Side::Client,
            cause: None,
        };
        log.push(&SessionLine {
            session: SessionIds::for_worker(worker).next_id(),
            listener: "front",
            client: Client::Unix,
            pool: Some("db"),
            worker,
            snapshot: 1,
            event: Event::Close(&closed),
        });
    }

    /// Worker and number of every line; each must be whole.
    fn numbers(text: &str) -> Vec<(u64, u64)> {
        assert!(text.is_empty() || text.ends_with('\n'), "torn at the end");
        let number = |line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let field = |name: &str| line[name].as_u64().unwrap();
            (field("worker"), field("bytes_up"))
        };
        text.lines().map(number).collect()
    }

    fn wait_until(what: &str, is_so: impl Fn() -> bool) {
        let deadline = now() + PATIENCE;
        while !is_so() {
            assert!(now() < deadline, "still not: {what}");
            thread::yield_now();
        }
    }

    #[test]
    fn every_line_of_three_workers_arrives_once_whole_and_in_order() {
        let directory = Directory::new("order");
        let path = directory.file("log");
        let writer = Writer::start(&to_file(&path)).unwrap();
        thread::scope(|scope| {
            for worker in 0..3 {
                let mut log = writer.session_log();
                scope.spawn(move || {
                    for number in 0..10_000 {
                        wait_until("room in the queue", || !log.is_backed_up());
                        push(&mut log, worker, number);
                    }
                    wait_until("room in the queue", || !log.is_backed_up());
                });
            }
        });
        assert!(writer.stop(PATIENCE));
        assert_eq!(writer.dropped(), 0);
        let seen = numbers(&fs::read_to_string(&path).unwrap());
        assert_eq!(seen.len(), 30_000);
        for worker in 0..3 {
            let own = seen.iter().filter(|line| line.0 == worker);
            assert!(own.map(|line| line.1).eq(0..10_000), "worker {worker}");
        }
    }

    #[test]
    fn a_blocked_target_never_blocks_a_worker_and_every_line_is_accounted_for() {
        const OFFERED: u64 = 60_000;
        let (mut reader, _, writer) = pipe();
        let mut log = writer.session_log();
        for number in 0..OFFERED {
            push(&mut log, 0, number);
        }
        log.flush();
        assert!(writer.dropped() > 0, "the queue held everything");

        let text = thread::scope(|scope| {
            let text = scope.spawn(move || {
                let mut text = String::new();
                reader.read_to_string(&mut text).unwrap();
                text
            });
            assert!(writer.stop(PATIENCE));
            text.join().unwrap()
        });
        let seen = numbers(&text);
        assert!(seen.is_sorted_by(|one, other| one.1 < other.1));
        let written = u64::try_from(seen.len()).unwrap();
        assert!(written > 0);
        assert_eq!(written + writer.dropped(), OFFERED);
    }

    #[test]
    fn stopping_does_not_wait_for_ever_for_a_blocked_target() {
        let (reader, _, writer) = pipe();
        let mut log = writer.session_log();
        for number in 0..10_000 {
            push(&mut log, 0, number);
        }
        assert!(!writer.stop(Duration::from_millis(1)));
        drop(reader);
        assert!(writer.stop(PATIENCE));
    }

    #[test]
    fn a_renamed_file_is_left_and_a_new_one_begun() {
        let directory = Directory::new("reopen");
        let (path, old) = (directory.file("log"), directory.file("log.1"));
        let writer = Writer::start(&to_file(&path)).unwrap();
        let mut log = writer.session_log();
        push(&mut log, 0, 1);
        log.flush();
        wait_until("written", || fs::metadata(&path).unwrap().len() > 0);
        fs::rename(&path, &old).unwrap();
        writer.reopen();
        // At once, although no line comes.
        wait_until("reopened", || path.exists());
        push(&mut log, 0, 2);
        log.flush();
        assert!(writer.stop(PATIENCE));
        assert_eq!(numbers(&fs::read_to_string(&old).unwrap()), [(0, 1)]);
        assert_eq!(numbers(&fs::read_to_string(&path).unwrap()), [(0, 2)]);
        assert_eq!(writer.dropped(), 0);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "{mode:o}");
    }

    #[test]
    fn a_reopen_that_fails_keeps_the_old_file() {
        let directory = Directory::new("reopen-fails");
        let inner = directory.file("inner");
        fs::create_dir(&inner).unwrap();
        let writer = Writer::start(&to_file(inner.join("log"))).unwrap();
        let moved = directory.file("moved");
        fs::rename(&inner, &moved).unwrap();
        writer.reopen();
        let mut log = writer.session_log();
        push(&mut log, 0, 1);
        log.flush();
        assert!(writer.stop(PATIENCE));
        let text = fs::read_to_string(moved.join("log")).unwrap();
        assert_eq!(numbers(&text), [(0, 1)]);
    }

    #[test]
    fn lines_for_a_full_device_are_counted_and_later_ones_go_where_there_is_room() {
        let directory = Directory::new("full");
        let path = directory.file("log");
        let writer = Writer::start(&to_file("/dev/full")).unwrap();
        let mut log = writer.session_log();
        for number in 0..7 {
            push(&mut log, 0, number);
        }
        log.flush();
        wait_until("counted", || writer.dropped() == 7);
        push(&mut log, 0, 7);
        log.flush();
        wait_until("counted", || writer.dropped() == 8);

        writer.commit(Writer::prepare(&to_file(&path)).unwrap());
        push(&mut log, 0, 8);
        log.flush();
        assert!(writer.stop(PATIENCE));
        assert_eq!(numbers(&fs::read_to_string(&path).unwrap()), [(0, 8)]);
        assert_eq!(writer.dropped(), 8);
    }

    #[test]
    fn a_target_that_cannot_be_opened_changes_nothing() {
        let directory = Directory::new("refused");
        let path = directory.file("log");
        let writer = Writer::start(&to_file(&path)).unwrap();
        assert!(Writer::prepare(&to_file(directory.file("no/such/log"))).is_err());
        let mut log = writer.session_log();
        push(&mut log, 0, 1);
        log.flush();
        assert!(writer.stop(PATIENCE));
        assert_eq!(numbers(&fs::read_to_string(&path).unwrap()), [(0, 1)]);
    }

    #[test]
    fn a_fifo_without_a_reader_is_refused_at_once() {
        let directory = Directory::new("fifo");
        let path = directory.file("fifo");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
        assert!(Writer::prepare(&to_file(&path)).is_err());
    }

    #[test]
    fn what_is_wanted_follows_the_configuration() {
        let writer = Writer::start(&to(model::SessionLog::Off)).unwrap();
        let mut log = writer.session_log();
        let wanted = |log: &SessionLog| (log.wants_open(), log.wants_close());
        assert_eq!(wanted(&log), (false, false));
        push(&mut log, 0, 1);
        assert!(!log.pending());

        let directory = Directory::new("wanted");
        let mut settings = to_file(directory.file("log"));
        writer.commit(Writer::prepare(&settings).unwrap());
        assert_eq!(wanted(&log), (false, true));
        settings.on = LogOn::OpenAndClose;
        settings.format = Format::Text;
        writer.commit(Writer::prepare(&settings).unwrap());
        assert_eq!(wanted(&log), (true, true));
        push(&mut log, 0, 1);
        assert!(log.pending());
        drop(log);
        drop(writer);
        let path = directory.file("log");
        wait_until("written", || fs::metadata(&path).unwrap().len() > 0);
        assert!(fs::read_to_string(&path).unwrap().starts_with("open_time="));
    }
}
