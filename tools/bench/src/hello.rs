//! The names that clients ask for, and the check that a ClientHello has arrived as it was sent.
//!
//! In the passthrough workloads a ClientHello goes before the first request of a connection. That
//! request's phase is the digest of the ClientHello, so a byte of it that is lost, doubled or changed on
//! the way is found by the backend.

/// The content type of a handshake record (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

/// Content type, version and length of a record.
const HEAD: usize = 5;

/// The name of this number; the listeners of balancers and the clients agree on it.
pub fn name(number: usize) -> String {
    format!("host-{number:04}.bench.test")
}

/// The digest of a whole record; none if the bytes are no handshake record, or more than one.
pub fn digest(bytes: &[u8]) -> Option<u32> {
    let mut record = Record::default();
    let rest = record.take(bytes)?;
    rest.is_empty().then(|| record.digest()).flatten()
}

/// A handshake record that is being received.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    head: [u8; HEAD],
    seen: usize,
    digest: u32,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            head: [0; HEAD],
            seen: 0,
            digest: 0x811c_9dc5,
        }
    }
}

impl Record {
    /// Takes what belongs to the record and gives the rest; none if this is no handshake record.
    pub fn take<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let mut rest = bytes;
        while !self.is_complete()
            && let Some((&byte, after)) = rest.split_first()
        {
            if let Some(place) = self.head.get_mut(self.seen) {
                *place = byte;
            }
            self.seen += 1;
            // FNV-1a: finds any single wrong byte, and costs nothing beside a connection.
            self.digest = (self.digest ^ u32::from(byte)).wrapping_mul(0x0100_0193);
            rest = after;
        }
        (self.seen == 0 || self.head[0] == HANDSHAKE).then_some(rest)
    }

    /// The digest, once the record is complete.
    pub fn digest(&self) -> Option<u32> {
        self.is_complete().then_some(self.digest)
    }

    fn is_complete(&self) -> bool {
        let [_, _, _, high, low] = self.head;
        self.seen >= HEAD && self.seen == HEAD + usize::from(u16::from_be_bytes([high, low]))
    }
}

#[cfg(test)]
mod tests {
    use super::{Record, digest};

    const RECORD: [u8; 8] = [22, 3, 1, 0, 3, 7, 8, 9];

    #[test]
    fn a_record_is_complete_with_its_last_byte_however_it_comes() {
        for split in 0..RECORD.len() {
            let mut record = Record::default();
            assert_eq!(record.take(&RECORD[..split]), Some(&[][..]));
            assert_eq!(record.digest(), None, "{split}");
            let mut rest = RECORD[split..].to_vec();
            rest.extend([1, 2]);
            assert_eq!(record.take(&rest), Some(&[1, 2][..]));
            assert_eq!(record.digest(), digest(&RECORD), "{split}");
        }
    }

    #[test]
    fn each_byte_is_in_the_digest() {
        let whole = digest(&RECORD).unwrap();
        for place in [1, 2, 5, 6, 7] {
            let mut other = RECORD;
            other[place] ^= 1;
            assert_ne!(digest(&other), Some(whole), "byte {place}");
        }
        assert_eq!(digest(&RECORD[..7]), None);
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        assert_eq!(Record::default().take(&[23, 3, 3, 0, 1, 0]), None);
        assert_eq!(Record::default().take(b"GET"), None);
    }
}
