//! TLS without sockets: certificates, settings of both sides, tickets, and the one type over rustls
//! that the data path drives.
//!
//! The control plane reads the files ([`certificates`], [`tickets`], [`server`](mod@server),
//! [`client`](mod@client)), keeps what it made of them and watches them ([`store`]). A worker meets only
//! finished settings ([`live`]) and the [`seam`]: bytes in, bytes out, no waiting. Nothing here asks for
//! the time by itself: what needs it holds the [`TimeProvider`] it was given.
//!
//! What is absent: the process's default provider of cryptography (never installed, never asked),
//! the session cache of servers (tickets cost less), early data (it can be replayed), and
//! renegotiation.

mod alert;
mod beginning;
pub mod certificates;
pub mod client;
mod coverage;
mod engine;
mod fault;
mod files;
mod held;
mod holds;
pub mod index;
mod last_word;
pub mod live;
mod load;
mod negotiated;
mod ocsp;
pub mod peer;
pub mod rate;
pub mod rehearsal;
mod sealing;
pub mod seam;
pub mod server;
mod session_fault;
mod sessions;
pub mod store;
pub mod tickets;
mod watch;
mod wear;

#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};

use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion, version};

use crate::config::model::TlsVersion;

pub use fault::{Fault, Wrong};
pub use rustls::pki_types::{ServerName, UnixTime};
pub use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
pub use rustls::{ClientConfig, ServerConfig};

/// The preferred first. A client asks with the first one; a server takes the first one that the
/// client names among these.
const GROUPS: [&dyn SupportedKxGroup; 4] = [
    kx_group::X25519MLKEM768,
    kx_group::X25519,
    kx_group::SECP256R1,
    kx_group::SECP384R1,
];

/// What we prefer as a client; as a server the client's order counts, which knows whether it has AES
/// in hardware. Bulk costs less with AES-128 than with AES-256.
const SUITES: [SupportedCipherSuite; 9] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// The cryptography of every connection.
fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        Arc::new(CryptoProvider {
            cipher_suites: SUITES.into_iter().map(sealing::yielding).collect(),
            kx_groups: GROUPS.to_vec(),
            ..aws_lc_rs::default_provider()
        })
    });
    &PROVIDER
}

/// The versions from `oldest` to `newest`, both included.
fn versions(
    oldest: TlsVersion,
    newest: TlsVersion,
) -> &'static [&'static SupportedProtocolVersion] {
    static ALL: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
    let (newer, older) = ALL.split_at(1);
    match (oldest, newest) {
        (TlsVersion::Tls12, TlsVersion::Tls13) => &ALL,
        (_, TlsVersion::Tls12) => older,
        (TlsVersion::Tls13, TlsVersion::Tls13) => newer,
    }
}

/// Application protocols as rustls takes them.
fn protocols(alpn: &[Arc<str>]) -> Vec<Vec<u8>> {
    alpn.iter().map(|name| name.as_bytes().to_vec()).collect()
}
