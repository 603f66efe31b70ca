//! The real binary on real sockets: what an operator, a client and a backend can see.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise"
)]

mod faults;
mod idle;
mod schedules;
mod slow;
mod smoke;
mod support;
