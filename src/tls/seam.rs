//! The one type over rustls that the data path drives: bytes in, bytes out, never a wait.
//!
//! It is shaped so that another release of rustls, or another library, changes this file alone.
//!
//! # How to drive it
//!
//! What comes from the peer goes through [`feed`](Session::feed) until nothing is left of it. `feed`
//! stops as soon as plaintext is ready, and goes on when [`plaintext`](Session::plaintext) and
//! [`consume`](Session::consume) have taken it out:
//!
//! ```text
//! while !received.is_empty() {
//!     session.feed(&mut received)?;
//!     while let Some(plain) = session.plaintext() { send(plain); session.consume(n); }
//! }
//! ```
//!
//! What goes to the peer goes through [`encrypt`](Session::encrypt), best only while nothing
//! [`wants_write`](Session::wants_write): all of it is taken, whatever the peer does. `feed`,
//! `encrypt` and [`close`](Session::close) can each leave bytes for the peer (handshake, alerts,
//! tickets, answers to key updates); [`write_into`](Session::write_into) gives them out, as often as
//! `wants_write` says so. During the handshake only those move; what is encrypted then waits in
//! memory for its end.
//!
//! After a [`SessionFault`] the session takes and gives no more plaintext from the peer, but
//! plaintext from before the fault can still be taken out, and `wants_write` says whether an alert is
//! to be sent before the socket is closed.
//!
//! # What it holds to
//!
//! - No byte is lost or given twice, however the stream is cut: plaintext comes out as it went in at
//!   the other side, and ciphertext that a socket did not take waits here.
//! - The peer's end is an end only if it said so: [`peer_ended`](Session::peer_ended) tells a
//!   `close_notify` from a stream that was cut off. What follows a `close_notify` is ignored (RFC 8446
//!   §6.1). Our `close_notify` ends only what we send.
//! - A peer makes it hold at most a handshake message of 64 KiB, or a record and the plaintext of
//!   4 KiB more, beside what is encrypted for it.

use std::fmt;
use std::io::{self, BufRead, Write};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    AlertDescription, CertificateError, CipherSuite, ClientConfig, ClientConnection, Connection,
    Error, HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection, SupportedCipherSuite,
};

use super::peer;
use crate::config::model::TlsVersion;

/// The record that ends a handshake with a client whose name nobody serves: alert
/// `unrecognized_name`, fatal (RFC 6066 §3). To be sent in the place of a session's first bytes.
pub const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// What rustls takes in at once, bytes. It lists the plaintext of each record, and the list keeps the
/// length it once had: a peer that sends records of one byte makes it 6 KiB long, but no longer.
const STEP_BYTES: usize = 4096;

/// The most plaintext of a record (RFC 8446 §5.1).
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// Records that rustls may send by itself under the keys of a TLS 1.2 session: one Finished, a few
/// alerts, and a refusal of each renegotiation.
const RECORDS_OF_ITS_OWN: u64 = 1024;

/// One side of a TLS connection.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    /// Plaintext that is ready and has not been consumed, bytes.
    ready: usize,
    peer_closed: bool,
    closed: bool,
    /// Records that can still be sealed with the keys there are; only counted where keys cannot
    /// change, that is below TLS 1.3.
    records_left: u64,
}

/// Why a session cannot go on.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionFault {
    /// The peer sent a fatal alert.
    Alert(AlertDescription),
    /// The peer's certificate is not good.
    Certificate(CertificateError),
    /// The peer showed no certificate where one is needed.
    NoCertificate,
    /// The two sides have no version, cipher, group or application protocol in common.
    Incompatible(Error),
    /// What the peer sent is not TLS, or breaks its rules.
    Protocol(Error),
    /// The peer's stream ended without a `close_notify`, perhaps cut off by somebody on the way.
    Truncated,
    /// So many records were sent that the keys wear out, and the version cannot change them.
    KeysWornOut,
    /// Our side: settings, time or random numbers.
    Ours(Error),
}

/// What both sides agreed on; complete once the handshake is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated<'a> {
    /// The version.
    pub version: Option<TlsVersion>,
    /// The cipher suite, by the name that OpenSSL gives it.
    pub cipher: Option<&'static str>,
    /// The application protocol.
    pub alpn: Option<&'a [u8]>,
    /// The name that the client asked for; only on the server's side.
    pub server_name: Option<&'a str>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

impl Session {
    /// The side that a client talks to.
    pub fn server(config: &Arc<ServerConfig>) -> Result<Self, SessionFault> {
        let connection = ServerConnection::new(config.clone())?;
        Ok(Self::new(Connection::Server(connection)))
    }

    /// The side that talks to a server called `name`; its first bytes are ready at once.
    pub fn client(
        config: &Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, SessionFault> {
        let connection = ClientConnection::new(config.clone(), name)?;
        Ok(Self::new(Connection::Client(connection)))
    }

    fn new(mut connection: Connection) -> Self {
        // `encrypt` takes all it is given: its caller bounds that by the size of its scratch.
        connection.set_buffer_limit(None);
        Self {
            connection,
            ready: 0,
            peer_closed: false,
            closed: false,
            records_left: u64::MAX,
        }
    }

    /// Takes bytes from the peer, and moves `incoming` on past what it took: all of them, unless
    /// plaintext is ready that must be consumed first.
    pub fn feed(&mut self, incoming: &mut &[u8]) -> Result<(), SessionFault> {
        while !incoming.is_empty() && self.ready == 0 {
            if self.peer_closed {
                *incoming = &[];
                break;
            }
            let (mut step, _) = incoming.split_at(incoming.len().min(STEP_BYTES));
            // Of its errors only the full buffer of a handshake message can come up here: a slice
            // gives none, and there is room for plaintext.
            let taken = self.connection.read_tls(&mut step);
            let taken = taken.map_err(|error| too_long(&error))?;
            *incoming = incoming.get(taken..).unwrap_or_default();
            self.take_in()?;
        }
        Ok(())
    }

    fn take_in(&mut self) -> Result<(), SessionFault> {
        let was_handshaking = self.connection.is_handshaking();
        let state = self.connection.process_new_packets()?;
        self.ready = state.plaintext_bytes_to_read();
        self.peer_closed = state.peer_has_closed();
        if was_handshaking && !self.connection.is_handshaking() {
            // What was encrypted during the handshake has been sealed by now.
            let sealed = u64::MAX - self.records_left;
            self.records_left = records_max(&self.connection).saturating_sub(sealed);
        }
        Ok(())
    }

    /// Plaintext from the peer that is ready, at most a record of it; `None`: nothing is.
    pub fn plaintext(&mut self) -> Option<&[u8]> {
        let plain = self.connection.reader().into_first_chunk().ok()?;
        (!plain.is_empty()).then_some(plain)
    }

    /// Forgets the first `bytes` of what [`plaintext`](Self::plaintext) gives, at most all of it.
    pub fn consume(&mut self, bytes: usize) {
        let ready = self.plaintext().map_or(0, <[u8]>::len);
        let bytes = bytes.min(ready);
        self.connection.reader().consume(bytes);
        self.ready = self.ready.saturating_sub(bytes);
    }

    /// Seals `plain` for the peer; all of it, or none in case of a fault. Before the end of the
    /// handshake it waits in memory.
    pub fn encrypt(&mut self, plain: &[u8]) -> Result<(), SessionFault> {
        let records = plain.len().div_ceil(RECORD_BYTES_MAX) as u64;
        // Below TLS 1.3 rustls drops what it cannot seal any more and only closes the session, so
        // that must never be left to it.
        if records > self.records_left {
            self.close();
            return Err(SessionFault::KeysWornOut);
        }
        self.records_left -= records;
        match self.connection.writer().write_all(plain) {
            Ok(()) => Ok(()),
            // It only repeats the fault that came before.
            Err(error) => Err(SessionFault::Ours(Error::General(error.to_string()))),
        }
    }

    /// Whether there are bytes for the peer.
    pub fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Gives bytes for the peer to `sink` by one vectored write of at most 64 records, and says how
    /// many it took. The rest stays.
    pub fn write_into(&mut self, sink: &mut dyn Write) -> io::Result<usize> {
        self.connection.write_tls(sink)
    }

    /// Whether the handshake goes on. Its last bytes may still wait to be written when it is over.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Tells the peer that nothing more comes (`close_notify`); once. It may go on sending.
    pub fn close(&mut self) {
        self.closed = true;
        self.connection.send_close_notify();
    }

    /// Whether [`close`](Self::close) was called.
    pub const fn closed(&self) -> bool {
        self.closed
    }

    /// Whether the peer said that nothing more comes. Plaintext may still be ready.
    pub const fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// What the end of the peer's stream means: an end if it was announced.
    pub const fn peer_ended(&self) -> Result<(), SessionFault> {
        if self.peer_closed {
            Ok(())
        } else {
            Err(SessionFault::Truncated)
        }
    }

    /// Gives memory back before a wait that may be long: a buffer that grew for large records shrinks
    /// to its least, 4 KiB, unless a part of a record is in it.
    pub fn rest(&mut self) {
        if self.ready == 0 && !self.peer_closed {
            // The buffer is fitted before anything is read; a reader that would block ends it there.
            let fitted = self.connection.read_tls(&mut NothingYet);
            debug_assert!(fitted.is_err(), "a reader without bytes gives none");
        }
    }

    /// What both sides agreed on so far.
    pub fn negotiated(&self) -> Negotiated<'_> {
        let server_name = match &self.connection {
            Connection::Server(server) => server.server_name(),
            Connection::Client(_) => None,
        };
        let version = match self.connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => Some(TlsVersion::Tls13),
            Some(ProtocolVersion::TLSv1_2) => Some(TlsVersion::Tls12),
            _ => None,
        };
        let suite = self.connection.negotiated_cipher_suite();
        Negotiated {
            version,
            cipher: suite.map(|suite| openssl_name(suite.suite())),
            alpn: self.connection.alpn_protocol(),
            server_name,
            resumed: self.connection.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }

    /// The certificate that the peer showed, whether now or when the session began that was resumed.
    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.connection.peer_certificates()?.first()
    }

    /// The common name of the certificate that the peer showed.
    pub fn peer_common_name(&self) -> Option<String> {
        self.peer_certificate().and_then(peer::common_name)
    }
}

/// How many records can be sealed with the keys of a session whose handshake is over.
fn records_max(connection: &Connection) -> u64 {
    match connection.negotiated_cipher_suite() {
        Some(SupportedCipherSuite::Tls12(suite)) => {
            let limit = suite.common.confidentiality_limit;
            limit.saturating_sub(RECORDS_OF_ITS_OWN)
        }
        // rustls changes the keys in time.
        _ => u64::MAX,
    }
}

fn too_long(error: &io::Error) -> SessionFault {
    SessionFault::Protocol(Error::General(error.to_string()))
}

struct NothingYet;

impl io::Read for NothingYet {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// The name that logs and PROXY headers carry elsewhere.
fn openssl_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => {
            "ECDHE-ECDSA-CHACHA20-POLY1305"
        }
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        // The provider has no others.
        _ => "unknown",
    }
}

impl From<Error> for SessionFault {
    fn from(error: Error) -> Self {
        match error {
            Error::AlertReceived(alert) => Self::Alert(alert),
            Error::InvalidCertificate(error) => Self::Certificate(error),
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Self::Incompatible(error),
            Error::General(_)
            | Error::FailedToGetCurrentTime
            | Error::FailedToGetRandomBytes
            | Error::EncryptError
            | Error::HandshakeNotComplete
            | Error::BadMaxFragmentSize
            | Error::InconsistentKeys(_) => Self::Ours(error),
            error => Self::Protocol(error),
        }
    }
}

impl std::error::Error for SessionFault {}

impl fmt::Display for SessionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alert(alert) => write!(f, "peer sent alert {alert:?}"),
            Self::Certificate(error) => write!(f, "peer's certificate: {error}"),
            Self::NoCertificate => f.write_str("peer showed no certificate"),
            Self::Incompatible(error) | Self::Protocol(error) | Self::Ours(error) => error.fmt(f),
            Self::Truncated => f.write_str("stream ended without close_notify"),
            Self::KeysWornOut => f.write_str("keys worn out by the number of records"),
        }
    }
}

#[cfg(test)]
impl Session {
    pub(super) const fn records_left(&self) -> u64 {
        self.records_left
    }

    pub(super) const fn set_records_left(&mut self, records: u64) {
        self.records_left = records;
    }

    pub(super) fn update_keys(&mut self) {
        self.connection.refresh_traffic_keys().unwrap();
    }

    pub(super) fn group(&self) -> Option<String> {
        let group = self.connection.negotiated_key_exchange_group()?;
        Some(format!("{:?}", group.name()))
    }

    /// Tickets that the peer gave.
    pub(super) fn tickets(&self) -> u32 {
        match &self.connection {
            Connection::Client(client) => client.tls13_tickets_received(),
            Connection::Server(_) => 0,
        }
    }
}
