//! How a worker waits, and the per-worker memory that bytes pass through.

pub mod deadline;
pub mod join;
pub mod lane;
pub mod pipes;
pub mod shortage;
pub mod socket;
pub mod turns;
pub mod unwind;
pub mod wheel;
