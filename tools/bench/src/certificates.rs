//! The certificates of the TLS workloads: made anew for each run, the same for all peers.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};

use crate::hello;

/// The kind of a certificate's key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Key {
    /// P-256.
    Ecdsa,
    /// 2,048 bits.
    Rsa,
}

/// A certificate's files, PEM all of them.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate alone.
    pub chain: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Both in one file, as HAProxy wants them.
    pub both: PathBuf,
}

impl Certificate {
    /// Where the one with this kind of key is.
    pub fn below(scratch: &Path, key: Key) -> Self {
        let name = match key {
            Key::Ecdsa => "ecdsa",
            Key::Rsa => "rsa",
        };
        Self {
            chain: scratch.join(format!("{name}.pem")),
            key: scratch.join(format!("{name}.key")),
            both: scratch.join(format!("{name}.both")),
        }
    }
}

/// Makes both certificates, for the first of the clients' names.
pub fn make(scratch: &Path) -> Result<()> {
    for kind in [Key::Ecdsa, Key::Rsa] {
        let key = match kind {
            Key::Ecdsa => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            Key::Rsa => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        };
        let key = key.with_context(|| format!("a key of kind {kind:?}"))?;
        let certificate = CertificateParams::new([hello::name(0)])?
            .self_signed(&key)
            .with_context(|| format!("a certificate of kind {kind:?}"))?;
        let files = Certificate::below(scratch, kind);
        let (chain, key) = (certificate.pem(), key.serialize_pem());
        fs::write(&files.chain, &chain).with_context(|| files.chain.display().to_string())?;
        write_private(&files.key, &key)?;
        write_private(&files.both, &format!("{chain}{key}"))?;
    }
    Ok(())
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| path.display().to_string())
}
