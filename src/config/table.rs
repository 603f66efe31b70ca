//! A table of the file after reading: every value has its type, its place and its default.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::model::{BytesPattern, Memory, Rate};
use super::report::{Finding, Findings};
use super::source::Place;
use crate::base::address::{Address, Endpoint};
use crate::base::name::NamePattern;

/// A table of the file.
#[derive(Debug, PartialEq)]
pub(crate) struct Table {
    /// Its header, or all of an inline table.
    pub(crate) place: Place,
    /// Values by key: those given, and the defaults of those left out.
    pub(crate) entries: BTreeMap<&'static str, Entry>,
    /// Keys whose value has a fault of its own; they have no entry, or that of their default.
    pub(crate) faulty: Vec<&'static str>,
}

/// A key with its value.
#[derive(Debug, PartialEq)]
pub(crate) struct Entry {
    /// Where the key is; where its table is if it was left out.
    pub(crate) key: Place,
    /// Where the value is.
    pub(crate) place: Place,
    /// Where the value comes from.
    pub(crate) origin: Origin,
    /// The value.
    pub(crate) value: Value,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The file leaves it out.
    Default,
    /// The file gives it, and it is the default.
    Repeated,
    /// The file gives it, and it is not the default.
    Changed,
}

/// A value of the right type and within its bounds.
#[derive(Debug, PartialEq)]
pub(crate) enum Value {
    Flag(bool),
    /// A number, a percentage, a size or permission bits.
    Number(u32),
    Time(Duration),
    /// A word, a name or a path.
    Text(Arc<str>),
    Endpoint(Endpoint),
    /// A range of ports, not yet spelt out: many ranges would not fit into memory.
    Ports(IpAddr, RangeInclusive<u16>),
    Address(Address),
    Server(SocketAddr),
    Ip(IpAddr),
    Network(IpNet),
    Pattern(NamePattern),
    Rate(Rate),
    Memory(Memory),
    Bytes(Arc<[u8]>),
    Regex(BytesPattern),
    Status(RangeInclusive<u16>),
    Off,
    List(Vec<(Place, Self)>),
    Table(Table),
    Tables(Vec<Table>),
    Named(Vec<(Place, Arc<str>, Table)>),
}

impl Table {
    /// The entry of a key; `None`: left out, and without a default.
    pub(crate) fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// The entry of a key that the file gives a value other than its default.
    ///
    /// Only these are worth a warning: a file may spell defaults out, as a printed one does.
    pub(crate) fn changed(&self, name: &str) -> Option<&Entry> {
        self.entry(name)
            .filter(|entry| entry.origin == Origin::Changed)
    }

    /// Whether the file gives the key, be its value right or wrong.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        let is_given = |entry: &Entry| entry.origin != Origin::Default;
        self.entry(name).is_some_and(is_given) || self.faulty.contains(&name)
    }

    /// The value of a key that takes true or false.
    pub(crate) fn flag(&self, name: &str) -> bool {
        match self.entry(name).map(|entry| &entry.value) {
            Some(Value::Flag(flag)) => *flag,
            other => unreachable!("`{name}` is no flag with a default in the table: {other:?}"),
        }
    }

    /// The value of a key that takes a number and has a default.
    pub(crate) fn number(&self, name: &str) -> u32 {
        match self.entry(name).map(|entry| &entry.value) {
            Some(Value::Number(number)) => *number,
            other => unreachable!("`{name}` is no number with a default in the table: {other:?}"),
        }
    }

    /// The value of a key that takes a time.
    pub(crate) fn time(&self, name: &str) -> Duration {
        match self.entry(name).map(|entry| &entry.value) {
            Some(Value::Time(time)) => *time,
            other => unreachable!("`{name}` is no time with a default in the table: {other:?}"),
        }
    }

    /// The value of a key that takes a time and is off at zero.
    pub(crate) fn time_or_off(&self, name: &str) -> Option<Duration> {
        Some(self.time(name)).filter(|time| !time.is_zero())
    }

    /// The value of a key that takes a word, a name or a path.
    pub(crate) fn text(&self, name: &str) -> Option<&Arc<str>> {
        match &self.entry(name)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The table under a key; `None`: `off`, or left out and without a default.
    pub(crate) fn table(&self, name: &str) -> Option<&Self> {
        match &self.entry(name)?.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The values of a list; none if it was left out.
    pub(crate) fn list(&self, name: &str) -> &[(Place, Value)] {
        match self.entry(name).map(|entry| &entry.value) {
            Some(Value::List(list)) => list,
            _ => &[],
        }
    }

    /// The `[[tables]]` under a key; none if they were left out.
    pub(crate) fn tables(&self, name: &str) -> &[Self] {
        match self.entry(name).map(|entry| &entry.value) {
            Some(Value::Tables(tables)) => tables,
            _ => &[],
        }
    }

    /// The named tables under a key; none if they were left out.
    pub(crate) fn named(&self, name: &str) -> &[(Place, Arc<str>, Self)] {
        match self.entry(name).map(|entry| &entry.value) {
            Some(Value::Named(named)) => named,
            _ => &[],
        }
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, name: &str) -> Option<Entry> {
        self.entries.remove(name)
    }

    /// Takes in the same table of an included file; a key in both is a fault.
    pub(crate) fn merge(&mut self, other: Self, faults: &mut Findings) {
        for (name, theirs) in other.entries {
            if theirs.origin == Origin::Default {
                continue;
            }
            match (self.entries.get_mut(name), theirs) {
                (Some(ours), theirs) => ours.merge(name, theirs, faults),
                (None, theirs) => {
                    self.entries.insert(name, theirs);
                }
            }
        }
    }
}

impl Entry {
    fn merge(&mut self, name: &str, theirs: Self, faults: &mut Findings) {
        match (&mut self.value, theirs.value) {
            (Value::Tables(ours), Value::Tables(theirs)) => ours.extend(theirs),
            (Value::Named(ours), Value::Named(theirs)) => ours.extend(theirs),
            (Value::Table(ours), Value::Table(theirs)) => ours.merge(theirs, faults),
            _ if self.origin != Origin::Default => {
                let message = format!("`{name}` is set in two files, expected it in one");
                let finding = Finding::at(theirs.key, message);
                faults.push(finding.also(self.key, "the other one is here"));
            }
            (_, value) => *self = Self { value, ..theirs },
        }
    }
}
