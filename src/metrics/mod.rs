//! Counts and durations: a worker adds to cells of its own, the control thread reads all cells and
//! renders them as Prometheus text.
//!
//! Nothing here is ever locked, allocated or looked up by name on a worker. A scrape reads each cell
//! once; two cells read in one scrape may be an event apart.

mod cells;
mod exposition;
mod histogram;
pub mod names;
mod outcomes;
mod registry;
mod render;

pub use cells::{Cells, Counter, Gauge, ListenerCells, PoolCells, WorkerCells};
pub use histogram::{BOUNDS_NANOS, Histogram};
pub use outcomes::{BreakerFacts, Ejections};
pub use registry::Registry;
pub use render::{
    BackendFacts, CertificateFacts, GuardFacts, OverloadFacts, Probed, Scrape, render,
};
