//! Bounds fixed at compile time; what an operator may set stands in the configuration instead.

/// The worker's copy buffer, bytes: copying and splicing break even here, and larger buffers lose
/// to cache misses.
pub const SCRATCH_BYTES: usize = 32 * 1024;

/// What a relay with TLS receives at once, bytes: four records; a quarter of it costs twice as much for
/// each byte, and four times as much keeps the worker's other sessions waiting.
pub const SECURED_BYTES: usize = 64 * 1024;

/// Room for what is decrypted of one such read, bytes: with it, what was left of one record before may
/// become whole.
pub const PLAIN_BYTES: usize = SECURED_BYTES + 20 * 1024;

/// Room for as much once it is sealed, bytes.
pub const SEALED_BYTES: usize = PLAIN_BYTES + 1024;

/// What is read from a client before it has a backend, and kept until it has, bytes: a short request,
/// or a ClientHello with its key shares.
pub const OPENING_BYTES: usize = 4 * 1024;

/// The size asked for a pipe, bytes; also the most that one splice moves.
pub const PIPE_BYTES: usize = 1024 * 1024;

/// What all pipes of an unprivileged user may hold together, bytes (`pipe-user-pages-soft`).
pub const PIPE_BYTES_ALL: usize = 64 * 1024 * 1024;

/// What one direction may move before its worker turns to other sessions, bytes.
pub const TURN_BYTES: usize = 1024 * 1024;

/// Connections accepted from one socket before its worker turns to other work.
pub const ACCEPTS_PER_TURN: u64 = 64;

/// Descriptors kept for everything that is not a session: files, the admin listener, probes of the
/// resolver, and clients that several workers accept in the same moment.
pub const DESCRIPTORS_RESERVED: u64 = 64;

/// Backends that one session may try at the most (`connect.attempts`).
pub const CONNECT_ATTEMPTS_MAX: usize = 16;
