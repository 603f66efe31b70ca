//! Version 1: a line of text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str;

use crate::config::model::ProxyVersion;

use super::{Fault, Field, Header, Origin, Tlvs};

/// What a line begins with. With these five bytes a connection has said that it speaks version 1 (§2.1).
pub(super) const SIGNATURE: &[u8] = b"PROXY";

/// The longest line, CRLF included (§2.1).
pub(super) const LINE_BYTES_MAX: usize = 107;

const CRLF: &[u8] = b"\r\n";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Tcp4,
    Tcp6,
    Unknown,
}

/// Reads a line; `bytes` begin with [`SIGNATURE`]. `None`: more must come.
pub(super) fn read(bytes: &[u8]) -> Result<Option<Header<'_>>, Fault> {
    let Some(protocol) = protocol(bytes)? else {
        return Ok(None);
    };
    let line = match protocol {
        Protocol::Unknown => unknown_line(bytes)?,
        Protocol::Tcp4 | Protocol::Tcp6 => tcp_line(bytes)?,
    };
    let Some(line) = line else {
        return Ok(None);
    };
    let origin = match protocol {
        Protocol::Unknown => Origin::Socket,
        Protocol::Tcp4 => addresses(line, |text| text.parse().map(Ipv4Addr::into).ok())?,
        // HAProxy writes mapped addresses as `::ffff:192.0.2.1`, which goes beyond §2.1; every reader
        // of IPv6 addresses, `inet_pton` and ours too, takes them so.
        Protocol::Tcp6 => addresses(line, |text| text.parse().map(Ipv6Addr::into).ok())?,
    };
    Ok(Some(Header {
        length: line.len() + CRLF.len(),
        version: ProxyVersion::V1,
        origin,
        tlvs: Tlvs::default(),
    }))
}

fn protocol(bytes: &[u8]) -> Result<Option<Protocol>, Fault> {
    let begins: [(&[u8], Protocol); 4] = [
        (b"PROXY TCP4 ", Protocol::Tcp4),
        (b"PROXY TCP6 ", Protocol::Tcp6),
        (b"PROXY UNKNOWN ", Protocol::Unknown),
        (b"PROXY UNKNOWN\r\n", Protocol::Unknown),
    ];
    if let Some((_, protocol)) = begins.iter().find(|(begin, _)| bytes.starts_with(begin)) {
        return Ok(Some(*protocol));
    }
    let undecided = begins.iter().any(|(begin, _)| begin.starts_with(bytes));
    if undecided {
        Ok(None)
    } else {
        Err(Fault::Protocol)
    }
}

/// The line up to its CRLF. Whatever else is in it is to be ignored (§2.1), a lone CR or LF included.
fn unknown_line(bytes: &[u8]) -> Result<Option<&[u8]>, Fault> {
    let window = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    let end = window.windows(CRLF.len()).position(|pair| pair == CRLF);
    match end.and_then(|end| window.get(..end)) {
        None if window.len() == LINE_BYTES_MAX => Err(Fault::LineLength),
        line => Ok(line),
    }
}

/// The line up to its CRLF. A lone LF is a fault as soon as it comes: a sender that ends its lines so
/// would otherwise only be noticed when it is too late to say why.
fn tcp_line(bytes: &[u8]) -> Result<Option<&[u8]>, Fault> {
    let window = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    let end = window.iter().position(|byte| CRLF.contains(byte));
    let (line, rest) = window.split_at(end.unwrap_or(window.len()));
    if rest.starts_with(CRLF) {
        Ok(Some(line))
    } else if !CRLF.starts_with(rest) {
        Err(Fault::LineEnd)
    } else if window.len() == LINE_BYTES_MAX {
        Err(Fault::LineLength)
    } else {
        Ok(None)
    }
}

fn addresses<'a>(
    line: &'a [u8],
    address: impl Fn(&'a str) -> Option<IpAddr>,
) -> Result<Origin<'a>, Fault> {
    let mut fields = line.split(|&byte| byte == b' ').skip(2);
    // `PROXY` and the protocol were looked at before.
    let mut next = || fields.next().ok_or(Fault::Fields);
    let (source, destination) = (next()?, next()?);
    let (source_port, destination_port) = (next()?, next()?);
    if fields.next().is_some() {
        return Err(Fault::Fields);
    }
    let address = |text: &'a [u8], field| {
        let text = str::from_utf8(text).ok();
        text.and_then(&address).ok_or(Fault::Field(field))
    };
    let source = address(source, Field::SourceAddress)?;
    let destination = address(destination, Field::DestinationAddress)?;
    Ok(Origin::Inet {
        source: SocketAddr::new(source, port(source_port, Field::SourcePort)?),
        destination: SocketAddr::new(destination, port(destination_port, Field::DestinationPort)?),
    })
}

/// Digits only: the library's parser would take `+80`, and zeros in front.
fn port(text: &[u8], field: Field) -> Result<u16, Fault> {
    let plain = text.iter().all(u8::is_ascii_digit) && (text == b"0" || !text.starts_with(b"0"));
    let text = str::from_utf8(text).ok().filter(|_| plain);
    let port = text.and_then(|text| text.parse().ok());
    port.ok_or(Fault::Field(field))
}
