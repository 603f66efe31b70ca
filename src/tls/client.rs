//! Settings of the side that backends see.

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{self, SHA256};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::certificates::{self, Loaded};
use super::fault::Fault;
use super::sessions::Sessions;
use super::{files, protocols, provider, versions};
use crate::config::model::{Certificate, PoolSni, PoolTls, TlsVersion, Verify};

/// What reading a configuration needs to know once, for all its pools.
pub struct Trust {
    /// Read when the first pool asks for it.
    system: OnceCell<Arc<RootCertStore>>,
    clock: Arc<dyn TimeProvider>,
}

/// A pool's settings, and what an operator should know of them.
#[derive(Clone, Debug)]
pub struct ClientSide {
    /// All connections of the pool share it, and so resume each other's sessions.
    pub config: Arc<ClientConfig>,
    /// The certificate that we show.
    pub certificate: Option<Loaded>,
}

impl Trust {
    /// The system's authorities are not read before a pool needs them.
    pub const fn new(clock: Arc<dyn TimeProvider>) -> Self {
        Self {
            system: OnceCell::new(),
            clock,
        }
    }

    /// The time of day; at the epoch, where nothing is valid, if the clock cannot be read.
    pub(super) fn now(&self) -> UnixTime {
        let now = self.clock.current_time();
        now.unwrap_or_else(|| UnixTime::since_unix_epoch(Duration::ZERO))
    }

    /// What the system trusts, in short.
    pub(super) fn system_digest(&self) -> Result<[u8; 32], Fault> {
        let mut hash = digest::Context::new(&SHA256);
        for anchor in &self.system()?.roots {
            for part in [&anchor.subject, &anchor.subject_public_key_info] {
                hash.update(&(part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(hash.finish().as_ref());
        Ok(digest)
    }

    pub(super) fn system(&self) -> Result<Arc<RootCertStore>, Fault> {
        if let Some(known) = self.system.get() {
            return Ok(known.clone());
        }
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // Some systems carry authorities that nothing can read; the others are as good as ever.
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            let faults: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
            let detail = faults.join("; ");
            return Err(Fault::NoSystemAuthorities { detail });
        }
        Ok(self.system.get_or_init(|| Arc::new(roots)).clone())
    }
}

/// Makes a pool's settings; reads the files that they name.
///
/// The sessions to be resumed are bounded, and belong to these settings: a change of authorities
/// forgets what was verified by others.
pub fn client(pool: &PoolTls, trust: &Trust) -> Result<ClientSide, Fault> {
    let verifier = verifier(&pool.verify, trust)?;
    let certificate = match &pool.certificate {
        Some((chain, key)) => Some(own_certificate(chain, key, trust)?),
        None => None,
    };
    let builder = ClientConfig::builder_with_details(provider().clone(), trust.clock.clone())
        .with_protocol_versions(versions(pool.min_version, TlsVersion::Tls13))
        .map_err(Fault::Settings)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &certificate {
        Some(shown) => {
            let shown = SingleCertAndKey::from((*shown.certified).clone());
            builder.with_client_cert_resolver(Arc::new(shown))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols(&pool.alpn);
    config.resumption = Resumption::store(Arc::new(Sessions::default()));
    Ok(ClientSide {
        config: Arc::new(config),
        certificate,
    })
}

/// Settings that take whatever a backend shows, for probes where nobody has said what to check it against.
pub fn unverified() -> Result<Arc<ClientConfig>, Fault> {
    let pool = PoolTls {
        verify: Verify::None,
        sni: PoolSni::Backend,
        certificate: None,
        alpn: Vec::new(),
        min_version: TlsVersion::Tls12,
    };
    let mut side = (*client(&pool, &Trust::new(Arc::new(DefaultTimeProvider)))?.config).clone();
    side.resumption = Resumption::disabled();
    Ok(Arc::new(side))
}

/// The name to ask a backend for and to check its certificate against. `asked`: what the client asked
/// us for. `own`: the backend's host name or IP address.
///
/// `None`: there is no name at all, as for a unix socket that gives none, or `asked` is no host name.
pub fn name(
    sni: &PoolSni,
    asked: Option<&str>,
    own: Option<&ServerName<'static>>,
) -> Option<ServerName<'static>> {
    let parse = |name: &str| ServerName::try_from(name.to_owned()).ok();
    match (sni, asked) {
        (PoolSni::Fixed(name), _) => parse(name),
        (PoolSni::Client, Some(asked)) => parse(asked),
        (PoolSni::Client, None) | (PoolSni::Backend, _) => own.cloned(),
    }
}

fn own_certificate(chain: &Path, key: &Path, trust: &Trust) -> Result<Loaded, Fault> {
    let certificate = Certificate {
        chain: chain.to_owned(),
        key: key.to_owned(),
        ocsp: None,
    };
    certificates::read(&certificate, trust.now())
}

fn verifier(verify: &Verify, trust: &Trust) -> Result<Arc<dyn ServerCertVerifier>, Fault> {
    let roots = match verify {
        Verify::System => trust.system()?,
        Verify::Ca(file) => Arc::new(files::roots(file, &files::authorities(file)?)?),
        Verify::None => return Ok(Arc::new(AcceptsAnyServerUnchecked)),
    };
    WebPkiServerVerifier::builder_with_provider(roots, provider().clone())
        .build()
        .map(|verifier| verifier as Arc<dyn ServerCertVerifier>)
        .map_err(|error| Fault::Settings(Error::General(error.to_string())))
}

/// Takes whatever a server shows, so that anybody on the way may be that server (`verify = "none"`).
///
/// Signatures are not checked either: one by a key that nobody vouches for proves nothing.
#[derive(Debug)]
struct AcceptsAnyServerUnchecked;

impl ServerCertVerifier for AcceptsAnyServerUnchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
