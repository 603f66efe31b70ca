//! From the first bytes of a connection to its header, or to the knowledge that there is none.

use std::net::SocketAddr;

use crate::config::model::ProxyVersion;

use super::{Fault, Tlvs, binary, line};

/// What the bytes received so far come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read<'a> {
    /// All of them belong to a header, but more must come before it can be told which.
    Incomplete,
    /// They begin with a header.
    Header(Header<'a>),
    /// They do not begin like a header, and no bytes to come can change that.
    Absent,
    /// They begin like a header and cannot become one.
    Bad(Fault),
}

/// A complete header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its bytes in all; what follows them is the connection's.
    pub length: usize,
    /// Its form.
    pub version: ProxyVersion,
    /// Whose connection it is.
    pub origin: Origin<'a>,
    /// What it says besides; empty in version 1 and for LOCAL.
    pub tlvs: Tlvs<'a>,
}

/// For whom a connection was made, as its header has it. A mapped IPv4 address stays one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin<'a> {
    /// LOCAL, UNKNOWN or UNSPEC: the socket's own addresses hold.
    Socket,
    /// For a client with an IP address.
    Inet {
        /// The client's.
        source: SocketAddr,
        /// What it connected to.
        destination: SocketAddr,
    },
    /// For a client on a unix socket, which has no IP address.
    Unix {
        /// The client's path, 108 bytes, filled up with NULs.
        source: &'a [u8],
        /// What it connected to, in the same form.
        destination: &'a [u8],
    },
}

impl Header<'_> {
    /// The client's address, if the header gives an IP address.
    pub fn source(&self) -> Option<SocketAddr> {
        match self.origin {
            Origin::Inet { source, .. } => Some(source),
            Origin::Socket | Origin::Unix { .. } => None,
        }
    }

    /// The address that the client connected to, if the header gives an IP address.
    pub fn destination(&self) -> Option<SocketAddr> {
        match self.origin {
            Origin::Inet { destination, .. } => Some(destination),
            Origin::Socket | Origin::Unix { .. } => None,
        }
    }
}

/// Reads the header at the beginning of `bytes`, which may go on beyond it.
///
/// Every verdict but [`Read::Incomplete`] is final: with more bytes it stays the same. Absence and most
/// faults are told at the first byte that decides them; at the latest, there is a verdict once
/// [`HEADER_BYTES_MAX`](super::HEADER_BYTES_MAX) bytes are there. It costs little to ask again after each
/// receive, since addresses and TLVs are looked at only when they are complete.
pub fn read(bytes: &[u8]) -> Read<'_> {
    let read = if bytes.starts_with(&binary::SIGNATURE) {
        binary::read(bytes)
    } else if bytes.starts_with(line::SIGNATURE) {
        line::read(bytes)
    } else if binary::SIGNATURE.starts_with(bytes) || line::SIGNATURE.starts_with(bytes) {
        return Read::Incomplete;
    } else {
        return Read::Absent;
    };
    match read {
        Ok(Some(header)) => Read::Header(header),
        Ok(None) => Read::Incomplete,
        Err(fault) => Read::Bad(fault),
    }
}
