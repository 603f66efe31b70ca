//! How a handshake would begin, without a connection: for operators who ask beforehand.

use super::live::Terminating;
use super::seam::{Session, SessionFault};
use super::{ServerName, protocols, provider, versions};
use crate::config::model::TlsVersion;
use rustls::{ClientConfig, Error, RootCertStore};
use std::sync::Arc;

/// A client that is sent away during the handshake.
#[derive(Debug)]
pub struct Refusal {
    /// Why.
    pub fault: SessionFault,
    /// The alert that it gets, by its number.
    pub alert: Option<u8>,
}

/// Answers `hello`, as a listener would that terminates so.
///
/// # Errors
/// The listener would not go on with the handshake.
pub fn answer(terminating: &Terminating, hello: &[u8]) -> Result<(), Refusal> {
    let session = terminating.session();
    let mut session = session.map_err(|fault| Refusal { fault, alert: None })?;
    let Err(fault) = session.decrypt(&mut hello.to_vec(), &mut Vec::new()) else {
        return Ok(());
    };
    let alert = session.alert();
    Err(Refusal { fault, alert })
}

/// The ClientHello of a client with our own abilities, which asks for `name` and offers `alpn`.
///
/// # Errors
/// The name is one that no client can ask for.
pub fn hello(name: Option<&str>, alpn: &[Arc<str>]) -> Result<Vec<u8>, SessionFault> {
    let mut config = ClientConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(versions(TlsVersion::Tls12, TlsVersion::Tls13))?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = protocols(alpn);
    config.enable_sni = name.is_some();
    // Without a name it goes unsaid.
    let name = ServerName::try_from(name.unwrap_or("nameless.invalid").to_owned());
    let name = name.map_err(|error| SessionFault::Ours(Error::General(error.to_string())))?;
    let mut session = Session::client(&Arc::new(config), name)?;
    let mut hello = Vec::new();
    while session.wants_write() && session.write_into(&mut hello).is_ok_and(|sent| sent > 0) {}
    Ok(hello)
}
