//! The vocabulary of every other module: addresses, time, a seeded generator, reasons and limits.

pub mod address;
pub mod clock;
pub mod limits;
pub mod name;
pub mod random;
pub mod reason;
pub mod seldom;
