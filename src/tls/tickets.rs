//! Session tickets: what clients keep for us, sealed with keys that all workers share.
//!
//! A ticket is made as RFC 5077 §4 recommends: the key's name, an initialization vector, AES-256-CBC,
//! and HMAC-SHA-256 over all of it. Ciphers that break when a random number comes twice, such as
//! AES-GCM, are not for keys that many machines use for as long as an operator likes.
//!
//! rustls leaves it to us that no session begun under one set of rules is resumed under another. So
//! each [`Ticketer`] has a [`Scope`] that goes into the authentication: whoever asks for client
//! certificates takes only tickets that were given to clients checked by the same authorities and the
//! same list of revoked ones. Each resumed session brings a new ticket, so a ticket also carries until
//! when the client's certificate [holds](Holds): otherwise a client could come back with one for ever.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::{hmac, iv, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::server::ProducesTickets;
use rustls::time_provider::TimeProvider;
use zeroize::Zeroizing;

use super::fault::{Fault, Needed, Wrong};
use super::files;
use super::holds::Holds;
use crate::base::clock::Instant;
use crate::config::model::Tickets;

/// Bytes of a key in a file: 16 of name, 32 for HMAC-SHA-256, 32 for AES-256, as other servers have it.
const KEY_BYTES: usize = 80;

const NAME_BYTES: usize = 16;
const IV_BYTES: usize = 16;
const MAC_BYTES: usize = 32;

/// Before the session: when the ticket was given, seconds since 1970, big-endian.
const TIME_BYTES: usize = 8;

/// After that: until when what the client has shown holds, likewise.
const HOLDS_BYTES: usize = 8;

/// Keys of one file; each is one comparison per ticket.
const FILE_KEYS_MAX: usize = 16;

/// How long tickets hold whose keys come from a file. Whoever writes the file says when a key goes, so
/// this only bounds what a client can carry on.
const FILE_LIFETIME: Duration = Duration::from_hours(12);

/// RFC 8446 §4.6.1: no ticket holds longer.
const LIFETIME_MAX: Duration = Duration::from_hours(7 * 24);

/// How far the clocks of machines that share keys may be apart.
const CLOCKS_APART_SECONDS: u64 = 300;

/// Tickets longer than that are not ours: a session with a long chain of a client takes some kilobytes.
const TICKET_BYTES_MAX: usize = 32 * 1024;

/// The keys of a listener's tickets; outlive a snapshot as long as its settings stay the same.
///
/// The pointer is written by the control plane and read by workers, once for each ticket.
pub struct TicketKeys {
    settings: Tickets,
    ring: ArcSwap<Ring>,
    lifetime: Duration,
    clock: Arc<dyn TimeProvider>,
}

/// Keys at one time. The first one seals; all of them open.
struct Ring {
    /// Rotating: the current one, the next one, and the one before if there was one. From a file: in
    /// the file's order.
    keys: Vec<Arc<Key>>,
    /// When the next one becomes the current one.
    due: Option<Instant>,
}

struct Key {
    name: [u8; NAME_BYTES],
    mac: hmac::Key,
    seal: PaddedBlockEncryptingKey,
    open: PaddedBlockDecryptingKey,
}

/// Whose tickets are taken: equal only for equal rules about who may be a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope(pub(super) [u8; 32]);

/// Seals and opens tickets of one scope.
pub(super) struct Ticketer {
    pub(super) keys: Arc<TicketKeys>,
    pub(super) scope: Scope,
    /// Of the one client that is met, where clients are checked.
    pub(super) holds: Arc<Holds>,
}

impl TicketKeys {
    /// Keys as the settings have it; `None`: there are to be no tickets.
    pub fn new(
        settings: &Tickets,
        now: Instant,
        clock: Arc<dyn TimeProvider>,
    ) -> Result<Option<Arc<Self>>, Fault> {
        let (ring, lifetime) = match settings {
            Tickets::Off => return Ok(None),
            Tickets::Rotating(period) => {
                let keys = vec![Arc::new(Key::random()?), Arc::new(Key::random()?)];
                let due = Some(now + *period);
                (Ring { keys, due }, *period)
            }
            Tickets::File(file) => {
                let keys = read(file)?;
                (Ring { keys, due: None }, FILE_LIFETIME)
            }
        };
        Ok(Some(Arc::new(Self {
            settings: settings.clone(),
            ring: ArcSwap::from_pointee(ring),
            lifetime: lifetime.min(LIFETIME_MAX),
            clock,
        })))
    }

    /// Whether these keys are what `settings` ask for, so that a reload keeps them.
    pub fn serve(&self, settings: &Tickets) -> bool {
        self.settings == *settings
    }

    /// When [`rotate`](Self::rotate) has something to do; `None`: never.
    pub fn due(&self) -> Option<Instant> {
        self.ring.load().due
    }

    /// Makes the next key the current one if that is due, and forgets the one before the current one.
    /// Says whether it did. Called by one thread at a time.
    ///
    /// If no next key can be had the keys stay as they are, and it is due as before.
    pub fn rotate(&self, now: Instant) -> Result<bool, Fault> {
        let Tickets::Rotating(period) = self.settings else {
            return Ok(false);
        };
        let ring = self.ring.load_full();
        if ring.due.is_none_or(|due| now < due) {
            return Ok(false);
        }
        let [current, next, ..] = ring.keys.as_slice() else {
            return Ok(false);
        };
        let fresh = Arc::new(Key::random()?);
        // Once, however long it has been due: what was sealed before is too old by its own time.
        let keys = vec![next.clone(), fresh, current.clone()];
        let due = Some(now + period);
        self.ring.store(Arc::new(Ring { keys, due }));
        Ok(true)
    }

    /// Reads the file of keys again. A fault leaves the keys as they are; without a file there is
    /// nothing to read.
    pub fn reload(&self) -> Result<(), Fault> {
        if let Tickets::File(file) = &self.settings {
            let keys = read(file)?;
            self.ring.store(Arc::new(Ring { keys, due: None }));
        }
        Ok(())
    }

    fn now(&self) -> Option<u64> {
        self.clock.current_time().map(|now| now.as_secs())
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        f.debug_struct("TicketKeys")
            .field("settings", settings)
            .finish_non_exhaustive()
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.keys.lifetime.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        let ring = self.keys.ring.load();
        let length = TIME_BYTES + HOLDS_BYTES + session.len() + IV_BYTES;
        let mut message = Vec::with_capacity(length);
        message.extend_from_slice(&self.keys.now()?.to_be_bytes());
        message.extend_from_slice(&self.holds.until().to_be_bytes());
        message.extend_from_slice(session);
        ring.keys.first()?.seal(self.scope, message)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let ring = self.keys.ring.load();
        let (name, sealed) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let key = ring.keys.iter().find(|key| key.name == *name)?;
        let message = key.open(self.scope, sealed)?;
        let (given, message) = message.split_first_chunk::<TIME_BYTES>()?;
        let (until, session) = message.split_first_chunk::<HOLDS_BYTES>()?;
        let (given, until) = (u64::from_be_bytes(*given), u64::from_be_bytes(*until));
        let now = self.keys.now()?;
        let fresh = given <= now.saturating_add(CLOCKS_APART_SECONDS)
            && now.saturating_sub(given) <= self.keys.lifetime.as_secs()
            && now <= until;
        fresh.then(|| {
            self.holds.set(until);
            session.to_vec()
        })
    }
}

impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticketer")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl Key {
    fn random() -> Result<Self, Fault> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        rand::fill(&mut *bytes).map_err(|_| Fault::NoRandom)?;
        Self::new(&bytes).ok_or(Fault::NoRandom)
    }

    fn new(bytes: &[u8; KEY_BYTES]) -> Option<Self> {
        let (name, secrets) = bytes.split_first_chunk::<NAME_BYTES>()?;
        let (mac, cipher) = secrets.split_first_chunk::<MAC_BYTES>()?;
        let cipher = || UnboundCipherKey::new(&AES_256, cipher).ok();
        Some(Self {
            name: *name,
            mac: hmac::Key::new(hmac::HMAC_SHA256, mac),
            seal: PaddedBlockEncryptingKey::cbc_pkcs7(cipher()?).ok()?,
            open: PaddedBlockDecryptingKey::cbc_pkcs7(cipher()?).ok()?,
        })
    }

    fn seal(&self, scope: Scope, mut message: Vec<u8>) -> Option<Vec<u8>> {
        let context = self.seal.encrypt(&mut message).ok()?;
        let iv: &[u8] = (&context).try_into().ok()?;
        let mut ticket = Vec::with_capacity(NAME_BYTES + IV_BYTES + message.len() + MAC_BYTES);
        ticket.extend_from_slice(&self.name);
        ticket.extend_from_slice(iv);
        ticket.extend_from_slice(&message);
        let tag = self.tag(scope, ticket.get(NAME_BYTES..)?).sign();
        ticket.extend_from_slice(tag.as_ref());
        (ticket.len() <= TICKET_BYTES_MAX).then_some(ticket)
    }

    /// Opens what follows the key's name.
    fn open(&self, scope: Scope, sealed: &[u8]) -> Option<Vec<u8>> {
        if sealed.len() > TICKET_BYTES_MAX {
            return None;
        }
        let (sealed, tag) = sealed.split_last_chunk::<MAC_BYTES>()?;
        // Before anything is decrypted: otherwise the padding would tell secrets.
        constant_time_equal(self.tag(scope, sealed).sign().as_ref(), tag)?;
        let (iv, message) = sealed.split_first_chunk::<IV_BYTES>()?;
        let context = DecryptionContext::Iv128(iv::FixedLength::from(iv));
        let mut message = message.to_vec();
        let length = self.open.decrypt(&mut message, context).ok()?.len();
        message.truncate(length);
        Some(message)
    }

    /// Over the scope, the name, and the rest but the tag. The first two have fixed lengths, so no two
    /// tickets read the same.
    fn tag(&self, scope: Scope, sealed: &[u8]) -> hmac::Context {
        let mut tag = hmac::Context::with_key(&self.mac);
        tag.update(&scope.0);
        tag.update(&self.name);
        tag.update(sealed);
        tag
    }
}

fn constant_time_equal(one: &[u8], other: &[u8]) -> Option<()> {
    aws_lc_rs::constant_time::verify_slices_are_equal(one, other).ok()
}

/// The keys of a file: base64 of 80 bytes on each line. Empty lines and lines that begin with `#` say
/// nothing.
fn read(file: &Path) -> Result<Vec<Arc<Key>>, Fault> {
    let text = files::small(file)?;
    let mut keys = Vec::new();
    for (at, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        if keys.len() == FILE_KEYS_MAX {
            return Err(Fault::file(file, Wrong::TicketKeysMax(FILE_KEYS_MAX)));
        }
        let key =
            key_of(line).ok_or_else(|| Fault::file(file, Wrong::TicketKey { line: at + 1 }))?;
        keys.push(Arc::new(key));
    }
    if keys.is_empty() {
        return Err(Fault::file(file, Wrong::Lacks(Needed::TicketKey)));
    }
    Ok(keys)
}

fn key_of(line: &[u8]) -> Option<Key> {
    let bytes = Zeroizing::new(STANDARD.decode(line).ok()?);
    Key::new(bytes.as_slice().try_into().ok()?)
}

#[cfg(test)]
impl TicketKeys {
    pub(super) fn names(&self) -> Vec<[u8; NAME_BYTES]> {
        self.ring.load().keys.iter().map(|key| key.name).collect()
    }
}
