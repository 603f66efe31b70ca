//! How faults of single values are worded.

use toml::de::DeValue;

use super::keys::{Kind, Section};
use super::report::Finding;
use super::source::Place;
use super::suggest::did_you_mean;

/// Characters of a wrong value that a message repeats.
const QUOTED_MAX: usize = 60;

pub(crate) fn unknown_key(section: &Section, place: Place, name: &str) -> Finding {
    let title = section.title;
    if section.later.contains(&name) {
        return Finding::at(place, format!("`{name}` is not supported yet in {title}"));
    }
    if let ("[pool.NAME]", "max_connections") = (title, name) {
        let message = format!("unknown key in {title}, got `{name}`");
        let help = "write breaker = { max_connections = ... } for the whole pool, or \
                    `max_connections` in [[pool.NAME.backend]] for one backend";
        return Finding::at(place, message).help(Some(help.to_owned()));
    }
    let keys = section.keys.iter().map(|key| key.name);
    let known: Vec<_> = keys.clone().collect();
    let (got, known) = (quoted(name), known.join("`, `"));
    let message = format!("unknown key in {title}, got `{got}`, expected one of `{known}`");
    Finding::at(place, message).help(did_you_mean(name, keys, '`'))
}

pub(crate) fn bad_value(name: &str, text: &str, expected: &str) -> String {
    format!(
        "bad value for `{name}`, got \"{}\", expected {expected}",
        quoted(text)
    )
}

pub(crate) fn out_of_range(name: &str, kind: &Kind, value: &DeValue<'_>) -> String {
    format!(
        "`{name}` is out of range, got {}, expected {}",
        describe(value),
        kind.expected()
    )
}

pub(crate) fn wrong_type(name: &str, kind: &Kind, value: &DeValue<'_>, place: Place) -> Finding {
    let (got, expected) = (describe(value), kind.expected());
    let help = match (kind, value) {
        (Kind::Time(_), DeValue::Integer(digits)) => Some(format!(
            "times are texts with a unit (ms, s, m, h, d): \"{}s\"",
            quoted(digits.as_str())
        )),
        (Kind::Size(..), DeValue::Integer(digits)) => Some(format!(
            "sizes are texts, in bytes or with a unit (k, m, g): \"{}\"",
            quoted(digits.as_str())
        )),
        (Kind::Tables(section), DeValue::Table(_)) => {
            Some(format!("write {} with double brackets", section.title))
        }
        (Kind::Number(..) | Kind::Flag, DeValue::String(text)) => {
            let bare = if matches!(kind, Kind::Flag) {
                text.parse::<bool>().is_ok()
            } else {
                text.parse::<u32>().is_ok()
            };
            bare.then(|| format!("write it without quotes: {text}"))
        }
        _ => None,
    };
    Finding::at(
        place,
        format!("wrong type for `{name}`, got {got}, expected {expected}"),
    )
    .help(help)
}

pub(crate) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text \"{}\"", quoted(text)),
        DeValue::Integer(digits) => format!("the number {}", quoted(&digits.to_string())),
        DeValue::Float(digits) => format!("the number {}", quoted(digits.as_str())),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => format!("the date {time}"),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// The beginning of what the file says.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
