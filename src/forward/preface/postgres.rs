//! PostgreSQL's request for TLS, which comes before its startup message.

use std::os::fd::AsFd;

use super::{Reader, Refused};
use crate::base::limits::OPENING_BYTES;
use crate::config::model::StartTls;
use crate::sys::socket::send;

/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 22;

/// PostgreSQL's request for TLS before a startup message: a length of 8, then a number that no version
/// has.
pub const SSL_REQUEST: [u8; 8] = request(80_877_103);
/// Its request for another encryption, which libpq asks for first where Kerberos is set up.
const GSSENC_REQUEST: [u8; 8] = request(80_877_104);

impl Reader<'_> {
    /// Answers PostgreSQL's request for TLS; `None`: there was none, and what there was stays.
    pub(super) async fn postgres(&mut self) -> Result<Option<StartTls>, Refused> {
        let mut may_ask = true;
        loop {
            while self.bytes.len() < SSL_REQUEST.len() && self.bytes.first() != Some(&HANDSHAKE) {
                self.more(OPENING_BYTES).await?;
            }
            let request = self.bytes.get(..SSL_REQUEST.len());
            let answer = match request {
                Some(request) if *request == SSL_REQUEST => b"S",
                Some(request) if *request == GSSENC_REQUEST && may_ask => b"N",
                _ => return Ok(None),
            };
            // Somebody on the way could have put them there, to be taken for the encrypted client's.
            if self.bytes.len() > SSL_REQUEST.len() {
                return Err(self.fail("bytes came with the request for TLS"));
            }
            self.bytes.clear();
            if send(self.link.client().as_fd(), answer) != Ok(1) {
                return Err(self.fail("the answer to the request for TLS found no room"));
            }
            if answer == b"S" {
                return Ok(Some(StartTls::Postgres));
            }
            may_ask = false;
        }
    }
}

const fn request(number: u32) -> [u8; 8] {
    let [a, b, c, d] = number.to_be_bytes();
    [0, 0, 0, 8, a, b, c, d]
}
