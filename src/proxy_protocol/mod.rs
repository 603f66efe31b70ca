//! The PROXY protocol, versions 1 and 2: the header before a connection's first byte that says for
//! whom the connection was made.
//!
//! [`read()`] takes the bytes received so far, [`write()`] appends a header to the bytes to be sent.
//! Neither opens a socket, waits, reads a clock or keeps anything. Who may send a header, how long to
//! wait for one and what follows from it is decided by the callers.
//!
//! How large a header may become is decided by its receiver: HAProxy reads up to its buffer of 16 KiB,
//! nginx 1.22 no more than 4 KiB. What ringlane says by itself takes some hundred bytes; fixed values and
//! those passed on come on top.
//!
//! "§" in this module means the specification by HAProxy Technologies, revision 2020/03/05.

mod binary;
mod facts;
mod fault;
mod line;
mod read;
mod tlv;
mod write;

pub use facts::{ClientCertificate, Facts, Shown, TlsFacts};
pub use fault::{Fault, Field};
pub use read::{Header, Origin, Read, read};
pub use tlv::{Tlvs, kind};
pub use write::{Written, write, write_probe};

/// The longest header, bytes: what version 2 can announce. The specification means headers to fit into
/// one segment, but certificates may travel in them, and only trusted peers send any.
pub const HEADER_BYTES_MAX: usize = binary::FIXED_BYTES + u16::MAX as usize;

/// The longest unique id, bytes (§2.2.5).
pub const UNIQUE_ID_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests;
