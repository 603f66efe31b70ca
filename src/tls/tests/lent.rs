//! Buffers that the caller lends, and what is left to send after a fault.

use std::io::{self, IoSlice, Write};

use rustls::AlertDescription;

use super::faults::alert;
use super::fixtures::{Authority, Directory, Listener, calling, side, trusting};
use super::seam::{Sides, VERSIONS, pattern};
use super::wire::{Cut, dribbled, fed, written};
use crate::base::random::Random;
use crate::config::model::TlsVersion;
use crate::tls::seam::{Session, SessionFault, UNRECOGNIZED_NAME};

/// Opens `bytes` by way of a lent buffer that holds so many, as the module's documentation has it.
fn opened(
    session: &mut Session,
    bytes: &[u8],
    capacity: usize,
) -> (Vec<u8>, Result<(), SessionFault>) {
    let mut lent = Vec::with_capacity(capacity);
    let capacity = lent.capacity();
    let (mut rest, mut plain) = (bytes, Vec::new());
    loop {
        let result = session.decrypt(&mut rest, &mut lent);
        assert_eq!(lent.capacity(), capacity, "it grew");
        plain.append(&mut lent);
        let over = rest.is_empty() && session.plaintext().is_none();
        if result.is_err() || over {
            return (plain, result);
        }
    }
}

#[test]
fn a_lent_buffer_of_any_size_is_filled_and_never_grows() {
    for version in VERSIONS {
        let sides = Sides::new(version);
        let mut pair = sides.connected();
        let mut random = Random::new(7);
        for capacity in [1, 2, 100, 4096, 16_383, 16_384, 16_385, 65_536] {
            let said = pattern(if capacity < 100 { 3000 } else { 150_000 });
            for part in said.chunks(40_000) {
                pair.client.encrypt(part).unwrap();
            }
            let bytes = written(&mut pair.client);
            let mut plain = Vec::new();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let length = usize::try_from(random.below(70_000)).unwrap() + 1;
                let (piece, after) = rest.split_at(length.min(rest.len()));
                rest = after;
                let (some, result) = opened(&mut pair.server, piece, capacity);
                assert_eq!(result, Ok(()));
                plain.extend(some);
            }
            assert!(plain == said, "{version:?} {capacity}");
        }
    }
}

#[test]
fn a_full_buffer_takes_nothing_in() {
    let mut pair = Sides::new(TlsVersion::Tls13).connected();
    pair.client.encrypt(&pattern(50_000)).unwrap();
    let bytes = written(&mut pair.client);
    let mut rest = &bytes[..];
    let mut none = Vec::new();
    pair.server.decrypt(&mut rest, &mut none).unwrap();
    assert_eq!((rest.len(), none.capacity()), (bytes.len(), 0));
    assert!(pair.server.plaintext().is_none());
}

#[test]
fn plaintext_comes_with_the_end_of_the_handshake() {
    for version in VERSIONS {
        // The request comes in one piece with the end of the handshake.
        let mut pair = Sides::new(version).pair();
        pair.client.encrypt(b"a request").unwrap();
        let mut plain = Vec::new();
        while pair.client.wants_write() || pair.server.wants_write() {
            let up = written(&mut pair.client);
            let (some, result) = opened(&mut pair.server, &up, 4096);
            assert_eq!(result, Ok(()));
            plain.extend(some);
            let down = written(&mut pair.server);
            assert_eq!(opened(&mut pair.client, &down, 4096).1, Ok(()));
        }
        assert_eq!(plain, b"a request");
        assert!(!pair.server.is_handshaking());
    }
}

/// Counts the writes it gets and takes them whole.
#[derive(Default)]
struct Counting {
    writes: usize,
    slices: usize,
    bytes: Vec<u8>,
}

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.writes += 1;
        self.slices += slices.len();
        let before = self.bytes.len();
        for slice in slices {
            self.bytes.extend_from_slice(slice);
        }
        Ok(self.bytes.len() - before)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket that is full.
struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn several_records_leave_in_one_write() {
    for version in VERSIONS {
        let mut pair = Sides::new(version).connected();
        let said = pattern(65_536);
        pair.server.encrypt(&said).unwrap();
        let error = pair.server.write_into(&mut Full).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let mut sink = Counting::default();
        pair.server.write_into(&mut sink).unwrap();
        assert_eq!((sink.writes, sink.slices), (1, 4));
        assert!(!pair.server.wants_write());
        let plain = fed(&mut pair.client, &sink.bytes, &mut Cut::Whole).unwrap();
        assert!(plain == said);
    }
}

#[test]
fn plaintext_from_before_a_fault_comes_beside_it() {
    for capacity in [3, 65_536] {
        let mut pair = Sides::new(TlsVersion::Tls13).connected();
        pair.client.encrypt(&pattern(20_000)).unwrap();
        let mut bytes = written(&mut pair.client);
        bytes.extend([
            23, 3, 3, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ]);
        let (plain, result) = opened(&mut pair.server, &bytes, capacity);
        assert!(plain == pattern(20_000));
        let fault = result.unwrap_err();
        assert!(matches!(fault, SessionFault::Protocol(_)), "{fault}");
        let again = pair
            .server
            .decrypt(&mut &bytes[..], &mut Vec::with_capacity(10));
        assert_eq!(again, Err(fault.clone()));
        assert_eq!(pair.server.encrypt(b"x"), Err(fault));
    }
}

#[test]
fn no_orderly_end_is_announced_after_a_fault() {
    // In the handshake, and after it.
    for after in [false, true] {
        let sides = Sides::new(TlsVersion::Tls13);
        let mut pair = if after {
            sides.connected()
        } else {
            sides.pair()
        };
        let bad = match after {
            true => &[
                23, 3, 3, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ][..],
            false => &[21, 3, 3, 0, 2, 2, 40],
        };
        fed(&mut pair.server, bad, &mut Cut::Whole).unwrap_err();
        let said = written(&mut pair.server);
        assert_eq!(said.is_empty(), !after, "a fatal alert is not answered");
        pair.server.close();
        assert_eq!(written(&mut pair.server), b"");
        assert_eq!(pair.server.peer_ended(), Err(SessionFault::Truncated));
    }
}

#[test]
fn a_client_of_an_unknown_name_is_told_so() {
    let directory = Directory::new();
    let authority = Authority::new("ca");
    let certificate = authority.issue(&directory, &["a.example"]);
    let client = side(&trusting(&directory, &authority));
    for version in VERSIONS {
        let listener = Listener::new(&[&certificate]).version(version).strict();
        let config = listener.config();
        // The second one is an address, for which a client names nobody.
        for name in ["b.example", "10.0.0.1"] {
            let mut client = calling(&client, name);
            let mut server = Session::server(&config).unwrap();
            let hello = written(&mut client);
            let fault = fed(&mut server, &hello, &mut Cut::Every(50)).unwrap_err();
            assert_eq!(fault, SessionFault::UnknownName);
            // Though the socket takes it byte by byte.
            let alert = dribbled(&mut server, &mut Cut::Every(1));
            assert_eq!(alert, UNRECOGNIZED_NAME);
            let told = fed(&mut client, &alert, &mut Cut::Whole).unwrap_err();
            assert_eq!(
                told,
                SessionFault::Alert(AlertDescription::UnrecognisedName)
            );
            // It stays refused, with nothing more to say.
            let again = fed(&mut server, &hello, &mut Cut::Whole).unwrap_err();
            assert_eq!(again, SessionFault::UnknownName);
            assert!(!server.wants_write());
        }
    }
}

#[test]
fn a_flight_that_is_not_out_yet_goes_before_the_alert() {
    // In TLS 1.2 all of the server's first flight is in the clear.
    let mut pair = Sides::new(TlsVersion::Tls12).pair();
    let hello = written(&mut pair.client);
    fed(&mut pair.server, &hello, &mut Cut::Whole).unwrap();
    fed(&mut pair.server, &[99; 5], &mut Cut::Whole).unwrap_err();
    let bytes = written(&mut pair.server);
    let (flight, last) = bytes.split_at(bytes.len() - 7);
    assert_eq!(alert(last), Some(AlertDescription::UnexpectedMessage));
    // Whole as it was: the client can read it.
    assert_eq!(fed(&mut pair.client, flight, &mut Cut::Whole).unwrap(), b"");
    assert!(pair.client.wants_write());
    let told = fed(&mut pair.client, last, &mut Cut::Whole).unwrap_err();
    assert_eq!(
        told,
        SessionFault::Alert(AlertDescription::UnexpectedMessage)
    );
}

#[test]
fn a_client_refuses_garbage_with_the_alert_that_is_due() {
    for version in VERSIONS {
        let mut pair = Sides::new(version).pair();
        let hello = written(&mut pair.client);
        assert!(!hello.is_empty());
        let Err(fault) = fed(
            &mut pair.client,
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            &mut Cut::Every(3),
        ) else {
            panic!("that is not TLS");
        };
        assert!(matches!(fault, SessionFault::Protocol(_)), "{fault}");
        let said = written(&mut pair.client);
        assert_eq!(alert(&said), Some(AlertDescription::UnexpectedMessage));
    }
}
