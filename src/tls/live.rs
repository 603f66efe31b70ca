//! What sessions use of TLS: finished settings, whose certificates the control plane swaps beneath them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

use super::beginning::Newest;
use super::certificates::Loaded;
use super::client::{self, ClientSide};
use super::fault::Fault;
use super::index::CertificateIndex;
use super::rate::SourceRate;
use super::seam::{Session, SessionFault};
use super::server::{self, Serving};
use super::tickets::TicketKeys;
use crate::config::model::{PoolTls, Termination, TlsVersion};

/// Everything about TLS of one configuration, by the names of listeners and pools.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub(super) listeners: HashMap<Arc<str>, Arc<Terminating>>,
    pub(super) pools: HashMap<Arc<str>, Arc<Encrypting>>,
}

/// How a listener terminates.
///
/// The pointer to the settings is written by the control plane when the authorities of clients
/// change, and read by workers, once for each handshake; whoever still holds the one before goes on
/// with that.
pub struct Terminating {
    /// The certificates; to be asked whether a name can be served before a handshake is begun.
    pub index: Arc<CertificateIndex>,
    /// Handshakes that one worker may have under way; at least 1.
    pub handshakes_max: u32,
    /// Handshakes that one source may begin; `None`: as many as it likes.
    pub handshake_rate: Option<SourceRate>,
    /// As configured.
    pub(super) settings: Termination,
    pub(super) tickets: Option<Arc<TicketKeys>>,
    serving: ArcSwap<Serving>,
}

/// How connections to the backends of a pool are encrypted.
///
/// The pointer is written by the control plane when a file has changed, and read by workers, once for
/// each connection.
pub struct Encrypting {
    /// Application protocols offered; empty: none.
    pub alpn: Vec<Arc<str>>,
    /// As configured.
    pub(super) settings: PoolTls,
    side: ArcSwap<ClientSide>,
    /// The system's authorities in short, where backends are checked against those.
    pub(super) system: Option<[u8; 32]>,
}

impl Settings {
    /// How the listener terminates, if it does.
    pub fn listener(&self, name: &str) -> Option<&Arc<Terminating>> {
        self.listeners.get(name)
    }

    /// How connections to the pool's backends are encrypted, if they are.
    pub fn pool(&self, name: &str) -> Option<&Arc<Encrypting>> {
        self.pools.get(name)
    }
}

impl Terminating {
    pub(super) fn new(
        settings: &Termination,
        index: Arc<CertificateIndex>,
        tickets: Option<Arc<TicketKeys>>,
    ) -> Result<Self, Fault> {
        let serving = server::server(settings, &index, tickets.as_ref())?;
        Ok(Self {
            index,
            handshakes_max: settings.handshakes_max,
            handshake_rate: settings.handshake_rate.map(SourceRate::new),
            settings: settings.clone(),
            tickets,
            serving: ArcSwap::from_pointee(serving),
        })
    }

    /// A session with a client that has just come.
    ///
    /// # Errors
    /// Our side: the time or random numbers.
    pub fn session(&self) -> Result<Session, SessionFault> {
        let mut session = Session::server(&self.config())?;
        session.set_newest(match self.settings.max_version {
            TlsVersion::Tls12 => Newest::Tls12,
            TlsVersion::Tls13 => Newest::Tls13,
        });
        Ok(session)
    }

    /// What one handshake is to be begun with, now.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.serving.load().config()
    }

    /// What is shown, for the metrics.
    pub fn certificates(&self) -> Vec<Loaded> {
        self.index.certificates()
    }

    /// Shows these certificates instead of those at their places, from the next handshake on.
    pub(super) fn replace(&self, certificates: Vec<(usize, Loaded)>) {
        let mut all = self.index.certificates();
        for (place, certificate) in certificates {
            if let Some(old) = all.get_mut(place) {
                *old = certificate;
            }
        }
        self.index.replace(all, self.settings.default_certificate);
    }

    /// Reads the authorities of clients again.
    pub(super) fn renew(&self) -> Result<(), Fault> {
        let serving = server::server(&self.settings, &self.index, self.tickets.as_ref())?;
        self.serving.store(Arc::new(serving));
        Ok(())
    }
}

impl Encrypting {
    pub(super) fn new(settings: &PoolTls, side: ClientSide, system: Option<[u8; 32]>) -> Self {
        Self {
            alpn: settings.alpn.clone(),
            settings: settings.clone(),
            side: ArcSwap::from_pointee(side),
            system,
        }
    }

    /// What a connection is to be begun with, now.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.side.load().config)
    }

    /// What a probe is to be begun with, now: as [`Encrypting::config`], but without sessions to resume,
    /// since a backend that resumes one shows no certificate.
    pub fn config_of_probes(&self) -> Arc<ClientConfig> {
        let mut config = (*self.config()).clone();
        config.resumption = Resumption::disabled();
        Arc::new(config)
    }

    /// The name to ask a backend for and to check it against; see [`client::name`].
    pub fn name(
        &self,
        asked: Option<&str>,
        own: Option<&ServerName<'static>>,
    ) -> Option<ServerName<'static>> {
        client::name(&self.settings.sni, asked, own)
    }

    /// What we show, for the metrics.
    pub fn certificate(&self) -> Option<Loaded> {
        self.side.load().certificate.clone()
    }

    pub(super) fn replace(&self, side: ClientSide) {
        self.side.store(Arc::new(side));
    }
}

impl fmt::Debug for Terminating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminating")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Encrypting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encrypting")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
