//! Authorities, certificates in files, and settings made of them.

use std::fs;
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::time_provider::TimeProvider;

use crate::base::clock::Instant;
use crate::config::model::{
    Certificate, ClientAuth, PoolSni, PoolTls, Termination, Tickets, TlsVersion, Verify,
};
use crate::tls::certificates::{Loaded, load};
use crate::tls::client::{ClientSide, Trust, client};
use crate::tls::index::CertificateIndex;
use crate::tls::server::{Serving, server};
use crate::tls::tickets::TicketKeys;
use crate::tls::{ServerConfig, seam::Session};

/// 2026-01-01 00:00:00 UTC, in seconds since 1970.
pub(super) const TODAY: u64 = 1_767_225_600;

pub(super) const DAY: u64 = 24 * 60 * 60;

/// A time that stands still until a test moves it.
#[derive(Debug)]
pub(super) struct Clock(AtomicU64);

impl Clock {
    pub(super) fn today() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(TODAY)))
    }

    pub(super) fn forward(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix(self.0.load(Ordering::Relaxed)))
    }
}

pub(super) fn unix(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// A directory that goes with its test.
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringlane-tls-{}-{number}", process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Somebody who vouches for others.
pub(super) struct Authority(pub(super) CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(Self::params(name), key).unwrap())
    }

    /// An authority that this one vouches for.
    pub(super) fn below(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::signed_by(Self::params(name), key, &self.0).unwrap())
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `names`, in files of `directory`.
    pub(super) fn issue(&self, directory: &Directory, names: &[&str]) -> Certificate {
        self.issue_with(directory, &params(names), &KeyPair::generate().unwrap())
    }

    pub(super) fn issue_with(
        &self,
        directory: &Directory,
        params: &CertificateParams,
        key: &KeyPair,
    ) -> Certificate {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let certificate = params.signed_by(key, &self.0).unwrap();
        Certificate {
            chain: directory.file(&format!("{number}.pem"), certificate.pem()),
            key: directory.file(&format!("{number}.key"), key.serialize_pem()),
            ocsp: None,
        }
    }

    /// A list that revokes the certificates with these serial numbers, until `DAY` from today.
    pub(super) fn revoke(&self, serials: &[u64]) -> String {
        let revoked = serials.iter().map(|&serial| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2025, 12, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 12, 31),
            next_update: date_time_ymd(2026, 1, 2),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

/// Of a certificate for `names`, without a common name.
pub(super) fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
}

/// Of a client's certificate.
pub(super) fn client_params(common_name: &str, serial: u64) -> CertificateParams {
    let mut params = params(&[]);
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.serial_number = Some(SerialNumber::from(serial));
    params
}

pub(super) fn loaded(certificate: &Certificate) -> Loaded {
    load(certificate, unix(TODAY)).unwrap()
}

/// A listener's settings in the making.
pub(super) struct Listener {
    pub(super) termination: Termination,
    pub(super) clock: Arc<Clock>,
    pub(super) keys: Option<Arc<TicketKeys>>,
}

impl Listener {
    /// All versions, no client certificates, no tickets, and the first certificate as the default.
    pub(super) fn new(certificates: &[&Certificate]) -> Self {
        Self {
            termination: Termination {
                certificates: certificates.iter().map(|&one| one.clone()).collect(),
                default_certificate: Some(0),
                min_version: TlsVersion::Tls12,
                max_version: TlsVersion::Tls13,
                alpn: Vec::new(),
                client_auth: ClientAuth::Off,
                tickets: Tickets::Off,
                handshakes_max: 1000,
                handshake_rate: None,
            },
            clock: Clock::today(),
            keys: None,
        }
    }

    pub(super) fn version(mut self, version: TlsVersion) -> Self {
        self.termination.min_version = version;
        self.termination.max_version = version;
        self
    }

    pub(super) fn auth(mut self, auth: ClientAuth) -> Self {
        self.termination.client_auth = auth;
        self
    }

    pub(super) fn alpn(mut self, protocols: &[&str]) -> Self {
        self.termination.alpn = protocols.iter().map(|&name| name.into()).collect();
        self
    }

    pub(super) fn tickets(mut self, keys: &Arc<TicketKeys>) -> Self {
        self.keys = Some(keys.clone());
        self
    }

    pub(super) fn strict(mut self) -> Self {
        self.termination.default_certificate = None;
        self
    }

    pub(super) fn index(&self) -> Arc<CertificateIndex> {
        let certificates = self.termination.certificates.iter().map(loaded).collect();
        let default = self.termination.default_certificate;
        let clock = self.clock.clone();
        Arc::new(CertificateIndex::new(certificates, default, clock))
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.serving().config()
    }

    /// What each handshake gets its own settings from.
    pub(super) fn serving(&self) -> Serving {
        server(&self.termination, &self.index(), self.keys.as_ref()).unwrap()
    }
}

/// Keys of a process that change every 12 hours.
pub(super) fn rotating(clock: &Arc<Clock>) -> Arc<TicketKeys> {
    let settings = Tickets::Rotating(Duration::from_hours(12));
    TicketKeys::new(&settings, Instant::ZERO, clock.clone())
        .unwrap()
        .unwrap()
}

/// A pool's settings: these authorities, no certificate of its own, all versions.
pub(super) fn pool(verify: Verify) -> PoolTls {
    PoolTls {
        verify,
        sni: PoolSni::Backend,
        certificate: None,
        alpn: Vec::new(),
        min_version: TlsVersion::Tls12,
    }
}

/// A client that trusts `authority` alone.
pub(super) fn trusting(directory: &Directory, authority: &Authority) -> PoolTls {
    pool(Verify::Ca(directory.file("ca.pem", authority.pem())))
}

pub(super) fn side(pool: &PoolTls) -> ClientSide {
    client(pool, &Trust::new(Clock::today())).unwrap()
}

pub(super) fn named(name: &str) -> ServerName<'static> {
    ServerName::try_from(name.to_owned()).unwrap()
}

/// A client of `side` that asks for `name`.
pub(super) fn calling(side: &ClientSide, name: &str) -> Session {
    Session::client(&side.config, named(name)).unwrap()
}
