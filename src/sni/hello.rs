//! The bytes a client begins with, sorted into TLS, not TLS, not yet known, and broken.

use std::borrow::Cow;

use super::client_hello::ClientHello;
use super::fault::{Alert, Fault};

/// Type, version and length (RFC 8446 §5.1).
const RECORD_HEADER_BYTES: usize = 5;
/// Type and length (RFC 8446 §4).
const MESSAGE_HEADER_BYTES: usize = 4;
const RECORD_BYTES_MAX: usize = 1 << 14;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const MAJOR_VERSION: u8 = 3;
const CLIENT_HELLO: u8 = 1;

/// Records of one message that are walked at every call; beyond, calls wait for more (see [`sniff`]).
const RECORDS_WALKED: usize = 64;

/// What the bytes received so far are.
#[derive(Clone, Debug)]
pub enum Sniff<'b> {
    /// TLS as far as it goes. Fewer than `needs` bytes cannot be a whole ClientHello, so there is no use
    /// in asking before; `needs` is above what is there and within the limit.
    Incomplete {
        /// Bytes from the first one on.
        needs: usize,
    },
    /// A client that speaks TLS.
    Hello(ClientHello<'b>),
    /// Another protocol, or SSL 2: the first two bytes do not begin a record of TLS.
    NotTls,
    /// TLS that no server would go on with.
    Bad(Fault),
}

/// Looks at everything a client has sent so far, of which a ClientHello may take up `sniff_max` bytes
/// with its record headers.
///
/// Call it again, from the first byte, when more has come. Whatever is decided stays: more bytes only
/// ever change [`Sniff::Incomplete`]. What follows the ClientHello is not looked at.
///
/// Trickling bytes cost little. A message in one record is not looked at before it is there. One in
/// small records is walked again whenever there may be something new to say; past 64 records `needs`
/// asks for all that is lacking, as if it came in one record, and even if it comes in records of one
/// byte each call leaves at most five sixths of it: 60 walks for 64 KiB.
pub fn sniff(bytes: &[u8], sniff_max: usize) -> Sniff<'_> {
    if let Some(opening) = opening(bytes) {
        return opening;
    }
    let found = match whole_message(bytes) {
        Some(end) => in_one_record(bytes, end, sniff_max),
        None => in_records(bytes, sniff_max),
    };
    match found {
        Ok(Found::Message(message)) => {
            ClientHello::parse(message).map_or_else(Sniff::Bad, Sniff::Hello)
        }
        Ok(Found::Lacking { needs }) => Sniff::Incomplete { needs },
        Err(fault) => Sniff::Bad(fault),
    }
}

/// What the first bytes decide before a message is looked for; the minor version says nothing
/// (RFC 8446 §5.1).
fn opening<'b>(bytes: &[u8]) -> Option<Sniff<'b>> {
    match *bytes {
        [HANDSHAKE, MAJOR_VERSION, _, high, low, kind, ..] => {
            let length = usize::from(u16::from_be_bytes([high, low]));
            // With a bad length it is a bad record, whatever follows.
            let foreign = kind != CLIENT_HELLO && (1..=RECORD_BYTES_MAX).contains(&length);
            foreign.then_some(Sniff::Bad(Fault::ForeignMessage))
        }
        [] | [HANDSHAKE] | [HANDSHAKE, MAJOR_VERSION, ..] => None,
        [CHANGE_CIPHER_SPEC | ALERT | APPLICATION_DATA] => Some(Sniff::Incomplete { needs: 2 }),
        [
            CHANGE_CIPHER_SPEC | ALERT | APPLICATION_DATA,
            MAJOR_VERSION,
            ..,
        ] => Some(Sniff::Bad(Fault::ForeignRecord)),
        _ => Some(Sniff::NotTls),
    }
}

/// What a server that speaks nothing but TLS answers to bytes that are [`Sniff::NotTls`]: an alert if
/// they look like a record all the same, of a type that there is not or of a version of long ago.
pub fn answer_to_stranger(bytes: &[u8]) -> Option<Alert> {
    match *bytes {
        // RFC 8446 §5.
        [_, MAJOR_VERSION, 0..=4, ..] => Some(Alert::UnexpectedMessage),
        // Another major version, and the ClientHello of SSL 2 (RFC 5246 Appendix E.2), which may well
        // offer TLS.
        [HANDSHAKE, 0..=9, ..] | [0x80..=0xff, _, CLIENT_HELLO, 0 | MAJOR_VERSION, ..] => {
            Some(Alert::ProtocolVersion)
        }
        _ => None,
    }
}

enum Found<'b> {
    /// The message behind its record and message headers.
    Message(Cow<'b, [u8]>),
    /// It is not all there.
    Lacking { needs: usize },
}

/// Where the message ends if the first record has all of it, as nearly all clients send it.
fn whole_message(bytes: &[u8]) -> Option<usize> {
    let &[_, _, _, r1, r0, _, m2, m1, m0, ..] = bytes else {
        return None;
    };
    let record = usize::from(u16::from_be_bytes([r1, r0]));
    let message = message_bytes([0, m2, m1, m0]);
    let fits = record <= RECORD_BYTES_MAX && message <= record;
    fits.then_some(RECORD_HEADER_BYTES + message)
}

fn in_one_record(bytes: &[u8], end: usize, sniff_max: usize) -> Result<Found<'_>, Fault> {
    if end > sniff_max {
        return Err(Fault::TooLong);
    }
    let message = bytes.get(RECORD_HEADER_BYTES + MESSAGE_HEADER_BYTES..end);
    Ok(match message {
        Some(message) => Found::Message(Cow::Borrowed(message)),
        None => Found::Lacking { needs: end },
    })
}

/// The bytes of a message with its header, by that header; its type is known.
fn message_bytes([_, m2, m1, m0]: [u8; MESSAGE_HEADER_BYTES]) -> usize {
    let length = u32::from_be_bytes([0, m2, m1, m0]);
    MESSAGE_HEADER_BYTES + length as usize
}

fn in_records(bytes: &[u8], sniff_max: usize) -> Result<Found<'_>, Fault> {
    let mut walk = Walk::default();
    let mut records = Records { rest: bytes };
    loop {
        let record = records.next().transpose()?;
        if let Some(record) = &record {
            walk.enter(record);
        }
        // After each record, so that the answer is the same however much more has come.
        let end = walk.least_end(bytes.len() - records.rest.len());
        if end > sniff_max {
            return Err(Fault::TooLong);
        }
        if walk.is_complete() {
            let message = gather(bytes, walk.message());
            return Ok(Found::Message(Cow::Owned(message)));
        }
        if record.is_none() {
            let needs = if walk.records > RECORDS_WALKED {
                end
            } else {
                bytes.len() + walk.lacking().min(walk.missing).max(1)
            };
            return Ok(Found::Lacking { needs });
        }
    }
}

/// The message's bytes from several records, without its header.
fn gather(bytes: &[u8], message: usize) -> Vec<u8> {
    let mut gathered = Vec::with_capacity(message);
    for record in (Records { rest: bytes }).flatten() {
        gathered.extend_from_slice(record.payload);
        if gathered.len() >= message {
            break;
        }
    }
    gathered.truncate(message);
    gathered.drain(..MESSAGE_HEADER_BYTES);
    gathered
}

/// What is known of a message after some of its records.
#[derive(Default)]
struct Walk {
    records: usize,
    header: [u8; MESSAGE_HEADER_BYTES],
    /// Bytes of the handshake so far.
    payload: usize,
    /// Bytes of the last record that have not come.
    missing: usize,
}

impl Walk {
    fn enter(&mut self, record: &Record<'_>) {
        let header = self.header.iter_mut().skip(self.payload);
        for (place, byte) in header.zip(record.payload) {
            *place = *byte;
        }
        self.records += 1;
        self.payload += record.payload.len();
        self.missing = record.missing;
    }

    /// The bytes of the message with its header; at least these while the header is cut off.
    fn message(&self) -> usize {
        if self.payload < MESSAGE_HEADER_BYTES {
            MESSAGE_HEADER_BYTES
        } else {
            message_bytes(self.header)
        }
    }

    fn is_complete(&self) -> bool {
        self.payload >= MESSAGE_HEADER_BYTES && self.lacking() == 0
    }

    /// Bytes of the message that have not come.
    fn lacking(&self) -> usize {
        self.message().saturating_sub(self.payload)
    }

    /// Where the message ends, at the earliest: `at` is the end of the last record as far as it has
    /// come. What a record does not have takes others, with headers.
    fn least_end(&self, at: usize) -> usize {
        let lacking = self.lacking();
        let others = lacking.saturating_sub(self.missing);
        let headers = others.div_ceil(RECORD_BYTES_MAX) * RECORD_HEADER_BYTES;
        let excess = self.payload.saturating_sub(self.message());
        at + lacking + headers - excess
    }
}

/// The records at the beginning of `rest`, the last one as far as it has come; ends before a header
/// that is cut off, and leaves that.
struct Records<'b> {
    rest: &'b [u8],
}

struct Record<'b> {
    payload: &'b [u8],
    missing: usize,
}

impl<'b> Iterator for Records<'b> {
    type Item = Result<Record<'b>, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let length = match record_length(self.rest) {
            Ok(length) => length?,
            Err(fault) => return Some(Err(fault)),
        };
        let (_, behind) = self.rest.split_at_checked(RECORD_HEADER_BYTES)?;
        let (payload, rest) = behind.split_at(length.min(behind.len()));
        self.rest = rest;
        Some(Ok(Record {
            payload,
            missing: length - payload.len(),
        }))
    }
}

/// By a record's header; `None` while it is cut off.
fn record_length(header: &[u8]) -> Result<Option<usize>, Fault> {
    match *header {
        [] | [HANDSHAKE] => Ok(None),
        [HANDSHAKE, MAJOR_VERSION, _, high, low, ..] => {
            match usize::from(u16::from_be_bytes([high, low])) {
                // RFC 8446 §5.1: no empty fragments of a handshake, none above 2^14 bytes.
                0 => Err(Fault::EmptyRecord),
                length if length > RECORD_BYTES_MAX => Err(Fault::RecordTooLong),
                length => Ok(Some(length)),
            }
        }
        [HANDSHAKE, MAJOR_VERSION, ..] => Ok(None),
        _ => Err(Fault::ForeignRecord),
    }
}
