//! What a backend gets first.

/// Bytes that go to the backend as soon as it is there. A session refers to them by one word for as long as it dials.
pub struct Opening {
    /// All of them.
    pub bytes: Box<[u8]>,
    /// So many of the bytes, from the first on, are not the client's.
    pub ours: usize,
}
