//! The typed values after the addresses of a version 2 header.

use super::Fault;

/// The types that the specification registers (§2.2) and ringlane reads or writes.
pub mod kind {
    /// The application protocol.
    pub const ALPN: u8 = 0x01;
    /// The name that the client asked for.
    pub const AUTHORITY: u8 = 0x02;
    /// A checksum of the header.
    pub const CRC32C: u8 = 0x03;
    /// What upstream calls the connection.
    pub const UNIQUE_ID: u8 = 0x05;
    /// TLS: flags, the outcome of verification, then TLVs of the types below.
    pub const SSL: u8 = 0x20;
    /// Within [`SSL`]: the version.
    pub const SSL_VERSION: u8 = 0x21;
    /// Within [`SSL`]: the common name in the client's certificate.
    pub const SSL_CN: u8 = 0x22;
    /// Within [`SSL`]: the cipher.
    pub const SSL_CIPHER: u8 = 0x23;
    /// Within [`SSL`]: how the certificate that the client was shown is signed.
    pub const SSL_SIG_ALG: u8 = 0x24;
    /// Within [`SSL`]: the kind of key in the certificate that the client was shown.
    pub const SSL_KEY_ALG: u8 = 0x25;
}

/// Type and length.
const PREFIX_BYTES: usize = 3;

/// Types with their values, in the order of the header. A type may come more than once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tlvs<'a> {
    rest: &'a [u8],
}

impl<'a> Tlvs<'a> {
    /// What [`Tlvs::as_bytes`] gave, kept elsewhere. Anything else ends at its first fault.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Checks that `bytes` are TLVs to their end.
    pub(super) fn whole(bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut rest = Self { rest: bytes };
        rest.by_ref().for_each(drop);
        match rest.rest {
            [] => Ok(Self { rest: bytes }),
            [kind, high, low, value @ ..] => Err(Fault::TlvLength {
                kind: *kind,
                length: usize::from(u16::from_be_bytes([*high, *low])),
                left: value.len(),
            }),
            cut => Err(Fault::TlvRest(cut.len())),
        }
    }

    /// What has not been walked yet, as it stands in the header.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.rest
    }

    /// The first value of a type.
    pub fn value(&self, kind: u8) -> Option<&'a [u8]> {
        let mut rest = *self;
        rest.find_map(|(found, value)| (found == kind).then_some(value))
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[kind, high, low], rest) = self.rest.split_first_chunk::<PREFIX_BYTES>()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some((kind, value))
    }
}
