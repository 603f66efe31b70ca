//! What can be wrong with the files and settings of TLS.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why something of TLS cannot be used.
#[derive(Debug)]
pub enum Fault {
    /// A file is not what it should be.
    File {
        /// As it stands in the configuration.
        file: PathBuf,
        /// What is wrong with it.
        wrong: Wrong,
    },
    /// The system trusts nobody, or what it trusts cannot be read.
    NoSystemAuthorities {
        /// The faults met on the way; may be empty.
        detail: String,
    },
    /// rustls refuses the settings.
    Settings(rustls::Error),
    /// The system gives no random bytes.
    NoRandom,
}

/// What is wrong with a file.
#[derive(Debug)]
pub enum Wrong {
    /// It cannot be read.
    Unreadable(io::Error),
    /// It is larger than so many bytes.
    TooLarge(u64),
    /// A PEM section is broken.
    Pem(String),
    /// There is no section of the kind that is needed.
    Lacks(Needed),
    /// A certificate is broken.
    Certificate {
        /// Its place in the file, from 1.
        number: usize,
        /// What the parser says.
        detail: String,
    },
    /// The private key is broken or of an unknown kind.
    Key(String),
    /// The private key is another certificate's.
    KeyOfAnother {
        /// The file of the certificate.
        chain: PathBuf,
    },
    /// The certificate has expired.
    Expired {
        /// When.
        since: String,
    },
    /// The certificate is not valid yet.
    NotYetValid {
        /// When it will be.
        from: String,
    },
    /// The OCSP response cannot be used.
    Ocsp(OcspWrong),
    /// A list of revoked certificates cannot be used.
    RevocationList(String),
    /// A line is not a ticket key.
    TicketKey {
        /// The line, from 1.
        line: usize,
    },
    /// There are more ticket keys than so many.
    TicketKeysMax(usize),
}

/// What a file must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needed {
    /// At least one certificate.
    Certificate,
    /// One private key.
    Key,
    /// At least one list of revoked certificates.
    RevocationList,
    /// At least one ticket key.
    TicketKey,
}

/// What is wrong with an OCSP response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OcspWrong {
    /// It is not the DER of a basic response.
    Malformed,
    /// The responder gave an error instead of an answer.
    Unsuccessful,
    /// It says nothing of this certificate.
    OfAnother,
    /// The certificate is revoked.
    Revoked,
    /// The responder does not know the certificate.
    Unknown,
}

impl Fault {
    /// `wrong` is wrong with `file`.
    pub(crate) fn file(file: &Path, wrong: Wrong) -> Self {
        let file = file.to_owned();
        Self::File { file, wrong }
    }
}

impl std::error::Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, wrong } => write!(f, "{}: {wrong}", file.display()),
            Self::NoSystemAuthorities { detail } => {
                f.write_str("the system's authorities: none found")?;
                if !detail.is_empty() {
                    write!(f, " ({detail})")?;
                }
                f.write_str(", expected a package of CA certificates, or verify = \"FILE\"")
            }
            Self::Settings(error) => write!(f, "TLS settings: {error}"),
            Self::NoRandom => f.write_str("the system gives no random bytes"),
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "{error}, expected a readable file"),
            Self::TooLarge(max) => write!(f, "too large, expected at most {max} bytes"),
            Self::Pem(detail) => write!(f, "{detail}, expected PEM"),
            Self::Lacks(needed) => needed.fmt(f),
            Self::Certificate { number, detail } => {
                write!(f, "certificate {number}: {detail}, expected X.509")
            }
            Self::Key(detail) => write!(
                f,
                "private key: {detail}, expected RSA of 2048 to 8192 bits, ECDSA P-256, P-384 or \
                 P-521, or Ed25519"
            ),
            Self::KeyOfAnother { chain } => write!(
                f,
                "not the certificate's key, expected the private key of the first certificate in {}",
                chain.display()
            ),
            Self::Expired { since } => {
                write!(
                    f,
                    "expired on {since}, expected a certificate that is valid now"
                )
            }
            Self::NotYetValid { from } => write!(
                f,
                "not valid before {from}, expected a certificate that is valid now"
            ),
            Self::Ocsp(wrong) => write!(f, "OCSP response: {wrong}"),
            Self::RevocationList(detail) => write!(
                f,
                "{detail}, expected lists of revoked certificates (X509 CRL) that are not out of date"
            ),
            Self::TicketKey { line } => {
                write!(
                    f,
                    "line {line} is no ticket key, expected 80 bytes in base64"
                )
            }
            Self::TicketKeysMax(max) => write!(f, "too many ticket keys, expected at most {max}"),
        }
    }
}

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "no certificate, expected CERTIFICATE sections (PEM)",
            Self::Key => {
                "no private key, expected a PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY section \
                 (PEM, not encrypted)"
            }
            Self::RevocationList => "no list, expected X509 CRL sections (PEM)",
            Self::TicketKey => "no key, expected lines of 80 bytes in base64",
        })
    }
}

impl fmt::Display for OcspWrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "cannot be read, expected a basic response in DER",
            Self::Unsuccessful => "the responder refused, expected a successful response",
            Self::OfAnother => "for another certificate, expected one for the chain's first",
            Self::Revoked => "says that the certificate is revoked, expected a good one",
            Self::Unknown => "the responder does not know the certificate, expected its issuer's",
        })
    }
}
