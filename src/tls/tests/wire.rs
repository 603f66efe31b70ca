//! Two sessions in memory, and the ways their bytes can be cut.

use std::io;

use crate::base::random::Random;
use crate::tls::seam::{Session, SessionFault};

/// How bytes arrive.
pub(super) enum Cut {
    /// As much as there is.
    Whole,
    /// So many at a time.
    Every(usize),
    /// At random, up to so many.
    Random(Random, usize),
}

impl Cut {
    fn next(&mut self) -> usize {
        match self {
            Self::Whole => usize::MAX,
            Self::Every(bytes) => *bytes,
            Self::Random(random, max) => usize::try_from(random.below(*max as u64)).unwrap() + 1,
        }
    }
}

/// Everything that `session` has for its peer.
pub(super) fn written(session: &mut Session) -> Vec<u8> {
    let mut bytes = Vec::new();
    while session.wants_write() {
        assert!(session.write_into(&mut bytes).unwrap() > 0);
    }
    bytes
}

/// Everything that `session` has for its peer, through a socket that takes little at a time.
pub(super) fn dribbled(session: &mut Session, cut: &mut Cut) -> Vec<u8> {
    struct Little(Vec<u8>, usize);
    impl io::Write for Little {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.1);
            self.0.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut bytes = Vec::new();
    while session.wants_write() {
        let mut little = Little(Vec::new(), cut.next());
        assert!(session.write_into(&mut little).unwrap() > 0);
        bytes.append(&mut little.0);
    }
    bytes
}

/// Gives `bytes` to `session` and returns the plaintext in them.
pub(super) fn fed(
    session: &mut Session,
    bytes: &[u8],
    cut: &mut Cut,
) -> Result<Vec<u8>, SessionFault> {
    let mut plain = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (mut piece, after) = rest.split_at(cut.next().min(rest.len()));
        rest = after;
        while !piece.is_empty() {
            session.feed(&mut piece)?;
            plain.extend(taken(session));
        }
    }
    Ok(plain)
}

/// The plaintext that is ready.
pub(super) fn taken(session: &mut Session) -> Vec<u8> {
    let mut plain = Vec::new();
    while let Some(ready) = session.plaintext() {
        // Less than all of it, so that the rest must still be there.
        let bytes = ready.len().div_ceil(2);
        plain.extend_from_slice(&ready[..bytes]);
        session.consume(bytes);
    }
    plain
}

/// A client and a server.
pub(super) struct Pair {
    pub(super) client: Session,
    pub(super) server: Session,
}

/// Who met a fault.
#[derive(Debug, PartialEq)]
pub(super) enum Failed {
    Client(SessionFault),
    Server(SessionFault),
}

impl Pair {
    /// Exchanges what both have to say until neither has anything more.
    pub(super) fn settle(&mut self, cut: &mut Cut) -> Result<(), Failed> {
        while self.client.wants_write() || self.server.wants_write() {
            let up = written(&mut self.client);
            let plain = fed(&mut self.server, &up, cut).map_err(Failed::Server)?;
            assert_eq!(plain, b"", "nobody said anything yet");
            let down = written(&mut self.server);
            let plain = fed(&mut self.client, &down, cut).map_err(Failed::Client)?;
            assert_eq!(plain, b"", "nobody said anything yet");
        }
        Ok(())
    }

    /// The handshake, with what follows it from the server.
    pub(super) fn shake_hands(&mut self, cut: &mut Cut) -> Result<(), Failed> {
        self.settle(cut)?;
        assert!(!self.client.is_handshaking() && !self.server.is_handshaking());
        Ok(())
    }

    /// Sends `up` and `down` and checks that they arrive.
    pub(super) fn talk(&mut self, up: &[u8], down: &[u8]) {
        self.client.encrypt(up).unwrap();
        let bytes = written(&mut self.client);
        assert_eq!(fed(&mut self.server, &bytes, &mut Cut::Whole).unwrap(), up);
        self.server.encrypt(down).unwrap();
        let bytes = written(&mut self.server);
        assert_eq!(
            fed(&mut self.client, &bytes, &mut Cut::Whole).unwrap(),
            down
        );
    }
}
