//! System calls, and the only unsafe code: every wrapper here is safe whatever its caller does.

#![expect(unsafe_code, reason = "the one place for it")]

pub mod file;
pub mod filter;
pub mod listening;
pub mod memory;
pub mod pipe;
pub mod process;
pub mod room;
pub mod socket;
pub mod wake;
