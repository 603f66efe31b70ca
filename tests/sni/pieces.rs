//! ClientHellos taken apart and put together.

use ringlane::sni::{ClientHello, Fault, Sniff, sniff};

use crate::replay::files;

/// The default of `sniff_max`.
pub(crate) const SNIFF_MAX: usize = 64 * 1024;

pub(crate) const RECORD_BYTES_MAX: usize = 1 << 14;

/// What the extensions of a typical client begin with: a name, an unassigned one, two versions.
pub(crate) fn typical() -> Hello {
    Hello::default()
        .with(0, &server_name(b"a.example"))
        .with(0xff01, &[0])
        .with(43, &[4, 3, 4, 3, 3])
}

pub(crate) struct Hello {
    pub(crate) legacy_version: u16,
    pub(crate) session_id: Vec<u8>,
    pub(crate) ciphers: Vec<u8>,
    pub(crate) compressions: Vec<u8>,
    /// `None`: the message ends before them.
    pub(crate) extensions: Option<Vec<u8>>,
    /// Stands behind everything.
    pub(crate) rest: Vec<u8>,
}

impl Default for Hello {
    fn default() -> Self {
        Self {
            legacy_version: 0x0303,
            session_id: vec![7; 32],
            ciphers: vec![0x13, 0x01, 0xc0, 0x2b],
            compressions: vec![0],
            extensions: Some(Vec::new()),
            rest: Vec::new(),
        }
    }
}

impl Hello {
    pub(crate) fn with(mut self, kind: u16, body: &[u8]) -> Self {
        let extensions = self.extensions.get_or_insert_default();
        extensions.extend(kind.to_be_bytes());
        extensions.extend(list16(body));
        self
    }

    /// With its handshake header.
    pub(crate) fn message(&self) -> Vec<u8> {
        let mut body = self.legacy_version.to_be_bytes().to_vec();
        body.extend([0x5a; 32]);
        body.extend(list8(&self.session_id));
        body.extend(list16(&self.ciphers));
        body.extend(list8(&self.compressions));
        if let Some(extensions) = &self.extensions {
            body.extend(list16(extensions));
        }
        body.extend(&self.rest);
        handshake(1, &body)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        records(&self.message(), RECORD_BYTES_MAX)
    }
}

pub(crate) fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind], &length[1..], body].concat()
}

pub(crate) fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, 3, 1][..], &list16(payload)].concat()
}

/// A message in records of this many bytes.
pub(crate) fn records(message: &[u8], size: usize) -> Vec<u8> {
    message
        .chunks(size)
        .flat_map(|part| record(22, part))
        .collect()
}

/// The ClientHello in these records, with its handshake header, and the bytes that it took.
pub(crate) fn message_in(bytes: &[u8]) -> (Vec<u8>, usize) {
    let (mut message, mut at) = (Vec::new(), 0);
    loop {
        let length = usize::from(u16::from_be_bytes([bytes[at + 3], bytes[at + 4]]));
        message.extend(&bytes[at + 5..at + 5 + length]);
        at += 5 + length;
        let declared = u32::from_be_bytes([0, message[1], message[2], message[3]]) as usize;
        if message.len() >= 4 + declared {
            assert_eq!(
                message.len(),
                4 + declared,
                "no client sends more in this record"
            );
            return (message, at);
        }
    }
}

pub(crate) fn list8(items: &[u8]) -> Vec<u8> {
    [&[u8::try_from(items.len()).unwrap()], items].concat()
}

pub(crate) fn list16(items: &[u8]) -> Vec<u8> {
    let length = u16::try_from(items.len()).unwrap().to_be_bytes();
    [&length, items].concat()
}

pub(crate) fn server_name(name: &[u8]) -> Vec<u8> {
    list16(&[&[0], &list16(name)[..]].concat())
}

pub(crate) fn alpn(protocols: &[&[u8]]) -> Vec<u8> {
    let names: Vec<u8> = protocols.iter().flat_map(|name| list8(name)).collect();
    list16(&names)
}

pub(crate) fn numbers(values: &[u16]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_be_bytes())
        .collect()
}

#[track_caller]
pub(crate) fn hello(bytes: &[u8]) -> ClientHello<'_> {
    match sniff(bytes, SNIFF_MAX) {
        Sniff::Hello(hello) => hello,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(crate) fn fault(bytes: &[u8]) -> Fault {
    match sniff(bytes, SNIFF_MAX) {
        Sniff::Bad(fault) => fault,
        other => panic!("{other:?}"),
    }
}

/// The first flight of each real client, by name.
pub(crate) fn real() -> Vec<(String, Vec<u8>)> {
    files("tests/hellos")
}
