//! One end of a session that follows a script, through TLS or without, and checks every byte it gets.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ringlane::base::clock::{Instant, now};
use ringlane::base::random::Random;
use ringlane::tls::{ClientConfig, ServerConfig};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustls::{ClientConnection, Connection, ProtocolVersion, ServerConnection};
use socket2::Socket;

use crate::schedule::{Close, How, Reading, Script, Start, index};
use crate::settings::name;
use crate::stage::PATIENCE;

/// All bytes are taken from here: a length that shares no factor with any buffer's.
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random::new(99);
    let words = std::iter::repeat_with(|| random.next_u64().to_le_bytes());
    words.take(131_073).flatten().skip(1).collect()
});

fn bytes_at(stream: usize, position: usize) -> &'static [u8] {
    let bytes = &**BYTES;
    &bytes[(stream + position) % bytes.len()..]
}

/// How an end came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both halves ended; through TLS, each with a close_notify.
    Eof,
    /// The other half ended without a close_notify.
    Truncated,
    /// The connection broke.
    Reset(Errno),
    /// It broke the connection itself.
    OwnReset,
    /// Time ran out, TLS failed, or it saw a wrong byte.
    Failed,
}

/// What one end has done and seen.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Bytes of plaintext that the kernel or TLS took.
    pub(crate) sent: usize,
    pub(crate) received: usize,
    /// Whether it has ended its half.
    pub(crate) finished: bool,
    pub(crate) end: End,
    /// When.
    pub(crate) ended: Instant,
    pub(crate) fault: Option<String>,
}

/// What an end does besides its script.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Habits {
    /// Ciphertext leaves byte by byte.
    pub(crate) dribbles: bool,
    /// One write in so many is followed by new keys; 0: none.
    pub(crate) new_keys_every: u64,
    /// How it ends its half through TLS.
    pub(crate) goodbye: Goodbye,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Goodbye {
    /// With a close_notify and a FIN.
    #[default]
    Whole,
    /// With a close_notify alone.
    NoFin,
    /// With a FIN alone, which cuts the stream off.
    FinOnly,
}

impl Habits {
    pub(crate) fn truncates(self) -> bool {
        self.goodbye == Goodbye::FinOnly
    }
}

/// How an end speaks TLS.
pub(crate) enum Speaks {
    Plain,
    As(Arc<ClientConfig>),
    For(Arc<ServerConfig>),
}

pub(crate) struct Peer<'a> {
    socket: Socket,
    tls: Option<Connection>,
    script: &'a Script,
    habits: Habits,
    /// Where the other side's bytes begin.
    other_stream: usize,
    random: Random,
    buffer: Vec<u8>,
    write_at: Instant,
    read_at: Instant,
    /// The end is announced, but not all is sent.
    ending: bool,
    eof: bool,
    outcome: Outcome,
}

impl<'a> Peer<'a> {
    pub(crate) fn new(
        socket: TcpStream,
        speaks: Speaks,
        script: &'a Script,
        habits: Habits,
        other_stream: usize,
    ) -> Self {
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
        let tls = match speaks {
            Speaks::Plain => None,
            Speaks::As(config) => Some(ClientConnection::new(config, name()).unwrap().into()),
            Speaks::For(config) => Some(ServerConnection::new(config).unwrap().into()),
        };
        Self {
            socket: socket.into(),
            tls,
            script,
            habits,
            other_stream,
            random: Random::new(script.seed),
            buffer: vec![0; read_max],
            write_at: match script.start {
                Start::After(delay) => begun + delay,
                Start::Answering => begun,
            },
            read_at: begun + late,
            ending: false,
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
        let text = format!("{what}: {:?} {:?}", self.outcome, self.habits);
        self.outcome.fault.get_or_insert(text);
    }

    fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    fn owes(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    fn turn(&mut self) -> Result<Option<End>, Errno> {
        self.finish_if_due();
        if self.breaks_now()? {
            return Ok(Some(End::OwnReset));
        }
        if self.eof && self.outcome.finished {
            return Ok(Some(End::Eof));
        }
        if self.eof && self.never_breaks() {
            // What its reset waited for cannot come any more.
            self.socket.set_linger(Some(Duration::ZERO)).unwrap();
            return Ok(Some(End::OwnReset));
        }
        let events = self.wait()?;
        if events.intersects(PollFlags::ERR | PollFlags::HUP) {
            self.read_at = now();
            if self.eof && events.contains(PollFlags::ERR) {
                let error = self.socket.take_error().ok().flatten();
                let errno = error.and_then(|error| Errno::from_io_error(&error));
                return Err(errno.unwrap_or(Errno::CONNRESET));
            }
        }
        if self.owes() {
            self.flush()?;
        }
        if self.may_write() {
            self.write()?;
        }
        if self.wants_to_read() && (now() >= self.read_at || self.is_handshaking()) {
            return self.read();
        }
        Ok(self.outcome.fault.is_some().then_some(End::Failed))
    }

    fn finish_if_due(&mut self) {
        let all_sent = self.outcome.sent == self.script.sends && !self.is_handshaking();
        let due = match self.script.close {
            Close::Finish => all_sent,
            Close::FinishLast => all_sent && self.eof,
            Close::Reset { finish, .. } => finish && all_sent,
        };
        if due && !self.ending {
            self.ending = true;
            if let Some(tls) = &mut self.tls
                && !self.habits.truncates()
            {
                tls.send_close_notify();
            }
        }
        if self.ending && !self.owes() && !self.outcome.finished {
            self.outcome.finished = true;
            if self.tls.is_none() || self.habits.goodbye != Goodbye::NoFin {
                // A connection that has just broken says so at the next call.
                let _ = self.socket.shutdown(Shutdown::Write);
            }
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
            && self.outcome.finished == finish
            && !self.is_handshaking()
            && !self.owes();
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
                // TLS has read them all along with what came before.
                Err(Errno::AGAIN) if self.tls.is_some() => {
                    self.socket.set_linger(Some(Duration::ZERO)).unwrap();
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
            && !self.is_handshaking()
            && !self.owes()
    }

    fn wants_to_read(&self) -> bool {
        let stops = match self.script.close {
            Close::Reset { received, how, .. } => {
                how == How::Unread && self.outcome.received >= received
            }
            Close::Finish | Close::FinishLast => false,
        };
        self.is_handshaking() || !self.eof && !stops
    }

    /// Waits until there is something to do; not for long, as pauses are short.
    fn wait(&self) -> Result<PollFlags, Errno> {
        let mut wanted = PollFlags::empty();
        if self.may_write() || self.owes() {
            wanted |= PollFlags::OUT;
        }
        let unread = matches!(
            self.script.close,
            Close::Reset {
                how: How::Unread,
                ..
            }
        );
        let reads = now() >= self.read_at || self.is_handshaking();
        if !self.eof && reads && (self.wants_to_read() || unread) {
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

    fn flush(&mut self) -> Result<(), Errno> {
        let Some(tls) = &mut self.tls else {
            return Ok(());
        };
        let mut sink = Sink {
            socket: &self.socket,
            write_max: if self.habits.dribbles { 1 } else { usize::MAX },
        };
        match tls.write_tls(&mut sink) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(Errno::from_io_error(&error).unwrap()),
        }
    }

    fn write(&mut self) -> Result<(), Errno> {
        let rest = bytes_at(self.script.stream, self.outcome.sent);
        let size = index(&mut self.random, self.script.write_max) + 1;
        let size = size
            .min(rest.len())
            .min(self.sends_until() - self.outcome.sent);
        match &mut self.tls {
            Some(tls) => {
                // As much as it buffers; less than that is taken whole.
                self.outcome.sent += tls.writer().write(&rest[..size]).unwrap();
                let every = self.habits.new_keys_every;
                if every > 0
                    && self.random.below(every) == 0
                    && tls.protocol_version() == Some(ProtocolVersion::TLSv1_3)
                {
                    tls.refresh_traffic_keys().unwrap();
                }
                self.flush()?;
            }
            None => match rustix::net::send(&self.socket, &rest[..size], SendFlags::NOSIGNAL) {
                Ok(sent) => self.outcome.sent += sent,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(cause) => return Err(cause),
            },
        }
        let pause_every = self.script.pause_every;
        if pause_every > 0 && self.random.below(pause_every) == 0 {
            let pause = self.random.below(3_000) * u64::from(self.outcome.sent < 1 << 18);
            self.write_at = now() + Duration::from_micros(pause);
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Option<End>, Errno> {
        let limit = match self.script.close {
            // So that the reset comes where the script says.
            Close::Reset { received, .. }
                if self.tls.is_none() && self.outcome.received < received =>
            {
                received - self.outcome.received
            }
            _ => self.buffer.len(),
        };
        let room = limit.min(self.buffer.len());
        let got =
            match rustix::net::recv(&self.socket, &mut self.buffer[..room], RecvFlags::empty()) {
                Ok((got, _)) => got,
                Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
                Err(cause) => return Err(cause),
            };
        if matches!(self.script.reading, Reading::Slowly { .. }) {
            self.read_at = now() + Duration::from_millis(1);
        }
        let Some(mut tls) = self.tls.take() else {
            self.eof = got == 0;
            let bytes = self.buffer[..got].to_vec();
            self.check(&bytes);
            return Ok(None);
        };
        let outcome = self.take_in(&mut tls, got);
        self.tls = Some(tls);
        Ok(outcome)
    }

    fn take_in(&mut self, tls: &mut Connection, got: usize) -> Option<End> {
        if got == 0 {
            return Some(End::Truncated);
        }
        let bytes = self.buffer[..got].to_vec();
        let mut rest = &bytes[..];
        let mut plain = Vec::new();
        while !rest.is_empty() {
            if tls.read_tls(&mut rest).unwrap() == 0 {
                break;
            }
            match tls.process_new_packets() {
                Ok(state) => self.eof |= state.peer_has_closed(),
                Err(error) => {
                    self.fault(&format!("TLS: {error}"));
                    return Some(End::Failed);
                }
            }
            let _ = tls.reader().read_to_end(&mut plain);
        }
        self.check(&plain);
        None
    }

    fn check(&mut self, bytes: &[u8]) {
        let mut checked = 0;
        while checked < bytes.len() {
            let expected = bytes_at(self.other_stream, self.outcome.received + checked);
            let size = expected.len().min(bytes.len() - checked);
            if bytes[checked..checked + size] != expected[..size] {
                self.fault("wrong bytes");
                return;
            }
            checked += size;
        }
        self.outcome.received += bytes.len();
    }
}

/// A socket that takes at most so many bytes at once.
struct Sink<'a> {
    socket: &'a Socket,
    write_max: usize,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let size = bytes.len().min(self.write_max);
        Ok(rustix::net::send(
            self.socket,
            &bytes[..size],
            SendFlags::NOSIGNAL,
        )?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
