//! The loop: starts requests when they are due, waits for sockets, counts what completes.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use rustix::event::epoll::{self, EventData, EventFlags};

use crate::machine;
use crate::pattern::{CHUNK, Request};
use crate::poll;
use crate::sys::process_cpu_ns;

use super::connection::{Connection, Fault, Progress};
use super::opener::Opener;
use super::{Errors, Latency, Outcome, Pace, Plan, Reuse};

/// More errors end the run: what would follow is a count of how often nothing works.
const ERRORS_MAX: u64 = 1_000;

/// Longer latencies count as this: twice what any plan waits for.
const LONGEST_NS: u64 = 120_000_000_000;

/// Connections that a plan of many opens at the same time: less than any listener's backlog.
const OPENING_MAX: usize = 128;

/// How often requests are looked over for their timeout; also the pause after an error.
const LOOK_OVER: Duration = Duration::from_millis(100);

/// Carries out a plan. `at_window` is called when the measured window begins.
///
/// The connections stay open until the returned engine is dropped.
pub fn run(plan: Plan, at_window: impl FnOnce()) -> Result<(Outcome, Engine)> {
    let mut engine = Engine::new(plan)?;
    let outcome = engine.run(at_window)?;
    Ok((outcome, engine))
}

/// Connections and counts of a run.
pub struct Engine {
    plan: Plan,
    epoll: OwnedFd,
    opener: Opener,
    slots: Vec<Slot>,
    /// Slots without a request under way, the longest at rest first.
    free: VecDeque<usize>,
    scratch: Vec<u8>,
    errors: Errors,
    latencies: Histogram<u64>,
    completed: u64,
    /// Requests begun; with a rate, also the number of the next one that is due.
    begun: u64,
    /// Requests that ended, well or not.
    ended: u64,
    window: Window,
    /// No request begins before: the pause after an error.
    not_before: Option<Instant>,
}

#[derive(Default)]
struct Slot {
    connection: Option<Connection>,
    /// When the request under way began, or was due.
    since: Option<Instant>,
}

/// Times of a run and the clocks at both ends of its measured part.
struct Window {
    start: Instant,
    from: Instant,
    until: Instant,
    at_start: Option<Clocks>,
    at_end: Option<Clocks>,
}

#[derive(Clone, Copy)]
struct Clocks {
    time: Instant,
    watched_ns: u64,
    load_ns: u64,
    machine_ns: u64,
}

impl Clocks {
    fn read(plan: &Plan) -> Result<Self> {
        let sum = |pids: &[u32]| -> Result<u64> {
            let mut sum = 0;
            for pid in pids {
                sum += process_cpu_ns(*pid)
                    .with_context(|| format!("no CPU clock of process {pid}; has it ended?"))?;
            }
            Ok(sum)
        };
        Ok(Self {
            time: Instant::now(),
            watched_ns: sum(&plan.watch)?,
            load_ns: sum(&plan.watch_load)? + sum(&[std::process::id()])?,
            machine_ns: machine::busy_ns()?,
        })
    }
}

impl Engine {
    fn new(plan: Plan) -> Result<Self> {
        // The kernel may round a wait up by 50 µs to save wake-ups; here that would be latency.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
        let mut slots = Vec::new();
        slots.resize_with(plan.connections, Slot::default);
        // Before the clock starts: ClientHellos take a moment to make.
        let opener = Opener::new(&plan)?;
        let start = Instant::now();
        let from = start + plan.warm_up;
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            opener,
            free: (0..plan.connections).collect(),
            slots,
            scratch: vec![0; CHUNK],
            errors: Errors::default(),
            latencies: Histogram::new_with_bounds(1, LONGEST_NS, 3)?,
            completed: 0,
            begun: 0,
            ended: 0,
            window: Window {
                start,
                from,
                until: from + plan.measure,
                at_start: None,
                at_end: None,
            },
            not_before: None,
            plan,
        })
    }

    fn run(&mut self, at_window: impl FnOnce()) -> Result<Outcome> {
        let mut at_window = Some(at_window);
        let mut events = poll::events();
        let mut look_over = Instant::now() + LOOK_OVER;
        loop {
            let now = Instant::now();
            if now >= self.window.from && self.window.at_start.is_none() {
                self.window.at_start = Some(Clocks::read(&self.plan)?);
                if let Some(call) = at_window.take() {
                    call();
                }
            }
            if self.window_ends(now) && self.window.at_end.is_none() {
                self.window.at_end = Some(Clocks::read(&self.plan)?);
            }
            if self.is_done() {
                return self.outcome();
            }
            self.begin_due(now)?;
            if now >= look_over {
                self.time_out(now);
                look_over = now + LOOK_OVER;
            }
            let wake = self.next_wake(now).min(look_over);
            let timeout = wake.saturating_duration_since(Instant::now());
            for (token, flags) in poll::wait(&self.epoll, &mut events, timeout)? {
                let slot = usize::try_from(token).expect("numbered by a usize");
                self.advance(slot, flags)?;
            }
        }
    }

    /// A plan of one request a connection is measured until the last of them.
    fn window_ends(&self, now: Instant) -> bool {
        match self.plan.pace {
            Pace::Once => self.ended >= self.slots.len() as u64,
            Pace::Closed | Pace::Open(_) => now >= self.window.until,
        }
    }

    fn is_done(&self) -> bool {
        if self.errors.total() >= ERRORS_MAX {
            return true;
        }
        let ended = self.window.at_end.is_some();
        match self.plan.pace {
            Pace::Once | Pace::Closed => ended,
            // Requests that were due inside the window count, however late they complete.
            Pace::Open(rate) => {
                ended && self.due(rate) >= self.window.until && self.free.len() == self.slots.len()
            }
        }
    }

    /// When the next request is due.
    fn due(&self, rate: f64) -> Instant {
        self.window.start + Duration::from_secs_f64(self.begun as f64 / rate)
    }

    fn begin_due(&mut self, now: Instant) -> Result<()> {
        if self.not_before.is_some_and(|until| now < until) {
            return Ok(());
        }
        while let Some(&slot) = self.free.front() {
            let busy = self.slots.len() - self.free.len();
            let since = match self.plan.pace {
                Pace::Closed if self.window.at_end.is_none() => now,
                Pace::Once if self.begun < self.slots.len() as u64 && busy < OPENING_MAX => now,
                Pace::Open(rate) => self.due(rate),
                Pace::Closed | Pace::Once => return Ok(()),
            };
            if since > now || (self.is_open_loop() && since >= self.window.until) {
                return Ok(());
            }
            self.free.pop_front();
            self.begin(slot, since)?;
        }
        Ok(())
    }

    fn is_open_loop(&self) -> bool {
        matches!(self.plan.pace, Pace::Open(_))
    }

    fn next_wake(&self, now: Instant) -> Instant {
        let end = if now < self.window.from {
            self.window.from
        } else if self.window.at_end.is_none() && self.plan.pace != Pace::Once {
            self.window.until
        } else {
            now + LOOK_OVER
        };
        let due = match self.plan.pace {
            Pace::Open(rate) if !self.free.is_empty() => self.due(rate),
            Pace::Open(_) | Pace::Closed | Pace::Once => return end,
        };
        let due = self.not_before.map_or(due, |until| until.max(due));
        if due < self.window.until {
            end.min(due)
        } else {
            end
        }
    }

    fn begin(&mut self, place: usize, since: Instant) -> Result<()> {
        self.begun += 1;
        let slot = &mut self.slots[place];
        slot.since = Some(since);
        let result = match &mut slot.connection {
            Some(connection) => connection.ask(),
            None => {
                let request = Request {
                    response: self.plan.response,
                    length: self.plan.request,
                    // A prime apart, so that neighbours share no run of bytes.
                    phase: u32::try_from(self.begun % 65_521).expect("a small remainder") * 4_099,
                };
                self.opener.open(place, request).and_then(|connection| {
                    slot.connection
                        .insert(connection)
                        .advance(EventFlags::empty(), &mut self.scratch)
                })
            }
        };
        self.settle(place, result)
    }

    fn advance(&mut self, place: usize, flags: EventFlags) -> Result<()> {
        let Some(connection) = &mut self.slots[place].connection else {
            // An event of a connection that an earlier event of the same batch has closed.
            return Ok(());
        };
        let was_busy = connection.is_busy();
        let result = connection.advance(flags, &mut self.scratch);
        if was_busy {
            return self.settle(place, result);
        }
        // A connection at rest that is closed or speaks is an error, but its slot is free already.
        if let Err(fault) = result {
            self.errors.count(fault);
            self.slots[place].connection = None;
        }
        Ok(())
    }

    /// Acts on what became of the request of a slot.
    fn settle(&mut self, place: usize, result: Result<Progress, Fault>) -> Result<()> {
        match result {
            Ok(Progress::Waits(interest)) => return self.watch(place, interest),
            Ok(Progress::Complete) => self.complete(place),
            Err(fault) => {
                self.fail(place, fault);
                return Ok(());
            }
        }
        self.opener.completed(place);
        if self.plan.reuse == Reuse::Close
            && let Some(connection) = self.slots[place].connection.take()
        {
            connection.close();
        }
        if self.plan.pace == Pace::Closed && self.window.at_end.is_none() {
            return self.begin(place, Instant::now());
        }
        self.free.push_back(place);
        Ok(())
    }

    fn watch(&mut self, place: usize, interest: EventFlags) -> Result<()> {
        let slot = &mut self.slots[place];
        let connection = slot.connection.as_mut().expect("it has just waited");
        let data = EventData::new_u64(place as u64);
        if connection.interest.is_empty() {
            epoll::add(&self.epoll, &connection.wire.socket, data, interest)?;
        } else if connection.interest != interest {
            epoll::modify(&self.epoll, &connection.wire.socket, data, interest)?;
        }
        connection.interest = interest;
        Ok(())
    }

    fn complete(&mut self, place: usize) {
        self.ended += 1;
        let Some(since) = self.slots[place].since.take() else {
            return;
        };
        let now = Instant::now();
        let inside = |time: Instant| time >= self.window.from && time < self.window.until;
        let counted = self.window.at_start.is_some() && self.window.at_end.is_none();
        self.completed += u64::from(counted);
        if (self.is_open_loop() && inside(since)) || (!self.is_open_loop() && counted) {
            let nanoseconds = u64::try_from((now - since).as_nanos()).unwrap_or(u64::MAX);
            self.latencies.saturating_record(nanoseconds.max(1));
        }
    }

    fn fail(&mut self, place: usize, fault: Fault) {
        self.errors.count(fault);
        self.opener.failed(place);
        self.ended += 1;
        self.slots[place] = Slot::default();
        self.free.push_back(place);
        // A closed loop would ask a dead balancer as fast as it can; one with a rate keeps its rate.
        if !self.is_open_loop() {
            self.not_before = Some(Instant::now() + LOOK_OVER);
        }
    }

    fn time_out(&mut self, now: Instant) {
        let late = |slot: &Slot| {
            slot.since
                .is_some_and(|since| now.saturating_duration_since(since) > self.plan.timeout)
        };
        let places: Vec<usize> = (0..self.slots.len())
            .filter(|place| late(&self.slots[*place]))
            .collect();
        for place in places {
            self.fail(place, Fault::Timeout);
        }
    }

    fn outcome(&mut self) -> Result<Outcome> {
        // A run that was given up has a window without an end, or none at all.
        let end = self
            .window
            .at_end
            .map_or_else(|| Clocks::read(&self.plan), Ok)?;
        let start = self.window.at_start.unwrap_or(end);
        let machine_ns = end.machine_ns - start.machine_ns;
        let ours_ns = end.watched_ns - start.watched_ns + end.load_ns - start.load_ns;
        // The machine counts in ticks of 10 ms, so the rest may come out a little below nothing.
        let foreign_ns = machine_ns.saturating_sub(ours_ns);
        Ok(Outcome {
            wall_s: (end.time - start.time).as_secs_f64(),
            completed: self.completed,
            cpu_s: (end.watched_ns - start.watched_ns) as f64 / 1e9,
            load_cpu_s: (end.load_ns - start.load_ns) as f64 / 1e9,
            foreign_cpu_s: foreign_ns as f64 / 1e9,
            errors: self.errors,
            latency: Latency::of(&self.latencies),
        })
    }
}

impl Engine {
    /// Looks at all connections once more, at rest: counts those that are no longer open.
    pub fn inspect(&mut self) -> Result<Errors> {
        let before = self.errors;
        self.errors = Errors::default();
        for place in 0..self.slots.len() {
            self.advance(place, EventFlags::IN)?;
        }
        let found = self.errors;
        self.errors = before.plus(found);
        Ok(found)
    }
}
