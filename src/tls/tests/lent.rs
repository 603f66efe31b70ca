//! Buffers that the caller lends, and what is left to send after a fault.

use std::io::{self, Write};

use rustls::AlertDescription;

use super::faults::alert;
use super::fixtures::{Authority, Directory, Listener, calling, side, trusting};
use super::seam::{Sides, VERSIONS, pattern};
use super::wire::{Cut, Full, dribbled, fed, seal, written};
use crate::base::limits::{PLAIN_BYTES, SEALED_BYTES, SECURED_BYTES};
use crate::base::random::Random;
use crate::config::model::TlsVersion;
use crate::tls::seam::{Session, SessionFault, UNRECOGNIZED_NAME, sealed_bytes};

#[test]
fn pieces_of_any_size_fit_the_buffers_of_a_worker() {
    for version in VERSIONS {
        let mut pair = Sides::new(version).connected();
        let mut random = Random::new(7);
        let whole = pattern(1_000_000);
        for part in whole.chunks(40_000) {
            seal(&mut pair.client, part).unwrap();
        }
        let mut bytes = written(&mut pair.client);
        let mut lent = Vec::with_capacity(PLAIN_BYTES);
        let (mut rest, mut plain) = (&mut bytes[..], Vec::new());
        while !rest.is_empty() {
            let length = usize::try_from(random.below(SECURED_BYTES as u64)).unwrap() + 1;
            let (piece, after) = rest.split_at_mut(length.min(rest.len()));
            rest = after;
            pair.server.decrypt(piece, &mut lent).unwrap();
            plain.append(&mut lent);
            assert_eq!(lent.capacity(), PLAIN_BYTES, "it grew");
        }
        assert!(plain == whole, "{version:?}");
    }
    assert!(sealed_bytes(PLAIN_BYTES) <= SEALED_BYTES);
}

#[test]
fn plaintext_comes_with_the_end_of_the_handshake() {
    // The request comes in one piece with the end of the handshake.
    let mut pair = Sides::new(TlsVersion::Tls13).pair();
    let mut plain = Vec::new();
    let mut asked = false;
    while pair.client.wants_write() || pair.server.wants_write() {
        if !pair.client.is_handshaking() && !asked {
            seal(&mut pair.client, b"a request").unwrap();
            asked = true;
        }
        let up = written(&mut pair.client);
        plain.extend(fed(&mut pair.server, &up, &mut Cut::Whole).unwrap());
        let down = written(&mut pair.server);
        let silence = fed(&mut pair.client, &down, &mut Cut::Whole).unwrap();
        assert_eq!(silence, b"");
    }
    assert_eq!(plain, b"a request");
    assert!(!pair.server.is_handshaking());
}

/// Takes the first so many bytes.
struct Room(usize, Vec<u8>);

impl Write for Room {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.0);
        if taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0 -= taken;
        self.1.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_a_socket_does_not_take_waits_in_order() {
    for version in VERSIONS {
        let mut pair = Sides::new(version).connected();
        let whole = pattern(65_536);
        let scratch = &mut vec![0; SEALED_BYTES];
        for room in [0, 1, 20_000, 70_000] {
            let mut socket = Room(room, Vec::new());
            let moved = pair.server.encrypt(&whole, scratch, &mut socket).unwrap();
            assert_eq!(moved, room > 0);
            assert_eq!(pair.server.wants_write(), room < 65_536);
            if room < 65_536 {
                let error = pair.server.write_into(&mut Full).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                // What comes later goes later, though there is room again.
                socket.0 = 1000;
                let moved = pair.server.encrypt(b"later", scratch, &mut socket).unwrap();
                assert!(!moved);
            }
            let mut bytes = socket.1;
            bytes.extend(dribbled(&mut pair.server, &mut Cut::Every(1000)));
            let plain = fed(&mut pair.client, &bytes, &mut Cut::Whole).unwrap();
            assert!(plain.starts_with(&whole), "{version:?} {room}");
            let later = &plain[whole.len()..];
            assert_eq!(later, if room < 65_536 { &b"later"[..] } else { b"" });
        }
    }
}

#[test]
fn a_small_scratch_buffer_loses_nothing() {
    let mut pair = Sides::new(TlsVersion::Tls13).connected();
    let mut socket = Room(100_000, Vec::new());
    let whole = pattern(20_000);
    pair.server
        .encrypt(&whole, &mut [0; 10], &mut socket)
        .unwrap();
    assert!(fed(&mut pair.client, &socket.1, &mut Cut::Whole).unwrap() == whole);
}

/// The same handshake messages in records of so many bytes.
fn in_small_records(flight: &[u8], bytes: usize) -> Vec<u8> {
    let [kind, major, minor, high, low] = *flight.first_chunk().unwrap();
    let length = usize::from(u16::from_be_bytes([high, low]));
    assert_eq!(flight.len(), 5 + length, "one record");
    let pieces = flight[5..].chunks(bytes);
    pieces
        .flat_map(|piece| {
            let length = u16::try_from(piece.len()).unwrap().to_be_bytes();
            [&[kind, major, minor], &length[..], piece].concat()
        })
        .collect()
}

#[test]
fn a_hello_in_any_records_and_any_pieces_is_one_hello() {
    for version in VERSIONS {
        let sides = Sides::new(version);
        for bytes in [1, 2, 3, 7, 50, 100, 255, 300] {
            for mut cut in [
                Cut::Whole,
                Cut::Every(1),
                Cut::Every(4),
                Cut::Every(5),
                Cut::Every(6),
                Cut::Random(Random::new(bytes as u64), 40),
                Cut::Random(Random::new(bytes as u64), 700),
            ] {
                let mut pair = sides.pair();
                let hello = in_small_records(&written(&mut pair.client), bytes);
                fed(&mut pair.server, &hello, &mut cut).unwrap();
                let answer = written(&mut pair.server);
                fed(&mut pair.client, &answer, &mut cut).unwrap();
                pair.shake_hands(&mut cut).unwrap();
                pair.talk(b"up", b"down");
            }
        }
    }
}

#[test]
fn a_message_in_tiny_records_is_bounded() {
    let mut pair = Sides::new(TlsVersion::Tls12).pair();
    let hello = written(&mut pair.client);
    assert!(!hello.is_empty());
    // A ClientHello of 60,000 bytes, each in a record of its own: the headers are five times as much.
    let message = [&[1, 0, 0xea, 0x60][..], &[0; 60_000]].concat();
    let records: Vec<u8> = message
        .iter()
        .flat_map(|byte| [22, 3, 1, 0, 1, *byte])
        .collect();
    let fault = fed(&mut pair.server, &records, &mut Cut::Every(4096)).unwrap_err();
    assert!(matches!(fault, SessionFault::Protocol(_)), "{fault}");
    assert_eq!(pair.server.held(), 0);
}

#[test]
fn plaintext_from_before_a_fault_comes_beside_it() {
    let mut pair = Sides::new(TlsVersion::Tls13).connected();
    seal(&mut pair.client, &pattern(20_000)).unwrap();
    let mut bytes = written(&mut pair.client);
    bytes.extend([
        23, 3, 3, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ]);
    let mut plain = Vec::new();
    let fault = pair.server.decrypt(&mut bytes, &mut plain).unwrap_err();
    assert!(plain == pattern(20_000));
    assert!(matches!(fault, SessionFault::Protocol(_)), "{fault}");
    let again = pair.server.decrypt(&mut bytes, &mut plain);
    assert_eq!(again, Err(fault.clone()));
    assert_eq!(plain.len(), 20_000);
    assert_eq!(seal(&mut pair.server, b"x"), Err(fault));
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
