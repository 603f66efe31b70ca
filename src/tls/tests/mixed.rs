//! Sessions against peers of rustls with buffers, in random order.

use rustls::{ContentType, Error};

use super::forge::{Forge, Ours, Peer, SIDES};
use super::seam::{VERSIONS, pattern};
use crate::base::random::Random;
use crate::config::model::TlsVersion;
use crate::tls::seam::{Session, sealed_bytes};

/// So few records to a key that it changes often.
const FEW: u64 = 9;

const SEEDS: u64 = 100;

/// The longest piece of a forged message, which fits any record with its mark.
const PIECE: usize = 60;

/// A socket that has room for so much.
struct Room(usize, Vec<u8>);

impl std::io::Write for Room {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let taken = bytes.len().min(self.0);
        if taken == 0 {
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        self.0 -= taken;
        self.1.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A session, a peer, and all that is between them.
struct Scene {
    random: Random,
    version: TlsVersion,
    /// How many records our keys last.
    limit: u64,
    ours: Ours,
    session: Session,
    peer: Peer,
    to_session: Vec<u8>,
    to_peer: Vec<u8>,
    /// What each has said, and has heard.
    peer_said: Vec<u8>,
    heard: Vec<u8>,
    said: Vec<u8>,
    peer_heard: Vec<u8>,
    /// Changes of keys since there was data.
    updates: u32,
    our_updates: u32,
}

impl Scene {
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.random.below(bound as u64)).unwrap()
    }

    fn some(&mut self, max: usize) -> Vec<u8> {
        let bytes = match self.below(3) {
            0 => self.below(20),
            1 => self.below(1000.min(max)),
            _ => self.below(max),
        };
        pattern(bytes)
    }

    fn peer_speaks(&mut self) {
        let plain = self.some(20_000);
        self.peer.say(&plain);
        if !plain.is_empty() {
            self.updates = 0;
        }
        self.peer_said.extend(plain);
        self.to_session.extend(self.peer.said());
    }

    /// A ticket in records that are cut anywhere.
    fn peer_gives_a_ticket(&mut self) {
        if self.ours == Ours::Server || self.version == TlsVersion::Tls12 || self.limit == FEW {
            return;
        }
        let ticket = self.below(700) + 1;
        let mut message = vec![4, 0, 0, 0, 0, 0, 1, 0, 7, 7, 7, 7, 1, 9];
        message.extend(u16::try_from(ticket).unwrap().to_be_bytes());
        message.extend(pattern(ticket));
        message.extend([0, 0]);
        let length = u32::try_from(message.len() - 4).unwrap().to_be_bytes();
        message[1..4].copy_from_slice(&length[1..]);
        let mut messages = message.repeat(1 + self.below(3));
        while !messages.is_empty() {
            let size = (1 + self.below(PIECE)).min(messages.len());
            let rest = messages.split_off(size);
            self.peer.forge(ContentType::Handshake, &messages);
            messages = rest;
        }
        self.to_session.extend(self.peer.said());
    }

    /// A record of the handshake with nothing in it, which rustls keeps.
    fn peer_says_nothing(&mut self) {
        if self.limit != FEW {
            self.peer.forge(ContentType::Handshake, &[]);
            self.to_session.extend(self.peer.said());
        }
    }

    fn peer_changes_keys(&mut self) {
        if self.version == TlsVersion::Tls13 && self.updates < 20 {
            self.updates += 1;
            self.peer.0.refresh_traffic_keys().unwrap();
            self.to_session.extend(self.peer.said());
        }
    }

    fn hear(&mut self) {
        let size = self.below(self.to_session.len() + 1);
        let size = if self.below(4) == 0 {
            size.min(9)
        } else {
            size
        };
        let rest = self.to_session.split_off(size);
        let heard = self.session.decrypt(&mut self.to_session, &mut self.heard);
        heard.unwrap();
        self.to_session = rest;
    }

    fn speak(&mut self) {
        let plain = self.some(50_000);
        let scratch = match self.below(3) {
            0 => self.below(100),
            1 => plain.len(),
            _ => sealed_bytes(plain.len()),
        };
        let mut room = Room(self.below(80_000), Vec::new());
        let moved = self
            .session
            .encrypt(&plain, &mut vec![0; scratch], &mut room);
        assert_eq!(moved.unwrap(), !room.1.is_empty());
        self.to_peer.extend(room.1);
        if !plain.is_empty() {
            self.our_updates = 0;
        }
        self.said.extend(plain);
    }

    fn change_keys(&mut self) {
        if self.version == TlsVersion::Tls13 && self.limit == FEW && self.our_updates < 20 {
            self.our_updates += 1;
            self.session.update_keys();
        }
    }

    fn write(&mut self, most: usize) {
        if self.session.wants_write() {
            let mut room = Room(1 + self.below(most), Vec::new());
            self.session.write_into(&mut room).unwrap();
            self.to_peer.extend(room.1);
        }
    }

    fn peer_hears(&mut self) {
        let size = self.below(self.to_peer.len() + 1);
        let rest = self.to_peer.split_off(size);
        self.peer_heard
            .extend(self.peer.hear(&self.to_peer).unwrap());
        self.to_peer = rest;
        self.to_session.extend(self.peer.said());
    }

    fn step(&mut self) {
        match self.below(17) {
            0..=2 => self.peer_speaks(),
            3 => self.peer_gives_a_ticket(),
            4 => self.peer_changes_keys(),
            5..=8 => self.hear(),
            9..=10 => self.speak(),
            11 => self.change_keys(),
            12..=13 => self.write(60_000),
            14 => self.peer_hears(),
            15 => self.peer_says_nothing(),
            _ => {
                self.session.rest();
                assert!(self.session.held() < 20_000, "{}", self.session.held());
            }
        }
    }

    fn deliver_all(&mut self) -> Result<(), Error> {
        while self.session.wants_write() || !(self.to_session.is_empty() && self.to_peer.is_empty())
        {
            let heard = self.session.decrypt(&mut self.to_session, &mut self.heard);
            heard.unwrap();
            self.to_session.clear();
            self.write(usize::MAX >> 1);
            self.peer_heard.extend(self.peer.hear(&self.to_peer)?);
            self.to_peer.clear();
            self.to_session.extend(self.peer.said());
        }
        assert!(self.heard == self.peer_said && self.peer_heard == self.said);
        Ok(())
    }

    /// Both ends, in any order, with words in between.
    fn end(&mut self) {
        let (mut ours, mut theirs) = (false, false);
        while !(ours && theirs) {
            match self.below(8) {
                0 if !ours => {
                    ours = true;
                    self.session.close();
                }
                1 if !theirs => {
                    theirs = true;
                    self.peer.0.send_close_notify();
                    self.to_session.extend(self.peer.said());
                }
                2 if !ours => self.speak(),
                3 if !theirs => self.peer_speaks(),
                4 => self.write(9000),
                5 => self.peer_hears(),
                6 => self.hear(),
                _ => {}
            }
        }
        self.deliver_all().unwrap();
        assert_eq!(self.session.peer_ended(), Ok(()));
        let state = self.peer.0.process_new_packets().unwrap();
        assert!(state.peer_has_closed());
        self.session.rest();
        assert_eq!(self.session.held(), 0);
    }

    /// One bit of what the peer has said is changed on the way.
    fn forge(&mut self) {
        self.deliver_all().unwrap();
        self.peer.say(b"which was changed");
        self.to_session.extend(self.peer.said());
        let at = self.to_session.len() - 1 - self.below(16);
        self.to_session[at] ^= 1 << self.below(8);
        let mut none = Vec::new();
        self.session
            .decrypt(&mut self.to_session, &mut none)
            .unwrap_err();
        assert!(none.is_empty());
        self.to_session.clear();
        while self.session.wants_write() {
            self.write(100);
        }
        let told = self.peer.hear(&self.to_peer);
        assert!(matches!(told, Err(Error::AlertReceived(_))), "{told:?}");
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "it is shown where a seed fails")]
fn any_order_of_words_keys_and_cuts_loses_nothing() {
    for version in VERSIONS {
        // Few records to a key, and tickets that are cut, do not go together: rustls takes a change of
        // our keys within a message of the peer for the peer's fault.
        for (limit, fragment) in [(1 << 20, None), (1 << 20, Some(77)), (FEW, Some(600))] {
            if version == TlsVersion::Tls12 && limit == FEW {
                continue;
            }
            let forge = Forge::new(version, limit, fragment);
            for (seed, ours) in (0..SEEDS).flat_map(|seed| SIDES.map(|ours| (seed, ours))) {
                eprintln!("seed {seed} {version:?} {ours:?} {limit} {fragment:?}");
                let (session, peer) = forge.connected(ours);
                let mut scene = Scene {
                    random: Random::new(seed),
                    version,
                    limit,
                    ours,
                    session,
                    peer,
                    to_session: Vec::new(),
                    to_peer: Vec::new(),
                    peer_said: Vec::new(),
                    heard: Vec::new(),
                    said: Vec::new(),
                    peer_heard: Vec::new(),
                    updates: 0,
                    our_updates: 0,
                };
                for _ in 0..60 {
                    scene.step();
                }
                match seed % 4 {
                    0 => scene.forge(),
                    _ => scene.end(),
                }
            }
        }
    }
}
