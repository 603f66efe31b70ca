//! How long what a client has shown holds.
//!
//! A full handshake checks a client's certificate, a resumed one only opens a ticket. So what was found
//! in the one is kept beside the connection, and goes into every ticket that is given to it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// Until when what one client has shown holds, seconds since 1970: its certificate, those above it, and
/// the lists of revoked ones. Nothing shown holds for ever.
///
/// Belongs to one connection, which one thread drives; it is atomic because rustls wants all it is given
/// to be shareable, and nothing is ordered by it.
#[derive(Debug)]
pub(super) struct Holds(AtomicU64);

impl Default for Holds {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl Holds {
    pub(super) fn until(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, until: u64) {
        self.0.store(until, Ordering::Relaxed);
    }
}

/// Checks the certificate of one client as another verifier does, and notes how long that holds.
pub(super) struct Noting {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    /// Until when the lists of revoked certificates hold.
    pub(super) lists_until: u64,
    pub(super) holds: Arc<Holds>,
}

impl ClientCertVerifier for Noting {
    fn offer_client_auth(&self) -> bool {
        self.verifier.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .verifier
            .verify_client_cert(end_entity, intermediates, now)?;
        let shown = [end_entity].into_iter().chain(intermediates);
        // One that has expired already took no part in the check.
        let ends = shown
            .filter_map(not_after)
            .filter(|&end| end >= now.as_secs());
        self.holds.set(ends.fold(self.lists_until, u64::min));
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

impl fmt::Debug for Noting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Noting").finish_non_exhaustive()
    }
}

fn not_after(certificate: &CertificateDer<'_>) -> Option<u64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    u64::try_from(certificate.validity().not_after.timestamp()).ok()
}
