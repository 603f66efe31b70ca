//! Peers of rustls that also send what rustls never would, and keys that are watched.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::crypto::cipher::{
    AeadKey, Iv, KeyBlockShape, MessageDecrypter, MessageEncrypter, OutboundChunks,
    OutboundOpaqueMessage, OutboundPlainMessage, Tls12AeadAlgorithm, Tls13AeadAlgorithm,
    UnsupportedOperationError,
};
use rustls::crypto::{CipherSuiteCommon, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{
    ClientConfig, ClientConnection, Connection, ConnectionTrafficSecrets, ContentType, Error,
    RootCertStore, ServerConfig, ServerConnection, SupportedCipherSuite, Tls12CipherSuite,
    Tls13CipherSuite,
};

use super::fixtures::{Authority, Clock, Directory, named};
use crate::config::model::TlsVersion;
use crate::tls::sealing::yielding;
use crate::tls::seam::Session;
use crate::tls::{SUITES, provider, versions};

/// Plaintext that begins so is sent as a record of the type that follows.
const MARK: [u8; 8] = [0xf5, 0x1e, 0x92, 0x07, 0xc3, 0x6b, 0xd8, 0x44];

/// The plaintext that makes a peer send `payload` as a record of this type.
pub(super) fn forged(kind: ContentType, payload: &[u8]) -> Vec<u8> {
    [&MARK[..], &[kind.into()], payload].concat()
}

/// Sends what is forged, and sees to it that each number is used once, one after the other.
struct Watched {
    inner: Box<dyn MessageEncrypter>,
    next: u64,
}

impl Watched {
    fn over(inner: Box<dyn MessageEncrypter>) -> Box<dyn MessageEncrypter> {
        Box::new(Self { inner, next: 0 })
    }
}

impl MessageEncrypter for Watched {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        number: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        assert_eq!(number, self.next, "each number once, and none left out");
        self.next += 1;
        let payload = message.payload.to_vec();
        match payload.strip_prefix(&MARK) {
            Some([kind, rest @ ..]) if message.typ == ContentType::ApplicationData => {
                let message = OutboundPlainMessage {
                    typ: ContentType::from(*kind),
                    version: message.version,
                    payload: OutboundChunks::Single(rest),
                };
                self.inner.encrypt(message, number)
            }
            _ => self.inner.encrypt(message, number),
        }
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        self.inner.encrypted_payload_len(payload_len)
    }
}

struct New(&'static dyn Tls13AeadAlgorithm);

impl Tls13AeadAlgorithm for New {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Watched::over(self.0.encrypter(key, iv))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.0.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv)
    }
}

struct Old(&'static dyn Tls12AeadAlgorithm);

impl Tls12AeadAlgorithm for Old {
    fn encrypter(&self, key: AeadKey, iv: &[u8], extra: &[u8]) -> Box<dyn MessageEncrypter> {
        Watched::over(self.0.encrypter(key, iv, extra))
    }

    fn decrypter(&self, key: AeadKey, iv: &[u8]) -> Box<dyn MessageDecrypter> {
        self.0.decrypter(key, iv)
    }

    fn key_block_shape(&self) -> KeyBlockShape {
        self.0.key_block_shape()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: &[u8],
        explicit: &[u8],
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv, explicit)
    }
}

/// The same suite, watched, whose keys last for so many records.
fn watched(suite: SupportedCipherSuite, limit: u64) -> SupportedCipherSuite {
    let common = |common: &CipherSuiteCommon| CipherSuiteCommon {
        suite: common.suite,
        hash_provider: common.hash_provider,
        confidentiality_limit: limit,
    };
    match suite {
        SupportedCipherSuite::Tls13(suite) => {
            SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
                common: common(&suite.common),
                hkdf_provider: suite.hkdf_provider,
                aead_alg: Box::leak(Box::new(New(suite.aead_alg))),
                quic: None,
            })))
        }
        SupportedCipherSuite::Tls12(suite) => {
            SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
                common: common(&suite.common),
                prf_provider: suite.prf_provider,
                kx: suite.kx,
                sign: suite.sign,
                aead_alg: Box::leak(Box::new(Old(suite.aead_alg))),
            })))
        }
    }
}

/// Settings of all four parts that somebody can have, for one version.
pub(super) struct Forge {
    our_server: Arc<ServerConfig>,
    our_client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// Which side a session of ours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ours {
    Client,
    Server,
}

pub(super) const SIDES: [Ours; 2] = [Ours::Client, Ours::Server];

impl Forge {
    /// Keys of ours last for `limit` records, those of peers for ever; a record has at most `fragment`
    /// bytes.
    pub(super) fn new(version: TlsVersion, limit: u64, fragment: Option<usize>) -> Self {
        let directory = Directory::new();
        let authority = Authority::new("ca");
        let certificate = authority.issue(&directory, &["a.example"]);
        let chain = vec![CertificateDer::from_pem_file(&certificate.chain).unwrap()];
        let key = PrivateKeyDer::from_pem_file(&certificate.key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority.0.der().clone()).unwrap();
        let clock = Clock::today();
        let with = |suites: Vec<SupportedCipherSuite>| {
            Arc::new(CryptoProvider {
                cipher_suites: suites,
                ..(**provider()).clone()
            })
        };
        let ours = with(SUITES.map(|suite| yielding(watched(suite, limit))).to_vec());
        let theirs = with(SUITES.map(|suite| watched(suite, u64::MAX)).to_vec());
        let server = |provider: &Arc<CryptoProvider>| {
            let mut config = ServerConfig::builder_with_details(provider.clone(), clock.clone())
                .with_protocol_versions(versions(version, version))
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(chain.clone(), key.clone_key())
                .unwrap();
            config.send_tls13_tickets = 2;
            config.ticketer = Ticketer::new().unwrap();
            config.max_fragment_size = fragment;
            Arc::new(config)
        };
        let client = |provider: &Arc<CryptoProvider>| {
            let mut config = ClientConfig::builder_with_details(provider.clone(), clock.clone())
                .with_protocol_versions(versions(version, version))
                .unwrap()
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.max_fragment_size = fragment;
            Arc::new(config)
        };
        Self {
            our_server: server(&ours),
            our_client: client(&ours),
            server: server(&theirs),
            client: client(&theirs),
        }
    }

    /// A session of ours, and a peer, before the handshake.
    pub(super) fn pair(&self, ours: Ours) -> (Session, Peer) {
        let name = named("a.example");
        match ours {
            Ours::Server => (
                Session::server(&self.our_server).unwrap(),
                Peer(
                    ClientConnection::new(self.client.clone(), name)
                        .unwrap()
                        .into(),
                ),
            ),
            Ours::Client => (
                Session::client(&self.our_client, name).unwrap(),
                Peer(ServerConnection::new(self.server.clone()).unwrap().into()),
            ),
        }
    }

    pub(super) fn connected(&self, ours: Ours) -> (Session, Peer) {
        let (mut session, mut peer) = self.pair(ours);
        peer.0.set_buffer_limit(None);
        for _ in 0..4 {
            peer.hear(&super::wire::written(&mut session)).unwrap();
            let mut plain = Vec::new();
            session.decrypt(&mut peer.said(), &mut plain).unwrap();
        }
        assert!(!session.is_handshaking() && !peer.0.is_handshaking());
        (session, peer)
    }
}

/// A peer made of rustls alone, with buffers.
pub(super) struct Peer(pub(super) Connection);

impl Peer {
    /// Says `plain`, perhaps forged, in one record.
    pub(super) fn say(&mut self, plain: &[u8]) {
        self.0.writer().write_all(plain).unwrap();
    }

    pub(super) fn forge(&mut self, kind: ContentType, payload: &[u8]) {
        self.say(&forged(kind, payload));
    }

    /// All records that it has to send.
    pub(super) fn said(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.0.wants_write() {
            self.0.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// Takes records in; the plaintext in them.
    pub(super) fn hear(&mut self, mut bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let mut plain = Vec::new();
        while !bytes.is_empty() {
            if self.0.read_tls(&mut bytes).unwrap() == 0 {
                break;
            }
            let state = self.0.process_new_packets()?;
            let at = plain.len();
            plain.resize(at + state.plaintext_bytes_to_read(), 0);
            self.0.reader().read_exact(&mut plain[at..]).unwrap();
        }
        Ok(plain)
    }
}
