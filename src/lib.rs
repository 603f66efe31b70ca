//! ringlane: a layer-4 TCP and TLS load balancer on a thread-per-core io_uring runtime.

pub mod admin;
pub mod backend;
pub mod balance;
pub mod base;
pub mod cli;
pub mod config;
pub mod control;
pub mod forward;
pub mod io;
pub mod log;
pub mod metrics;
pub mod process;
pub mod snapshot;
pub mod sys;
pub mod worker;
