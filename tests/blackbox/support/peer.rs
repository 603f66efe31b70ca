//! One end of a session that follows a script and checks every byte it gets.

use std::fmt::Write as _;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::LazyLock;
use std::time::Duration;

use ringlane::base::clock::{Instant, now};
use ringlane::base::random::Random;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket2::Socket;

use super::schedule::{Close, How, Reading, Script, Start, index};

/// How long one end may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// All bytes are taken from here: a length that shares no factor with any buffer's.
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random::new(99);
    let words = std::iter::repeat_with(|| random.next_u64().to_le_bytes());
    words.take(131_073).flatten().skip(1).collect()
});

/// The bytes of a stream from `position` on, as many as lie in one piece.
pub(crate) fn bytes_at(stream: usize, position: usize) -> &'static [u8] {
    let bytes = &**BYTES;
    &bytes[(stream + position) % bytes.len()..]
}

/// How an end came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both halves ended.
    Eof,
    /// The connection broke.
    Reset(Errno),
    /// It broke the connection itself.
    OwnReset,
    /// Time ran out, or it saw a wrong byte.
    Failed,
}

/// What one end has done and seen.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Bytes that the kernel took.
    pub(crate) sent: usize,
    pub(crate) received: usize,
    /// Whether it has ended its half.
    pub(crate) finished: bool,
    pub(crate) end: End,
    /// When.
    pub(crate) ended: Instant,
    pub(crate) fault: Option<String>,
}

/// A socket, what it shall do, and how far it is.
pub(crate) struct Peer<'a> {
    socket: Socket,
    script: &'a Script,
    /// Where the other side's bytes begin.
    other_stream: usize,
    random: Random,
    buffer: Vec<u8>,
    write_at: Instant,
    read_at: Instant,
    writes_whole: bool,
    eof: bool,
    outcome: Outcome,
}

impl<'a> Peer<'a> {
    pub(crate) fn new(socket: Socket, script: &'a Script, other_stream: usize) -> Self {
        let begun = now();
        let late = match script.reading {
            Reading::Late(late) => late,
            Reading::AtOnce | Reading::Slowly { .. } => Duration::ZERO,
        };
        let read_max = match script.reading {
            Reading::Slowly { read_max, .. } => read_max,
            Reading::AtOnce | Reading::Late(_) => 128 * 1024,
        };
        socket.set_nonblocking(true).unwrap();
        Self {
            socket,
            script,
            other_stream,
            random: Random::new(script.seed),
            buffer: vec![0; read_max],
            write_at: match script.start {
                Start::After(delay) => begun + delay,
                Start::Answering => begun,
            },
            read_at: begun + late,
            writes_whole: true,
            eof: false,
            outcome: Outcome {
                sent: 0,
                received: 0,
                finished: false,
                end: End::Failed,
                ended: begun,
                fault: None,
            },
        }
    }

    /// Follows the script to its end.
    pub(crate) fn play(mut self) -> Outcome {
        let begun = now();
        let mut end = loop {
            match self.turn() {
                Ok(Some(end)) => break end,
                Ok(None) if now() - begun > PATIENCE => {
                    self.fault("stuck");
                    break End::Failed;
                }
                Ok(None) => {}
                Err(cause) => break End::Reset(cause),
            }
        };
        if self.outcome.fault.is_some() {
            end = End::Failed;
        }
        self.outcome.end = end;
        self.outcome.ended = now();
        self.outcome
    }

    fn fault(&mut self, what: &str) {
        let mut text = String::new();
        let _ = write!(text, "{what}: {:?} of {:?}", self.outcome, self.script);
        self.outcome.fault.get_or_insert(text);
    }

    fn turn(&mut self) -> Result<Option<End>, Errno> {
        self.finish_if_due();
        if self.breaks_now()? {
            return Ok(Some(End::OwnReset));
        }
        if self.eof && (self.outcome.finished || self.never_breaks()) {
            return Ok(Some(End::Eof));
        }
        let events = self.wait()?;
        if events.intersects(PollFlags::ERR | PollFlags::HUP) {
            // Whatever the script says: see what there is to see.
            self.read_at = now();
            if self.eof && events.contains(PollFlags::ERR) {
                let error = self.socket.take_error().ok().flatten();
                let errno = error.and_then(|error| Errno::from_io_error(&error));
                return Err(errno.unwrap_or(Errno::CONNRESET));
            }
        }
        if self.may_write() {
            self.write()?;
        }
        if self.wants_to_read() && now() >= self.read_at {
            self.read()?;
        }
        Ok(self.outcome.fault.is_some().then_some(End::Failed))
    }

    fn finish_if_due(&mut self) {
        let all_sent = self.outcome.sent == self.script.sends;
        let due = match self.script.close {
            Close::Finish => all_sent,
            Close::FinishLast => all_sent && self.eof,
            Close::Reset { finish, .. } => finish && all_sent,
        };
        if due && !self.outcome.finished {
            self.outcome.finished = true;
            // A connection that has just broken says so at the next call.
            let _ = self.socket.shutdown(Shutdown::Write);
        }
    }

    /// Breaks the connection if the script says that it is time.
    fn breaks_now(&mut self) -> Result<bool, Errno> {
        let Close::Reset {
            sent,
            received,
            finish,
            how,
        } = self.script.close
        else {
            return Ok(false);
        };
        let due = self.outcome.sent >= sent
            && self.outcome.received >= received
            && self.outcome.finished == finish;
        if !due {
            return Ok(false);
        }
        if how == How::Unread {
            // With nothing to leave unread a close would not be a reset.
            match rustix::net::recv(&self.socket, &mut [0_u8; 1], RecvFlags::PEEK) {
                Ok((0, _)) => {
                    self.eof = true;
                    return Ok(false);
                }
                Err(Errno::AGAIN) => return Ok(false),
                Ok(_) => {}
                Err(cause) => return Err(cause),
            }
        } else {
            self.socket.set_linger(Some(Duration::ZERO)).unwrap();
        }
        Ok(true)
    }

    /// Whether what its reset waits for cannot come any more, as the other side has ended.
    fn never_breaks(&self) -> bool {
        matches!(self.script.close, Close::Reset { received, how, .. }
            if how == How::Unread || self.outcome.received < received)
    }

    fn sends_until(&self) -> usize {
        match self.script.close {
            Close::Reset { sent, .. } => sent,
            Close::Finish | Close::FinishLast => self.script.sends,
        }
    }

    fn may_write(&self) -> bool {
        let answering = self.script.start == Start::Answering;
        self.outcome.sent < self.sends_until()
            && !(answering && self.outcome.received == 0)
            && now() >= self.write_at
    }

    fn wants_to_read(&self) -> bool {
        let stops = match self.script.close {
            Close::Reset { received, how, .. } => {
                how == How::Unread && self.outcome.received >= received
            }
            Close::Finish | Close::FinishLast => false,
        };
        !self.eof && !stops
    }

    /// Waits until there is something to do; at most for 5 ms, as pauses are short.
    fn wait(&self) -> Result<PollFlags, Errno> {
        let mut wanted = PollFlags::empty();
        if self.may_write() {
            wanted |= PollFlags::OUT;
        }
        let stopped = matches!(
            self.script.close,
            Close::Reset {
                how: How::Unread,
                ..
            }
        );
        if !self.eof && now() >= self.read_at && (self.wants_to_read() || stopped) {
            wanted |= PollFlags::IN;
        }
        let pacing = now() < self.read_at || now() < self.write_at;
        let millis = if pacing { 1 } else { 100 };
        let limit = Timespec::try_from(Duration::from_millis(millis)).unwrap();
        let mut polled = [PollFd::from_borrowed_fd(self.socket.as_fd(), wanted)];
        match poll(&mut polled, Some(&limit)) {
            Ok(_) | Err(Errno::INTR) => Ok(polled[0].revents()),
            Err(cause) => Err(cause),
        }
    }

    fn write(&mut self) -> Result<(), Errno> {
        let rest = bytes_at(self.script.stream, self.outcome.sent);
        let size = index(&mut self.random, self.script.write_max) + 1;
        let size = size
            .min(rest.len())
            .min(self.sends_until() - self.outcome.sent);
        match rustix::net::send(&self.socket, &rest[..size], SendFlags::NOSIGNAL) {
            Ok(sent) => {
                self.outcome.sent += sent;
                self.writes_whole = sent == size;
            }
            Err(Errno::AGAIN | Errno::INTR) => self.writes_whole = false,
            Err(cause) => return Err(cause),
        }
        let pause_every = self.script.pause_every;
        if pause_every > 0 && self.writes_whole && self.random.below(pause_every) == 0 {
            let pause = self.random.below(3_000) * u64::from(self.outcome.sent < 1 << 18);
            self.write_at = now() + Duration::from_micros(pause);
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), Errno> {
        let limit = match self.script.close {
            // So that the reset comes where the script says.
            Close::Reset { received, .. } if self.outcome.received < received => {
                received - self.outcome.received
            }
            _ => self.buffer.len(),
        };
        let room = limit.min(self.buffer.len());
        let got =
            match rustix::net::recv(&self.socket, &mut self.buffer[..room], RecvFlags::empty()) {
                Ok((got, _)) => got,
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(cause) => return Err(cause),
            };
        self.eof = got == 0;
        if let Some(wrong) = self.first_wrong(got) {
            self.fault(&format!("wrong byte at {wrong}"));
        }
        self.outcome.received += got;
        if matches!(self.script.reading, Reading::Slowly { .. }) {
            self.read_at = now() + Duration::from_millis(1);
        }
        Ok(())
    }

    fn first_wrong(&self, got: usize) -> Option<usize> {
        let mut checked = 0;
        while checked < got {
            let position = self.outcome.received + checked;
            let expected = bytes_at(self.other_stream, position);
            let size = expected.len().min(got - checked);
            let (seen, expected) = (&self.buffer[checked..checked + size], &expected[..size]);
            if seen != expected {
                let offset = seen.iter().zip(expected).position(|(a, b)| a != b);
                return offset.map(|offset| position + offset);
            }
            checked += size;
        }
        None
    }
}

/// Limits what the kernel buffers for a slow reader; before connecting, so that the window fits.
pub(crate) fn limit_buffer(socket: &Socket, script: &Script) -> io::Result<()> {
    match script.reading {
        Reading::Slowly { buffer, .. } => socket.set_recv_buffer_size(buffer),
        Reading::AtOnce | Reading::Late(_) => Ok(()),
    }
}
