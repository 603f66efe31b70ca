//! What can be wrong with a header.

use std::error::Error;
use std::fmt;

/// Why bytes that begin like a header are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Version 1: after `PROXY` comes neither `TCP4`, `TCP6` nor `UNKNOWN` between single spaces.
    Protocol,
    /// Version 1: no CRLF within 107 bytes.
    LineLength,
    /// Version 1: a CR or an LF that is not part of a CRLF.
    LineEnd,
    /// Version 1: not two addresses and two ports, with one space between them.
    Fields,
    /// Version 1: one of the four is not what it should be.
    Field(Field),
    /// Version 2: the version, which is not 2.
    Version(u8),
    /// Version 2: the command, which is neither 0 nor 1.
    Command(u8),
    /// Version 2: the address family, which is above 3.
    Family(u8),
    /// Version 2: the transport, which is above 2.
    Transport(u8),
    /// Version 2: too short for the addresses of its family.
    Length {
        /// The length announced, bytes.
        length: usize,
        /// What the addresses alone take, bytes.
        addresses: usize,
    },
    /// Version 2: so many bytes after the last TLV, too few for another one.
    TlvRest(usize),
    /// Version 2: a TLV that is longer than what is left of the header.
    TlvLength {
        /// Its type.
        kind: u8,
        /// The length it claims, bytes.
        length: usize,
        /// What is left for its value, bytes.
        left: usize,
    },
    /// Version 2: a checksum of so many bytes instead of 4.
    ChecksumLength(usize),
    /// Version 2: more than one checksum.
    ChecksumTwice,
    /// Version 2: the checksum does not fit the header.
    Checksum {
        /// What the header says.
        said: u32,
        /// What the header comes to.
        computed: u32,
    },
    /// Version 2: a unique id of so many bytes, more than 128.
    UniqueId(usize),
}

/// A part of a line of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Where the client connects from.
    SourceAddress,
    /// Where it connected to.
    DestinationAddress,
    /// Its port.
    SourcePort,
    /// The port it connected to.
    DestinationPort,
}

impl Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Protocol => write!(f, "v1: `PROXY` is followed by none of TCP4, TCP6, UNKNOWN"),
            Self::LineLength => write!(f, "v1: no CRLF within 107 bytes"),
            Self::LineEnd => write!(f, "v1: the line ends in a lone CR or LF instead of CRLF"),
            Self::Fields => write!(
                f,
                "v1: not two addresses and two ports with single spaces between"
            ),
            Self::Field(field) => write!(f, "v1: {field}"),
            Self::Version(version) => write!(f, "v2: version {version} instead of 2"),
            Self::Command(command) => write!(f, "v2: command {command}, neither 0 nor 1"),
            Self::Family(family) => write!(f, "v2: address family {family}, at most 3"),
            Self::Transport(transport) => write!(f, "v2: transport {transport}, at most 2"),
            Self::Length { length, addresses } => write!(
                f,
                "v2: length {length}, but the addresses alone take {addresses}"
            ),
            Self::TlvRest(rest) => write!(f, "v2: {rest} stray bytes after the last TLV"),
            Self::TlvLength { kind, length, left } => write!(
                f,
                "v2: TLV 0x{kind:02x} claims {length} bytes where {left} are left"
            ),
            Self::ChecksumLength(length) => {
                write!(f, "v2: a checksum of {length} bytes instead of 4")
            }
            Self::ChecksumTwice => write!(f, "v2: more than one checksum"),
            Self::Checksum { said, computed } => write!(
                f,
                "v2: checksum 0x{said:08x}, but the header comes to 0x{computed:08x}"
            ),
            Self::UniqueId(length) => {
                write!(f, "v2: a unique id of {length} bytes, at most 128")
            }
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SourceAddress => "the source is not an address of the line's family",
            Self::DestinationAddress => "the destination is not an address of the line's family",
            Self::SourcePort => "the source port is not 0 to 65535 without leading zeros",
            Self::DestinationPort => "the destination port is not 0 to 65535 without leading zeros",
        })
    }
}
