//! What the two ends of one session do, drawn from a seed, and what must then have been seen.

use std::time::Duration;

use ringlane::base::random::Random;
use serde_json::Value;

use super::peer::{End, Outcome};

/// Both ends of one session.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    pub(crate) client: Script,
    pub(crate) backend: Script,
}

/// What one end does.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// Where its bytes begin in the stream that all bytes are taken from.
    pub(crate) stream: usize,
    /// Bytes to send; a reset may come before.
    pub(crate) sends: usize,
    /// Before the first byte is sent.
    pub(crate) start: Start,
    /// The largest single write.
    pub(crate) write_max: usize,
    /// One write in so many is followed by a pause of up to 3 ms; 0: none.
    pub(crate) pause_every: u64,
    /// How it reads.
    pub(crate) reading: Reading,
    /// How it ends.
    pub(crate) close: Close,
    pub(crate) seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    After(Duration),
    /// Once a byte of the other side has come.
    Answering,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    AtOnce,
    /// Not before this time.
    Late(Duration),
    /// Into a small receive buffer, a few bytes each millisecond.
    Slowly {
        buffer: usize,
        read_max: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// Ends its half when all is sent.
    Finish,
    /// Ends its half when all is sent and the other side has ended its own.
    FinishLast,
    /// Breaks the connection once so many bytes are sent and received; with `finish`, after it has
    /// ended its half.
    Reset {
        sent: usize,
        received: usize,
        finish: bool,
        how: How,
    },
}

/// How a connection is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Closed with SO_LINGER 0.
    Linger,
    /// Closed with bytes that it has received and not read.
    Unread,
}

/// What kind of sockets are around ringlane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Tcp,
    UnixClients,
    UnixBackends,
}

impl Schedule {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let random = &mut random;
        let mut client = Script::draw(random);
        let mut backend = Script::draw(random);
        // Nobody waits for an answer that may never come.
        match random.below(4) {
            0 if client.sends > 0 => backend.start = Start::Answering,
            1 if backend.sends > 0 => client.start = Start::Answering,
            _ => {}
        }
        match random.below(10) {
            0..3 => {}
            3..5 => client.close = Close::FinishLast,
            5..7 => backend.close = Close::FinishLast,
            7 => client.close = Close::draw_reset(random, client.sends, backend.sends),
            8 => backend.close = Close::draw_reset(random, backend.sends, client.sends),
            _ => {
                client.close = Close::draw_reset(random, client.sends, backend.sends);
                // The other side is then mostly a silent or a late one.
                backend.close = match random.below(3) {
                    0 => client.close.draw_answer(random, backend.sends),
                    1 => Close::FinishLast,
                    _ => Close::Finish,
                };
            }
        }
        let schedule_resets = client.close.is_reset() || backend.close.is_reset();
        let answers = [&client, &backend]
            .iter()
            .any(|one| one.start == Start::Answering);
        // A side that is broken before it sends gets no answer, one that stops reading gives none.
        if schedule_resets && answers {
            client.start = Start::After(Duration::ZERO);
            backend.start = Start::After(Duration::ZERO);
        }
        Self {
            seed,
            client,
            backend,
        }
    }

    fn has_reset(&self) -> bool {
        self.client.close.is_reset() || self.backend.close.is_reset()
    }
}

impl Script {
    fn draw(random: &mut Random) -> Self {
        let reading = match random.below(8) {
            0 => Reading::Late(Duration::from_millis(random.below(80))),
            1 => Reading::Slowly {
                buffer: (16 * 1024) << random.below(4),
                read_max: index(random, 64 * 1024) + 4096,
            },
            _ => Reading::AtOnce,
        };
        let sends = draw_size(random);
        // A megabyte byte by byte would only take time.
        let largest = (1 << (6 + random.below(15))).max(sends / 500);
        Self {
            stream: index(random, 1 << 20),
            sends,
            start: Start::After(Duration::from_micros(random.below(2) * random.below(5_000))),
            write_max: index(random, largest) + sends / 2_000 + 1,
            pause_every: random.below(3) * random.below(20),
            reading,
            close: Close::Finish,
            seed: random.next_u64(),
        }
    }
}

impl Close {
    fn draw_reset(random: &mut Random, sends: usize, other_sends: usize) -> Self {
        let finish = random.below(4) == 0;
        let received = index(random, other_sends + 1) * index(random, 3).min(1);
        let unread = random.below(3) == 0 && received < other_sends;
        Self::Reset {
            sent: if finish {
                sends
            } else {
                index(random, sends + 1)
            },
            received,
            finish,
            how: if unread { How::Unread } else { How::Linger },
        }
    }

    /// Another reset, which waits for no more than comes before this one.
    fn draw_answer(self, random: &mut Random, sends: usize) -> Self {
        match self {
            Self::Reset {
                received: 0, sent, ..
            } => Self::draw_reset(random, sends, sent),
            Self::Reset { .. } | Self::Finish | Self::FinishLast => Self::Finish,
        }
    }

    pub(crate) fn is_reset(self) -> bool {
        matches!(self, Self::Reset { .. })
    }
}

/// Mostly small, often close to where the relay changes its ways, sometimes large.
fn draw_size(random: &mut Random) -> usize {
    const EDGES: [usize; 6] = [1, 16 << 10, 32 << 10, 64 << 10, 256 << 10, 1 << 20];
    match random.below(20) {
        0..2 => 0,
        2..10 => index(random, 4096),
        10..14 => EDGES[index(random, EDGES.len())] + index(random, 3) - 1,
        14..19 => index(random, 256 << 10),
        _ => index(random, 8 << 20),
    }
}

pub(crate) fn index(random: &mut Random, bound: usize) -> usize {
    usize::try_from(random.below(bound as u64)).unwrap()
}

/// What is wrong with what the two ends and the session line show; empty when all is right.
pub(crate) fn judge(
    schedule: &Schedule,
    (client, backend): (&Outcome, &Outcome),
    line: &Value,
    family: Family,
) -> Vec<String> {
    let mut faults = Vec::new();
    faults.extend(client.fault.clone());
    faults.extend(backend.fault.clone());
    let reason = line["reason"].as_str().unwrap_or_default();
    let counted = |key: &str| usize::try_from(line[key].as_u64().unwrap()).unwrap();
    let ways = [
        ("up", client, backend, counted("bytes_up")),
        ("down", backend, client, counted("bytes_down")),
    ];
    for (way, from, to, counted) in ways {
        if counted < to.received || counted > from.sent {
            faults.push(format!("{way}: {counted} counted"));
        }
        let whole = from.finished && to.received == from.sent;
        // A unix socket has no reset to tell a cut stream from a whole one.
        let tells = family == Family::Tcp || !schedule.has_reset();
        if to.end == End::Eof && !whole && tells {
            faults.push(format!("{way}: a cut stream looks whole"));
        }
        if reason == "eof" && counted != from.sent && tells {
            faults.push(format!(
                "{way}: {counted} counted in a session that ended well"
            ));
        }
    }
    if schedule.has_reset() {
        if family == Family::Tcp {
            judge_reset(schedule, (client, backend), line, &mut faults);
        }
    } else {
        judge_peaceful(schedule, (client, backend), line, &mut faults);
    }
    if reason == "internal" {
        faults.push("an internal fault".to_owned());
    }
    faults
}

fn judge_peaceful(
    schedule: &Schedule,
    (client, backend): (&Outcome, &Outcome),
    line: &Value,
    faults: &mut Vec<String>,
) {
    for (name, outcome) in [("client", client), ("backend", backend)] {
        if outcome.end != End::Eof {
            faults.push(format!("{name} ended with {:?}", outcome.end));
        }
    }
    if line["reason"] != "eof" {
        faults.push("nobody reset anything".to_owned());
    }
    let first = match (schedule.client.close, schedule.backend.close) {
        (Close::FinishLast, _) => "backend",
        (_, Close::FinishLast) => "client",
        _ => return,
    };
    if line["side"] != first {
        faults.push(format!("{first} finished first"));
    }
}

fn judge_reset(
    schedule: &Schedule,
    (client, backend): (&Outcome, &Outcome),
    line: &Value,
    faults: &mut Vec<String>,
) {
    let reason = line["reason"].as_str().unwrap_or_default();
    let sides = [
        ("client_reset", &schedule.client, client, backend),
        ("backend_reset", &schedule.backend, backend, client),
    ];
    let reasons: Vec<&str> = sides
        .iter()
        .filter(|(_, script, ..)| script.close.is_reset())
        .map(|(word, ..)| *word)
        .collect();
    let finished = client.finished && backend.finished;
    let untouched = line["bytes_up"] == 0 && line["bytes_down"] == 0;
    // The reset was there before the connection could be used: another backend might have served.
    let refused = reason == "connect_refused" && backend.end == End::OwnReset && untouched;
    if !(refused || reasons.contains(&reason) || reason == "eof" && finished) {
        faults.push(format!("{reason} where {reasons:?} was due"));
    }
    for (word, _, breaker, other) in sides {
        if breaker.end != End::OwnReset || other.end == End::OwnReset {
            continue;
        }
        if !breaker.finished && !matches!(other.end, End::Reset(_)) {
            faults.push(format!("{word}: the other side saw {:?}", other.end));
        }
        let both = breaker.ended.max(other.ended) - breaker.ended;
        if both > PROMPT && matches!(other.end, End::Reset(_)) {
            faults.push(format!("{word}: the other side learnt it after {both:?}"));
        }
    }
}

/// How soon a reset must have reached the other side, on a busy machine.
const PROMPT: Duration = Duration::from_secs(3);
