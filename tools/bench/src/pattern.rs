//! The bytes of requests and responses, so that both ends can check every one of them.
//!
//! A request is a header of [`HEADER`] bytes and padding; a response is pattern only. Byte `i` of
//! either is the pattern at `phase + i`. Each connection has a phase of its own, so that bytes
//! delivered to the wrong connection, lost, doubled or reordered differ from what is expected.

use std::sync::OnceLock;

/// Response length, request length (header included) and phase, each a little-endian `u32`.
pub const HEADER: usize = 12;

/// The pattern repeats after so many bytes: a prime, so that no power of two hides a shift.
const PERIOD: usize = 65_521;

/// The most that one call can compare or send.
pub const CHUNK: usize = 64 * 1024;

/// `length` bytes of the pattern from `position`; `length` is cut to [`CHUNK`].
pub fn at(position: u64, length: usize) -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    let bytes = BYTES.get_or_init(|| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let period: Vec<u8> = (0..PERIOD).map(|_| next_byte(&mut state)).collect();
        period
            .iter()
            .copied()
            .cycle()
            .take(PERIOD + CHUNK)
            .collect()
    });
    let start = usize::try_from(position % PERIOD as u64).expect("a remainder of a usize fits");
    &bytes[start..start + length.min(CHUNK)]
}

/// Xorshift64*; its upper byte.
fn next_byte(state: &mut u64) -> u8 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes()[0]
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Request {
    /// Bytes of the response.
    pub response: u32,
    /// Bytes of the request, header included.
    pub length: u32,
    /// Where in the pattern both begin.
    pub phase: u32,
}

impl Request {
    /// The header as it is sent.
    pub fn header(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..4].copy_from_slice(&self.response.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.phase.to_le_bytes());
        bytes
    }

    /// Reads a header; none if its request is shorter than the header.
    pub fn parse(bytes: [u8; HEADER]) -> Option<Self> {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        let request = Self {
            response: u32::from_le_bytes([a, b, c, d]),
            length: u32::from_le_bytes([e, f, g, h]),
            phase: u32::from_le_bytes([i, j, k, l]),
        };
        (request.length as usize >= HEADER).then_some(request)
    }

    /// Request bytes from `position`, which lies behind the header; at most [`CHUNK`].
    pub fn padding(self, position: u32) -> &'static [u8] {
        self.piece(position, self.length)
    }

    /// Response bytes from `position`, at most [`CHUNK`].
    pub fn response_at(self, position: u32) -> &'static [u8] {
        self.piece(position, self.response)
    }

    fn piece(self, position: u32, end: u32) -> &'static [u8] {
        let left = end.saturating_sub(position) as usize;
        at(u64::from(self.phase) + u64::from(position), left)
    }
}

#[cfg(test)]
mod tests {
    use super::{CHUNK, HEADER, PERIOD, Request, at};

    #[test]
    fn header_survives_the_wire() {
        let request = Request {
            response: 102_400,
            length: 64,
            phase: 77,
        };
        assert_eq!(Request::parse(request.header()), Some(request));
    }

    #[test]
    fn header_of_an_impossible_request_is_refused() {
        let short = Request {
            response: 1,
            length: 11,
            phase: 0,
        };
        assert_eq!(Request::parse(short.header()), None);
    }

    #[test]
    fn pattern_is_continuous_over_its_period() {
        let end = PERIOD as u64 - 10;
        assert_eq!(at(end, 20)[10..], *at(PERIOD as u64, 10));
        assert_eq!(at(end, CHUNK).len(), CHUNK);
        assert_eq!(at(0, 2 * CHUNK).len(), CHUNK);
    }

    #[test]
    fn phases_differ() {
        for phase in 1..2_000 {
            assert_ne!(at(0, 52), at(phase, 52), "phase {phase}");
        }
    }

    #[test]
    fn pieces_end_with_their_message() {
        let request = Request {
            response: 100,
            length: 64,
            phase: 5,
        };
        let header = u32::try_from(HEADER).unwrap();
        assert_eq!(request.padding(header).len(), 64 - HEADER);
        assert_eq!(request.response_at(90).len(), 10);
        assert!(request.response_at(100).is_empty());
    }
}
