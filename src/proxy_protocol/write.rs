//! From what is known of a session to the header that its backend gets.

use std::fmt;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::model::{ProxySend, ProxyVersion, TlsVersion};

use super::{Facts, HEADER_BYTES_MAX, Shown, TlsFacts, Tlvs, UNIQUE_ID_BYTES_MAX, binary, kind};

/// The longest host name, bytes (RFC 1035 §2.3.4). HAProxy refuses headers with a longer authority.
const AUTHORITY_BYTES_MAX: usize = 255;

/// What came of a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Written {
    /// Values that were to be said and are not, because they are too long or the header is full.
    pub left_out: usize,
}

/// Appends the header for a session to `out`; at most [`HEADER_BYTES_MAX`] bytes.
///
/// Values that do not fit are left out. Those received are written last, so that they go first.
///
/// Without both addresses version 1 says UNKNOWN, and version 2 LOCAL. The latter is HAProxy's usage:
/// PROXY with the family UNSPEC would be nearer to the specification, but HAProxy 2.6 refuses it.
pub fn write(send: &ProxySend, facts: &Facts<'_>, out: &mut Vec<u8>) -> Written {
    let pair = Pair::of(facts.client, facts.destination);
    match send.version {
        ProxyVersion::V1 => {
            line(pair, out);
            Written::default()
        }
        ProxyVersion::V2 => {
            let mut block = Block::begin(pair, out);
            block.say(send, facts);
            Written {
                left_out: block.finish(),
            }
        }
    }
}

/// Appends the header of a connection that is made for nobody, such as a probe: LOCAL in version 2.
///
/// Version 1 has no such thing. There it gives the connection's own `addresses`, as §2.1 advises, since
/// UNKNOWN is refused by some; without them, on a unix socket, it is all that can be said.
pub fn write_probe(
    send: &ProxySend,
    addresses: Option<(SocketAddr, SocketAddr)>,
    out: &mut Vec<u8>,
) {
    match send.version {
        ProxyVersion::V1 => line(
            addresses.and_then(|(from, to)| Pair::of(Some(from), Some(to))),
            out,
        ),
        ProxyVersion::V2 => {
            let mut block = Block::begin(None, out);
            if send.tlvs.crc32c {
                block.reserve_checksum();
            }
            block.finish();
        }
    }
}

/// Two addresses of one family, which is all that a header can express.
#[derive(Clone, Copy)]
enum Pair {
    V4 {
        from: Ipv4Addr,
        to: Ipv4Addr,
        ports: [u16; 2],
    },
    V6 {
        from: Ipv6Addr,
        to: Ipv6Addr,
        ports: [u16; 2],
    },
}

impl Pair {
    /// Mapped addresses become what they stand for: the client of a dual-stack socket is an IPv4
    /// client, and the backend's lists know it as one. If only one of both is IPv4 it is mapped, as
    /// HAProxy does, rather than losing the client's address.
    fn of(from: Option<SocketAddr>, to: Option<SocketAddr>) -> Option<Self> {
        let (from, to) = (from?, to?);
        let ports = [from.port(), to.port()];
        Some(match (from.ip().to_canonical(), to.ip().to_canonical()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Self::V4 { from, to, ports },
            (from, to) => Self::V6 {
                from: mapped(from),
                to: mapped(to),
                ports,
            },
        })
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn line(pair: Option<Pair>, out: &mut Vec<u8>) {
    let written = match pair {
        Some(Pair::V4 {
            from,
            to,
            ports: [source, destination],
        }) => {
            write!(out, "PROXY TCP4 {from} {to} {source} {destination}\r\n")
        }
        Some(Pair::V6 {
            from,
            to,
            ports: [source, destination],
        }) => {
            let (from, to) = (Groups(from), Groups(to));
            write!(out, "PROXY TCP6 {from} {to} {source} {destination}\r\n")
        }
        // Nothing may follow: HAProxy takes no other form.
        None => out.write_all(b"PROXY UNKNOWN\r\n"),
    };
    written.expect("a vector takes every write");
}

/// An address in hexadecimal groups only, as §2.1 demands: the library writes mapped ones with dots.
struct Groups(Ipv6Addr);

impl fmt::Display for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.to_ipv4_mapped(), self.0.segments()) {
            (Some(_), [.., high, low]) => write!(f, "::ffff:{high:x}:{low:x}"),
            (None, _) => self.0.fmt(f),
        }
    }
}

/// A header of version 2 in the making, at the end of `out`.
struct Block<'a> {
    out: &'a mut Vec<u8>,
    /// Where in `out` it begins.
    start: usize,
    /// Where in `out` its TLVs begin.
    tlvs: usize,
    /// Where in `out` the value of its checksum stands.
    checksum: Option<usize>,
    left_out: usize,
}

impl<'a> Block<'a> {
    fn begin(pair: Option<Pair>, out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(&binary::SIGNATURE);
        let (command, family) = match pair {
            Some(Pair::V4 { .. }) => (binary::PROXY, binary::TCP4),
            Some(Pair::V6 { .. }) => (binary::PROXY, binary::TCP6),
            None => (binary::LOCAL, binary::UNSPEC),
        };
        out.extend_from_slice(&[command, family, 0, 0]);
        match pair {
            Some(Pair::V4 { from, to, ports }) => {
                out.extend_from_slice(&from.octets());
                out.extend_from_slice(&to.octets());
                out.extend(ports.into_iter().flat_map(u16::to_be_bytes));
            }
            Some(Pair::V6 { from, to, ports }) => {
                out.extend_from_slice(&from.octets());
                out.extend_from_slice(&to.octets());
                out.extend(ports.into_iter().flat_map(u16::to_be_bytes));
            }
            None => {}
        }
        Self {
            start,
            tlvs: out.len(),
            out,
            checksum: None,
            left_out: 0,
        }
    }

    fn say(&mut self, send: &ProxySend, facts: &Facts<'_>) {
        let wanted = &send.tlvs;
        if wanted.crc32c {
            self.reserve_checksum();
        }
        if let Some(protocol) = facts.alpn.filter(|_| wanted.alpn) {
            self.add_value(kind::ALPN, protocol);
        }
        if let Some(name) = facts.authority.filter(|_| wanted.authority) {
            self.add_value(kind::AUTHORITY, name.as_bytes());
        }
        if let Some(id) = facts.unique_id.filter(|_| wanted.unique_id) {
            self.add_value(kind::UNIQUE_ID, id);
        }
        if let Some(tls) = facts.tls.filter(|_| wanted.ssl) {
            self.add_tls(&tls);
        }
        for (kind, value) in &wanted.custom {
            self.add_foreign(*kind, value.as_bytes());
        }
        let ours = self.tlvs..self.out.len();
        for (kind, value) in facts
            .received
            .filter(|(kind, _)| wanted.pass.contains(kind))
        {
            // What we know ourselves is nearer than what somebody before us knew.
            let ours = Tlvs::new(self.out.get(ours.clone()).unwrap_or_default());
            if ours.value(kind).is_none() {
                self.add_foreign(kind, value);
            }
        }
    }

    fn reserve_checksum(&mut self) {
        self.add_value(kind::CRC32C, &[0; 4]);
        self.checksum = Some(self.out.len() - 4);
    }

    fn add_tls(&mut self, tls: &TlsFacts<'_>) {
        const SSL: u8 = 1;
        const CERTIFICATE_IN_CONNECTION: u8 = 2;
        const CERTIFICATE_IN_SESSION: u8 = 4;
        let certificate = tls.client_certificate;
        let flags = match certificate.map(|certificate| certificate.shown) {
            None => SSL,
            Some(Shown::Now) => SSL | CERTIFICATE_IN_CONNECTION | CERTIFICATE_IN_SESSION,
            Some(Shown::Before) => SSL | CERTIFICATE_IN_SESSION,
        };
        // "zero if the client presented a certificate and it was successfully verified, and non-zero
        // otherwise" (§2.2.6). HAProxy says zero without a certificate too.
        let verified = certificate.is_some_and(|certificate| certificate.is_verified);
        let verify = u32::from(!verified);
        self.add(kind::SSL, |block| {
            block.out.push(flags);
            block.out.extend_from_slice(&verify.to_be_bytes());
            let version = match tls.version {
                TlsVersion::Tls12 => "TLSv1.2",
                TlsVersion::Tls13 => "TLSv1.3",
            };
            let name = certificate.and_then(|certificate| certificate.common_name);
            for (kind, value) in [
                (kind::SSL_VERSION, Some(version)),
                (kind::SSL_CN, name),
                (kind::SSL_KEY_ALG, tls.key),
                (kind::SSL_SIG_ALG, tls.signature),
                (kind::SSL_CIPHER, Some(tls.cipher)),
            ] {
                if let Some(value) = value {
                    block.add_value(kind, value.as_bytes());
                }
            }
        });
    }

    /// Adds what is not ours to judge, unless it is a checksum: one of another header, or a text, would
    /// make receivers refuse this one.
    fn add_foreign(&mut self, kind: u8, value: &[u8]) {
        if kind == kind::CRC32C {
            self.left_out += 1;
        } else {
            self.add_value(kind, value);
        }
    }

    fn add_value(&mut self, kind: u8, value: &[u8]) {
        let bytes_max = match kind {
            kind::AUTHORITY => AUTHORITY_BYTES_MAX,
            kind::UNIQUE_ID => UNIQUE_ID_BYTES_MAX,
            _ => usize::from(u16::MAX),
        };
        if value.len() > bytes_max {
            self.left_out += 1;
        } else {
            self.add(kind, |block| block.out.extend_from_slice(value));
        }
    }

    /// Adds the value that `fill` appends, unless the header becomes too long by it.
    fn add(&mut self, kind: u8, fill: impl FnOnce(&mut Self)) {
        let at = self.out.len();
        self.out.extend_from_slice(&[kind, 0, 0]);
        let value = self.out.len();
        fill(self);
        let fits = self.out.len() - self.start <= HEADER_BYTES_MAX;
        match u16::try_from(self.out.len() - value) {
            Ok(length) if fits => self.patch(at + 1, length.to_be_bytes()),
            _ => {
                self.out.truncate(at);
                self.left_out += 1;
            }
        }
    }

    /// Fills in what depends on the whole; returns how many values were left out.
    fn finish(mut self) -> usize {
        let length = self.out.len() - self.start - binary::FIXED_BYTES;
        let length = u16::try_from(length).expect("what does not fit was left out");
        let after_signature = self.start + binary::SIGNATURE.len();
        self.patch(after_signature + 2, length.to_be_bytes());
        if let Some(at) = self.checksum {
            // With zeros in its own place (§2.2.3), where they are.
            let header = self.out.get(self.start..).unwrap_or_default();
            self.patch(at, crc32c::crc32c(header).to_be_bytes());
        }
        self.left_out
    }

    /// Overwrites what was put at `at` to hold its place.
    fn patch<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        let place = self.out.get_mut(at..at + N);
        place.expect("its place was held").copy_from_slice(&bytes);
    }
}
