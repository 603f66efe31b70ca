//! How one side's end becomes the other's.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use ringlane::base::reason::{Reason, Side};
use ringlane::config::model::TlsVersion;
use rustls::{AlertDescription, ClientConnection, StreamOwned};
use socket2::SockRef;

use crate::settings::{Server, calling, name};
use crate::stage::{Cast, DRIVERS, PATIENCE, Played, Worker, connection};

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A client whose handshake is over, a plain backend, and how the session ends.
struct Ends {
    client: Tls,
    backend: TcpStream,
    played: Receiver<Played>,
    _worker: Worker,
}

impl Ends {
    /// For each version and driver.
    fn each(settle: impl Fn(&mut Cast), test: impl Fn(Self)) {
        for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
            for driver in DRIVERS {
                let (client, ours) = connection();
                let (backend, backends) = connection();
                let mut cast = Cast::between(ours, backends);
                cast.terminate = Some(Server::new().version(version).config());
                settle(&mut cast);
                let worker = Worker::start(driver);
                let played = worker.serve(cast);
                let config = calling(TlsVersion::Tls12, &[]);
                let tls = ClientConnection::new(config, name()).unwrap();
                let mut client = StreamOwned::new(tls, client);
                while client.conn.is_handshaking() {
                    client.conn.complete_io(&mut client.sock).unwrap();
                }
                test(Self {
                    client,
                    backend,
                    played,
                    _worker: worker,
                });
            }
        }
    }

    #[track_caller]
    fn ends_with(self, reason: Reason, side: Side) -> Played {
        let played = self.played.recv_timeout(PATIENCE).unwrap();
        assert_eq!((played.ending.reason, played.ending.side), (reason, side));
        played
    }

    /// Sends from the client what its backend then has.
    fn say(&mut self, bytes: &[u8]) {
        self.client.write_all(bytes).unwrap();
        let mut said = vec![0; bytes.len()];
        self.backend.read_exact(&mut said).unwrap();
        assert_eq!(said, bytes);
    }
}

fn read_all(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[track_caller]
fn is_reset(mut stream: &TcpStream) {
    let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_client_that_ends_its_half_still_gets_its_answer() {
    Ends::each(
        |_| {},
        |mut ends| {
            ends.say(b"request");
            // No FIN follows.
            ends.client.conn.send_close_notify();
            ends.client.flush().unwrap();
            assert_eq!(read_all(&mut ends.backend), b"");
            ends.backend.write_all(b"answer").unwrap();
            ends.backend.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_all(&mut ends.client), b"answer");
            let played = ends.ends_with(Reason::Eof, Side::Client);
            assert_eq!((played.up, played.down), (7, 6));
        },
    );
}

#[test]
fn a_client_may_go_on_after_its_backend_has_ended() {
    Ends::each(
        |_| {},
        |mut ends| {
            ends.backend.write_all(b"that is all").unwrap();
            ends.backend.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_all(&mut ends.client), b"that is all");
            for _ in 0..3 {
                ends.say(b"still here");
            }
            ends.client.conn.send_close_notify();
            ends.client.flush().unwrap();
            assert_eq!(read_all(&mut ends.backend), b"");
            ends.ends_with(Reason::Eof, Side::Backend);
        },
    );
}

#[test]
fn a_stream_that_was_cut_off_is_not_passed_on_as_whole() {
    for answered in [false, true] {
        Ends::each(
            |_| {},
            |mut ends| {
                ends.say(b"half of a requ");
                if answered {
                    ends.backend.shutdown(Shutdown::Write).unwrap();
                    assert_eq!(read_all(&mut ends.client), b"");
                }
                ends.client.sock.shutdown(Shutdown::Write).unwrap();
                is_reset(&ends.backend);
                if answered {
                    // Clients mostly leave like this once all is said to them.
                    let played = ends.ends_with(Reason::Eof, Side::Backend);
                    assert_eq!(played.fault, None);
                } else {
                    let played = ends.ends_with(Reason::TlsTruncated, Side::Client);
                    let fault = played.fault.as_deref();
                    assert_eq!(fault, Some("stream ended without close_notify"));
                }
            },
        );
    }
}

/// The answer is with the kernel, and the client has read little of it yet.
#[test]
fn a_client_that_just_leaves_still_gets_its_answer() {
    Ends::each(
        |_| {},
        |mut ends| {
            ends.say(b"request");
            let client = SockRef::from(&ends.client.sock);
            client.set_recv_buffer_size(16 * 1024).unwrap();
            let answer = vec![5; 1 << 20];
            ends.backend.write_all(&answer).unwrap();
            ends.backend.shutdown(Shutdown::Write).unwrap();
            // The client cannot see that the worker has passed the end on.
            thread::sleep(Duration::from_millis(300));
            ends.client.sock.shutdown(Shutdown::Write).unwrap();
            is_reset(&ends.backend);
            assert_eq!(read_all(&mut ends.client), answer);
            let played = ends.ends_with(Reason::Eof, Side::Backend);
            assert_eq!(played.down, 1 << 20);
        },
    );
}

#[test]
fn a_stream_that_is_cut_off_after_the_end_of_the_other_is_no_whole_one() {
    Ends::each(
        |_| {},
        |mut ends| {
            ends.backend.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_all(&mut ends.client), b"");
            ends.say(b"the first half of");
            ends.client.sock.shutdown(Shutdown::Write).unwrap();
            is_reset(&ends.backend);
            ends.ends_with(Reason::TlsTruncated, Side::Client);
        },
    );
}

#[test]
fn a_bad_record_resets_the_backend_and_is_answered() {
    Ends::each(
        |_| {},
        |mut ends| {
            ends.say(b"well sealed");
            let mut bad = [7; 5 + 40];
            bad[..5].copy_from_slice(&[23, 3, 3, 0, 40]);
            ends.client.sock.write_all(&bad).unwrap();
            let error = ends.client.read_to_end(&mut Vec::new()).unwrap_err();
            let error = error.into_inner().unwrap();
            let bad_record_mac = rustls::Error::AlertReceived(AlertDescription::BadRecordMac);
            assert_eq!(error.downcast_ref(), Some(&bad_record_mac));
            // Behind the alert the stream ends, and is not cut.
            assert_eq!(read_all(&mut ends.client.sock), b"");
            is_reset(&ends.backend);
            let _ = ends.client.sock.shutdown(Shutdown::Both);
            let played = ends.ends_with(Reason::TlsFault, Side::Client);
            assert_eq!(played.up, 11);
            assert!(played.fault.is_some());
        },
    );
}

/// The same while the other direction is silent and nothing else would send the alert, and with much
/// that comes behind the bad record.
#[test]
fn a_bad_record_is_answered_whatever_follows_it() {
    Ends::each(
        |_| {},
        |mut ends| {
            let mut bad = vec![7; 5 + 40 + 60_000];
            bad[..5].copy_from_slice(&[23, 3, 3, 0, 40]);
            ends.client.sock.write_all(&bad).unwrap();
            let error = ends.client.read_to_end(&mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            is_reset(&ends.backend);
            let _ = ends.client.sock.shutdown(Shutdown::Both);
            ends.ends_with(Reason::TlsFault, Side::Client);
        },
    );
}

#[test]
fn a_reset_of_the_client_resets_the_backend() {
    Ends::each(
        |_| {},
        |mut ends| {
            ends.say(b"and then");
            let client = SockRef::from(&ends.client.sock);
            client.set_linger(Some(Duration::ZERO)).unwrap();
            let Ends {
                client,
                backend,
                played,
                ..
            } = ends;
            drop(client);
            is_reset(&backend);
            let played = played.recv_timeout(PATIENCE).unwrap();
            assert_eq!(played.ending.reason, Reason::ClientReset);
        },
    );
}

#[test]
fn a_reset_of_the_backend_resets_the_client() {
    Ends::each(
        |_| {},
        |mut ends| {
            ends.say(b"and then");
            let backend = SockRef::from(&ends.backend);
            backend.set_linger(Some(Duration::ZERO)).unwrap();
            let Ends {
                client,
                backend,
                played,
                ..
            } = ends;
            drop(backend);
            is_reset(&client.sock);
            let played = played.recv_timeout(PATIENCE).unwrap();
            assert_eq!(played.ending.reason, Reason::BackendReset);
        },
    );
}

/// A timeout is an orderly end: a peer must be able to tell it from a stream that was cut off.
#[test]
fn a_session_that_idles_out_ends_with_close_notify() {
    Ends::each(
        |cast| cast.limits.idle = Duration::from_millis(400),
        |mut ends| {
            ends.say(b"the last");
            // Without close_notify this is an error.
            assert_eq!(read_all(&mut ends.client), b"");
            assert_eq!(read_all(&mut ends.backend), b"");
            ends.ends_with(Reason::Idle, Side::Us);
        },
    );
}

#[test]
fn a_client_that_does_not_read_is_waited_for_and_then_cut_off() {
    Ends::each(
        |cast| cast.limits.idle = Duration::from_millis(1_000),
        |mut ends| {
            ends.backend
                .set_write_timeout(Some(Duration::from_millis(300)))
                .unwrap();
            let chunk = vec![1; 64 * 1024];
            let mut written = 0_usize;
            while let Ok(bytes) = ends.backend.write(&chunk) {
                written += bytes;
                assert!(written < 64 << 20, "nobody stops the backend");
            }
            is_reset_at_last(&mut ends.client);
            ends.ends_with(Reason::Idle, Side::Us);
        },
    );
}

/// It reads what is there, then the reset, never an orderly end.
#[track_caller]
fn is_reset_at_last(client: &mut Tls) {
    thread::sleep(Duration::from_millis(1_600));
    let error = client.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn the_first_error_of_a_broken_client_is_the_one_that_is_told() {
    Ends::each(
        |_| {},
        |mut ends| {
            ends.say(b"request");
            // Nobody reads the client after that.
            ends.client.conn.send_close_notify();
            ends.client.flush().unwrap();
            assert_eq!(read_all(&mut ends.backend), b"");
            let client = SockRef::from(&ends.client.sock);
            client.set_linger(Some(Duration::ZERO)).unwrap();
            let Ends {
                client,
                mut backend,
                played,
                _worker,
            } = ends;
            drop(client);
            thread::sleep(Duration::from_millis(20));
            backend.write_all(b"answer").unwrap();
            let played = played.recv_timeout(PATIENCE).unwrap();
            assert_eq!(played.ending.reason, Reason::ClientReset);
            let cause = played.ending.cause.unwrap();
            assert_eq!(
                std::io::Error::from(cause).kind(),
                ErrorKind::ConnectionReset
            );
        },
    );
}
