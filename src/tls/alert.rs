//! The alerts that end a handshake before there are keys, where rustls says another one than the
//! standard has it, or none.
//!
//! Once records are sealed, what rustls says stands: nobody else can seal an alert.

use rustls::{AlertDescription, Error, InvalidMessage, PeerIncompatible, ProtocolVersion};

/// The record that ends a handshake with a client whose name nobody serves: alert
/// `unrecognized_name`, fatal (RFC 6066 §3). To be sent in the place of a session's first bytes.
pub const UNRECOGNIZED_NAME: [u8; 7] = record(112);

/// A fatal alert as a record of its own, not sealed (RFC 8446 §6).
const fn record(description: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, description]
}

/// What an alert depends on beside the error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    /// What both sides agreed on so far.
    pub(super) version: Option<ProtocolVersion>,
    /// Whether the peer is known to speak nothing newer than TLS 1.1.
    pub(super) old_client: bool,
}

/// Whether `first`, the first bytes of a stream, are a ClientHello of TLS 1.1 or older. One that is
/// cut in its first bytes is not told from newer ones.
pub(super) fn is_old_hello(first: &[u8]) -> bool {
    // The record's header, the handshake message's, and the version: below TLS 1.2 the highest that
    // the client speaks.
    matches!(first, [22, 3, _, _, _, 1, _, _, _, 3, 0..=2, ..])
}

/// Puts the alert that is due after `error` at the end of what goes to the peer, and says which one
/// that is.
pub(super) fn amend(
    unsent: &mut Vec<u8>,
    error: &Error,
    circumstances: Circumstances,
) -> Option<AlertDescription> {
    let said = at_end(unsent);
    let due = match said {
        Some(said) => Some(instead_of(said, error, circumstances)),
        // Before a version is chosen nothing is sealed. After that nobody knows here whether it is.
        None if circumstances.version.is_none() => where_none_was_said(error),
        None => None,
    };
    if said != due {
        unsent.truncate(unsent.len() - said.map_or(0, |_| UNRECOGNIZED_NAME.len()));
        unsent.extend(due.map(|due| record(due.into())).into_iter().flatten());
    }
    due
}

/// The alert that `unsent` ends in, unless it is sealed.
fn at_end(unsent: &[u8]) -> Option<AlertDescription> {
    let (_, last) = unsent.split_last_chunk::<7>()?;
    let [.., description] = *last;
    (*last == record(description)).then(|| description.into())
}

fn instead_of(
    said: AlertDescription,
    error: &Error,
    circumstances: Circumstances,
) -> AlertDescription {
    use AlertDescription as Alert;
    use InvalidMessage::{InvalidContentType, MessageTooLarge, UnknownProtocolVersion};
    use PeerIncompatible::SignatureAlgorithmsExtensionRequired;
    match (error, said) {
        // RFC 8446 §5: an unexpected record type.
        (Error::InvalidMessage(InvalidContentType), Alert::DecodeError) => Alert::UnexpectedMessage,
        // RFC 8446 §5.1: a record longer than one may be.
        (Error::InvalidMessage(MessageTooLarge), Alert::DecodeError) => Alert::RecordOverflow,
        (Error::InvalidMessage(UnknownProtocolVersion), Alert::DecodeError) => {
            Alert::ProtocolVersion
        }
        // RFC 5246 §7.4.6: `certificate_required` came with TLS 1.3.
        (Error::NoCertificatesPresented, Alert::CertificateRequired)
            if circumstances.version == Some(ProtocolVersion::TLSv1_2) =>
        {
            Alert::HandshakeFailure
        }
        // rustls looks for the signature algorithms before it looks at the version, and those came
        // with TLS 1.2 (RFC 5246 Appendix E.1).
        (
            Error::PeerIncompatible(SignatureAlgorithmsExtensionRequired),
            Alert::HandshakeFailure,
        ) if circumstances.old_client => Alert::ProtocolVersion,
        // The index has no certificate for the client's name.
        (Error::General(_), Alert::AccessDenied) => Alert::UnrecognisedName,
        _ => said,
    }
}

fn where_none_was_said(error: &Error) -> Option<AlertDescription> {
    match error {
        // RFC 8446 §6.2: a fatal alert is not answered.
        Error::AlertReceived(_) => None,
        Error::InvalidMessage(_) => Some(AlertDescription::DecodeError),
        // Handshake messages with others in between, and empty records without end.
        Error::PeerMisbehaved(_) => Some(AlertDescription::UnexpectedMessage),
        Error::PeerIncompatible(_) => Some(AlertDescription::HandshakeFailure),
        _ => Some(AlertDescription::InternalError),
    }
}
