//! Clients that nobody wants: a flood beyond every limit, and slow ones that never finish their first word.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use crate::poll;

/// Slow clients of one address, so that none is over a limit of its source.
pub(crate) const SLOW_PER_SOURCE: usize = 100;

/// Slow clients at a time: 10,000, or fewer where a balancer has not two descriptors for each and some to spare.
pub(crate) fn slow_clients() -> usize {
    const MANY: usize = 10_000;
    const SPARE: usize = 1_000;
    let limit = getrlimit(Resource::Nofile).maximum;
    let limit = limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    MANY.min(limit / 2 - SPARE.min(limit / 2))
}

/// Connections of the flood that are open at a time; the oldest makes room for the next.
pub(crate) const FLOOD_OPEN: usize = 1_024;

/// Slow clients that are opened in a millisecond: they are many, not sudden.
const OPENING: usize = 4;

/// After this a slow client that was turned away comes back.
const AWAY: Duration = Duration::from_secs(1);

/// What a slow client says of its ClientHello: the content type and half of the version.
const FIRST_BYTES: [u8; 2] = [22, 3];

/// The token of the input, whose end is the end of the siege.
const INPUT: u64 = u64::MAX;

/// What a siege process does. Handed to it as JSON on its command line.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Plan {
    /// Where to connect to, on loopback.
    pub(crate) target: SocketAddr,
    /// Slow clients at a time; one that is turned away comes back.
    pub(crate) slow: usize,
    /// New connections of the flood a second: every other one from the same address, the others from
    /// addresses of their own.
    pub(crate) flood: f64,
}

/// What became of them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Outcome {
    /// Slow clients that were turned away.
    pub(crate) slow_ended: u64,
    /// Connections of the flood.
    pub(crate) flood_begun: u64,
    /// Those of them that were turned away.
    pub(crate) flood_ended: u64,
}

struct Siege {
    plan: Plan,
    epoll: OwnedFd,
    /// Slow clients first, then the flood's; the place is the token.
    open: Vec<Option<OwnedFd>>,
    /// The places of slow clients that will come back, and when.
    away: VecDeque<(Instant, usize)>,
    outcome: Outcome,
}

/// Besieges the target until the input ends; `ready` is called once all slow clients are there.
pub(crate) fn run(plan: Plan, ready: impl FnOnce() -> Result<()>) -> Result<Outcome> {
    ensure!(plan.target.is_ipv4(), "the target is on IPv4's loopback");
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let stdin = std::io::stdin();
    epoll::add(
        &epoll,
        stdin.as_fd(),
        EventData::new_u64(INPUT),
        EventFlags::IN,
    )?;
    let places = plan.slow + FLOOD_OPEN;
    let mut siege = Siege {
        plan,
        epoll,
        open: std::iter::repeat_with(|| None).take(places).collect(),
        away: VecDeque::new(),
        outcome: Outcome::default(),
    };
    let mut ended = siege.surround()?;
    ready()?;
    let begun = Instant::now();
    while !ended {
        let due = begun.elapsed().as_secs_f64() * plan.flood;
        while (siege.outcome.flood_begun as f64) < due {
            siege.flood()?;
        }
        siege.come_back()?;
        ended = siege.wait(Duration::from_millis(1))?;
    }
    Ok(siege.outcome)
}

impl Siege {
    /// Opens all slow clients, a few at a time; whether the input has ended meanwhile.
    fn surround(&mut self) -> Result<bool> {
        for place in 0..self.plan.slow {
            self.creep(place)?;
            if place % OPENING == 0 && self.wait(Duration::from_millis(1))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One more slow client, at a place that is free.
    fn creep(&mut self, place: usize) -> Result<()> {
        let source = u32::try_from(place / SLOW_PER_SOURCE)?;
        self.open_at(place, numbered(1, source), EventFlags::OUT)
    }

    /// Slow clients whose time it is, again.
    fn come_back(&mut self) -> Result<()> {
        while let Some((at, place)) = self.away.front().copied()
            && at <= Instant::now()
        {
            self.away.pop_front();
            self.creep(place)?;
        }
        Ok(())
    }

    /// One more connection of the flood.
    fn flood(&mut self) -> Result<()> {
        let number = self.outcome.flood_begun;
        self.outcome.flood_begun += 1;
        let source = if number.is_multiple_of(2) {
            numbered(2, 0)
        } else {
            numbered(3, u32::try_from(number % (1 << 16))?)
        };
        let place = self.plan.slow + usize::try_from(number)? % FLOOD_OPEN;
        self.open_at(place, source, EventFlags::empty())
    }

    fn open_at(&mut self, place: usize, source: Ipv4Addr, interest: EventFlags) -> Result<()> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        bind(&socket, &SocketAddr::from((source, 0))).context("an address of loopback")?;
        match connect(&socket, &self.plan.target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error).context("a connection of the siege"),
        }
        let token = EventData::new_u64(place as u64);
        epoll::add(&self.epoll, &socket, token, EventFlags::RDHUP | interest)?;
        self.open[place] = Some(socket);
        Ok(())
    }

    /// Waits for events and deals with them; whether the input has ended.
    fn wait(&mut self, timeout: Duration) -> Result<bool> {
        let mut events = poll::events();
        let events: Vec<_> = poll::wait(&self.epoll, &mut events, timeout)?.collect();
        let gone = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        for (token, flags) in events {
            if token == INPUT {
                let mut one = [0];
                if std::io::stdin().read(&mut one)? == 0 {
                    return Ok(true);
                }
                continue;
            }
            let place = usize::try_from(token)?;
            let is_slow = place < self.plan.slow;
            if flags.intersects(gone) {
                self.open[place] = None;
                if is_slow {
                    self.outcome.slow_ended += 1;
                    self.away.push_back((Instant::now() + AWAY, place));
                } else {
                    self.outcome.flood_ended += 1;
                }
            } else if let (true, Some(socket)) = (is_slow, &self.open[place]) {
                // It is connected: it says its two bytes and then nothing any more.
                let data = EventData::new_u64(token);
                epoll::modify(&self.epoll, socket, data, EventFlags::RDHUP)?;
                // Whether it was reset just now is told by the next event.
                let _ = rustix::io::write(socket, &FIRST_BYTES);
            }
        }
        Ok(false)
    }
}

/// `127.FAMILY.…`, never the network's first or last address.
fn numbered(family: u8, number: u32) -> Ipv4Addr {
    let [_, _, high, low] = number.to_be_bytes();
    Ipv4Addr::new(127, family, high, low)
}

/// The hidden command `siege`: says when it has begun, and what came of it once its input is closed.
pub(crate) fn run_siege(plan: &str) -> Result<()> {
    let plan = serde_json::from_str(plan).context("siege's plan")?;
    // It shares its core with those who are served, whose waits for that core are not the balancer's.
    rustix::process::nice(19)?;
    let outcome = run(plan, || Ok(writeln!(std::io::stdout(), "{READY}")?))?;
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&outcome)?)?;
    Ok(())
}

/// Written by a siege process once all slow clients are there.
pub(crate) const READY: &str = "ready";
