//! Authorities, certificates in files, and peers that speak TLS by another library than ringlane's path.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, Stream,
    SupportedProtocolVersion,
};

use super::{PATIENCE, loopback};

pub(crate) static TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
pub(crate) static TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// Vouches for certificates, and keeps them in a directory of its own.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
}

/// The files of a certificate and its key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

/// The kind of a certificate's key.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Ecdsa,
    Rsa,
}

impl Authority {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringlane-authority-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(&name);
        fs::create_dir_all(&directory).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(directory.join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, directory }
    }

    /// The authority's own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// A new certificate in files called after `name`; the common name is the first of `names`.
    pub(crate) fn issue(&self, name: &str, names: &[&str]) -> Identity {
        self.issue_of(Kind::Ecdsa, name, names, 1)
    }

    pub(crate) fn issue_of(&self, kind: Kind, name: &str, names: &[&str], serial: u64) -> Identity {
        let owned: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(owned).unwrap();
        params.distinguished_name.push(DnType::CommonName, names[0]);
        params.serial_number = Some(SerialNumber::from(serial));
        let key = match kind {
            Kind::Ecdsa => KeyPair::generate(),
            Kind::Rsa => KeyPair::generate_for(&PKCS_RSA_SHA256),
        };
        let key = key.unwrap();
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        let identity = Identity {
            chain: self.directory.join(format!("{name}.pem")),
            key: self.directory.join(format!("{name}.key")),
        };
        // By renames, as it should be done; there is a moment without a pair.
        for (path, text) in [
            (&identity.key, key.serialize_pem()),
            (&identity.chain, chain),
        ] {
            fs::write(path.with_extension("new"), text).unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        }
        identity
    }

    /// A list of revoked serials.
    pub(crate) fn revoke(&self, serials: &[u64]) -> PathBuf {
        let revoked = serials.iter().map(|&serial| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.directory.join("revoked.crl");
        let list = list.signed_by(&self.issuer).unwrap();
        fs::write(&path, list.pem().unwrap()).unwrap();
        path
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        roots
    }

    /// Settings of a server that this authority's clients trust.
    pub(crate) fn server(&self, identity: &Identity, clients: Option<&Self>) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            Some(clients) => {
                let roots = Arc::new(clients.roots());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
            None => builder.with_no_client_auth(),
        };
        let (chain, key) = identity.read();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"echo".to_vec()];
        Arc::new(config)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Identity {
    /// As an element of `certificates`.
    pub(crate) fn toml(&self) -> String {
        let (chain, key) = (self.chain.display(), self.key.display());
        format!("{{ chain = \"{chain}\", key = \"{key}\" }}")
    }

    /// The certificate itself.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.read().0.remove(0)
    }

    fn read(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (
            CertificateDer::pem_file_iter(&self.chain)
                .unwrap()
                .map(Result::unwrap)
                .collect(),
            PrivateKeyDer::from_pem_file(&self.key).unwrap(),
        )
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Settings of a client in the making.
pub(crate) struct Caller<'a> {
    pub(crate) trusts: &'a Authority,
    pub(crate) versions: &'static [&'static SupportedProtocolVersion],
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) shows: Option<&'a Identity>,
    pub(crate) alpn: &'a [&'a str],
}

impl<'a> Caller<'a> {
    pub(crate) fn new(trusts: &'a Authority) -> Self {
        Self {
            trusts,
            versions: rustls::ALL_VERSIONS,
            provider: provider(),
            shows: None,
            alpn: &[],
        }
    }

    pub(crate) fn config(self) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(self.provider)
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(self.trusts.roots());
        let mut config = match self.shows {
            Some(identity) => {
                let (chain, key) = identity.read();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.iter().map(|it| it.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// A client's connection.
pub(crate) struct Talk {
    pub(crate) tls: ClientConnection,
    pub(crate) socket: TcpStream,
}

impl Talk {
    /// Connects and shakes hands.
    pub(crate) fn to(
        front: SocketAddr,
        config: &Arc<ClientConfig>,
        name: &str,
    ) -> io::Result<Self> {
        Self::before(front, config, name).shake_hands()
    }

    pub(crate) fn shake_hands(mut self) -> io::Result<Self> {
        while self.tls.is_handshaking() {
            self.tls.complete_io(&mut self.socket)?;
        }
        Ok(self)
    }

    /// Connects, and says nothing yet.
    pub(crate) fn before(front: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Self {
        let socket = TcpStream::connect(front).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let tls = ClientConnection::new(Arc::clone(config), name).unwrap();
        Self { tls, socket }
    }

    pub(crate) fn stream(&mut self) -> Stream<'_, ClientConnection, TcpStream> {
        Stream::new(&mut self.tls, &mut self.socket)
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream().write_all(bytes)?;
        self.stream().flush()
    }

    pub(crate) fn hear(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        let mut got = vec![0; bytes];
        self.stream().read_exact(&mut got)?;
        Ok(got)
    }

    /// All until the peer's close_notify; without one it is an error.
    pub(crate) fn hear_all(&mut self) -> io::Result<Vec<u8>> {
        let mut got = Vec::new();
        self.stream().read_to_end(&mut got).map(|_| got)
    }

    /// Ends its own half.
    pub(crate) fn finish(&mut self) {
        self.tls.send_close_notify();
        let _ = self.tls.write_tls(&mut self.socket);
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Says all, finishes, and hears all.
    pub(crate) fn exchange(mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.say(bytes)?;
        self.finish();
        self.hear_all()
    }
}

/// The fatal alert that an attempt came to.
pub(crate) fn alert<T>(outcome: io::Result<T>) -> Option<u8> {
    match outcome.err()?.into_inner()?.downcast_ref() {
        Some(rustls::Error::AlertReceived(alert)) => Some(u8::from(*alert)),
        _ => None,
    }
}

/// A backend that speaks TLS: says what it was asked for and shown, in one line, then echoes.
pub(crate) fn secure_echo(config: Arc<ServerConfig>) -> SocketAddr {
    secure_echo_at(loopback(), config)
}

pub(crate) fn secure_echo_at(ip: IpAddr, config: Arc<ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            thread::spawn(move || serve(socket, config));
        }
    });
    address
}

/// Serves one client of [`secure_echo`].
pub(crate) fn serve(mut socket: TcpStream, config: Arc<ServerConfig>) {
    let mut tls = ServerConnection::new(config).unwrap();
    while tls.is_handshaking() {
        if tls.complete_io(&mut socket).is_err() {
            return;
        }
    }
    let alpn = String::from_utf8_lossy(tls.alpn_protocol().unwrap_or_default()).into_owned();
    let greeting = format!(
        "sni={} alpn={alpn} shown={} resumed={}\n",
        tls.server_name().unwrap_or_default(),
        tls.peer_certificates().map_or(0, <[_]>::len),
        tls.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
    );
    let mut got = Vec::new();
    let heard = Stream::new(&mut tls, &mut socket).read_to_end(&mut got);
    if heard.is_ok() {
        let mut stream = Stream::new(&mut tls, &mut socket);
        let _ = stream.write_all(&[greeting.as_bytes(), &got].concat());
        tls.send_close_notify();
        let _ = tls.complete_io(&mut socket);
        let _ = socket.shutdown(Shutdown::Write);
        let _ = socket.read_to_end(&mut Vec::new());
    }
}

/// A listener `tls` at `front` that ends TLS with these certificates, and a pool `back`.
pub(crate) fn terminating(
    front: SocketAddr,
    certificates: &[&Identity],
    settings: &str,
    backend: SocketAddr,
) -> String {
    let certificates: Vec<String> = certificates.iter().map(|it| it.toml()).collect();
    format!(
        "[global]\nworkers = 2\n\
         [[listener]]\nname = \"tls\"\nlisten = \"{front}\"\n\
         {settings}\n\
         tls.certificates = [{}]\n\
         [pool.back]\nbackends = [\"{backend}\"]\n",
        certificates.join(", ")
    )
}

/// A path for a configuration.
pub(crate) fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}
