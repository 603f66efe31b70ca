//! The keys of `[listener.tls]` and `[pool.NAME.tls]`.

use super::Kind::{self, Choice, Entries, List, Number, Table};
use super::Preset::{self, Empty, Required, Unset};
use super::{ANY, Section, key};
use crate::config::choices;
use crate::config::text;

pub(super) static TERMINATION: Section = Section {
    title: "[listener.tls]",
    doc: "How TLS ends here.",
    one_of: &[],
    later: &[],
    keys: &[
        key(
            "certificates",
            Entries(&CERTIFICATE),
            Required,
            "What is shown to clients; the names come from each certificate.",
        ),
        key(
            "default_certificate",
            Number(0, 65_535),
            Unset,
            "The place in `certificates`, from 0, of what a client gets whose name none carries; it is refused if left out.",
        ),
        key(
            "min_version",
            Choice(&choices::TLS_VERSION_WORDS, &[]),
            Preset::Text("1.2"),
            "The oldest version spoken.",
        ),
        key(
            "max_version",
            Choice(&choices::TLS_VERSION_WORDS, &[]),
            Preset::Text("1.3"),
            "The newest version spoken.",
        ),
        key(
            "alpn",
            List(&Kind::Text(&text::PROTOCOL)),
            Empty,
            "Application protocols, the preferred one first; none is negotiated if empty.",
        ),
        key(
            "client_auth",
            Table(&CLIENT_AUTH),
            Empty,
            "Whether clients show certificates.",
        ),
        key(
            "ticket_keys",
            Kind::Text(&text::FILE),
            Unset,
            "A file of keys for session tickets that several machines share: 80 bytes each in base64, one a line, the current one first.",
        ),
        key(
            "ticket_rotation",
            ANY,
            Preset::Text("12h"),
            "How often the process changes its own keys for session tickets; 0s: no tickets.",
        ),
        key(
            "handshakes_max",
            Number(1, 1_000_000),
            Preset::Number(1000),
            "Handshakes that one worker may have under way.",
        ),
        key(
            "handshake_rate",
            Kind::Text(&text::RATE),
            Preset::Text("off"),
            "Handshakes that one source may begin, such as \"50/s\", or \"off\".",
        ),
    ],
};

static CERTIFICATE: Section = Section {
    title: "an entry of `certificates`",
    doc: "A certificate and its key.",
    one_of: &[],
    later: &[],
    keys: &[
        key(
            "chain",
            Kind::Text(&text::FILE),
            Required,
            "A PEM file: the certificate, then those that vouch for it.",
        ),
        key(
            "key",
            Kind::Text(&text::FILE),
            Required,
            "A PEM file: its private key.",
        ),
        key(
            "ocsp",
            Kind::Text(&text::FILE),
            Unset,
            "A DER file: an OCSP response to staple.",
        ),
    ],
};

static CLIENT_AUTH: Section = Section {
    title: "`client_auth`",
    doc: "Whether clients show certificates.",
    one_of: &[],
    later: &[],
    keys: &[
        key(
            "mode",
            Choice(&choices::AUTH_WORDS, &[]),
            Preset::Text("off"),
            "With request a client may go without, with require it may not.",
        ),
        key(
            "ca",
            Kind::Text(&text::FILE),
            Unset,
            "A PEM file: the authorities that vouch for clients; needed unless the mode is off.",
        ),
        key(
            "crl",
            Kind::Text(&text::FILE),
            Unset,
            "A PEM file: lists of revoked certificates.",
        ),
    ],
};

pub(super) static ENCRYPTION: Section = Section {
    title: "[pool.NAME.tls]",
    doc: "How connections to backends are encrypted.",
    one_of: &[],
    later: &[],
    keys: &[
        key(
            "verify",
            Choice(&choices::VERIFY_WORDS, &[]),
            Unset,
            "Who vouches for backends: the system's authorities, those of `ca`, or nobody. If left out: ca with a `ca`, else system.",
        ),
        key(
            "ca",
            Kind::Text(&text::FILE),
            Unset,
            "A PEM file: the authorities that vouch for backends.",
        ),
        key(
            "sni",
            Kind::Text(&text::POOL_SNI),
            Unset,
            "The name asked for and checked, or \"client\" for the one that the client asks for; the backend's own if left out.",
        ),
        key(
            "certificate",
            Kind::Text(&text::FILE),
            Unset,
            "A PEM file: the certificate that we show, then those that vouch for it.",
        ),
        key(
            "key",
            Kind::Text(&text::FILE),
            Unset,
            "A PEM file: its private key.",
        ),
        key(
            "alpn",
            List(&Kind::Text(&text::PROTOCOL)),
            Empty,
            "Application protocols that are offered, the preferred one first.",
        ),
        key(
            "min_version",
            Choice(&choices::TLS_VERSION_WORDS, &[]),
            Preset::Text("1.2"),
            "The oldest version spoken.",
        ),
    ],
};
