//! Who may connect, how many at a time and how often: lists of networks and limits of sources.
//!
//! Everything but [`lists`] and [`store`], which read files on the main thread, decides by what it is given.

pub mod bytes;
pub mod crowd;
pub mod guard;
pub mod lists;
pub mod networks;
pub mod overload;
pub mod sources;
pub mod store;
