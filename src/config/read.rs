//! A file read against the table of keys; every fault that a value has by itself is reported here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::keys::{Bounds, Key, Kind, Preset, Section, Zero};
use super::report::{Finding, Findings};
use super::source::Place;
use super::suggest::did_you_mean;
use super::table::{Entry, Origin, Table, Value};
use super::text::Text;
use super::units;
use super::wording::{bad_value, describe, out_of_range, quoted, unknown_key, wrong_type};

/// Reads one file.
pub(crate) struct Reader<'f> {
    /// Its index.
    pub(crate) file: usize,
    /// Tables in lists and under names that may still be read, in all files together.
    pub(crate) tables_left: &'f mut usize,
    /// Where its faults go.
    pub(crate) faults: &'f mut Findings,
}

/// Tables in lists and under names: an empty listener is 10 bytes in the file and some KiB with all
/// its defaults in memory.
pub(crate) const TABLES_MAX: usize = 100_000;

/// Ten years: no deadline that is reckoned from it leaves the clock's range.
const TIME_MAX: Duration = Duration::from_secs(3650 * 86_400);

impl Reader<'_> {
    /// Reads a table with the keys of `section`; `place` is its header.
    pub(crate) fn table(
        &mut self,
        section: &'static Section,
        place: Place,
        raw: &DeTable<'_>,
    ) -> Table {
        let mut table = Table {
            place,
            entries: BTreeMap::new(),
            faulty: Vec::new(),
        };
        let mut present = Vec::new();
        for (name, value) in raw {
            let at = self.place(name.span());
            let Some(key) = section.key(name.get_ref()) else {
                self.faults
                    .push_with(|| unknown_key(section, at, name.get_ref()));
                continue;
            };
            present.push((key.name, at));
            let (place, read) = (
                self.place(value.span()),
                self.value(key.name, &key.kind, value),
            );
            // A list of the wrong type has its fault already.
            if read.is_some()
                && !matches!(key.preset, Preset::Empty)
                && value
                    .get_ref()
                    .as_array()
                    .is_some_and(|list| list.is_empty())
            {
                let message = format!("`{name}` is empty, expected {}", key.kind.expected());
                self.faults.push(Finding::at(place, message));
            }
            if read.is_none() {
                table.faulty.push(key.name);
            }
            let default = preset(key, at);
            let origin = if read == default {
                Origin::Repeated
            } else {
                Origin::Changed
            };
            if let Some(value) = read.or(default) {
                table.entries.insert(
                    key.name,
                    Entry {
                        key: at,
                        place,
                        origin,
                        value,
                    },
                );
            }
        }
        self.check_presence(section, place, &present);
        add_defaults(&mut table, section);
        table
    }

    fn check_presence(&mut self, section: &Section, place: Place, present: &[(&str, Place)]) {
        let is_present = |name: &str| present.iter().find(|(key, _)| *key == name);
        for key in section.keys {
            if matches!(key.preset, Preset::Required) && is_present(key.name).is_none() {
                let (name, title, expected) = (key.name, section.title, key.kind.expected());
                let message = format!("`{name}` is missing in {title}, expected {expected}");
                self.faults.push(Finding::at(place, message));
            }
        }
        let mut given: Vec<_> = section
            .one_of
            .iter()
            .filter_map(|name| is_present(name))
            .collect();
        given.sort_by_key(|(_, place)| *place);
        let names = section.one_of.join("` or `");
        match given[..] {
            [] if !section.one_of.is_empty() => {
                let message = format!("{} is incomplete, expected `{names}`", section.title);
                self.faults.push(Finding::at(place, message));
            }
            [(first, first_place), (second, second_place), ..] => {
                let message =
                    format!("`{second}` beside `{first}`, expected only one of `{names}`");
                let finding = Finding::at(*second_place, message);
                self.faults
                    .push(finding.also(*first_place, "the other one is here"));
            }
            _ => {}
        }
    }

    /// Reads the value of the key `name`; `None`: it had a fault.
    fn value(
        &mut self,
        name: &str,
        kind: &'static Kind,
        raw: &Spanned<DeValue<'_>>,
    ) -> Option<Value> {
        let place = self.place(raw.span());
        let read = match (kind, raw.get_ref()) {
            (Kind::Flag, DeValue::Boolean(flag)) => Ok(Value::Flag(*flag)),
            (Kind::Number(least, most), DeValue::Integer(digits)) => {
                match u32::from_str_radix(digits.as_str(), digits.radix()) {
                    Ok(number) if (*least..=*most).contains(&number) => Ok(Value::Number(number)),
                    _ => Err(Finding::at(place, out_of_range(name, kind, raw.get_ref()))),
                }
            }
            (Kind::Size(least, most), DeValue::String(text)) => {
                read_size(name, (*least, *most), text)
                    .map_err(|message| Finding::at(place, message))
            }
            (Kind::Time(bounds), DeValue::String(text)) => {
                read_time(name, bounds, text).map_err(|message| Finding::at(place, message))
            }
            (Kind::Choice(words, later), DeValue::String(text)) => {
                match words.iter().find(|word| *word == text) {
                    Some(word) => Ok(Value::Text(Arc::from(*word))),
                    None if later.contains(&text.as_ref()) => {
                        let message = format!("`{name} = \"{text}\"` is not supported yet");
                        Err(Finding::at(
                            place,
                            format!("{message}, expected {}", kind.expected()),
                        ))
                    }
                    None => Err(Finding::at(place, bad_value(name, text, &kind.expected()))
                        .help(did_you_mean(text, words.iter().copied(), '"'))),
                }
            }
            (Kind::Text(kind), DeValue::String(text)) => read_text(name, kind, text, place),
            (Kind::TableOrOff(_), DeValue::String(word)) if word == "off" => Ok(Value::Off),
            (Kind::List(_) | Kind::OneOrList(_), _) => return self.list(name, kind, raw),
            (
                Kind::Table(_)
                | Kind::TableOrOff(_)
                | Kind::Tables(_)
                | Kind::Entries(_)
                | Kind::Named(_),
                _,
            ) => return self.tables(name, kind, raw),
            _ => Err(wrong_type(name, kind, raw.get_ref(), place)),
        };
        read.map_err(|finding| self.faults.push(finding)).ok()
    }

    fn list(
        &mut self,
        name: &str,
        kind: &'static Kind,
        raw: &Spanned<DeValue<'_>>,
    ) -> Option<Value> {
        let place = self.place(raw.span());
        match (kind, raw.get_ref()) {
            (Kind::List(of) | Kind::OneOrList(of), DeValue::Array(items)) => {
                let read = |item| Some((self.place_of(item), self.value(name, of, item)?));
                Some(Value::List(items.iter().filter_map(read).collect()))
            }
            (Kind::OneOrList(of), DeValue::String(_)) => {
                Some(Value::List(vec![(place, self.value(name, of, raw)?)]))
            }
            (_, value) => {
                self.faults.push(wrong_type(name, kind, value, place));
                None
            }
        }
    }

    fn tables(
        &mut self,
        name: &str,
        kind: &'static Kind,
        raw: &Spanned<DeValue<'_>>,
    ) -> Option<Value> {
        let place = self.place(raw.span());
        match (kind, raw.get_ref()) {
            (Kind::Table(section) | Kind::TableOrOff(section), DeValue::Table(table)) => {
                Some(Value::Table(self.table(section, place, table)))
            }
            (Kind::Tables(section) | Kind::Entries(section), DeValue::Array(items)) => {
                let mut tables = Vec::new();
                for item in items {
                    let place = self.place_of(item);
                    if !self.take_table(place) {
                        break;
                    }
                    match item.get_ref() {
                        DeValue::Table(table) => tables.push(self.table(section, place, table)),
                        value => self.faults.push(wrong_type(name, kind, value, place)),
                    }
                }
                Some(Value::Tables(tables))
            }
            (Kind::Named(section), DeValue::Table(named)) => Some(Value::Named(
                named
                    .iter()
                    .filter_map(|(key, value)| self.named(name, section, (key, value)))
                    .collect(),
            )),
            (_, value) => {
                self.faults.push(wrong_type(name, kind, value, place));
                None
            }
        }
    }

    fn named(
        &mut self,
        kind: &str,
        section: &'static Section,
        (key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>),
    ) -> Option<(Place, Arc<str>, Table)> {
        let at = self.place(key.span());
        let name = key.get_ref();
        let DeValue::Table(table) = value.get_ref() else {
            let message = format!("wrong type for {kind} `{}`", quoted(name));
            let got = describe(value.get_ref());
            let message = format!("{message}, got {got}, expected a table {}", section.title);
            self.faults.push(Finding::at(at, message));
            return None;
        };
        if !self.take_table(at) {
            return None;
        }
        if let Err(expected) = (super::text::NAME.parse)(name) {
            self.faults.push(Finding::at(
                at,
                bad_value(&format!("the name of a {kind}"), name, &expected),
            ));
        }
        // The place of a table that no header names is only a part of its keys.
        Some((at, Arc::from(name.as_ref()), self.table(section, at, table)))
    }

    /// Whether there may be one more table; the first that may not be is a fault.
    fn take_table(&mut self, place: Place) -> bool {
        if *self.tables_left == 1 {
            let message = format!(
                "too many tables, expected at most {TABLES_MAX} listeners, routes, pools, backends \
                 and other tables in lists"
            );
            self.faults.push(Finding::at(place, message));
        }
        *self.tables_left = self.tables_left.saturating_sub(1);
        *self.tables_left > 0
    }

    fn place_of(&self, raw: &Spanned<DeValue<'_>>) -> Place {
        self.place(raw.span())
    }

    fn place(&self, span: std::ops::Range<usize>) -> Place {
        Place {
            file: self.file,
            start: span.start,
            end: span.end,
        }
    }
}

fn add_defaults(table: &mut Table, section: &Section) {
    let place = table.place;
    for key in section.keys {
        if !table.entries.contains_key(key.name)
            && let Some(value) = preset(key, place)
        {
            let entry = Entry {
                key: place,
                place,
                origin: Origin::Default,
                value,
            };
            table.entries.insert(key.name, entry);
        }
    }
}

/// The default of a key; its place is that of the table it was left out of.
fn preset(key: &'static Key, place: Place) -> Option<Value> {
    Some(match (&key.preset, &key.kind) {
        (Preset::Required | Preset::Unset, _) => return None,
        (Preset::Flag(flag), _) => Value::Flag(*flag),
        (Preset::Number(number), _) => Value::Number(*number),
        (Preset::Text(text), Kind::Time(_)) => Value::Time(units::duration(text)?),
        (Preset::Text(text), Kind::Size(..)) => Value::Number(units::size(text)?),
        (Preset::Text(text), Kind::Text(kind)) => (kind.parse)(text).ok()?,
        (Preset::Text(text), _) => Value::Text(Arc::from(*text)),
        (Preset::Empty, Kind::Table(section) | Kind::TableOrOff(section)) => {
            let mut table = Table {
                place,
                entries: BTreeMap::new(),
                faulty: Vec::new(),
            };
            add_defaults(&mut table, section);
            Value::Table(table)
        }
        (Preset::Empty, Kind::Tables(_) | Kind::Entries(_)) => Value::Tables(Vec::new()),
        (Preset::Empty, Kind::Named(_)) => Value::Named(Vec::new()),
        (Preset::Empty, _) => Value::List(Vec::new()),
    })
}

fn read_time(name: &str, bounds: &Bounds, text: &str) -> Result<Value, String> {
    let expected = || Kind::Time(*bounds).expected();
    let Some(time) = units::duration(text) else {
        return Err(bad_value(name, text, &expected()));
    };
    let most = bounds
        .whole_seconds
        .map_or(TIME_MAX, |most| Duration::from_secs(most.into()));
    let is_whole = bounds.whole_seconds.is_none() || time.subsec_millis() == 0;
    if !is_whole || (time.is_zero() && bounds.zero == Zero::Refused) {
        return Err(bad_value(name, text, &expected()));
    }
    if time > most {
        let most = units::duration_text(most);
        return Err(format!(
            "`{name}` is out of range, got \"{text}\", expected at most \"{most}\""
        ));
    }
    Ok(Value::Time(time))
}

fn read_size(name: &str, (least, most): (u32, u32), text: &str) -> Result<Value, String> {
    match units::size(text) {
        Some(size) if (least..=most).contains(&size) => Ok(Value::Number(size)),
        _ => Err(bad_value(name, text, &Kind::Size(least, most).expected())),
    }
}

fn read_text(name: &str, kind: &Text, text: &str, place: Place) -> Result<Value, Finding> {
    (kind.parse)(text).map_err(|expected| {
        let advice = did_you_mean(text, kind.words.iter().copied(), '"');
        Finding::at(place, bad_value(name, text, &expected)).help(advice)
    })
}
