//! Sessions and peers that break the rules, after the handshake.

use rustls::{AlertDescription, ContentType, Error};

use super::forge::{Forge, Ours, Peer, SIDES};
use super::seam::{VERSIONS, pattern};
use super::wire::{Cut, fed, seal, written};
use crate::config::model::TlsVersion;

/// What a peer does wrong, and the alert that is due.
type Wrong = (fn(&mut Peer, Ours), AlertDescription);

const HS: ContentType = ContentType::Handshake;

/// A message of more than 64 KiB.
fn too_long(peer: &mut Peer, _: Ours) {
    peer.forge(HS, &[4, 1, 0, 0, 1, 2, 3]);
}

fn too_long_in_pieces(peer: &mut Peer, _: Ours) {
    peer.forge(HS, &[4]);
    peer.forge(HS, &[0xff]);
    peer.forge(HS, &[0xff, 0xff, 0]);
}

fn interleaved(peer: &mut Peer, _: Ours) {
    peer.forge(HS, &[4, 0, 1, 0, 0, 0]);
    peer.say(b"in between");
}

fn empty(peer: &mut Peer, _: Ours) {
    for _ in 0..40 {
        peer.forge(ContentType::ApplicationData, &[]);
    }
}

fn unknown_message(peer: &mut Peer, _: Ours) {
    peer.forge(HS, &[77, 0, 0, 1, 0, 77, 0, 0, 1, 0, 77]);
}

/// Both sides' requests for another handshake.
fn renegotiation(ours: Ours) -> Vec<u8> {
    match ours {
        Ours::Client => vec![0; 4],
        Ours::Server => {
            let mut hello = vec![1, 0, 0, 43, 3, 3];
            hello.extend([7; 32]);
            hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0, 0, 0]);
            hello
        }
    }
}

fn renegotiating(peer: &mut Peer, ours: Ours) {
    peer.forge(HS, &renegotiation(ours).repeat(3));
}

fn renegotiating_by_half(peer: &mut Peer, ours: Ours) {
    let mut bytes = renegotiation(ours).repeat(2);
    bytes.push(0);
    peer.forge(HS, &bytes);
}

fn many_key_updates(peer: &mut Peer, _: Ours) {
    for _ in 0..40 {
        peer.0.refresh_traffic_keys().unwrap();
    }
}

fn key_update_and_more(peer: &mut Peer, _: Ours) {
    peer.forge(HS, &[24, 0, 0, 1, 1, 4, 0]);
}

const ALWAYS: [Wrong; 5] = [
    (too_long, AlertDescription::DecodeError),
    (too_long_in_pieces, AlertDescription::DecodeError),
    (interleaved, AlertDescription::UnexpectedMessage),
    (empty, AlertDescription::UnexpectedMessage),
    (unknown_message, AlertDescription::UnexpectedMessage),
];

const OLD: [Wrong; 2] = [
    (renegotiating, AlertDescription::UnexpectedMessage),
    (renegotiating_by_half, AlertDescription::UnexpectedMessage),
];

const NEW: [Wrong; 2] = [
    (many_key_updates, AlertDescription::UnexpectedMessage),
    (key_update_and_more, AlertDescription::UnexpectedMessage),
];

#[test]
fn a_peer_that_breaks_the_rules_after_the_handshake_is_told_so() {
    for version in VERSIONS {
        let forge = Forge::new(version, 1 << 20, None);
        let own: &[Wrong] = match version {
            TlsVersion::Tls12 => &OLD,
            TlsVersion::Tls13 => &NEW,
        };
        for (at, &(wrong, due)) in ALWAYS.iter().chain(own).enumerate() {
            for (ours, cut) in SIDES
                .into_iter()
                .flat_map(|ours| [(ours, 1), (ours, 70_000)])
            {
                let what = format!("{version:?} {ours:?} {at} {cut}");
                let (mut session, mut peer) = forge.connected(ours);
                seal(&mut session, b"before").unwrap();
                wrong(&mut peer, ours);
                let fault = fed(&mut session, &peer.said(), &mut Cut::Every(cut));
                assert!(fault.is_err(), "{what}");
                let answer = written(&mut session);
                assert_eq!(peer.hear(&answer), Err(Error::AlertReceived(due)), "{what}");
                assert_eq!(session.alert(), Some(due.into()), "{what}");
            }
        }
    }
}

#[test]
fn a_small_scratch_buffer_and_new_keys_lose_nothing() {
    for ours in SIDES {
        let forge = Forge::new(TlsVersion::Tls13, 10, None);
        let (mut session, mut peer) = forge.connected(ours);
        for round in 0..40 {
            // An answer is due to this, which goes before what is sealed next.
            if round % 3 == 0 {
                peer.0.refresh_traffic_keys().unwrap();
            }
            let bytes = peer.said();
            fed(&mut session, &bytes, &mut Cut::Whole).unwrap();
            let said = pattern(40_000);
            let mut socket = Vec::new();
            session.encrypt(&said, &mut [0; 10], &mut socket).unwrap();
            socket.extend(written(&mut session));
            assert!(peer.hear(&socket).unwrap() == said, "{ours:?} {round}");
        }
    }
}

#[test]
fn a_client_seals_its_alert_before_it_has_sealed_anything_else() {
    let forge = Forge::new(TlsVersion::Tls13, 1 << 20, None);
    let (mut session, mut peer) = forge.pair(Ours::Client);
    peer.hear(&written(&mut session)).unwrap();
    let flight = peer.said();
    let hello = 5 + usize::from(u16::from_be_bytes([flight[3], flight[4]]));
    let many = [20, 3, 3, 0, 1, 1].repeat(4);
    let bytes = [&flight[..hello], &many].concat();
    fed(&mut session, &bytes, &mut Cut::Whole).unwrap_err();
    let answer = written(&mut session);
    let due = AlertDescription::UnexpectedMessage;
    assert_eq!(session.alert(), Some(due.into()));
    assert_eq!(answer[answer.len() - 24], 23, "{answer:?}");
    assert_eq!(peer.hear(&answer), Err(Error::AlertReceived(due)));
}

#[test]
fn nothing_follows_a_close_notify() {
    for version in VERSIONS {
        let forge = Forge::new(version, 1 << 20, None);
        for (ours, (wrong, _)) in SIDES
            .into_iter()
            .flat_map(|ours| ALWAYS.map(|wrong| (ours, wrong)))
        {
            let (mut session, mut peer) = forge.connected(ours);
            session.close();
            peer.hear(&written(&mut session)).unwrap();
            wrong(&mut peer, ours);
            fed(&mut session, &peer.said(), &mut Cut::Whole).unwrap_err();
            assert!(!session.wants_write());
            assert_eq!(session.alert(), None);
        }
    }
}
