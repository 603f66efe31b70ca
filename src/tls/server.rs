//! Settings of the side that clients see.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{self, SHA256};
use rustls::pki_types::{CertificateRevocationListDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{Error, ServerConfig};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::fault::{Fault, Wrong};
use super::index::CertificateIndex;
use super::tickets::{Scope, TicketKeys, Ticketer};
use super::{files, protocols, provider, versions};
use crate::config::model::{ClientAuth, ClientCa, Termination};

/// Tickets given after a full TLS 1.3 handshake. One: a client that opens n connections gets n, and
/// each resumed connection brings another, so it never runs out. A second one would cost every
/// handshake a key derivation, a seal and 250 bytes for clients that open more connections than
/// before; those can ask for more (RFC 9149).
const TICKETS: usize = 1;

/// Tickets that a client can ask for.
const TICKETS_MAX: usize = 4;

/// Makes the settings of a listener that terminates TLS; reads the authorities and the list of revoked
/// certificates that clients are checked against. The time comes from the index.
pub fn server(
    termination: &Termination,
    certificates: &Arc<CertificateIndex>,
    tickets: Option<&Arc<TicketKeys>>,
) -> Result<Arc<ServerConfig>, Fault> {
    let clock = certificates.clock().clone();
    let now = clock.current_time();
    let now = now.ok_or(Fault::Settings(Error::FailedToGetCurrentTime))?;
    let clients = Clients::load(&termination.client_auth, now)?;
    let mut config = ServerConfig::builder_with_details(provider().clone(), clock)
        .with_protocol_versions(versions(termination.min_version, termination.max_version))
        .map_err(Fault::Settings)?
        .with_client_cert_verifier(clients.verifier)
        .with_cert_resolver(certificates.clone());
    config.alpn_protocols = protocols(&termination.alpn);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    if let Some(keys) = tickets {
        let (keys, scope) = (keys.clone(), clients.scope);
        config.ticketer = Arc::new(Ticketer { keys, scope });
        config.send_tls13_tickets = TICKETS;
        config.max_tls13_tickets = TICKETS_MAX;
    }
    Ok(Arc::new(config))
}

/// Who may be a client.
struct Clients {
    verifier: Arc<dyn ClientCertVerifier>,
    /// The rules in short. Another authority, or another list of revoked certificates, makes tickets
    /// of before worthless: a revoked client cannot come back with one.
    scope: Scope,
}

impl Clients {
    fn load(auth: &ClientAuth, now: UnixTime) -> Result<Self, Fault> {
        match auth {
            ClientAuth::Off => Ok(Self {
                verifier: WebPkiClientVerifier::no_client_auth(),
                scope: Scope::of(b"off", &[]),
            }),
            ClientAuth::Request(ca) => Self::checked(ca, Missing::Allowed, now),
            ClientAuth::Require(ca) => Self::checked(ca, Missing::Refused, now),
        }
    }

    fn checked(ca: &ClientCa, missing: Missing, now: UnixTime) -> Result<Self, Fault> {
        let authorities = files::authorities(&ca.ca)?;
        let revocations = match &ca.crl {
            Some(file) => current(file, now)?,
            None => Vec::new(),
        };
        let mut rules: Vec<&[u8]> = authorities.iter().map(AsRef::as_ref).collect();
        // Marks where the authorities end.
        rules.push(&[]);
        rules.extend(revocations.iter().map(AsRef::<[u8]>::as_ref));
        let scope = Scope::of(missing.word(), &rules);

        let roots = files::roots(&ca.ca, &authorities)?;
        // Revocation is checked for every certificate below an authority, and unknown is refused: an
        // authority whose list is missing from the file would otherwise revoke nothing, silently. For
        // the same reason a list that is out of date refuses.
        let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider().clone())
            .with_crls(revocations)
            .enforce_revocation_expiration();
        let builder = match missing {
            Missing::Allowed => builder.allow_unauthenticated(),
            Missing::Refused => builder,
        };
        let verifier = builder
            .build()
            .map_err(|error| verifier_fault(ca, &error))?;
        Ok(Self { verifier, scope })
    }
}

/// What becomes of a client without a certificate.
#[derive(Clone, Copy)]
enum Missing {
    Allowed,
    Refused,
}

impl Missing {
    const fn word(self) -> &'static [u8] {
        match self {
            Self::Allowed => b"request",
            Self::Refused => b"require",
        }
    }
}

impl Scope {
    /// Each part goes in with its length, so that no two lists of parts read the same.
    fn of(word: &[u8], rules: &[&[u8]]) -> Self {
        let mut hash = digest::Context::new(&SHA256);
        for part in [word].iter().chain(rules) {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut scope = [0; 32];
        scope.copy_from_slice(hash.finish().as_ref());
        Self(scope)
    }
}

/// The lists of `file`, none of them out of date.
fn current(
    file: &Path,
    now: UnixTime,
) -> Result<Vec<CertificateRevocationListDer<'static>>, Fault> {
    let lists = files::revocations(file)?;
    for (at, list) in lists.iter().enumerate() {
        let number = at + 1;
        let wrong = match CertificateRevocationList::from_der(list) {
            Err(error) => format!("list {number}: {error}"),
            Ok((_, list)) => match list.next_update() {
                Some(next)
                    if next.timestamp() <= i64::try_from(now.as_secs()).unwrap_or(i64::MAX) =>
                {
                    format!("list {number} was to be renewed on {next}")
                }
                _ => continue,
            },
        };
        return Err(Fault::file(file, Wrong::RevocationList(wrong)));
    }
    Ok(lists)
}

fn verifier_fault(ca: &ClientCa, error: &VerifierBuilderError) -> Fault {
    match (error, &ca.crl) {
        (VerifierBuilderError::InvalidCrl(error), Some(file)) => {
            Fault::file(file, Wrong::RevocationList(format!("{error:?}")))
        }
        (error, _) => Fault::Settings(Error::General(error.to_string())),
    }
}
