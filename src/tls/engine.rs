//! rustls' connections that own no buffers, of either side, and how they are driven.
//!
//! A connection with buffers keeps 4 KiB for the next record as long as it lives, and copies all that
//! arrives into it. These take records where they are and decrypt them in place.

use std::ops::Deref;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedStatus, WriteTraffic,
};
use rustls::{CommonState, Error};

/// The most plaintext of a record, bytes (RFC 8446 §5.1).
pub(super) const RECORD_BYTES_MAX: usize = 16 * 1024;

/// The most that is kept of a record or of a handshake message that is not whole yet, bytes: a message
/// of 64 KiB, in records as large as peers make them. One that comes in tiny records is refused before.
pub const HELD_BYTES_MAX: usize = 84 * 1024;

/// Room beside the plaintext that a record takes, bytes, for every cipher there is; and room for a change
/// of keys.
const SEAL_BYTES: usize = 64;

/// What a buffer must hold for so much plaintext when it is sealed, bytes.
pub const fn sealed_bytes(plain: usize) -> usize {
    plain + (plain.div_ceil(RECORD_BYTES_MAX) + 1) * SEAL_BYTES
}

/// Either side's connection.
pub(super) enum Engine {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// Why nothing was sealed.
pub(super) enum Unsealed {
    /// It takes so many bytes.
    NoRoom(usize),
    /// The connection has not come so far, or is over.
    NotNow,
}

/// What came of bytes that were given to a connection.
pub(super) struct Taken {
    /// So many of them, from the first on, are over and done with. The rest has to be given again, with
    /// what comes behind it.
    pub(super) bytes: usize,
    /// The peer has said that nothing more comes.
    pub(super) peer_closed: bool,
    /// What is wrong with them.
    pub(super) result: Result<(), Error>,
}

impl Engine {
    pub(super) fn common(&self) -> &CommonState {
        match self {
            Self::Client(client) => client,
            Self::Server(server) => server,
        }
    }

    /// Takes in `incoming`, which is changed; appends the plaintext in it to `plain`, and what is to be
    /// said to the peer to `unsent`.
    pub(super) fn take_in(
        &mut self,
        incoming: &mut [u8],
        plain: &mut Vec<u8>,
        unsent: &mut Vec<u8>,
    ) -> Taken {
        match self {
            Self::Client(client) => take_in(client, incoming, plain, unsent),
            Self::Server(server) => take_in(server, incoming, plain, unsent),
        }
    }

    /// Appends what rustls has for the peer by itself to `unsent`, such as the alert after a fault.
    pub(super) fn drain(&mut self, unsent: &mut Vec<u8>) {
        match self {
            Self::Client(client) => drain(client, unsent),
            Self::Server(server) => drain(server, unsent),
        }
    }

    /// Seals `plain` into `sealed` and says how long that is. `held` is what was not done with when it
    /// was taken in last.
    pub(super) fn encrypt(
        &mut self,
        held: &mut [u8],
        plain: &[u8],
        sealed: &mut [u8],
    ) -> Result<usize, Unsealed> {
        match self {
            Self::Client(client) => encrypt(client, held, plain, sealed),
            Self::Server(server) => encrypt(server, held, plain, sealed),
        }
    }

    /// Makes rustls say an alert, where it has said none, by something that is no record. Only for a
    /// connection that has to end.
    pub(super) fn provoke(&mut self) {
        // It skips what it takes to be held, and must find something behind that.
        let mut nonsense = vec![0; 2 * HELD_BYTES_MAX];
        let _ = match self {
            Self::Client(client) => client.process(&mut nonsense).state.err(),
            Self::Server(server) => server.process(&mut nonsense).state.err(),
        };
    }

    /// Appends a close_notify to `unsent`. During the handshake there is none.
    pub(super) fn close(&mut self, held: &mut [u8], unsent: &mut Vec<u8>) {
        // Where it has no room it waits among what rustls has for the peer.
        match self {
            Self::Client(client) => writing(client, held, |mut to| to.queue_close_notify(&mut [])),
            Self::Server(server) => writing(server, held, |mut to| to.queue_close_notify(&mut [])),
        };
        self.drain(unsent);
    }

    #[cfg(test)]
    pub(super) fn update_keys(&mut self, held: &mut [u8], unsent: &mut Vec<u8>) {
        match self {
            Self::Client(client) => writing(client, held, |to| to.refresh_traffic_keys()),
            Self::Server(server) => writing(server, held, |to| to.refresh_traffic_keys()),
        };
        self.drain(unsent);
    }
}

/// What both sides' connections have in common, which rustls gives no name.
trait Process: Deref<Target: Deref<Target = CommonState>> {
    type Data;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Process for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

impl Process for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

fn take_in<P: Process>(
    connection: &mut P,
    incoming: &mut [u8],
    plain: &mut Vec<u8>,
    unsent: &mut Vec<u8>,
) -> Taken {
    let mut taken = Taken {
        bytes: 0,
        peer_closed: false,
        result: Ok(()),
    };
    loop {
        let rest = incoming.get_mut(taken.bytes..).unwrap_or_default();
        let UnbufferedStatus { mut discard, state } = connection.process(rest);
        let goes_on = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(Ok(record)) = traffic.next_record() {
                    plain.extend_from_slice(record.payload);
                    discard += record.discard;
                }
                true
            }
            Ok(ConnectionState::EncodeTlsData(data)) => {
                encode(data, unsent);
                true
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                true
            }
            Ok(ConnectionState::PeerClosed) => {
                taken.peer_closed = true;
                true
            }
            // Early data is never accepted, so there is none.
            Ok(_) => false,
            Err(error) => {
                taken.result = Err(error);
                false
            }
        };
        taken.bytes += discard;
        if !goes_on {
            return taken;
        }
    }
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, unsent: &mut Vec<u8>) {
    let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) else {
        return;
    };
    let end = unsent.len();
    unsent.resize(end + size.required_size, 0);
    let encoded = data.encode(unsent.get_mut(end..).unwrap_or_default());
    debug_assert!(encoded.is_ok(), "there is the room that it asked for");
}

fn drain<P: Process>(connection: &mut P, unsent: &mut Vec<u8>) {
    // As long as there is something, rustls looks at nothing else.
    while connection.wants_write() {
        let Ok(ConnectionState::EncodeTlsData(data)) = connection.process(&mut []).state else {
            debug_assert!(false, "plaintext is taken out at once");
            return;
        };
        encode(data, unsent);
    }
}

fn encrypt<P: Process>(
    connection: &mut P,
    held: &mut [u8],
    plain: &[u8],
    sealed: &mut [u8],
) -> Result<usize, Unsealed> {
    match writing(connection, held, |mut to| to.encrypt(plain, sealed)) {
        Some(Ok(bytes)) => Ok(bytes),
        Some(Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size }))) => {
            Err(Unsealed::NoRoom(required_size))
        }
        Some(Err(EncryptError::EncryptExhausted)) | None => Err(Unsealed::NotNow),
    }
}

/// Asks for what a connection gives only while it has nothing else to do; `None`: not now.
fn writing<P: Process, R>(
    connection: &mut P,
    held: &mut [u8],
    write: impl FnOnce(WriteTraffic<'_, P::Data>) -> R,
) -> Option<R> {
    loop {
        match connection.process(held).state {
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::WriteTraffic(traffic)) => return Some(write(traffic)),
            _ => return None,
        }
    }
}
