//! The real binary on real sockets: what an operator, a client and a backend can see.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise"
)]

mod accept;
mod balance;
mod bytes;
mod certificates;
mod conform;
mod demo;
mod encrypted;
mod entrance;
mod explain;
mod faults;
mod health;
mod idle;
mod observe;
mod outcomes;
mod overload;
mod pair;
mod parting;
mod protect;
mod queue;
mod rejected;
mod reload;
mod resilience;
mod rotation;
mod routes;
mod schedules;
mod services;
mod slow;
mod smoke;
mod starttls;
mod stop;
mod support;
mod timeouts;
mod tls;
mod tls_ends;
