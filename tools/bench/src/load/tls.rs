//! TLS clients: what they offer, whom they trust, and what they remember of earlier connections.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::client::Resumption as Sessions;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme,
};
use serde::{Deserialize, Serialize};

use crate::hello;

/// A TLS client of the load generator.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Client {
    /// The certificate, a PEM file, that the server must have: this very one.
    pub certificate: PathBuf,
    /// The only version that is offered.
    pub version: Version,
    /// Whether sessions are continued.
    pub resumption: Resumption,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Version {
    /// TLS 1.2
    V12,
    /// TLS 1.3
    V13,
}

/// Whether sessions are continued.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Resumption {
    /// Each connection begins with a full handshake.
    Never,
    /// Each connection after the first of its slot must continue a session; a full handshake is an
    /// error.
    Required,
}

/// The clients of all slots.
pub(super) struct Clients {
    resumption: Resumption,
    /// One for each slot where sessions are continued, so that each has tickets of its own.
    configurations: Vec<Arc<ClientConfig>>,
    /// Slots that have had a complete exchange, and with it a ticket.
    ready: Vec<bool>,
}

impl Clients {
    pub(super) fn new(client: &Client, slots: usize) -> Result<Self> {
        let mut base = configuration(client)?;
        let configurations = match client.resumption {
            Resumption::Never => {
                base.resumption = Sessions::disabled();
                vec![Arc::new(base)]
            }
            Resumption::Required => (0..slots)
                .map(|_| {
                    let mut own = base.clone();
                    own.resumption = Sessions::in_memory_sessions(4);
                    Arc::new(own)
                })
                .collect(),
        };
        Ok(Self {
            resumption: client.resumption,
            configurations,
            ready: vec![false; slots],
        })
    }

    /// A connection for a slot, and whether it must continue a session.
    pub(super) fn connection(&self, slot: usize) -> Result<(ClientConnection, bool)> {
        let place = slot % self.configurations.len();
        let name = ServerName::try_from(hello::name(0))?;
        let connection = ClientConnection::new(Arc::clone(&self.configurations[place]), name)?;
        let must_resume = self.resumption == Resumption::Required && self.ready[slot];
        Ok((connection, must_resume))
    }

    /// Whether the last exchange of the slot was a complete one.
    pub(super) fn remember(&mut self, slot: usize, complete: Complete) {
        self.ready[slot] = complete == Complete::Yes;
    }
}

/// Whether an exchange was complete.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Complete {
    Yes,
    No,
}

/// One suite, so that all servers do the same work. The second group is there because a server that keeps
/// to RFC 8422 §5.1 shows a P-256 certificate in TLS 1.2 only to those who offer that curve; a handshake
/// that makes its keys with it is an error.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ],
        kx_groups: vec![kx_group::X25519, kx_group::SECP256R1],
        ..default_provider()
    }
}

fn configuration(client: &Client) -> Result<ClientConfig> {
    let path = &client.certificate;
    let certificate =
        CertificateDer::from_pem_file(path).with_context(|| path.display().to_string())?;
    let provider = Arc::new(provider());
    let verifier = Pinned {
        certificate,
        algorithms: provider.signature_verification_algorithms,
    };
    let version = match client.version {
        Version::V12 => &TLS12,
        Version::V13 => &TLS13,
    };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// ClientHellos for the names of these numbers, ready to be sent: for so few names that each would come
/// often, several for each.
pub(super) fn hellos(names: usize) -> Result<Vec<Vec<u8>>> {
    const AT_LEAST: usize = 256;
    let algorithms = provider().signature_verification_algorithms;
    let verifier = Pinned {
        // Nobody answers these ClientHellos, so nobody is trusted.
        certificate: CertificateDer::from(Vec::new()),
        algorithms,
    };
    let configuration = ClientConfig::builder_with_provider(Arc::new(CryptoProvider {
        kx_groups: vec![kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
        ..default_provider()
    }))
    .with_protocol_versions(&[&TLS13, &TLS12])?
    .dangerous()
    .with_custom_certificate_verifier(Arc::new(verifier))
    .with_no_client_auth();
    let configuration = Arc::new(configuration);
    (0..names.max(AT_LEAST))
        .map(|number| {
            let name = ServerName::try_from(hello::name(number % names))?;
            let mut connection = ClientConnection::new(Arc::clone(&configuration), name)?;
            let mut bytes = Vec::new();
            connection.write_tls(&mut bytes)?;
            Ok(bytes)
        })
        .collect()
}

/// Trusts one certificate: a client that built chains would be slower than the server it measures. The
/// handshake's signature is checked like any client's.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
