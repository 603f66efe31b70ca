//! A probe's side of a TLS connection.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::probe::Stream;
use crate::health::{Failure, Target};
use crate::tls::seam::{Session, SessionFault, sealed_bytes};
use crate::tls::{ClientConfig, client};

/// What is received at once, bytes.
const CHUNK_BYTES: usize = 16 * 1024;

/// A connection whose handshake is over.
pub(super) struct Secured {
    stream: Box<dyn Stream>,
    session: Session,
    /// What was decrypted and not asked for yet.
    plain: Vec<u8>,
    chunk: Box<[u8]>,
}

impl Secured {
    /// Shakes hands as sessions of the pool do. Where those leave TLS to their clients, the certificate is
    /// not verified, as nobody has said against what.
    pub(super) async fn handshake(
        target: &Target,
        stream: Box<dyn Stream>,
    ) -> Result<Self, Failure> {
        let own = target.name.as_ref();
        let (config, name) = match &target.plan.tls {
            Some(tls) => (tls.config_of_probes(), tls.name(None, own)),
            None => (unverified()?, own.cloned()),
        };
        let Some(name) = name else {
            return Err(Failure::Tls("there is no name to ask for".to_owned()));
        };
        let session = Session::client(&config, name).map_err(|fault| tls(&fault))?;
        let mut secured = Self {
            stream,
            session,
            plain: Vec::new(),
            chunk: vec![0; CHUNK_BYTES].into(),
        };
        secured.flush().await?;
        while secured.session.is_handshaking() {
            if secured.take_in().await? == 0 {
                return Err(Failure::Tls("stream ended in the handshake".to_owned()));
            }
        }
        Ok(secured)
    }

    /// Takes leave. What a server has against our certificate it may only say now, so it is not asked.
    pub(super) async fn close(mut self) -> Result<(), Failure> {
        self.session.close();
        // The handshake was good, whether the other side waits for its end or not.
        let _ = self.flush().await;
        Ok(())
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut scratch = vec![0; sealed_bytes(bytes.len())];
        let mut sealed = Vec::new();
        self.session
            .encrypt(bytes, &mut scratch, &mut sealed)
            .map_err(|fault| tls(&fault))?;
        self.stream.write_all(&sealed).await?;
        self.flush().await
    }

    /// Appends what comes next; 0 bytes are the end.
    pub(super) async fn receive(&mut self, answer: &mut Vec<u8>) -> Result<usize, Failure> {
        while self.plain.is_empty() {
            if self.session.peer_closed() || self.take_in().await? == 0 {
                return Ok(0);
            }
        }
        let received = self.plain.len();
        answer.append(&mut self.plain);
        Ok(received)
    }

    async fn take_in(&mut self) -> Result<usize, Failure> {
        let received = self.stream.read(&mut self.chunk).await?;
        let taken = self.chunk.get_mut(..received).unwrap_or_default();
        let outcome = self.session.decrypt(taken, &mut self.plain);
        // After a fault there is an alert to be said; whether it arrives changes nothing.
        let flushed = self.flush().await;
        outcome.map_err(|fault| tls(&fault))?;
        flushed?;
        Ok(received)
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        let mut unsent = Vec::new();
        while self.session.wants_write() {
            self.session.write_into(&mut unsent)?;
        }
        Ok(self.stream.write_all(&unsent).await?)
    }
}

fn tls(fault: &SessionFault) -> Failure {
    match fault {
        SessionFault::Ours(error) => Failure::Ours(format!("tls: {error}")),
        fault => Failure::Tls(fault.to_string()),
    }
}

fn unverified() -> Result<Arc<ClientConfig>, Failure> {
    client::unverified().map_err(|fault| Failure::Ours(format!("tls: {fault}")))
}
