//! What a session that has failed still has to say.

use rustls::{AlertDescription, Error};

use super::alert::{self, Circumstances};
use super::engine::Engine;
use super::sealing::{self, Pen, Withheld};

/// How our side of a session speaks, as far as that is known from outside of rustls.
#[derive(Default)]
pub(super) struct Voice {
    /// What we send is sealed.
    is_sealed: bool,
    /// What seals it, or will.
    pen: Option<Pen>,
    /// We have said that nothing more comes.
    is_done: bool,
}

impl Voice {
    /// Takes note of what the last call into rustls has changed; that was a [`sealing::withholding`].
    pub(super) fn heed(&mut self) {
        self.is_sealed |= sealing::sealed();
        if let Some(pen) = sealing::made() {
            self.pen = Some(pen);
        }
    }

    /// Takes note of a `close_notify`.
    pub(super) fn end(&mut self) {
        self.is_done = true;
        self.pen = None;
    }
}

/// Appends all that rustls has for the peer after `error` to `unsent`, with the alert that is due at its
/// end, sealed if need be; says which one that is. Only for a connection whose fatal alerts were withheld
/// when the error came up, and that has to end.
pub(super) fn last_word(
    engine: &mut Engine,
    error: &Error,
    circumstances: Circumstances,
    voice: &mut Voice,
    unsent: &mut Vec<u8>,
) -> Option<AlertDescription> {
    let before = unsent.len();
    engine.drain(unsent);
    if voice.is_done {
        // Nothing follows a close_notify.
        unsent.truncate(before);
        return None;
    }
    // What is sealed ends in an alert only by chance, but where there is a lot of it there are a lot of
    // chances.
    let shows = sealing::withheld() || !voice.is_sealed;
    let said = shows.then(|| alert::at_end(unsent)).flatten();
    let due = match said {
        Some(said) => {
            unsent.truncate(unsent.len() - alert::RECORD_BYTES);
            alert::instead_of(said, error, circumstances)
        }
        None => alert::where_none_was_said(error)?,
    };
    if said.is_none() && voice.is_sealed {
        // The answer to a change of keys may wait in rustls for something to be said, and goes before
        // the alert.
        sealing::withholding(Withheld::Fatal, || engine.provoke());
        engine.drain(unsent);
        if sealing::withheld() {
            unsent.truncate(unsent.len() - alert::RECORD_BYTES);
        }
    }
    if voice.is_sealed {
        unsent.extend(voice.pen.take()?.seal(due).ok()?);
    } else {
        unsent.extend(alert::record(due));
    }
    Some(due)
}
