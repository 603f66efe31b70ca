//! The keys of `[global.overload]`.

use super::Kind::{self, Choice};
use super::Preset;
use super::{Section, key};
use crate::config::choices;
use crate::config::text;

pub(super) static OVERLOAD: Section = Section {
    title: "[global.overload]",
    doc: "When the process takes no more clients, and how.",
    one_of: &[],
    later: &[],
    keys: &[
        key(
            "memory",
            Kind::Text(&text::MEMORY),
            Preset::Text("off"),
            "Memory from which on it is overloaded: a size, a percentage of what it may have, or \"off\".",
        ),
        key(
            "loop_lag",
            Kind::Text(&text::LAG),
            Preset::Text("off"),
            "How late the slowest worker is from which on it is overloaded, on average over a second, or \"off\".",
        ),
        key(
            "resume",
            Kind::Text(&text::PART),
            Preset::Text("80%"),
            "The part of each threshold below which it is not overloaded any more.",
        ),
        key(
            "action",
            Choice(&choices::OVERLOAD_ACTION_WORDS, &[]),
            Preset::Text("pause"),
            "What happens to new clients meanwhile: pause leaves them in the kernel's queue, reject resets them.",
        ),
        key(
            "ready",
            Choice(&choices::OVERLOAD_READY_WORDS, &[]),
            Preset::Text("keep"),
            "Whether /ready fails meanwhile.",
        ),
    ],
};
