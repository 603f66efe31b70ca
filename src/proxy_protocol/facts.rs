//! What is known of a session when the header for its backend is written.

use std::net::SocketAddr;

use crate::config::model::TlsVersion;

use super::Tlvs;

/// What a header can tell of a session.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// The client; `None` for one without an IP address.
    pub client: Option<SocketAddr>,
    /// What the client connected to; `None` for a unix socket.
    pub destination: Option<SocketAddr>,
    /// The application protocol that was negotiated, or offered first.
    pub alpn: Option<&'a [u8]>,
    /// The name that the client asked for.
    pub authority: Option<&'a str>,
    /// The session's id, at most [`UNIQUE_ID_BYTES_MAX`](super::UNIQUE_ID_BYTES_MAX) bytes.
    pub unique_id: Option<&'a [u8]>,
    /// The client's TLS; `None` unless it ends here.
    pub tls: Option<TlsFacts<'a>>,
    /// What the header said that the client sent.
    pub received: Tlvs<'a>,
}

/// What was negotiated with a client whose TLS ends here.
#[derive(Clone, Copy, Debug)]
pub struct TlsFacts<'a> {
    /// The version.
    pub version: TlsVersion,
    /// The cipher by OpenSSL's name, as receivers expect it: `ECDHE-RSA-AES128-GCM-SHA256`,
    /// `TLS_AES_128_GCM_SHA256`.
    pub cipher: &'a str,
    /// How our certificate is signed, by OpenSSL's name, if known: `RSA-SHA256`.
    pub signature: Option<&'a str>,
    /// The kind and size of our certificate's key, if known: `RSA2048`, `EC256`.
    pub key: Option<&'a str>,
    /// What the client showed.
    pub client_certificate: Option<ClientCertificate<'a>>,
}

/// A certificate that a client showed.
#[derive(Clone, Copy, Debug)]
pub struct ClientCertificate<'a> {
    /// Its subject's common name, if it has one.
    pub common_name: Option<&'a str>,
    /// Whether an authority of ours vouches for it.
    pub is_verified: bool,
    /// When it was shown.
    pub shown: Shown,
}

/// When a client showed its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// In this connection's handshake.
    Now,
    /// In an earlier connection, whose TLS session this one resumes.
    Before,
}
