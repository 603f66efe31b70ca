//! How long the keys of a session last.

use rustls::{CommonState, SupportedCipherSuite};

/// Records that rustls may send by itself under the keys of a TLS 1.2 session: one Finished, a few
/// alerts, and a refusal of each renegotiation.
const RECORDS_OF_ITS_OWN: u64 = 1024;

/// How many records can be sealed with the keys of a session whose handshake is over.
pub(super) fn records_max(common: &CommonState) -> u64 {
    match common.negotiated_cipher_suite() {
        Some(SupportedCipherSuite::Tls12(suite)) => {
            let limit = suite.common.confidentiality_limit;
            limit.saturating_sub(RECORDS_OF_ITS_OWN)
        }
        // rustls changes the keys in time.
        _ => u64::MAX,
    }
}
