//! Version 2: a binary header.

use std::net::{IpAddr, SocketAddr};

use crate::config::model::ProxyVersion;

use super::{Fault, Header, Origin, Tlvs, UNIQUE_ID_BYTES_MAX, kind};

/// What a header begins with (§2.2).
pub(super) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// What every header has: signature, version and command, family and transport, length.
pub(super) const FIXED_BYTES: usize = SIGNATURE.len() + 4;

/// The command of a connection that is not made for somebody else, with the version.
pub(super) const LOCAL: u8 = 0x20;
/// The command of a connection that is, with the version.
pub(super) const PROXY: u8 = 0x21;
/// Neither family nor transport.
pub(super) const UNSPEC: u8 = 0x00;
/// TCP over IPv4.
pub(super) const TCP4: u8 = 0x11;
/// TCP over IPv6.
pub(super) const TCP6: u8 = 0x21;

/// The bytes of one unix address.
const PATH_BYTES: usize = 108;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Command {
    Local,
    Proxy,
}

/// How the addresses are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Unspec,
    Inet,
    Inet6,
    Unix,
}

/// Reads a header; `bytes` begin with [`SIGNATURE`]. `None`: more must come.
pub(super) fn read(bytes: &[u8]) -> Result<Option<Header<'_>>, Fault> {
    let after = bytes.get(SIGNATURE.len()..).unwrap_or_default();
    let Some((&first, after)) = after.split_first() else {
        return Ok(None);
    };
    let command = command(first)?;
    let Some((&second, after)) = after.split_first() else {
        return Ok(None);
    };
    let family = family(second, command)?;
    let Some((length, after)) = after.split_first_chunk() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes(*length));
    let ignored = command == Command::Local || is_unspecified(second);
    if !ignored && length < family.bytes() {
        return Err(Fault::Length {
            length,
            addresses: family.bytes(),
        });
    }
    let (Some(header), Some(block)) = (bytes.get(..FIXED_BYTES + length), after.get(..length))
    else {
        return Ok(None);
    };
    let (addresses, tlvs) = block
        .split_at_checked(family.bytes())
        .unwrap_or((block, &[]));
    let tlvs = match Tlvs::whole(tlvs) {
        Ok(tlvs) => tlvs,
        // What is to be ignored may be anything. Where it reads as TLVs it is taken for TLVs, so that
        // a checksum protects the very bits that say that the rest is to be ignored.
        Err(_) if ignored => Tlvs::default(),
        Err(fault) => return Err(fault),
    };
    verify_checksum(header, tlvs)?;
    let (origin, tlvs) = match command {
        Command::Local => (Origin::Socket, Tlvs::default()),
        Command::Proxy => (origin(family, addresses), bounded(tlvs)?),
    };
    Ok(Some(Header {
        length: header.len(),
        version: ProxyVersion::V2,
        origin: if ignored { Origin::Socket } else { origin },
        tlvs,
    }))
}

fn command(byte: u8) -> Result<Command, Fault> {
    match (byte >> 4, byte & 15) {
        (2, 0) => Ok(Command::Local),
        (2, 1) => Ok(Command::Proxy),
        (2, command) => Err(Fault::Command(command)),
        (version, _) => Err(Fault::Version(version)),
    }
}

fn family(byte: u8, command: Command) -> Result<Family, Fault> {
    let family = match byte >> 4 {
        0 => Family::Unspec,
        1 => Family::Inet,
        2 => Family::Inet6,
        3 => Family::Unix,
        // "The receiver must [...] discard the protocol block including the family which is ignored."
        _ if command == Command::Local => Family::Unspec,
        family => return Err(Fault::Family(family)),
    };
    match byte & 15 {
        transport @ 3.. if command == Command::Proxy => Err(Fault::Transport(transport)),
        _ => Ok(family),
    }
}

/// Whether addresses are to be ignored (§2.2); datagrams have addresses as good as streams'.
fn is_unspecified(byte: u8) -> bool {
    byte >> 4 == 0 || byte & 15 == 0
}

impl Family {
    /// What its addresses take, bytes.
    fn bytes(self) -> usize {
        match self {
            Self::Unspec => 0,
            Self::Inet => 2 * 4 + 2 * 2,
            Self::Inet6 => 2 * 16 + 2 * 2,
            Self::Unix => 2 * PATH_BYTES,
        }
    }
}

/// `addresses` has the family's length; otherwise it says nothing.
fn origin(family: Family, addresses: &[u8]) -> Origin<'_> {
    match family {
        Family::Unspec => Origin::Socket,
        Family::Inet => inet::<4>(addresses).unwrap_or(Origin::Socket),
        Family::Inet6 => inet::<16>(addresses).unwrap_or(Origin::Socket),
        Family::Unix => addresses.split_at_checked(PATH_BYTES).map_or(
            Origin::Socket,
            |(source, destination)| Origin::Unix {
                source,
                destination,
            },
        ),
    }
}

fn inet<const N: usize>(addresses: &[u8]) -> Option<Origin<'_>>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = addresses.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk()?;
    let destination_port = rest.first_chunk()?;
    let address =
        |address: [u8; N], port| SocketAddr::new(address.into(), u16::from_be_bytes(port));
    Some(Origin::Inet {
        source: address(*source, *source_port),
        destination: address(*destination, *destination_port),
    })
}

/// Compares the checksum, if there is one, with that of `header`, whose end is `tlvs`.
fn verify_checksum(header: &[u8], tlvs: Tlvs<'_>) -> Result<(), Fault> {
    let mut seen = false;
    let mut rest = tlvs;
    while let Some((kind, value)) = rest.next() {
        if kind != kind::CRC32C {
            continue;
        }
        if seen {
            return Err(Fault::ChecksumTwice);
        }
        seen = true;
        let said = value.try_into().map(u32::from_be_bytes);
        let said = said.map_err(|_| Fault::ChecksumLength(value.len()))?;
        let after = rest.as_bytes();
        let before = header.len() - after.len() - value.len();
        // Computed with zeros in its own place (§2.2.3).
        let computed = crc32c::crc32c(header.get(..before).unwrap_or_default());
        let computed = crc32c::crc32c_append(computed, &[0; 4]);
        let computed = crc32c::crc32c_append(computed, after);
        if said != computed {
            return Err(Fault::Checksum { said, computed });
        }
    }
    Ok(())
}

fn bounded(tlvs: Tlvs<'_>) -> Result<Tlvs<'_>, Fault> {
    let mut rest = tlvs;
    match rest.find(|(kind, value)| *kind == kind::UNIQUE_ID && value.len() > UNIQUE_ID_BYTES_MAX) {
        Some((_, value)) => Err(Fault::UniqueId(value.len())),
        None => Ok(tlvs),
    }
}
