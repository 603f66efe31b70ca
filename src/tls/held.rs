//! What came of records and handshake messages that are not whole yet.

/// The header of a record, bytes (RFC 8446 §5.1).
const HEADER_BYTES: usize = 5;

/// Bytes of a peer that wait for others.
#[derive(Default)]
pub(super) struct Held {
    pub(super) bytes: Vec<u8>,
    /// Where the record begins in them that is not whole. What is before it rustls has seen, and is not
    /// done with.
    pub(super) tail: usize,
}

impl Held {
    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Keeps whole records that rustls has seen and is not done with.
    pub(super) fn keep_seen(&mut self, records: &[u8]) {
        self.bytes.extend_from_slice(records);
        self.tail = self.bytes.len();
    }

    /// How many bytes the record needs that is not whole yet, or else its header; 0: it is whole.
    pub(super) fn missing(&self) -> usize {
        let begun = self.bytes.get(self.tail..).unwrap_or_default();
        record_bytes(begun).unwrap_or(HEADER_BYTES) - begun.len()
    }

    /// All of it is shown to rustls, which may change it: a record that is whole will have been seen.
    pub(super) fn show(&mut self) -> &mut [u8] {
        if self.missing() == 0 {
            self.tail = self.bytes.len();
        }
        &mut self.bytes
    }

    /// Forgets the first `bytes`, with which rustls is done.
    pub(super) fn forget(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes.len());
        self.bytes.drain(..bytes);
        self.tail = self.tail.saturating_sub(bytes);
    }

    /// Gives back the memory that is not needed.
    pub(super) fn rest(&mut self) {
        if self.bytes.capacity() > self.bytes.len() {
            self.bytes.shrink_to_fit();
        }
    }
}

/// How long the record is, header and all, that begins so; `None`: its header is not whole.
pub(super) fn record_bytes(begun: &[u8]) -> Option<usize> {
    let [_, _, _, high, low] = *begun.first_chunk()?;
    Some(HEADER_BYTES + usize::from(u16::from_be_bytes([high, low])))
}
