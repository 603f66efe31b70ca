//! What a ClientHello says (RFC 8446 §4.1.2; RFC 5246 §7.4.1.2 for older ones).

use std::borrow::Cow;

use super::fault::{Fault, Field};
use super::reader::{End, Reader, Span};
use super::server_name::{self, Name};

pub(super) const SERVER_NAME: u16 = 0;
const SIGNATURE_ALGORITHMS: u16 = 13;
pub(super) const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;

const RANDOM_BYTES: usize = 32;
const SESSION_ID_BYTES_MAX: usize = 32;

/// The protocol that proves the possession of a name to a certificate authority (RFC 8737).
const ACME_TLS: &[u8] = b"acme-tls/1";

/// A complete ClientHello; every list that it hands out was checked when it was read.
///
/// It lends the received bytes, and owns a copy only where the message came in several records.
/// With Encrypted Client Hello this is the outer one: its name is the one to route by.
#[derive(Clone, Debug)]
pub struct ClientHello<'b> {
    message: Cow<'b, [u8]>,
    parts: Parts,
}

/// Where in the message its parts lie; an absent one is empty.
#[derive(Clone, Debug)]
struct Parts {
    legacy_version: u16,
    cipher_suites: Span,
    extensions: Span,
    name: Name,
    signature_algorithms: Span,
    alpn: Span,
    supported_versions: Span,
}

impl<'b> ClientHello<'b> {
    /// Reads a message without the four bytes of its handshake header.
    pub(super) fn parse(message: Cow<'b, [u8]>) -> Result<Self, Fault> {
        let parts = Parts::parse(&message)?;
        Ok(Self { message, parts })
    }

    /// The name of the server asked for, in lower case and without a trailing dot; `None` also if an
    /// address was sent in its place.
    pub fn server_name(&self) -> Option<&str> {
        match &self.parts.name {
            Name::Absent => None,
            Name::Sent(span) => str::from_utf8(self.part(*span)).ok(),
            Name::Lowered(name) => Some(name),
        }
    }

    /// The protocols offered by ALPN (RFC 7301), the preferred one first; none of them is empty.
    pub fn alpn(&self) -> impl Iterator<Item = &[u8]> {
        let mut list = Reader::new(self.part(self.parts.alpn));
        std::iter::from_fn(move || list.list8().ok().map(|protocol| protocol.rest()))
    }

    /// Whether the client is a certificate authority at its check (RFC 8737).
    pub fn offers_acme_tls(&self) -> bool {
        self.alpn().any(|protocol| protocol == ACME_TLS)
    }

    /// The version in the message's own field: 0x0303 in TLS 1.2 and everything later.
    pub const fn legacy_version(&self) -> u16 {
        self.parts.legacy_version
    }

    /// The versions of the extension supported_versions, GREASE among them; none before TLS 1.3.
    pub fn supported_versions(&self) -> impl Iterator<Item = u16> {
        self.numbers(self.parts.supported_versions)
    }

    /// The best version that the client speaks: 0x0301 is TLS 1.0, 0x0304 is TLS 1.3.
    pub fn version(&self) -> u16 {
        let offered = self
            .supported_versions()
            .filter(|&version| !is_grease(version));
        offered.max().unwrap_or_else(|| self.legacy_version())
    }

    /// The cipher suites in their order, GREASE among them.
    pub fn cipher_suites(&self) -> impl Iterator<Item = u16> {
        self.numbers(self.parts.cipher_suites)
    }

    /// The types of the extensions in their order, GREASE among them; none occurs twice.
    pub fn extensions(&self) -> impl Iterator<Item = u16> {
        let mut list = Reader::new(self.part(self.parts.extensions));
        std::iter::from_fn(move || extension(&mut list).ok().map(|(kind, _)| kind))
    }

    /// The body of the extension of this type.
    pub fn extension(&self, wanted: u16) -> Option<&[u8]> {
        let mut list = Reader::new(self.part(self.parts.extensions));
        let mut all = std::iter::from_fn(|| extension(&mut list).ok());
        let (_, body) = all.find(|(kind, _)| *kind == wanted)?;
        Some(body.rest())
    }

    /// The signature algorithms in their order, GREASE among them.
    pub fn signature_algorithms(&self) -> impl Iterator<Item = u16> {
        self.numbers(self.parts.signature_algorithms)
    }

    fn numbers(&self, span: Span) -> impl Iterator<Item = u16> {
        let pairs = self.part(span).as_chunks().0.iter();
        pairs.map(|&pair| u16::from_be_bytes(pair))
    }

    fn part(&self, span: Span) -> &[u8] {
        self.message.get(span.range()).unwrap_or_default()
    }
}

impl Parts {
    fn parse(message: &[u8]) -> Result<Self, Fault> {
        let mut message = Reader::new(message);
        let mut parts =
            Self::head(&mut message).map_err(|End| Fault::Malformed(Field::Message))??;
        // Clients of TLS 1.0 may end here (RFC 5246 §7.4.1.2).
        if message.is_empty() {
            return Ok(parts);
        }
        let extensions = message
            .list16()
            .map_err(|End| Fault::Malformed(Field::Extensions))?;
        if !message.is_empty() {
            return Err(Fault::Malformed(Field::Message));
        }
        parts.extensions = extensions.span();
        parts.read_extensions(extensions)?;
        Ok(parts)
    }

    /// What stands before the extensions.
    fn head(message: &mut Reader<'_>) -> Result<Result<Self, Fault>, End> {
        let legacy_version = message.u16()?;
        message.take(RANDOM_BYTES)?;
        let session_id = message.list8()?.rest();
        let cipher_suites = message.list16()?;
        let compression_methods = message.list8()?;
        let legal = session_id.len() <= SESSION_ID_BYTES_MAX
            && is_list_of_numbers(cipher_suites)
            && !compression_methods.is_empty();
        Ok(legal
            .then_some(Self {
                legacy_version,
                cipher_suites: cipher_suites.span(),
                extensions: Span::default(),
                name: Name::Absent,
                signature_algorithms: Span::default(),
                alpn: Span::default(),
                supported_versions: Span::default(),
            })
            .ok_or(Fault::Malformed(Field::Message)))
    }

    fn read_extensions(&mut self, mut list: Reader<'_>) -> Result<(), Fault> {
        let mut seen = Seen::default();
        while !list.is_empty() {
            let (kind, body) =
                extension(&mut list).map_err(|End| Fault::Malformed(Field::Extensions))?;
            // RFC 8446 §4.2: at most one of each type.
            if !seen.insert(kind) {
                return Err(Fault::RepeatedExtension);
            }
            match kind {
                SERVER_NAME => self.name = server_name::read(body)?,
                SIGNATURE_ALGORITHMS => {
                    let numbers =
                        whole(body, Reader::list16).filter(|&list| is_list_of_numbers(list));
                    self.signature_algorithms = numbers
                        .ok_or(Fault::Malformed(Field::SignatureAlgorithms))?
                        .span();
                }
                ALPN => {
                    let protocols =
                        whole(body, Reader::list16).filter(|&list| is_list_of_names(list));
                    self.alpn = protocols.ok_or(Fault::Malformed(Field::Alpn))?.span();
                }
                SUPPORTED_VERSIONS => {
                    let numbers =
                        whole(body, Reader::list8).filter(|&list| is_list_of_numbers(list));
                    self.supported_versions = numbers
                        .ok_or(Fault::Malformed(Field::SupportedVersions))?
                        .span();
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The next extension: its type and its body.
fn extension<'b>(list: &mut Reader<'b>) -> Result<(u16, Reader<'b>), End> {
    let kind = list.u16()?;
    Ok((kind, list.list16()?))
}

/// A list that fills the body of its extension to the last byte.
fn whole<'b>(
    mut body: Reader<'b>,
    list: fn(&mut Reader<'b>) -> Result<Reader<'b>, End>,
) -> Option<Reader<'b>> {
    list(&mut body).ok().filter(|_| body.is_empty())
}

fn is_list_of_numbers(list: Reader<'_>) -> bool {
    !list.is_empty() && list.rest().len().is_multiple_of(2)
}

/// Names behind their lengths, none of them empty (RFC 7301 §3.1).
fn is_list_of_names(mut list: Reader<'_>) -> bool {
    let mut names = 0;
    while !list.is_empty() {
        match list.list8() {
            Ok(name) if !name.is_empty() => names += 1,
            _ => return false,
        }
    }
    names > 0
}

/// Types of extensions met so far.
///
/// All that are in use fit in the first two; the last keeps a hello of 16,000 extensions as cheap,
/// byte for byte, as one of ten.
#[derive(Default)]
struct Seen {
    /// The types below 64, which are nearly all that clients send.
    low: u64,
    others: [u16; Self::OTHERS_MAX],
    others_count: usize,
    /// One bit for every type, once there are more others than that.
    all: Option<Box<[u64; 1024]>>,
}

impl Seen {
    /// Chromium sends six: two of GREASE, renegotiation_info and some of its own.
    const OTHERS_MAX: usize = 16;

    /// False: it was there before.
    fn insert(&mut self, kind: u16) -> bool {
        if kind < 64 {
            let bit = 1 << kind;
            let new = self.low & bit == 0;
            self.low |= bit;
            return new;
        }
        if let Some(all) = &mut self.all {
            return mark(all, kind);
        }
        let others = self.others.get(..self.others_count).unwrap_or_default();
        if others.contains(&kind) {
            return false;
        }
        match self.others.get_mut(self.others_count) {
            Some(place) => *place = kind,
            None => {
                let mut all = Box::new([0; 1024]);
                for &kind in &self.others {
                    mark(&mut all, kind);
                }
                mark(&mut all, kind);
                self.all = Some(all);
            }
        }
        self.others_count += 1;
        true
    }
}

/// Sets the bit of a type; false: it was set.
fn mark(all: &mut [u64; 1024], kind: u16) -> bool {
    let (word, bit) = (usize::from(kind / 64), 1 << (kind % 64));
    let new = all[word] & bit == 0;
    all[word] |= bit;
    new
}

/// Whether a value only keeps servers used to unknown ones (RFC 8701 §2): 0x0a0a, 0x1a1a, … 0xfafa.
pub const fn is_grease(value: u16) -> bool {
    let [high, low] = value.to_be_bytes();
    high == low && low & 0x0f == 0x0a
}
