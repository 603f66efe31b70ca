//! What is known of a client beyond its address, for the log and for what its backend is told.

use std::borrow::Cow;
use std::sync::Arc;

use super::turnstile::Ticket;
use crate::base::reason::Side;
use crate::config::model::TlsVersion;
use crate::forward::link::Link;
use crate::forward::preface::Hello;
use crate::log::session::Asked;
use crate::proxy_protocol::{ClientCertificate, Shown, TlsFacts};
use crate::snapshot::Pool;

/// What is known of a client beyond its address.
#[derive(Default)]
pub(super) struct Heard {
    /// Where its route leads.
    pub(super) pool: Option<Arc<Pool>>,
    /// Why it was refused.
    pub(super) why: Option<String>,
    pub(super) route: Option<Arc<str>>,
    pub(super) hello: Option<Hello>,
    pub(super) tls: Option<Agreed>,
    /// Counts the session among its route's.
    pub(super) ticket: Ticket,
}

/// What was agreed on with a client whose TLS ends here.
pub(super) struct Agreed {
    version: TlsVersion,
    cipher: &'static str,
    pub(super) alpn: Option<Box<[u8]>>,
    pub(super) shown: Shown,
    /// What the client showed: its subject's common name.
    certificate: Option<Option<String>>,
}

impl Heard {
    /// The application protocol that was agreed on, or offered first.
    pub(super) fn alpn(&self) -> Option<Cow<'_, str>> {
        match &self.tls {
            Some(agreed) => agreed.alpn.as_deref().map(String::from_utf8_lossy),
            None => self.hello.as_ref().and_then(Hello::protocol),
        }
    }

    pub(super) fn asked<'a>(&'a self, alpn: Option<&'a str>) -> Asked<'a> {
        let hello = self.hello.as_ref();
        Asked {
            route: self.route.as_deref(),
            sni: hello.and_then(|hello| hello.name.as_deref()),
            alpn,
            tls: self.tls.as_ref().map(|agreed| match agreed.version {
                TlsVersion::Tls12 => "1.2",
                TlsVersion::Tls13 => "1.3",
            }),
            ja4: hello.map(|hello| &*hello.ja4),
        }
    }
}

impl Agreed {
    /// What was agreed on with the link's client; `None`: there is no TLS with it.
    pub(super) fn with(link: &Link) -> Option<Self> {
        let session = link.session(Side::Client)?.borrow();
        let negotiated = session.negotiated();
        Some(Self {
            version: negotiated.version?,
            cipher: negotiated.cipher?,
            alpn: negotiated.alpn.map(Box::from),
            shown: if negotiated.resumed {
                Shown::Before
            } else {
                Shown::Now
            },
            certificate: session
                .peer_certificate()
                .map(|_| session.peer_common_name()),
        })
    }

    pub(super) fn facts(&self) -> TlsFacts<'_> {
        TlsFacts {
            version: self.version,
            cipher: self.cipher,
            signature: None,
            key: None,
            client_certificate: self.certificate.as_ref().map(|name| ClientCertificate {
                common_name: name.as_deref(),
                is_verified: true,
                shown: self.shown,
            }),
        }
    }
}
