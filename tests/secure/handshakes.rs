//! Handshakes that come to nothing, each told to the peer as it should be, and those that bring bytes
//! along.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use ringlane::base::clock::now;
use ringlane::base::reason::{Reason, Side};
use ringlane::config::model::TlsVersion;
use ringlane::tls::{ClientConfig, ServerConfig, ServerName};
use rustls::{AlertDescription, ClientConnection, ServerConnection};
use socket2::SockRef;

use crate::settings::{Server, calling, distrusting, name};
use crate::stage::{Cast, DRIVERS, PATIENCE, Played, Worker, connection};

/// A client's end and a backend's, with ringlane between them.
struct Between {
    client: TcpStream,
    backend: TcpStream,
    played: Receiver<Played>,
    worker: Worker,
}

impl Between {
    /// For each driver.
    fn each(settle: impl Fn(&mut Cast), test: impl Fn(Self)) {
        for driver in DRIVERS {
            let (client, ours) = connection();
            let (backend, backends) = connection();
            let mut cast = Cast::between(ours, backends);
            settle(&mut cast);
            let worker = Worker::start(driver);
            test(Self {
                client,
                backend,
                played: worker.serve(cast),
                worker,
            });
        }
    }

    fn played(&self) -> Played {
        self.played.recv_timeout(PATIENCE).unwrap()
    }

    #[track_caller]
    fn ends_with(&self, reason: Reason, side: Side) -> Played {
        let played = self.played();
        assert_eq!((played.ending.reason, played.ending.side), (reason, side));
        played
    }
}

fn terminating(config: &Arc<ServerConfig>) -> impl Fn(&mut Cast) {
    let config = config.clone();
    move |cast| cast.terminate = Some(config.clone())
}

fn originating(config: &Arc<ClientConfig>) -> impl Fn(&mut Cast) {
    let config = config.clone();
    move |cast| cast.originate = Some(config.clone())
}

/// All that comes until the stream ends, which must be in an orderly way.
#[track_caller]
fn read_to_end(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[track_caller]
fn is_reset(mut stream: &TcpStream) {
    let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// The alert that a client gets which asks for `name` with these settings.
fn refused(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>, name: &'static str) -> u8 {
    let mut seen = Vec::new();
    let alert = std::cell::RefCell::new(&mut seen);
    Between::each(terminating(server), |mut between| {
        let name = ServerName::try_from(name).unwrap();
        let mut tls = ClientConnection::new(client.clone(), name).unwrap();
        let error = tls.complete_io(&mut between.client).unwrap_err();
        let error = error.into_inner().unwrap();
        match error.downcast_ref::<rustls::Error>().unwrap() {
            rustls::Error::AlertReceived(received) => alert.borrow_mut().push(u8::from(*received)),
            other => panic!("{other}"),
        }
        // The stream ends behind the alert, and is not cut.
        assert_eq!(read_to_end(&between.client), b"");
        drop(between.client.shutdown(Shutdown::Both));
        let played = between.ends_with(Reason::TlsError, Side::Client);
        assert!(played.fault.is_some());
    });
    assert_eq!(seen.first(), seen.last());
    seen[0]
}

#[test]
fn a_refused_client_gets_the_alert_that_is_due() {
    let any = calling(TlsVersion::Tls12, &[]);
    let new = calling(TlsVersion::Tls13, &[]);
    let old = Server::new().version(TlsVersion::Tls12).config();
    assert_eq!(refused(&old, &new, "a.example"), 70, "protocol_version");
    let strict = Server::new().strict().config();
    assert_eq!(
        refused(&strict, &any, "b.example"),
        112,
        "unrecognized_name"
    );
    let h2 = Server::new().alpn(&["h2"]).config();
    let other = calling(TlsVersion::Tls12, &["other"]);
    assert_eq!(
        refused(&h2, &other, "a.example"),
        120,
        "no_application_protocol"
    );
}

/// What a client gets that sends `bytes`.
#[track_caller]
fn answers(bytes: &[u8], alert: AlertDescription) {
    let expected = [21, 3, 3, 0, 2, 2, u8::from(alert)];
    let server = Server::new().config();
    for sniffed in [0, 100] {
        let settle = |cast: &mut Cast| {
            cast.terminate = Some(server.clone());
            cast.sniffed = sniffed;
        };
        Between::each(settle, |mut between| {
            between.client.write_all(bytes).unwrap();
            assert_eq!(read_to_end(&between.client), expected);
            drop(between.client.shutdown(Shutdown::Both));
            between.ends_with(Reason::TlsError, Side::Client);
        });
    }
}

#[test]
fn what_is_not_tls_gets_an_alert() {
    answers(
        b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
        AlertDescription::UnexpectedMessage,
    );
    answers(
        &[22, 3, 1, 0xff, 0xff, 0, 0],
        AlertDescription::RecordOverflow,
    );
    answers(&[23, 3, 3, 0, 1, 0], AlertDescription::UnexpectedMessage);
}

/// Closing a socket with bytes unread would reset the connection and take the alert along.
#[test]
fn a_refused_client_that_goes_on_sending_reads_its_alert() {
    let mut long = b"POST / HTTP/1.1\r\n\r\n".to_vec();
    long.resize(100_000, b'x');
    answers(&long, AlertDescription::UnexpectedMessage);
}

#[test]
fn a_refused_client_that_never_closes_is_closed() {
    Between::each(terminating(&Server::new().config()), |mut between| {
        between.client.write_all(b"no TLS").unwrap();
        let begun = now();
        between.ends_with(Reason::TlsError, Side::Client);
        let took = now() - begun;
        assert!((1_500..3_500).contains(&took.as_millis()), "{took:?}");
    });
}

#[test]
fn a_refused_client_that_never_stops_sending_is_closed() {
    Between::each(terminating(&Server::new().config()), |mut between| {
        let begun = now();
        let chunk = vec![b'x'; 64 * 1024];
        while between.client.write_all(&chunk).is_ok() {}
        assert!(now() - begun < Duration::from_millis(1_500));
        between.ends_with(Reason::TlsError, Side::Client);
    });
}

#[test]
fn a_silent_client_times_out() {
    let server = Server::new().config();
    for said in [&b""[..], &[22, 3, 1, 2, 0, 1]] {
        let settle = |cast: &mut Cast| {
            cast.terminate = Some(server.clone());
            cast.handshake = Duration::from_millis(300);
        };
        Between::each(settle, |mut between| {
            let begun = now();
            between.client.write_all(said).unwrap();
            between.ends_with(Reason::TlsError, Side::Client);
            let took = now() - begun;
            assert!((290..800).contains(&took.as_millis()), "{took:?}");
            is_reset(&between.client);
        });
    }
}

#[test]
fn a_silent_backend_times_out_and_its_client_is_reset() {
    let settle = |cast: &mut Cast| {
        cast.originate = Some(calling(TlsVersion::Tls12, &[]));
        cast.handshake = Duration::from_millis(300);
    };
    Between::each(settle, |between| {
        between.ends_with(Reason::TlsError, Side::Backend);
        is_reset(&between.client);
        is_reset(&between.backend);
    });
}

#[test]
fn a_client_that_leaves_is_told_from_one_that_is_reset() {
    let server = Server::new().config();
    Between::each(terminating(&server), |between| {
        between.client.shutdown(Shutdown::Write).unwrap();
        between.ends_with(Reason::TlsError, Side::Client);
    });
    Between::each(terminating(&server), |between| {
        let client = SockRef::from(&between.client);
        client.set_linger(Some(Duration::ZERO)).unwrap();
        let Between { client, played, .. } = between;
        drop(client);
        let played = played.recv_timeout(PATIENCE).unwrap();
        assert_eq!(played.ending.reason, Reason::ClientReset);
    });
}

/// Nobody reads the client while the backend's handshake goes on.
#[test]
fn a_client_that_breaks_ends_the_handshake_of_its_backend() {
    let client = calling(TlsVersion::Tls12, &[]);
    Between::each(originating(&client), |between| {
        let Between {
            client,
            backend,
            played,
            worker: _worker,
        } = between;
        // The handshake has begun.
        assert_ne!((&backend).read(&mut [0; 4096]).unwrap(), 0);
        SockRef::from(&client)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(client);
        let begun = now();
        let played = played.recv_timeout(PATIENCE).unwrap();
        assert_eq!(played.ending.reason, Reason::ClientReset);
        assert!(now() - begun < Duration::from_secs(1));
        is_reset(&backend);
    });
}

#[test]
fn the_end_of_a_drain_cuts_a_handshake_short() {
    Between::each(terminating(&Server::new().config()), |mut between| {
        between.client.write_all(&[22]).unwrap();
        // The session has begun, as the client's first byte is gone from its queue or will be.
        thread::sleep(Duration::from_millis(50));
        between.worker.kill_all();
        between.ends_with(Reason::Drain, Side::Us);
        is_reset(&between.client);
    });
}

#[test]
fn a_backend_whose_certificate_is_not_good_is_told_and_the_client_is_reset() {
    let distrusting = distrusting();
    let server = Server::new().config();
    Between::each(originating(&distrusting), |mut between| {
        let mut tls = ServerConnection::new(server.clone()).unwrap();
        let error = loop {
            if let Err(error) = tls.complete_io(&mut between.backend) {
                break error.into_inner().unwrap();
            }
        };
        let alert = match error.downcast_ref::<rustls::Error>().unwrap() {
            rustls::Error::AlertReceived(alert) => *alert,
            other => panic!("{other}"),
        };
        assert_eq!(alert, AlertDescription::UnknownCA);
        assert_eq!(read_to_end(&between.backend), b"");
        drop(between.backend.shutdown(Shutdown::Both));
        is_reset(&between.client);
        let played = between.ends_with(Reason::TlsError, Side::Backend);
        assert!(played.fault.unwrap().contains("certificate"));
    });
}

#[test]
fn a_backend_that_does_not_speak_tls_is_a_failed_handshake() {
    let client = calling(TlsVersion::Tls12, &[]);
    Between::each(originating(&client), |mut between| {
        between
            .backend
            .write_all(b"220 mail.example ESMTP\r\n")
            .unwrap();
        is_reset(&between.client);
        let hello_and_alert = read_to_end(&between.backend);
        assert_eq!(hello_and_alert[0], 22);
        assert!(hello_and_alert.ends_with(&[2, 10]), "{hello_and_alert:?}");
        drop(between.backend.shutdown(Shutdown::Both));
        between.ends_with(Reason::TlsError, Side::Backend);
    });
}

/// What a client says together with the end of its handshake, and its end with it, is not lost.
#[test]
fn what_comes_with_the_handshake_is_delivered() {
    let client = calling(TlsVersion::Tls12, &[]);
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let server = Server::new().version(version).config();
        let settle = |cast: &mut Cast| {
            cast.terminate = Some(server.clone());
            cast.originate = Some(client.clone());
        };
        Between::each(settle, |mut between| {
            let server = server.clone();
            let mut backend = between.backend.try_clone().unwrap();
            let answering = thread::spawn(move || {
                let mut tls = ServerConnection::new(server).unwrap();
                // It speaks first, and ends.
                tls.writer().write_all(b"welcome").unwrap();
                while tls.is_handshaking() {
                    tls.complete_io(&mut backend).unwrap();
                }
                tls.send_close_notify();
                let mut tls = rustls::StreamOwned::new(tls, backend);
                tls.flush().unwrap();
                let mut said = Vec::new();
                tls.read_to_end(&mut said).unwrap();
                said
            });
            let mut tls = ClientConnection::new(client.clone(), name()).unwrap();
            tls.writer().write_all(b"hello").unwrap();
            while tls.is_handshaking() {
                tls.complete_io(&mut between.client).unwrap();
            }
            tls.send_close_notify();
            let mut tls = rustls::Stream::new(&mut tls, &mut between.client);
            tls.flush().unwrap();
            let mut said = Vec::new();
            tls.read_to_end(&mut said).unwrap();
            assert_eq!(said, b"welcome");
            assert_eq!(answering.join().unwrap(), b"hello");
            let played = between.played();
            assert_eq!(played.ending.reason, Reason::Eof, "{played:?}");
            assert_eq!((played.up, played.down), (5, 7));
        });
    }
}
