//! Files of certificates and keys: read whole, bounded, with faults that name them.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{self, SHA256};
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::fault::{Fault, Needed, Wrong};
use crate::sys::file::open_without_waiting;

/// A chain, a key, an OCSP response: some kilobytes each.
const SMALL_BYTES_MAX: u64 = 1024 * 1024;

/// Bundles of authorities and lists of revoked certificates: the largest in public use are near
/// 10 MiB.
const LARGE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A file of at most 1 MiB; its bytes leave no copy in memory.
pub(super) fn small(file: &Path) -> Result<Zeroizing<Vec<u8>>, Fault> {
    read(file, SMALL_BYTES_MAX).map(Zeroizing::new)
}

/// The certificates of a chain, at least one.
pub(super) fn chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    sections(file, &small(file)?, Needed::Certificate)
}

/// The certificates of a bundle of authorities, at least one.
pub(super) fn authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    sections(file, &read(file, LARGE_BYTES_MAX)?, Needed::Certificate)
}

/// The certificates of `file` as authorities.
pub(super) fn roots(file: &Path, found: &[CertificateDer<'_>]) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    for (at, authority) in found.iter().enumerate() {
        roots.add(authority.clone()).map_err(|error| {
            let (number, detail) = (at + 1, error.to_string());
            Fault::file(file, Wrong::Certificate { number, detail })
        })?;
    }
    Ok(roots)
}

/// Lists of revoked certificates, at least one.
pub(super) fn revocations(
    file: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, Fault> {
    sections(file, &read(file, LARGE_BYTES_MAX)?, Needed::RevocationList)
}

/// The first private key of a file.
pub(super) fn key(file: &Path) -> Result<PrivateKeyDer<'static>, Fault> {
    PrivateKeyDer::from_pem_slice(&small(file)?).map_err(|error| {
        let wrong = match error {
            pem::Error::NoItemsFound => Wrong::Lacks(Needed::Key),
            error => Wrong::Pem(pem_detail(&error)),
        };
        Fault::file(file, wrong)
    })
}

fn sections<T: PemObject>(file: &Path, text: &[u8], needed: Needed) -> Result<Vec<T>, Fault> {
    let found: Vec<T> = T::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| Fault::file(file, Wrong::Pem(pem_detail(&error))))?;
    if found.is_empty() {
        return Err(Fault::file(file, Wrong::Lacks(needed)));
    }
    Ok(found)
}

/// The markers that the error carries are bytes; an operator finds them in the file.
fn pem_detail(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section without an end".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a section that begins badly".to_owned(),
        pem::Error::Base64Decode(detail) => format!("broken base64 ({detail})"),
        error => error.to_string(),
    }
}

/// What the files hold, in short; equal for equal contents of the same number of files.
pub(super) fn digest(files: &[PathBuf]) -> Result<[u8; 32], Fault> {
    let mut hash = digest::Context::new(&SHA256);
    for file in files {
        let bytes = Zeroizing::new(read(file, LARGE_BYTES_MAX)?);
        hash.update(&(bytes.len() as u64).to_be_bytes());
        hash.update(&bytes);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    Ok(digest)
}

fn read(file: &Path, bytes_max: u64) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    // What is no file could give nothing for ever, and whoever looks at files again and again must
    // not wait for one.
    let regular = |open: &File| match open.metadata()?.is_file() {
        true => Ok(()),
        false => Err(io::Error::other("not a regular file")),
    };
    open_without_waiting(file)
        .and_then(|open| regular(&open).map(|()| open))
        .and_then(|open| open.take(bytes_max + 1).read_to_end(&mut bytes))
        .map_err(|error| Fault::file(file, Wrong::Unreadable(error)))?;
    if bytes.len() as u64 > bytes_max {
        return Err(Fault::file(file, Wrong::TooLarge(bytes_max)));
    }
    Ok(bytes)
}
