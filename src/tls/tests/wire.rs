//! Two sessions in memory, and the ways their bytes can be cut.

use std::io;

use crate::base::random::Random;
use crate::tls::seam::{Session, SessionFault, sealed_bytes};

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
        let (piece, after) = rest.split_at(cut.next().min(rest.len()));
        rest = after;
        session.decrypt(&mut piece.to_vec(), &mut plain)?;
    }
    Ok(plain)
}

/// A socket that is full.
pub(super) struct Full;

impl io::Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Leaves `plain` with `session` to be written.
pub(super) fn seal(session: &mut Session, plain: &[u8]) -> Result<(), SessionFault> {
    let mut scratch = vec![0; sealed_bytes(plain.len())];
    let taken = session.encrypt(plain, &mut scratch, &mut Full)?;
    assert!(!taken, "a full socket takes nothing");
    Ok(())
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
        seal(&mut self.client, up).unwrap();
        let bytes = written(&mut self.client);
        assert_eq!(fed(&mut self.server, &bytes, &mut Cut::Whole).unwrap(), up);
        seal(&mut self.server, down).unwrap();
        let bytes = written(&mut self.server);
        assert_eq!(
            fed(&mut self.client, &bytes, &mut Cut::Whole).unwrap(),
            down
        );
    }
}
