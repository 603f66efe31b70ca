//! Cipher suites that leave the choice of a session's last alert to us.
//!
//! rustls seals a fatal alert before it says which error it stands for, and for some errors it sends
//! none. What seals its records comes from the provider of the cryptography, though, which is ours:
//! during [`withholding`], an alert that ends the session is let out as it is, to be taken off again,
//! and the [`Pen`] that would have sealed it seals the one that is due. Nothing follows such an alert, so
//! its number and its key have sealed nothing else.
//!
//! A session has the pen of its keys at hand all the time: rustls seals nothing for us once it has met an
//! error, and may not be asked then.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::crypto::CipherSuiteCommon;
use rustls::crypto::cipher::{
    AeadKey, Iv, KeyBlockShape, MessageDecrypter, MessageEncrypter, OutboundChunks,
    OutboundOpaqueMessage, OutboundPlainMessage, PrefixedPayload, Tls12AeadAlgorithm,
    Tls13AeadAlgorithm, UnsupportedOperationError,
};
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, ProtocolVersion,
    SupportedCipherSuite, Tls12CipherSuite, Tls13CipherSuite,
};

const FATAL: u8 = 2;

/// Alerts that are to leave unsealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Withheld {
    /// None: how it is outside of [`withholding`].
    Nothing,
    /// Fatal ones.
    Fatal,
}

thread_local! {
    /// What is withheld by the call under way on this thread.
    static WITHHELD: Cell<Withheld> = const { Cell::new(Withheld::Nothing) };
    /// Whether the call has let one out.
    static LET_OUT: Cell<bool> = const { Cell::new(false) };
    /// Whether what the call leaves to be sent is sealed from here on.
    static SEALED: Cell<bool> = const { Cell::new(false) };
    /// What seals with the keys that the call made last.
    static MADE: RefCell<Option<Pen>> = const { RefCell::new(None) };
}

/// Calls into rustls, and keeps it from sealing these alerts. What came of it is known until the next call.
pub(super) fn withholding<T>(what: Withheld, call: impl FnOnce() -> T) -> T {
    /// Ends it even if the call panics.
    struct Until;
    impl Drop for Until {
        fn drop(&mut self) {
            WITHHELD.set(Withheld::Nothing);
        }
    }
    WITHHELD.set(what);
    LET_OUT.set(false);
    SEALED.set(false);
    MADE.set(None);
    let _until = Until;
    call()
}

/// Whether the last call has made what we send be sealed from now on, or it was so before.
pub(super) fn sealed() -> bool {
    SEALED.get()
}

/// Whether the last call withheld an alert that was to be sealed; it is at the end of what rustls has to
/// write.
pub(super) fn withheld() -> bool {
    LET_OUT.get()
}

/// What seals the records of the keys that were made last during the last call, if some were.
pub(super) fn made() -> Option<Pen> {
    MADE.take()
}

/// Can seal one alert, after which nothing more is sealed with these keys.
pub(super) struct Pen(Arc<Mutex<Ink>>);

/// What seals with one key.
struct Ink {
    encrypter: Box<dyn MessageEncrypter>,
    /// The number of the next record.
    next: u64,
}

impl Pen {
    /// The whole record.
    pub(super) fn seal(self, alert: AlertDescription) -> Result<Vec<u8>, Error> {
        let alert = [FATAL, alert.into()];
        let message = OutboundPlainMessage {
            typ: ContentType::Alert,
            version: ProtocolVersion::TLSv1_2,
            payload: OutboundChunks::Single(&alert),
        };
        let ink = &mut *self.0.lock();
        Ok(ink.encrypter.encrypt(message, ink.next)?.encode())
    }
}

/// The same suite, whose alerts can be withheld. Lives as long as the process: call it once for each.
pub(super) fn yielding(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    let common = |common: &CipherSuiteCommon| CipherSuiteCommon {
        suite: common.suite,
        hash_provider: common.hash_provider,
        confidentiality_limit: common.confidentiality_limit,
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

/// The algorithm of a suite of TLS 1.3.
struct New(&'static dyn Tls13AeadAlgorithm);

impl Tls13AeadAlgorithm for New {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        // Unlike those of TLS 1.2, these keys are in use once they are made.
        SEALED.set(true);
        Sealer::over(self.0.encrypter(key, iv))
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

/// The algorithm of a suite of TLS 1.2.
struct Old(&'static dyn Tls12AeadAlgorithm);

impl Tls12AeadAlgorithm for Old {
    fn encrypter(&self, key: AeadKey, iv: &[u8], extra: &[u8]) -> Box<dyn MessageEncrypter> {
        Sealer::over(self.0.encrypter(key, iv, extra))
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

struct Sealer {
    ink: Arc<Mutex<Ink>>,
    /// By how much a record is longer than what it seals, bytes.
    overhead: usize,
    /// An alert was withheld, with which the session has ended.
    has_ended: bool,
}

impl Sealer {
    fn over(encrypter: Box<dyn MessageEncrypter>) -> Box<dyn MessageEncrypter> {
        let overhead = encrypter.encrypted_payload_len(0);
        let ink = Arc::new(Mutex::new(Ink { encrypter, next: 0 }));
        MADE.set(Some(Pen(Arc::clone(&ink))));
        Box::new(Self {
            ink,
            overhead,
            has_ended: false,
        })
    }
}

impl MessageEncrypter for Sealer {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        sequence: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        if message.typ == ContentType::Alert && is_withheld(&message.payload) {
            self.has_ended = true;
            LET_OUT.set(true);
            SEALED.set(true);
            return Ok(unsealed(&message));
        }
        if self.has_ended {
            // Not reached: nothing follows such an alert.
            return Err(Error::EncryptError);
        }
        SEALED.set(true);
        // Nobody else holds the lock: the session is here.
        let ink = &mut *self.ink.lock();
        ink.next = sequence + 1;
        ink.encrypter.encrypt(message, sequence)
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        if self.has_ended {
            payload_len
        } else {
            payload_len + self.overhead
        }
    }
}

fn is_withheld(alert: &OutboundChunks<'_>) -> bool {
    WITHHELD.get() == Withheld::Fatal && alert.to_vec().first() == Some(&FATAL)
}

fn unsealed(message: &OutboundPlainMessage<'_>) -> OutboundOpaqueMessage {
    let mut payload = PrefixedPayload::with_capacity(message.payload.len());
    payload.extend_from_chunks(&message.payload);
    OutboundOpaqueMessage::new(message.typ, ProtocolVersion::TLSv1_2, payload)
}
