//! ringlane: a layer-4 TCP and TLS load balancer on a thread-per-core io_uring runtime.

pub mod backend;
pub mod balance;
pub mod base;
pub mod config;
pub mod io;
pub mod sys;
