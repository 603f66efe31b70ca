//! The manual: pages for those who run ringlane and for those who change it.

#[doc = include_str!("operations.md")]
pub mod operations {}

#[doc = include_str!("performance.md")]
pub mod performance {}

#[doc = include_str!("decisions.md")]
pub mod decisions {}
