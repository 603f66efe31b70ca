//! Facts about TLS, with real certificates and both sides in memory.

mod backends;
mod certificates;
mod clients;
mod faults;
mod fixtures;
mod forge;
mod holds;
mod index;
mod lent;
mod mixed;
mod peers;
mod remarks;
mod seam;
mod store;
mod tickets;
mod watch;
mod wire;
