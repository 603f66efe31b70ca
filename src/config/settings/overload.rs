//! When the process takes no more clients, as keys and values.

use super::Setting;
use crate::config::choices::{OVERLOAD_ACTIONS, OVERLOAD_READYS, word};
use crate::config::model::{Overload, OverloadAction, OverloadReady};
use crate::config::text::memory_text;
use crate::config::units::duration_text;

/// `[global.overload]`
pub(super) fn overload(overload: Option<&Overload>) -> Vec<Setting> {
    let off = || "off".to_owned();
    let memory = overload.and_then(|it| it.memory);
    let memory = memory.map_or_else(off, memory_text);
    let lag = overload.and_then(|it| it.loop_lag).map(duration_text);
    let resume = overload.map_or(80, |it| it.resume);
    let action = overload.map_or(OverloadAction::Pause, |it| it.action);
    let ready = overload.map_or(OverloadReady::Keep, |it| it.ready);
    vec![
        ("overload.memory", Some(memory.into())),
        ("overload.loop_lag", Some(lag.unwrap_or_else(off).into())),
        ("overload.resume", Some(super::percent(resume))),
        (
            "overload.action",
            Some(word(&OVERLOAD_ACTIONS, &action).into()),
        ),
        (
            "overload.ready",
            Some(word(&OVERLOAD_READYS, &ready).into()),
        ),
    ]
}
