//! The alerts that end a session, where rustls says another one than the standard has it, or none.

use rustls::{
    AlertDescription, Error, InvalidMessage, PeerIncompatible, PeerMisbehaved, ProtocolVersion,
};

use super::beginning::Beginning;

/// The record that ends a handshake with a client whose name nobody serves: alert
/// `unrecognized_name`, fatal (RFC 6066 §3). To be sent in the place of a session's first bytes.
pub const UNRECOGNIZED_NAME: [u8; RECORD_BYTES] = numbered(112);

/// An alert as a record of its own, not sealed, bytes.
pub(super) const RECORD_BYTES: usize = 7;

/// A fatal alert as a record of its own, not sealed (RFC 8446 §6).
pub(super) fn record(description: AlertDescription) -> [u8; RECORD_BYTES] {
    numbered(description.into())
}

const fn numbered(description: u8) -> [u8; RECORD_BYTES] {
    [21, 3, 3, 0, 2, 2, description]
}

/// What an alert depends on beside the error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    /// What both sides agreed on so far.
    pub(super) version: Option<ProtocolVersion>,
    /// What the peer began with.
    pub(super) beginning: Beginning,
}

/// The fatal alert that `unsent` ends in, unless it is sealed.
pub(super) fn at_end(unsent: &[u8]) -> Option<AlertDescription> {
    let (_, last) = unsent.split_last_chunk::<RECORD_BYTES>()?;
    let [.., description] = *last;
    (*last == numbered(description)).then(|| description.into())
}

/// What is due after `error`, for which rustls says something.
pub(super) fn instead_of(
    said: AlertDescription,
    error: &Error,
    circumstances: Circumstances,
) -> AlertDescription {
    use AlertDescription as Alert;
    use InvalidMessage::{
        InvalidContentType, MessageTooLarge, MissingData, UnknownProtocolVersion,
    };
    use PeerIncompatible::{
        KeyShareExtensionRequired, NoKxGroupsInCommon, SignatureAlgorithmsExtensionRequired,
    };
    let Circumstances {
        version, beginning, ..
    } = circumstances;
    let new = version == Some(ProtocolVersion::TLSv1_3);
    match (error, said) {
        // RFC 8446 §5: an unexpected record type.
        (Error::InvalidMessage(InvalidContentType), Alert::DecodeError) => Alert::UnexpectedMessage,
        // RFC 8446 §5.4: an alert of no bytes.
        (Error::InvalidMessage(MissingData("AlertLevel")), Alert::DecodeError) => {
            Alert::UnexpectedMessage
        }
        // RFC 8446 §5.1: a record longer than one may be.
        (Error::InvalidMessage(MessageTooLarge), Alert::DecodeError) => Alert::RecordOverflow,
        (Error::InvalidMessage(UnknownProtocolVersion), Alert::DecodeError) => {
            Alert::ProtocolVersion
        }
        // RFC 5246 §7.4.6: `certificate_required` came with TLS 1.3.
        (Error::NoCertificatesPresented, Alert::CertificateRequired)
            if version == Some(ProtocolVersion::TLSv1_2) =>
        {
            Alert::HandshakeFailure
        }
        // rustls looks for the signature algorithms before it looks at the version, and those came
        // with TLS 1.2 (RFC 5246 Appendix E.1).
        (Error::PeerIncompatible(SignatureAlgorithmsExtensionRequired), _)
            if beginning == Beginning::Old =>
        {
            Alert::ProtocolVersion
        }
        // RFC 8446 §9.2: TLS 1.3 cannot do without these extensions.
        (Error::PeerIncompatible(KeyShareExtensionRequired), _) => Alert::MissingExtension,
        (Error::PeerIncompatible(SignatureAlgorithmsExtensionRequired), _)
            if new || beginning == Beginning::Lacking =>
        {
            Alert::MissingExtension
        }
        (Error::PeerIncompatible(NoKxGroupsInCommon), _)
            if new && beginning == Beginning::Lacking =>
        {
            Alert::MissingExtension
        }
        // The index has no certificate for the client's name.
        (Error::General(_), Alert::AccessDenied) => Alert::UnrecognisedName,
        _ => said,
    }
}

/// What is due after `error`, for which rustls says nothing.
pub(super) fn where_none_was_said(error: &Error) -> Option<AlertDescription> {
    use AlertDescription as Alert;
    use PeerMisbehaved::{ServerNameDifferedOnRetry, UnsolicitedCertExtension};
    match error {
        // RFC 8446 §6.2: a fatal alert is not answered.
        Error::AlertReceived(_) => None,
        Error::InvalidMessage(_) => Some(Alert::DecodeError),
        // RFC 8446 §4.1.2: the second ClientHello says what the first one said.
        Error::PeerMisbehaved(ServerNameDifferedOnRetry) => Some(Alert::IllegalParameter),
        // RFC 8446 §4.2: an extension that was not asked for.
        Error::PeerMisbehaved(UnsolicitedCertExtension) => Some(Alert::UnsupportedExtension),
        // Messages of the handshake with others in between, and floods of what is worth nothing.
        Error::PeerMisbehaved(_) => Some(Alert::UnexpectedMessage),
        Error::PeerIncompatible(_) => Some(Alert::HandshakeFailure),
        // The certificate's key can make no signature that the client understands.
        Error::General(_) => Some(Alert::HandshakeFailure),
        _ => Some(Alert::InternalError),
    }
}
