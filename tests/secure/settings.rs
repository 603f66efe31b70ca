//! Certificates and settings for both sides of TLS.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rcgen::{CertificateParams, DnType, KeyPair};
use ringlane::base::clock::Instant;
use ringlane::config::model::{
    Certificate, ClientAuth, PoolSni, PoolTls, Termination, Tickets, TlsVersion, Verify,
};
use ringlane::tls::certificates::load;
use ringlane::tls::client::{Trust, client};
use ringlane::tls::index::CertificateIndex;
use ringlane::tls::server::server;
use ringlane::tls::tickets::TicketKeys;
use ringlane::tls::{ClientConfig, DefaultTimeProvider, ServerConfig, ServerName, TimeProvider};

/// What the certificate of every server here is for.
pub(crate) const NAME: &str = "a.example";

/// A server's settings in the making.
pub(crate) struct Server(Termination);

impl Server {
    /// All versions, with tickets.
    pub(crate) fn new() -> Self {
        Self(Termination {
            certificates: Vec::new(),
            default_certificate: Some(0),
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            alpn: Vec::new(),
            client_auth: ClientAuth::Off,
            tickets: Tickets::Rotating(Duration::from_hours(12)),
            handshakes_max: 1,
            handshake_rate: None,
        })
    }

    pub(crate) fn version(mut self, version: TlsVersion) -> Self {
        self.0.min_version = version;
        self.0.max_version = version;
        self
    }

    pub(crate) fn alpn(mut self, protocols: &[&str]) -> Self {
        self.0.alpn = protocols.iter().map(|&name| name.into()).collect();
        self
    }

    /// Without a certificate for names that it does not know.
    pub(crate) fn strict(mut self) -> Self {
        self.0.default_certificate = None;
        self
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        let clock: Arc<dyn TimeProvider> = Arc::new(DefaultTimeProvider);
        let now = clock.current_time().unwrap();
        let loaded = load(&CERTIFICATE.files(), now).unwrap();
        let default = self.0.default_certificate;
        let index = CertificateIndex::new(vec![loaded], default, clock.clone());
        let keys = TicketKeys::new(&self.0.tickets, Instant::ZERO, clock).unwrap();
        server(&self.0, &Arc::new(index), keys.as_ref())
            .unwrap()
            .config()
    }
}

/// A client that takes whatever a server shows, and speaks these versions.
pub(crate) fn calling(oldest: TlsVersion, alpn: &[&str]) -> Arc<ClientConfig> {
    let pool = PoolTls {
        verify: Verify::None,
        sni: PoolSni::Backend,
        certificate: None,
        alpn: alpn.iter().map(|&name| name.into()).collect(),
        min_version: oldest,
    };
    trusting(&pool)
}

/// A client that checks servers by an authority that vouched for nobody here.
pub(crate) fn distrusting() -> Arc<ClientConfig> {
    let key = KeyPair::generate().unwrap();
    let mut other = CertificateParams::new(["b.example".to_owned()]).unwrap();
    other
        .distinguished_name
        .push(DnType::CommonName, "nobody's authority");
    let file = std::env::temp_dir().join(format!("ringlane-secure-ca-{}", unique()));
    fs::write(&file, other.self_signed(&key).unwrap().pem()).unwrap();
    let config = trusting(&PoolTls {
        verify: Verify::Ca(file.clone()),
        sni: PoolSni::Backend,
        certificate: None,
        alpn: Vec::new(),
        min_version: TlsVersion::Tls12,
    });
    fs::remove_file(file).unwrap();
    config
}

fn trusting(pool: &PoolTls) -> Arc<ClientConfig> {
    let clock: Arc<dyn TimeProvider> = Arc::new(DefaultTimeProvider);
    client(pool, &Trust::new(clock)).unwrap().config
}

pub(crate) fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).unwrap()
}

fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{number}", std::process::id())
}

struct Pem {
    chain: String,
    key: String,
}

static CERTIFICATE: LazyLock<Pem> = LazyLock::new(|| {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([NAME.to_owned()]).unwrap();
    Pem {
        chain: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
    }
});

impl Pem {
    /// Files that stay until the machine forgets them: they are small, and read once.
    fn files(&self) -> Certificate {
        let base = std::env::temp_dir().join(format!("ringlane-secure-{}", unique()));
        let certificate = Certificate {
            chain: base.with_extension("pem"),
            key: base.with_extension("key"),
            ocsp: None,
        };
        fs::write(&certificate.chain, &self.chain).unwrap();
        fs::write(&certificate.key, &self.key).unwrap();
        certificate
    }
}
