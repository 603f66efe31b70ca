//! The ClientHellos of real clients, whole, cut, in pieces and broken, and what is found by their names.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test stops at the first surprise"
)]

mod corpus;
mod faults;
mod hellos;
mod index;
mod ja4;
mod pieces;
mod records;
#[path = "../../tools/fuzz/replay.rs"]
mod replay;
mod speed;
