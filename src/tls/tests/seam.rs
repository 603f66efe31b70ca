//! The seam: cuts, ends, large transfers.

use std::sync::Arc;

use rustls::AlertDescription;

use super::fixtures::{Authority, Clock, Directory, Listener, calling, rotating, side, trusting};
use super::wire::{Cut, Pair, dribbled, fed, seal, written};
use crate::base::random::Random;
use crate::config::model::TlsVersion;
use crate::tls::ServerConfig;
use crate::tls::client::ClientSide;
use crate::tls::seam::{Session, SessionFault};

/// Both sides' settings for one version; the server also gives tickets, so that something follows
/// the handshake.
pub(super) struct Sides {
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: ClientSide,
}

impl Sides {
    pub(super) fn new(version: TlsVersion) -> Self {
        let directory = Directory::new();
        let authority = Authority::new("ca");
        let certificate = authority.issue(&directory, &["a.example"]);
        let keys = rotating(&Clock::today());
        let listener = Listener::new(&[&certificate])
            .version(version)
            .tickets(&keys);
        Self {
            server: listener.alpn(&["h2", "http/1.1"]).config(),
            client: side(&trusting(&directory, &authority)),
        }
    }

    pub(super) fn pair(&self) -> Pair {
        Pair {
            client: calling(&self.client, "a.example"),
            server: Session::server(&self.server).unwrap(),
        }
    }

    pub(super) fn connected(&self) -> Pair {
        let mut pair = self.pair();
        pair.shake_hands(&mut Cut::Whole).unwrap();
        pair
    }
}

pub(super) const VERSIONS: [TlsVersion; 2] = [TlsVersion::Tls12, TlsVersion::Tls13];

/// Bytes that differ from place to place.
pub(super) fn pattern(length: usize) -> Vec<u8> {
    let mut random = Random::new(length as u64);
    (0..length)
        .map(|_| random.next_u64().to_le_bytes()[0])
        .collect()
}

#[test]
fn handshake_and_data_survive_every_size_of_cut() {
    for version in VERSIONS {
        let sides = Sides::new(version);
        let sizes = (1..64).chain([
            100, 255, 256, 1000, 4095, 4096, 4097, 16_384, 16_406, 65_536,
        ]);
        for size in sizes {
            let mut pair = sides.pair();
            let mut cut = Cut::Every(size);
            pair.shake_hands(&mut cut).unwrap();
            let said = pattern(40_000);
            seal(&mut pair.client, &said).unwrap();
            let bytes = dribbled(&mut pair.client, &mut Cut::Every(size));
            assert!(
                fed(&mut pair.server, &bytes, &mut cut).unwrap() == said,
                "{version:?} {size}"
            );
        }
    }
}

#[test]
fn a_cut_at_every_place_of_a_short_session_changes_nothing() {
    for version in VERSIONS {
        let sides = Sides::new(version);
        let mut pair = sides.connected();
        seal(&mut pair.client, b"a request").unwrap();
        seal(&mut pair.client, &pattern(300)).unwrap();
        pair.client.close();
        let bytes = written(&mut pair.client);
        for at in 0..=bytes.len() {
            let mut pair = sides.connected();
            seal(&mut pair.client, b"a request").unwrap();
            seal(&mut pair.client, &pattern(300)).unwrap();
            pair.client.close();
            let bytes = written(&mut pair.client);
            let (one, other) = bytes.split_at(at);
            let mut plain = fed(&mut pair.server, one, &mut Cut::Whole).unwrap();
            plain.extend(fed(&mut pair.server, other, &mut Cut::Whole).unwrap());
            assert_eq!(plain, [&b"a request"[..], &pattern(300)].concat(), "{at}");
            assert!(pair.server.peer_closed());
        }
    }
}

#[test]
fn both_sides_know_what_they_agreed_on() {
    for (version, cipher) in [
        (TlsVersion::Tls13, "TLS_AES_128_GCM_SHA256"),
        (TlsVersion::Tls12, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    ] {
        let directory = Directory::new();
        let authority = Authority::new("ca");
        let certificate = authority.issue(&directory, &["a.example"]);
        let listener = Listener::new(&[&certificate])
            .version(version)
            .alpn(&["h2", "smtp"]);
        let mut pool = trusting(&directory, &authority);
        pool.alpn = vec!["smtp".into(), "h2".into()];
        let mut pair = Pair {
            client: calling(&side(&pool), "a.example"),
            server: Session::server(&listener.config()).unwrap(),
        };
        pair.shake_hands(&mut Cut::Whole).unwrap();
        for session in [&pair.client, &pair.server] {
            let facts = session.negotiated();
            assert_eq!(facts.version, Some(version));
            assert_eq!(facts.cipher, Some(cipher));
            assert_eq!(facts.alpn, Some(&b"h2"[..]), "the server prefers it");
            assert!(!facts.resumed);
        }
        assert_eq!(pair.server.peer_certificate(), None);
    }
}

#[test]
fn new_groups_are_preferred() {
    let pair = Sides::new(TlsVersion::Tls13).connected();
    let group = pair.server.group().unwrap();
    assert_eq!(group, "X25519MLKEM768");
}

#[test]
fn no_application_protocol_in_common_is_told() {
    let directory = Directory::new();
    let authority = Authority::new("ca");
    let certificate = authority.issue(&directory, &["a.example"]);
    let listener = Listener::new(&[&certificate]).alpn(&["h2"]);
    let mut pool = trusting(&directory, &authority);
    pool.alpn = vec!["smtp".into()];
    let mut pair = Pair {
        client: calling(&side(&pool), "a.example"),
        server: Session::server(&listener.config()).unwrap(),
    };
    let hello = written(&mut pair.client);
    let fault = fed(&mut pair.server, &hello, &mut Cut::Whole).unwrap_err();
    assert!(matches!(fault, SessionFault::Incompatible(_)), "{fault}");
    let alert = written(&mut pair.server);
    let fault = fed(&mut pair.client, &alert, &mut Cut::Whole).unwrap_err();
    assert_eq!(
        fault,
        SessionFault::Alert(AlertDescription::NoApplicationProtocol)
    );
}

#[test]
fn an_older_version_than_allowed_is_refused() {
    let directory = Directory::new();
    let authority = Authority::new("ca");
    let certificate = authority.issue(&directory, &["a.example"]);
    let mut pool = trusting(&directory, &authority);
    pool.min_version = TlsVersion::Tls13;
    let mut pair = Pair {
        client: calling(&side(&pool), "a.example"),
        server: Session::server(
            &Listener::new(&[&certificate])
                .version(TlsVersion::Tls12)
                .config(),
        )
        .unwrap(),
    };
    let hello = written(&mut pair.client);
    let fault = fed(&mut pair.server, &hello, &mut Cut::Whole).unwrap_err();
    assert!(matches!(fault, SessionFault::Incompatible(_)), "{fault}");
    let alert = written(&mut pair.server);
    let fault = fed(&mut pair.client, &alert, &mut Cut::Whole).unwrap_err();
    assert_eq!(
        fault,
        SessionFault::Alert(AlertDescription::ProtocolVersion)
    );
}

#[test]
fn large_transfers_both_ways_arrive_byte_by_byte() {
    for (seed, version) in (0..6).zip(VERSIONS.into_iter().cycle()) {
        let mut pair = Sides::new(version).connected();
        let mut random = Random::new(seed);
        let (up, down) = (pattern(3_000_000), pattern(2_500_000));
        let (mut sent_up, mut sent_down) = (&up[..], &down[..]);
        let (mut at_server, mut at_client) = (Vec::new(), Vec::new());
        while !(sent_up.is_empty() && sent_down.is_empty()) {
            let mut cut = Cut::Random(Random::new(random.next_u64()), 70_000);
            let mut pass = |from: &mut Session, to: &mut Session, rest: &mut &[u8]| {
                let size = usize::try_from(random.below(100_000))
                    .unwrap()
                    .min(rest.len());
                let (now, after) = rest.split_at(size);
                *rest = after;
                seal(from, now).unwrap();
                let bytes = dribbled(from, &mut cut);
                let plain = fed(to, &bytes, &mut cut).unwrap();
                to.rest();
                plain
            };
            at_server.extend(pass(&mut pair.client, &mut pair.server, &mut sent_up));
            at_client.extend(pass(&mut pair.server, &mut pair.client, &mut sent_down));
        }
        assert!(
            at_server == up && at_client == down,
            "seed {seed} {version:?}"
        );
    }
}

#[test]
fn what_is_not_whole_is_kept_and_no_more() {
    let mut pair = Sides::new(TlsVersion::Tls13).connected();
    seal(&mut pair.client, &pattern(100_000)).unwrap();
    let bytes = written(&mut pair.client);
    let mut plain = Vec::new();
    for piece in bytes.chunks(65_536) {
        plain.extend(fed(&mut pair.server, piece, &mut Cut::Whole).unwrap());
        pair.server.rest();
        assert!(pair.server.held() < 16_406, "{}", pair.server.held());
    }
    assert!(plain == pattern(100_000));
    assert_eq!(pair.server.held(), 0);
}

#[test]
fn nothing_is_sealed_during_the_handshake() {
    for version in VERSIONS {
        let mut pair = Sides::new(version).pair();
        let hello = written(&mut pair.client);
        for session in [&mut pair.client, &mut pair.server] {
            assert!(matches!(
                seal(session, b"early"),
                Err(SessionFault::Ours(_))
            ));
            assert!(!session.wants_write());
            session.close();
            assert!(!session.wants_write(), "nothing has begun");
        }
        assert!(!hello.is_empty());
    }
}

#[test]
fn an_announced_end_closes_one_direction_only() {
    for version in VERSIONS {
        for client_first in [true, false] {
            let Pair { client, server } = Sides::new(version).connected();
            let (mut first, mut second) = if client_first {
                (client, server)
            } else {
                (server, client)
            };
            seal(&mut first, b"last words").unwrap();
            first.close();
            first.close();
            assert!(first.closed());
            let bytes = written(&mut first);
            assert_eq!(
                fed(&mut second, &bytes, &mut Cut::Every(3)).unwrap(),
                b"last words"
            );
            assert!(second.peer_closed() && !second.closed());
            assert_eq!(second.peer_ended(), Ok(()));

            // The other direction goes on, and ends in its own time.
            seal(&mut second, b"an answer").unwrap();
            let bytes = written(&mut second);
            assert_eq!(
                fed(&mut first, &bytes, &mut Cut::Whole).unwrap(),
                b"an answer"
            );
            assert_eq!(first.peer_ended(), Err(SessionFault::Truncated));
            second.close();
            let bytes = written(&mut second);
            assert_eq!(fed(&mut first, &bytes, &mut Cut::Whole).unwrap(), b"");
            assert_eq!(first.peer_ended(), Ok(()));
        }
    }
}

#[test]
fn what_follows_an_announced_end_is_ignored() {
    let mut pair = Sides::new(TlsVersion::Tls13).connected();
    seal(&mut pair.client, b"x").unwrap();
    pair.client.close();
    let mut bytes = written(&mut pair.client);
    bytes.extend_from_slice(&[0xff; 50_000]);
    assert_eq!(
        fed(&mut pair.server, &bytes, &mut Cut::Whole).unwrap(),
        b"x"
    );
    assert_eq!(
        fed(&mut pair.server, &bytes, &mut Cut::Every(100)).unwrap(),
        b""
    );
    assert_eq!(pair.server.peer_ended(), Ok(()));
    // A wait after that does not take the end back.
    pair.server.rest();
    assert_eq!(pair.server.peer_ended(), Ok(()));
}

#[test]
fn a_cut_off_stream_is_no_end() {
    for version in VERSIONS {
        let sides = Sides::new(version);
        // In the handshake, between records, and within one.
        assert_eq!(
            sides.pair().server.peer_ended(),
            Err(SessionFault::Truncated)
        );
        let mut pair = sides.connected();
        pair.talk(b"up", b"down");
        assert_eq!(pair.server.peer_ended(), Err(SessionFault::Truncated));
        seal(&mut pair.client, b"half of it").unwrap();
        let bytes = written(&mut pair.client);
        let (half, _) = bytes.split_at(bytes.len() / 2);
        assert_eq!(fed(&mut pair.server, half, &mut Cut::Whole).unwrap(), b"");
        assert_eq!(pair.server.peer_ended(), Err(SessionFault::Truncated));
    }
}

#[test]
fn keys_change_under_way() {
    let mut pair = Sides::new(TlsVersion::Tls13).connected();
    for round in 0..5 {
        pair.client.update_keys();
        pair.talk(&pattern(round * 1000 + 1), b"and back");
        pair.server.update_keys();
        pair.talk(b"x", &pattern(40_000));
    }
}

#[test]
fn worn_out_keys_end_a_session_without_loss() {
    let mut pair = Sides::new(TlsVersion::Tls12).connected();
    assert_eq!(pair.client.records_left(), (1 << 24) - 1024);
    pair.client.set_records_left(3);
    pair.talk(&pattern(16_384), b"");
    pair.talk(&pattern(16_385), b"");
    assert_eq!(
        seal(&mut pair.client, b"too much"),
        Err(SessionFault::KeysWornOut)
    );
    let bytes = written(&mut pair.client);
    assert_eq!(fed(&mut pair.server, &bytes, &mut Cut::Whole).unwrap(), b"");
    assert_eq!(pair.server.peer_ended(), Ok(()));
}

#[test]
fn keys_of_new_versions_do_not_wear_out() {
    let pair = Sides::new(TlsVersion::Tls13).connected();
    assert_eq!(pair.client.records_left(), u64::MAX);
}
