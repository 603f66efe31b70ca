//! What both sides of a TLS session agreed on, for routes, logs and PROXY headers.

use rustls::{CipherSuite, CommonState, HandshakeKind, ProtocolVersion};

use crate::config::model::TlsVersion;

/// What both sides agreed on; complete once the handshake is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated<'a> {
    /// The version.
    pub version: Option<TlsVersion>,
    /// The cipher suite, by the name that OpenSSL gives it.
    pub cipher: Option<&'static str>,
    /// The application protocol.
    pub alpn: Option<&'a [u8]>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

impl<'a> Negotiated<'a> {
    pub(super) fn of(common: &'a CommonState) -> Self {
        let version = match common.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => Some(TlsVersion::Tls13),
            Some(ProtocolVersion::TLSv1_2) => Some(TlsVersion::Tls12),
            _ => None,
        };
        let suite = common.negotiated_cipher_suite();
        Negotiated {
            version,
            cipher: suite.map(|suite| openssl_name(suite.suite())),
            alpn: common.alpn_protocol(),
            resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
        }
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
