//! OCSP responses (RFC 6960): whom one is for and how long it holds.
//!
//! The signature is not checked. The client does that, and a response that fools us fools nobody else.

use aws_lc_rs::digest::{self, Algorithm};
use x509_parser::asn1_rs::{Any, Class, GeneralizedTime, Tag};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::fault::OcspWrong;

/// What a response says of a certificate that is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Good {
    /// It holds from then on, seconds since 1970.
    pub(super) from: u64,
    /// It holds until then, seconds since 1970; `None`: no end is given.
    pub(super) until: Option<u64>,
}

/// The certificate that the response must be for.
pub(super) struct Subject<'a> {
    /// The certificate itself.
    pub(super) certificate: &'a X509Certificate<'a>,
    /// The one that vouches for it, where the chain has it.
    pub(super) issuer: Option<&'a X509Certificate<'a>>,
}

/// Reads the DER of a response.
pub(super) fn read(response: &[u8], subject: &Subject<'_>) -> Result<Good, OcspWrong> {
    let body = body(response)?;
    let answers = answers(body).ok_or(OcspWrong::Malformed)?;
    let mut rest = answers;
    while !rest.is_empty() {
        let answer = sequence(&mut rest).ok_or(OcspWrong::Malformed)?;
        if let Some(found) = single(answer, subject).ok_or(OcspWrong::Malformed)? {
            return found;
        }
    }
    Err(OcspWrong::OfAnother)
}

/// The BasicOCSPResponse inside an OCSPResponse.
fn body(response: &[u8]) -> Result<&[u8], OcspWrong> {
    let read = |mut rest| {
        let mut whole = sequence(&mut rest)?;
        let status = universal(&mut whole, Tag::Enumerated)?;
        Some((status, whole))
    };
    let (status, mut whole) = read(response).ok_or(OcspWrong::Malformed)?;
    if status != [0] {
        return Err(OcspWrong::Unsuccessful);
    }
    let mut read = || {
        let mut typed = context(&mut whole, 0)?;
        let mut typed = sequence(&mut typed)?;
        let kind = universal(&mut typed, Tag::Oid)?;
        (kind == ID_PKIX_OCSP_BASIC).then_some(())?;
        universal(&mut typed, Tag::OctetString)
    };
    read().ok_or(OcspWrong::Malformed)
}

/// id-pkix-ocsp-basic, 1.3.6.1.5.5.7.48.1.1
const ID_PKIX_OCSP_BASIC: [u8; 9] = [0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];

/// The SingleResponses of a BasicOCSPResponse.
fn answers(mut basic: &[u8]) -> Option<&[u8]> {
    let mut basic = sequence(&mut basic)?;
    let mut data = sequence(&mut basic)?;
    let _version = context(&mut data, 0);
    let _responder = context(&mut data, 1).or_else(|| context(&mut data, 2))?;
    let _produced_at = universal(&mut data, Tag::GeneralizedTime)?;
    sequence(&mut data)
}

/// What a SingleResponse says; inside, `None` if it is about another certificate.
#[expect(
    clippy::option_option,
    reason = "broken and about another certificate are two things"
)]
fn single(mut answer: &[u8], subject: &Subject<'_>) -> Option<Option<Result<Good, OcspWrong>>> {
    let id = sequence(&mut answer)?;
    let status = next(&mut answer)?;
    let from = time(&mut answer)?;
    let until = match context(&mut answer, 0) {
        Some(mut until) => Some(time(&mut until)?),
        None => None,
    };
    if !is_about(id, subject)? {
        return Some(None);
    }
    Some(Some(match status.tag().0 {
        0 => Ok(Good { from, until }),
        1 => Err(OcspWrong::Revoked),
        _ => Err(OcspWrong::Unknown),
    }))
}

/// Whether a CertID means the subject: RFC 6960 §4.1.1.
fn is_about(mut id: &[u8], subject: &Subject<'_>) -> Option<bool> {
    let mut algorithm = sequence(&mut id)?;
    let hash = hash(universal(&mut algorithm, Tag::Oid)?);
    let name_hash = universal(&mut id, Tag::OctetString)?;
    let key_hash = universal(&mut id, Tag::OctetString)?;
    let serial = universal(&mut id, Tag::Integer)?;
    let agrees = |hashed: &[u8], said: &[u8]| match hash {
        Some(hash) => digest::digest(hash, hashed).as_ref() == said,
        // A hash that we do not know; the serial number alone must do.
        None => true,
    };
    let name = subject.certificate.issuer().as_raw();
    let key = subject
        .issuer
        .map(|issuer| &issuer.public_key().subject_public_key.data);
    Some(
        serial == subject.certificate.raw_serial()
            && agrees(name, name_hash)
            && key.is_none_or(|key| agrees(key, key_hash)),
    )
}

fn hash(oid: &[u8]) -> Option<&'static Algorithm> {
    const SHA2: [u8; 8] = [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2];
    match (oid, oid.strip_prefix(&SHA2)) {
        ([0x2b, 0x0e, 3, 2, 0x1a], _) => Some(&digest::SHA1_FOR_LEGACY_USE_ONLY),
        (_, Some([1])) => Some(&digest::SHA256),
        (_, Some([2])) => Some(&digest::SHA384),
        (_, Some([3])) => Some(&digest::SHA512),
        _ => None,
    }
}

fn time(rest: &mut &[u8]) -> Option<u64> {
    let (after, time) = GeneralizedTime::from_der(rest).ok()?;
    *rest = after;
    let seconds = time.utc_datetime().ok()?.unix_timestamp();
    Some(u64::try_from(seconds).unwrap_or(0))
}

fn sequence<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    universal(rest, Tag::Sequence)
}

/// The next element's content; `None`, and nothing taken, if it has another tag.
fn universal<'a>(rest: &mut &'a [u8], tag: Tag) -> Option<&'a [u8]> {
    tagged(rest, Class::Universal, tag)
}

fn context<'a>(rest: &mut &'a [u8], number: u32) -> Option<&'a [u8]> {
    tagged(rest, Class::ContextSpecific, Tag(number))
}

fn tagged<'a>(rest: &mut &'a [u8], class: Class, tag: Tag) -> Option<&'a [u8]> {
    let mut after = *rest;
    let element = next(&mut after)?;
    (element.class() == class && element.tag() == tag).then_some(())?;
    *rest = after;
    Some(element.data)
}

fn next<'a>(rest: &mut &'a [u8]) -> Option<Any<'a>> {
    let (after, element) = Any::from_der(rest).ok()?;
    *rest = after;
    Some(element)
}
