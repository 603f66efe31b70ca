//! What a session that has failed still has to say.

use rustls::{AlertDescription, Connection, Error};

use super::alert::{self, Circumstances};
use super::sealing::{self, Withheld};

/// The record of a `close_notify` that is not sealed.
const CLOSE_NOTIFY: [u8; 7] = [21, 3, 3, 0, 2, 1, 0];

/// Takes all that rustls has for the peer after `error`, with the alert that is due at its end, sealed
/// if need be; says which one that is. Only for a connection whose fatal alerts were withheld when the
/// error came up, and that has to end.
pub(super) fn last_word(
    connection: &mut Connection,
    error: &Error,
    circumstances: Circumstances,
) -> (Vec<u8>, Option<AlertDescription>) {
    let mut pen = sealing::kept();
    let mut unsent = drained(connection);
    // A flight that is sealed ends in an alert only by chance, but after the handshake there may be a
    // lot of chances.
    let known = pen.is_some() || connection.is_handshaking();
    let said = known.then(|| alert::at_end(&unsent)).flatten();
    let due = match said {
        Some(said) => Some(alert::instead_of(said, error, circumstances)),
        None => alert::where_none_was_said(error),
    };
    let Some(due) = due else {
        return (unsent, None);
    };
    if said.is_some() {
        unsent.truncate(unsent.len() - CLOSE_NOTIFY.len());
    } else {
        // This shows whether an alert has to be sealed, and with what.
        sealing::withholding(Withheld::All, || connection.send_close_notify());
        pen = sealing::kept();
        let end = drained(connection);
        let Some(flight) = end.strip_suffix(&CLOSE_NOTIFY) else {
            // We have said that we are done.
            unsent.extend(end);
            return (unsent, None);
        };
        unsent.extend_from_slice(flight);
    }
    match pen {
        None => unsent.extend(alert::record(due)),
        Some(pen) => match pen.seal(due) {
            Ok(record) => unsent.extend(record),
            Err(_) => return (unsent, None),
        },
    }
    (unsent, Some(due))
}

fn drained(connection: &mut Connection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while connection.wants_write() {
        let written = connection.write_tls(&mut bytes);
        debug_assert!(written.is_ok(), "a Vec takes all");
    }
    bytes
}
