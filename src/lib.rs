//! ringlane: a layer-4 TCP and TLS load balancer on a thread-per-core io_uring runtime.

pub mod base;
pub mod config;

pub mod admin;
pub mod control;
pub mod process;

pub mod cli;
