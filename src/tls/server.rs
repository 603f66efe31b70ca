//! Settings of the side that clients see.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{self, SHA256};
use rustls::pki_types::{CertificateRevocationListDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{ConfigBuilder, Error, ServerConfig, WantsVerifier};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::fault::{Fault, Wrong};
use super::holds::{Holds, Noting};
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

/// The settings of a listener that terminates TLS.
pub struct Serving {
    begun: ConfigBuilder<ServerConfig, WantsVerifier>,
    certificates: Arc<CertificateIndex>,
    alpn: Vec<Vec<u8>>,
    clients: Clients,
    tickets: Option<Arc<TicketKeys>>,
    /// What all handshakes are begun with; `None`: each with its own, since tickets have to tell how
    /// long the certificate of their one client holds.
    shared: Option<Arc<ServerConfig>>,
}

/// Makes the settings of a listener that terminates TLS; reads the authorities and the list of revoked
/// certificates that clients are checked against. The time comes from the index.
pub fn server(
    termination: &Termination,
    certificates: &Arc<CertificateIndex>,
    tickets: Option<&Arc<TicketKeys>>,
) -> Result<Serving, Fault> {
    let clock = certificates.clock().clone();
    let now = clock.current_time();
    let now = now.ok_or(Fault::Settings(Error::FailedToGetCurrentTime))?;
    let clients = Clients::load(&termination.client_auth, now)?;
    let begun = ServerConfig::builder_with_details(provider().clone(), clock)
        .with_protocol_versions(versions(termination.min_version, termination.max_version))
        .map_err(Fault::Settings)?;
    let mut serving = Serving {
        begun,
        certificates: certificates.clone(),
        alpn: protocols(&termination.alpn),
        clients,
        tickets: tickets.cloned(),
        shared: None,
    };
    if !serving.clients.verifier.offer_client_auth() || serving.tickets.is_none() {
        serving.shared = Some(Arc::new(serving.make()));
    }
    Ok(serving)
}

impl Serving {
    /// What one handshake is to be begun with.
    pub fn config(&self) -> Arc<ServerConfig> {
        match &self.shared {
            Some(shared) => Arc::clone(shared),
            None => Arc::new(self.make()),
        }
    }

    fn make(&self) -> ServerConfig {
        let holds = Arc::new(Holds::default());
        let verifier = Noting {
            verifier: Arc::clone(&self.clients.verifier),
            lists_until: self.clients.lists_until,
            holds: Arc::clone(&holds),
        };
        let mut config = self
            .begun
            .clone()
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(self.certificates.clone());
        config.alpn_protocols.clone_from(&self.alpn);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        if let Some(keys) = &self.tickets {
            let (keys, scope) = (keys.clone(), self.clients.scope);
            config.ticketer = Arc::new(Ticketer { keys, scope, holds });
            config.send_tls13_tickets = TICKETS;
            config.max_tls13_tickets = TICKETS_MAX;
        }
        config
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").finish_non_exhaustive()
    }
}

/// Who may be a client.
struct Clients {
    verifier: Arc<dyn ClientCertVerifier>,
    /// Until when the lists of revoked certificates hold, seconds since 1970.
    lists_until: u64,
    /// The rules in short. Another authority, or another list of revoked certificates, makes tickets
    /// of before worthless: a revoked client cannot come back with one.
    scope: Scope,
}

impl Clients {
    fn load(auth: &ClientAuth, now: UnixTime) -> Result<Self, Fault> {
        match auth {
            ClientAuth::Off => Ok(Self {
                verifier: WebPkiClientVerifier::no_client_auth(),
                lists_until: u64::MAX,
                scope: Scope::of(b"off", &[]),
            }),
            ClientAuth::Request(ca) => Self::checked(ca, Missing::Allowed, now),
            ClientAuth::Require(ca) => Self::checked(ca, Missing::Refused, now),
        }
    }

    fn checked(ca: &ClientCa, missing: Missing, now: UnixTime) -> Result<Self, Fault> {
        let authorities = files::authorities(&ca.ca)?;
        let (revocations, lists_until) = match &ca.crl {
            Some(file) => current(file, now)?,
            None => (Vec::new(), u64::MAX),
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
        Ok(Self {
            verifier,
            lists_until,
            scope,
        })
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

/// The lists of `file`, none of them out of date, and until when they all hold.
fn current(
    file: &Path,
    now: UnixTime,
) -> Result<(Vec<CertificateRevocationListDer<'static>>, u64), Fault> {
    let lists = files::revocations(file)?;
    let mut until = u64::MAX;
    for (at, list) in lists.iter().enumerate() {
        let number = at + 1;
        let wrong = |text| Fault::file(file, Wrong::RevocationList(text));
        let (_, list) = CertificateRevocationList::from_der(list)
            .map_err(|error| wrong(format!("list {number}: {error}")))?;
        if let Some(next) = list.next_update() {
            let due = u64::try_from(next.timestamp()).unwrap_or(0);
            if due <= now.as_secs() {
                return Err(wrong(format!("list {number} was to be renewed on {next}")));
            }
            until = until.min(due);
        }
    }
    Ok((lists, until))
}

fn verifier_fault(ca: &ClientCa, error: &VerifierBuilderError) -> Fault {
    match (error, &ca.crl) {
        (VerifierBuilderError::InvalidCrl(error), Some(file)) => {
            Fault::file(file, Wrong::RevocationList(format!("{error:?}")))
        }
        (error, _) => Fault::Settings(Error::General(error.to_string())),
    }
}
