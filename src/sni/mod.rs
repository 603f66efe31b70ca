//! The first message of a TLS client, read without answering it, and values found by the name in it.
//!
//! [`sniff`] looks at the bytes a client sent so far and tells a [`ClientHello`] from what is not TLS
//! and from what no server would accept. A [`NameIndex`] leads from the name asked for to whatever the
//! configuration gives for the best pattern, and [`ja4()`] names the kind of client.
//!
//! Nothing is decrypted, answered or changed: the bytes go on to the backend as they came. What two
//! readers of one message could understand differently is refused instead of guessed at, because the
//! other reader is the backend that the name chose.

mod client_hello;
mod fault;
mod hello;
mod index;
mod ja4;
mod reader;
mod server_name;

pub use client_hello::{ClientHello, is_grease};
pub use fault::{Alert, Fault, Field};
pub use hello::{Sniff, answer_to_stranger, sniff};
pub use index::NameIndex;
pub use ja4::ja4;
pub use server_name::name_asked;
