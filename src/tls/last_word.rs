//! What a session that has failed still has to say.

use rustls::{AlertDescription, Error};

use super::alert::{self, Circumstances};
use super::engine::Engine;
use super::sealing::{self, Pen, Withheld};

/// The record of a `close_notify` that is not sealed.
const CLOSE_NOTIFY: [u8; 7] = [21, 3, 3, 0, 2, 1, 0];

/// How our side of a session speaks, as far as that is known from outside of rustls.
#[derive(Default)]
pub(super) struct Voice {
    /// What we send is sealed.
    is_sealed: bool,
    /// What seals it, during the handshake.
    pen: Option<Pen>,
}

impl Voice {
    /// Takes note of what the last call into rustls has changed, in a handshake or after it.
    pub(super) fn heed(&mut self, is_handshaking: bool) {
        self.is_sealed |= sealing::sealed();
        if let Some(pen) = sealing::made() {
            self.pen = Some(pen);
        }
        if !is_handshaking {
            // It is asked for once it is needed.
            self.pen = None;
        }
    }
}

/// Appends all that rustls has for the peer after `error` to `unsent`, with the alert that is due at its
/// end, sealed if need be; says which one that is. `held` is what rustls has seen and is not done with.
/// Only for a connection whose fatal alerts were withheld when the error came up, and that has to end.
pub(super) fn last_word(
    engine: &mut Engine,
    error: &Error,
    circumstances: Circumstances,
    voice: &mut Voice,
    (held, unsent): (&mut [u8], &mut Vec<u8>),
) -> Option<AlertDescription> {
    let mut pen = sealing::kept();
    engine.drain(unsent);
    // A flight that is sealed ends in an alert only by chance, but after the handshake there may be a
    // lot of chances.
    let known = pen.is_some() || engine.common().is_handshaking();
    let said = known.then(|| alert::at_end(unsent)).flatten();
    let due = match said {
        Some(said) => alert::instead_of(said, error, circumstances),
        None => alert::where_none_was_said(error)?,
    };
    if said.is_some() {
        unsent.truncate(unsent.len() - CLOSE_NOTIFY.len());
    } else if voice.is_sealed && voice.pen.is_some() {
        pen = voice.pen.take();
    } else if voice.is_sealed {
        // This shows with what.
        sealing::withholding(Withheld::All, || engine.close(held, unsent));
        pen = sealing::kept();
        // Otherwise we have said that we are done.
        unsent.truncate(unsent.strip_suffix(&CLOSE_NOTIFY)?.len());
    }
    match pen {
        None => unsent.extend(alert::record(due)),
        Some(pen) => unsent.extend(pen.seal(due).ok()?),
    }
    Some(due)
}
