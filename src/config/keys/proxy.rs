//! The keys of `listener.proxy_protocol` and `pool.proxy_protocol`.

use super::Kind::{self, Choice, Entries, List, Number, OneOrList};
use super::Preset::{self, Empty, Required, Unset};
use super::{Section, key};
use crate::config::choices;
use crate::config::text;

pub(super) static RECEIVE: Section = Section {
    title: "`proxy_protocol`",
    doc: "Who says in the PROXY protocol whom it speaks for.",
    one_of: &[],
    later: &[],
    keys: &[
        key(
            "receive",
            Choice(&choices::RECEIVE_WORDS, &[]),
            Preset::Text("off"),
            "Whether connections begin with a PROXY header, version 1 or 2.",
        ),
        key(
            "trusted",
            OneOrList(&Kind::Text(&text::NETWORK)),
            Unset,
            "Networks of the proxies that may send one; needed unless `receive` is off.",
        ),
    ],
};

pub(super) static SEND: Section = Section {
    title: "`proxy_protocol`",
    doc: "What backends are told of the client in the PROXY protocol.",
    one_of: &[],
    later: &[],
    keys: &[
        key(
            "send",
            Choice(&choices::SEND_WORDS, &[]),
            Preset::Text("off"),
            "The version of the header.",
        ),
        key(
            "tlvs",
            List(&Choice(&choices::TLV_WORDS, &[])),
            Empty,
            "What version 2 says besides addresses: alpn, authority, unique_id, ssl, crc32c.",
        ),
        key(
            "pass",
            List(&Number(1, 255)),
            Empty,
            "Types of fields that version 2 passes on from the header that was received.",
        ),
        key(
            "custom",
            Entries(&CUSTOM),
            Empty,
            "Further fields of version 2, the same for all clients.",
        ),
    ],
};

static CUSTOM: Section = Section {
    title: "an entry of `custom`",
    doc: "A field with a fixed value.",
    one_of: &[],
    later: &[],
    keys: &[
        key(
            "type",
            // The specification leaves these to users and to experiments (PROXY protocol 2.2.8).
            Number(0xe0, 0xf7),
            Required,
            "0xE0 to 0xF7.",
        ),
        key(
            "value",
            Kind::Text(&text::TLV_VALUE),
            Required,
            "At most 256 bytes.",
        ),
    ],
};
