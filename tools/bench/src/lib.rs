//! Compares ringlane with HAProxy, nginx and Envoy, on one machine, in one run.
//!
//! One command measures the CPU time that each balancer spends on a unit of work, with throughput
//! and latency beside it. A run goes like this:
//!
//! 1. The program starts itself again in fresh network and process namespaces (`namespace`), so that
//!    nothing outlives it.
//! 2. For each workload and round every peer (`peer`) is started on a core of its own, gets the work
//!    from a load process (`load`) that speaks to a backend process (`backend`) through it, and is
//!    ended again (`measure`). Each byte is checked against a pattern (`pattern`).
//! 3. The rounds become medians and ratios (`statistics`, `report`), a table (`table`), a verdict on
//!    the targets (`targets`) and a picture (`plot`).

mod against;
pub mod backend;
pub mod certificates;
pub mod cli;
pub mod hello;
pub mod load;
mod machine;
mod measure;
mod namespace;
pub mod pattern;
mod peer;
pub mod plot;
mod poll;
mod process;
pub mod report;
mod siege;
pub mod statistics;
mod sys;
pub mod table;
pub mod targets;
pub mod workload;
