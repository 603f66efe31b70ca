//! Sessions in which TLS ends at ringlane, on real sockets and on both drivers: what peers see, and how
//! the session ends.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise"
)]

mod ends;
mod handshakes;
mod limits;
mod peer;
#[path = "../blackbox/support/schedule.rs"]
#[expect(dead_code, reason = "the sockets are all of one family here")]
mod schedule;
mod schedules;
mod settings;
mod stage;
