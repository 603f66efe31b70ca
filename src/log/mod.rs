//! What ringlane writes: its own messages on standard error, and one line per session.
//!
//! This module alone reads the wall clock; everything else knows only the monotonic one.

pub mod messages;
pub mod session;
mod session_log;
mod target;
mod text;
pub mod writer;

use std::time::SystemTime;

/// The date and time of day; about 25 ns a call.
#[expect(
    clippy::disallowed_methods,
    reason = "the one reading of the wall clock, for those who write times down"
)]
pub fn wall_clock() -> SystemTime {
    SystemTime::now()
}
