//! The data path of one session: reach a backend, move bytes both ways, end both sides rightly.

pub mod dial;
pub mod link;
pub mod opening;
pub mod preface;
pub mod relay;
pub mod secure;
mod toll;

mod breaker;
mod parting;
mod pump;
mod queue;
