//! Tickets: what opens them, and what does not.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::server::ProducesTickets;

use super::fixtures::{
    Authority, Clock, DAY, Directory, Listener, calling, client_params, rotating, side, trusting,
};
use super::wire::{Cut, Pair};
use crate::base::clock::Instant;
use crate::config::model::{ClientAuth, ClientCa, Tickets, TlsVersion};
use crate::tls::ServerConfig;
use crate::tls::client::ClientSide;
use crate::tls::seam::Session;
use crate::tls::tickets::{Scope, TicketKeys, Ticketer};

const HOURS: u64 = 60 * 60;

fn ticketer(keys: &Arc<TicketKeys>) -> Ticketer {
    Ticketer {
        keys: keys.clone(),
        scope: Scope([0; 32]),
        holds: Arc::default(),
    }
}

/// So many hours after the process's clock began.
fn after(hours: u64) -> Instant {
    Instant::ZERO + Duration::from_hours(hours)
}

#[test]
fn a_ticket_is_opened_by_its_keys_and_no_others() {
    let clock = Clock::today();
    let keys = rotating(&clock);
    let other = ticketer(&rotating(&clock));
    let ours = ticketer(&keys);
    for length in [0, 1, 15, 16, 17, 1000, 20_000] {
        let session = vec![7; length];
        let ticket = ours.encrypt(&session).unwrap();
        assert_eq!(ours.decrypt(&ticket), Some(session));
        assert_eq!(other.decrypt(&ticket), None);
    }
    // Two tickets of one session have nothing in common but the name of their key.
    let (one, two) = (
        ours.encrypt(b"session").unwrap(),
        ours.encrypt(b"session").unwrap(),
    );
    assert_eq!(one[..16], two[..16]);
    assert_ne!(one[16..32], two[16..32]);
    // What is too long is not given, and so not taken.
    assert_eq!(ours.encrypt(&[0; 40_000]), None);
}

#[test]
fn another_scope_opens_nothing() {
    let keys = rotating(&Clock::today());
    let (one, mut other) = (ticketer(&keys), ticketer(&keys));
    other.scope = Scope([1; 32]);
    let ticket = one.encrypt(b"session").unwrap();
    assert_eq!(other.decrypt(&ticket), None);
}

#[test]
fn damage_and_foreign_bytes_are_declined() {
    let keys = rotating(&Clock::today());
    let ours = ticketer(&keys);
    let ticket = ours.encrypt(b"a session of some length").unwrap();
    for at in 0..ticket.len() {
        let mut bad = ticket.clone();
        bad[at] ^= 1;
        assert_eq!(ours.decrypt(&bad), None, "byte {at}");
        assert_eq!(ours.decrypt(&ticket[..at]), None, "cut at {at}");
        assert_eq!(ours.decrypt(&ticket[at + 1..]), None, "begun after {at}");
    }
    let longer = [&ticket[..], &[0; 40_000]].concat();
    assert_eq!(ours.decrypt(&longer), None);
}

#[test]
fn keys_rotate_when_due_and_keep_the_one_before() {
    let clock = Clock::today();
    let keys = rotating(&clock);
    let ours = ticketer(&keys);
    assert_eq!(keys.due(), Some(after(12)));
    let first = ours.encrypt(b"first").unwrap();
    assert!(
        !keys
            .rotate(Instant::from_nanos(after(12).as_nanos() - 1))
            .unwrap()
    );
    assert!(keys.rotate(after(12)).unwrap());
    assert!(!keys.rotate(after(12)).unwrap(), "once");
    assert_eq!(keys.due(), Some(after(24)));

    let second = ours.encrypt(b"second").unwrap();
    assert_ne!(first[..16], second[..16], "another key seals");
    assert_eq!(ours.decrypt(&first).unwrap(), b"first");
    assert!(keys.rotate(after(24)).unwrap());
    assert_eq!(ours.decrypt(&first), None, "its key is gone");
    assert_eq!(ours.decrypt(&second).unwrap(), b"second");
}

#[test]
fn the_next_key_is_known_before_it_seals() {
    let clock = Clock::today();
    let keys = rotating(&clock);
    let next = keys.names()[1];
    keys.rotate(after(12)).unwrap();
    let ticket = ticketer(&keys).encrypt(b"x").unwrap();
    assert_eq!(ticket[..16], next);
    assert_eq!(keys.names().len(), 3);
}

#[test]
fn a_ticket_ends_with_its_time() {
    let clock = Clock::today();
    let ours = ticketer(&rotating(&clock));
    assert_eq!(u64::from(ours.lifetime()), 12 * HOURS);
    let ticket = ours.encrypt(b"x").unwrap();
    clock.forward(12 * HOURS);
    assert!(ours.decrypt(&ticket).is_some());
    clock.forward(1);
    assert_eq!(ours.decrypt(&ticket), None);
}

#[test]
fn a_ticket_from_the_future_is_declined() {
    let (clock, ahead) = (Clock::today(), Clock::today());
    let directory = Directory::new();
    let file = Tickets::File(directory.file("keys", line(1)));
    let on = |clock: &Arc<Clock>| {
        ticketer(
            &TicketKeys::new(&file, Instant::ZERO, clock.clone())
                .unwrap()
                .unwrap(),
        )
    };
    ahead.forward(300);
    assert!(
        on(&clock)
            .decrypt(&on(&ahead).encrypt(b"x").unwrap())
            .is_some()
    );
    ahead.forward(1);
    assert_eq!(on(&clock).decrypt(&on(&ahead).encrypt(b"x").unwrap()), None);
}

#[test]
fn no_ticket_holds_longer_than_seven_days() {
    let settings = Tickets::Rotating(Duration::from_hours(24 * 30));
    let keys = TicketKeys::new(&settings, Instant::ZERO, Clock::today())
        .unwrap()
        .unwrap();
    assert_eq!(u64::from(ticketer(&keys).lifetime()), 7 * DAY);
}

#[test]
fn keys_are_kept_for_the_same_settings_only() {
    let clock = Clock::today();
    let keys = rotating(&clock);
    assert!(keys.serve(&Tickets::Rotating(Duration::from_hours(12))));
    assert!(!keys.serve(&Tickets::Rotating(Duration::from_hours(6))));
    assert!(!keys.serve(&Tickets::Off));
    assert!(
        TicketKeys::new(&Tickets::Off, Instant::ZERO, clock)
            .unwrap()
            .is_none()
    );
}

fn line(number: u8) -> String {
    format!("{}\n", STANDARD.encode([number; 80]))
}

#[test]
fn machines_with_one_file_open_each_others_tickets() {
    let directory = Directory::new();
    let text = format!("# current\n{}\r\n\n  {}", line(1).trim(), line(2));
    let settings = Tickets::File(directory.file("keys", text));
    let machine = || {
        TicketKeys::new(&settings, Instant::ZERO, Clock::today())
            .unwrap()
            .unwrap()
    };
    let (one, other) = (machine(), machine());
    let ticket = ticketer(&one).encrypt(b"session").unwrap();
    assert_eq!(ticket[..16], [1; 16], "the first one seals");
    assert_eq!(ticketer(&other).decrypt(&ticket).unwrap(), b"session");
    assert_eq!(one.due(), None);
    assert!(!one.rotate(after(1000)).unwrap());

    // One machine is a step ahead.
    directory.file("keys", format!("{}{}", line(3), line(1)));
    other.reload().unwrap();
    assert_eq!(ticketer(&other).decrypt(&ticket).unwrap(), b"session");
    let ahead = ticketer(&other).encrypt(b"newer").unwrap();
    assert_eq!(ticketer(&one).decrypt(&ahead), None, "not known yet");
    one.reload().unwrap();
    assert_eq!(ticketer(&one).decrypt(&ahead).unwrap(), b"newer");
    directory.file("keys", line(4));
    one.reload().unwrap();
    assert_eq!(ticketer(&one).decrypt(&ticket), None, "withdrawn");
}

#[test]
fn a_bad_file_of_keys_changes_nothing() {
    let directory = Directory::new();
    let file = directory.file("keys", line(1));
    let settings = Tickets::File(file.clone());
    let keys = TicketKeys::new(&settings, Instant::ZERO, Clock::today())
        .unwrap()
        .unwrap();
    let ticket = ticketer(&keys).encrypt(b"session").unwrap();
    let short = STANDARD.encode([1; 79]);
    let many: String = (0..17).map(line).collect();
    for (text, expected) in [
        (
            format!("{}not base64\n", line(1)),
            "line 2 is no ticket key, expected 80 bytes in base64",
        ),
        (
            short,
            "line 1 is no ticket key, expected 80 bytes in base64",
        ),
        (
            "# nothing\n".to_owned(),
            "no key, expected lines of 80 bytes in base64",
        ),
        (many, "too many ticket keys, expected at most 16"),
    ] {
        directory.file("keys", &text);
        let expected = format!("{}: {expected}", file.display());
        assert_eq!(keys.reload().unwrap_err().to_string(), expected);
        let created = TicketKeys::new(&settings, Instant::ZERO, Clock::today());
        assert_eq!(created.unwrap_err().to_string(), expected);
        assert!(ticketer(&keys).decrypt(&ticket).is_some());
    }
    let most: String = (0..16).map(line).collect();
    directory.file("keys", most);
    keys.reload().unwrap();
    std::fs::remove_file(&file).unwrap();
    let text = keys.reload().unwrap_err().to_string();
    assert!(text.ends_with("No such file or directory (os error 2), expected a readable file"));
}

/// A handshake and some talk; whether it resumed.
fn resumes(server: &Arc<ServerConfig>, client: &ClientSide) -> bool {
    let mut pair = Pair {
        client: calling(client, "a.example"),
        server: Session::server(server).unwrap(),
    };
    pair.shake_hands(&mut Cut::Every(500)).unwrap();
    pair.talk(b"question", b"answer");
    let resumed = pair.client.negotiated().resumed;
    assert_eq!(pair.server.negotiated().resumed, resumed);
    resumed
}

#[test]
fn settings_that_share_keys_resume_each_others_sessions() {
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let directory = Directory::new();
        let authority = Authority::new("ca");
        let certificate = authority.issue(&directory, &["a.example"]);
        let keys = rotating(&Clock::today());
        let server = || {
            Listener::new(&[&certificate])
                .version(version)
                .tickets(&keys)
                .config()
        };
        let client = side(&trusting(&directory, &authority));
        assert!(!resumes(&server(), &client));
        for _ in 0..20 {
            assert!(resumes(&server(), &client), "by settings made anew");
        }
        keys.rotate(after(12)).unwrap();
        assert!(resumes(&server(), &client), "by the key before");

        let strangers = Listener::new(&[&certificate]).version(version);
        let strangers = strangers.tickets(&rotating(&Clock::today())).config();
        assert!(!resumes(&strangers, &client), "declined, not refused");
        let without = Listener::new(&[&certificate]).version(version).config();
        assert!(!resumes(&without, &client));
        assert!(
            !resumes(&without, &client),
            "no session is kept without tickets"
        );
    }
}

#[test]
fn a_client_gets_one_ticket_for_each_connection() {
    let directory = Directory::new();
    let authority = Authority::new("ca");
    let certificate = authority.issue(&directory, &["a.example"]);
    let listener = Listener::new(&[&certificate]).version(TlsVersion::Tls13);
    let with = listener.tickets(&rotating(&Clock::today())).config();
    let without = Listener::new(&[&certificate])
        .version(TlsVersion::Tls13)
        .config();
    let client = side(&trusting(&directory, &authority));
    for (config, expected) in [(&with, 1), (&without, 0)] {
        let mut pair = Pair {
            client: calling(&client, "a.example"),
            server: Session::server(config).unwrap(),
        };
        pair.shake_hands(&mut Cut::Whole).unwrap();
        assert_eq!(pair.client.tickets(), expected);
    }
}

#[test]
fn a_ticket_does_not_carry_a_client_past_other_rules() {
    let directory = Directory::new();
    let (authority, people) = (Authority::new("ca"), Authority::new("people"));
    let certificate = authority.issue(&directory, &["a.example"]);
    let keys = rotating(&Clock::today());
    let ca = directory.file("people.pem", people.pem());
    let rules = |crl: Option<&str>| ClientCa {
        ca: ca.clone(),
        crl: crl.map(|text| directory.file("crl.pem", text)),
    };
    let server = |auth: ClientAuth| {
        Listener::new(&[&certificate])
            .auth(auth)
            .tickets(&keys)
            .config()
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let own = people.issue_with(&directory, &client_params("alice", 1), &key);
    let mut pool = trusting(&directory, &authority);
    pool.certificate = Some((own.chain, own.key));
    let client = side(&pool);

    let open = server(ClientAuth::Off);
    assert!(!resumes(&open, &client));
    assert!(resumes(&open, &client));
    let request = server(ClientAuth::Request(rules(None)));
    assert!(!resumes(&request, &client), "was never checked");
    assert!(resumes(&request, &client));
    let require = server(ClientAuth::Require(rules(None)));
    assert!(!resumes(&require, &client));
    assert!(resumes(&require, &client));
    let list = people.revoke(&[2]);
    let revoking = server(ClientAuth::Require(rules(Some(&list))));
    assert!(!resumes(&revoking, &client), "was not checked by this list");
    assert!(resumes(&revoking, &client));
}
