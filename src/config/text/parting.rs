//! What becomes of the sessions that a backend already has.

use std::sync::Arc;
use std::time::Duration;

use super::Text;
use crate::config::model::Parting;
use crate::config::table::Value;
use crate::config::units::{duration, duration_text};

/// `pool.on_down`, `on_remove` and `on_drain`.
pub(crate) static PARTING: Text = Text {
    expected: "\"keep\", \"reset\", or \"drain\" or \"close_spread\" with a time above zero, \
               such as \"drain 30s\"",
    words: &["keep", "reset", "drain 30s", "close_spread 10s"],
    pattern: r"^(keep|reset|(drain|close_spread) .+)$",
    parse: |text| match parting(text) {
        Some(_) => Ok(Value::Text(Arc::from(text))),
        None => Err(PARTING.expected.into()),
    },
};

/// Reads what [`PARTING`] takes.
pub(crate) fn parting(text: &str) -> Option<Parting> {
    let time =
        |text: &str| -> Option<Duration> { duration(text.trim()).filter(|time| !time.is_zero()) };
    match text.split_once(' ') {
        None if text == "keep" => Some(Parting::Keep),
        None if text == "reset" => Some(Parting::Reset),
        Some(("drain", rest)) => time(rest).map(Parting::Drain),
        Some(("close_spread", rest)) => time(rest).map(Parting::CloseSpread),
        _ => None,
    }
}

/// The text that reads as the same.
pub(crate) fn parting_text(parting: Parting) -> String {
    match parting {
        Parting::Keep => "keep".to_owned(),
        Parting::Drain(time) => format!("drain {}", duration_text(time)),
        Parting::CloseSpread(time) => format!("close_spread {}", duration_text(time)),
        Parting::Reset => "reset".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partings_come_back_from_their_text() {
        let seconds = Duration::from_secs(90);
        for it in [
            Parting::Keep,
            Parting::Reset,
            Parting::Drain(seconds),
            Parting::CloseSpread(seconds),
        ] {
            assert_eq!(parting(&parting_text(it)), Some(it));
        }
        for wrong in [
            "",
            "Keep",
            "drain",
            "drain ",
            "drain 0s",
            "drain 5",
            "close_spread",
            "reset 5s",
            "close_spread 0ms",
            "keep 1s",
            "drain-5s",
            " keep",
        ] {
            assert_eq!(parting(wrong), None, "{wrong:?}");
        }
    }
}
