//! Every key of the configuration, once: what it takes, its default, what it does.
//!
//! Reading, its faults, the schema and the test of the example file all follow this table.

mod backends;
mod clients;
mod health;
mod limits;
mod outcomes;
mod overload;
mod process;
mod proxy;
mod routes;
mod tls;

use super::text::Text;
use super::units;
use Kind::{
    Choice, Entries, Flag, List, Named, Number, OneOrList, Size, Table, TableOrOff, Tables, Time,
};
pub(crate) use outcomes::OUTLIERS;
pub(crate) use process::ROOT;

/// A table of the file.
#[derive(Debug)]
pub(crate) struct Section {
    /// How messages call it.
    pub(crate) title: &'static str,
    /// What it is for.
    pub(crate) doc: &'static str,
    /// What may stand in it.
    pub(crate) keys: &'static [Key],
    /// Keys of which exactly one must be there.
    pub(crate) one_of: &'static [&'static str],
    /// Keys that later versions will take. They are refused, because to ignore them would be to
    /// run with less protection than the file asks for.
    pub(crate) later: &'static [&'static str],
}

/// A key of a table.
#[derive(Debug)]
pub(crate) struct Key {
    /// How it is written.
    pub(crate) name: &'static str,
    /// What it takes.
    pub(crate) kind: Kind,
    /// What holds when it is left out.
    pub(crate) preset: Preset,
    /// What it does, in one line.
    pub(crate) doc: &'static str,
}

/// What holds when a key is left out.
#[derive(Debug)]
pub(crate) enum Preset {
    /// It must not be left out.
    Required,
    /// Nothing, or what the description says.
    Unset,
    /// An empty list, or a table with all its defaults.
    Empty,
    /// `true` or `false`.
    Flag(bool),
    /// A number.
    Number(u32),
    /// A text.
    Text(&'static str),
}

/// What a key takes.
#[derive(Debug)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number within these bounds.
    Number(u32, u32),
    /// A number of bytes within these bounds, with a unit.
    Size(u32, u32),
    /// A time with a unit.
    Time(Bounds),
    /// One of these words, or, refused, one that a later version will know.
    Choice(&'static [&'static str], &'static [&'static str]),
    /// Other text.
    Text(&'static Text),
    /// Any number of these.
    List(&'static Self),
    /// One of these, or a list of them.
    OneOrList(&'static Self),
    /// A table.
    Table(&'static Section),
    /// A table, or the word `off`.
    TableOrOff(&'static Section),
    /// `[[tables]]`.
    Tables(&'static Section),
    /// The same, in the short form: a list of tables of a line each.
    Entries(&'static Section),
    /// Tables under names of the operator's choice.
    Named(&'static Section),
}

/// Which times make sense.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Whether zero does.
    pub(crate) zero: Zero,
    /// The kernel takes this one in seconds, and no more than so many.
    pub(crate) whole_seconds: Option<u32>,
}

/// What a time of zero means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zero {
    /// It makes no sense.
    Refused,
    /// It means no time at all, or off, as the key's description says.
    Allowed,
}

const POSITIVE: Kind = Time(Bounds {
    zero: Zero::Refused,
    whole_seconds: None,
});
const ANY: Kind = Time(Bounds {
    zero: Zero::Allowed,
    whole_seconds: None,
});
const fn key(name: &'static str, kind: Kind, preset: Preset, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        preset,
        doc,
    }
}

impl Section {
    /// The key of that name.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.keys.iter().map(|key| key.name).collect();
        format!("`{}`", names.join("`, `"))
    }
}

impl Kind {
    /// What should have been written, for a message.
    pub(crate) fn expected(&self) -> String {
        match self {
            Flag => "true or false".to_owned(),
            Number(least, most) => format!("a whole number from {least} to {most}"),
            Size(least, most) => {
                let (least, most) = (units::size_text(*least), units::size_text(*most));
                format!("a size from \"{least}\" to \"{most}\"")
            }
            Time(bounds) => bounds.expected(),
            Choice(words, _) => match words {
                [word] => format!("\"{word}\""),
                _ => format!("one of \"{}\"", words.join("\", \"")),
            },
            Self::Text(text) => text.expected.to_owned(),
            List(of) => format!("a list, each {}", of.expected()),
            OneOrList(of) => format!("{}, or a list of such", of.expected()),
            Table(section) => format!("a table with {}", section.names()),
            TableOrOff(section) => format!("{} or \"off\"", Table(section).expected()),
            Entries(section) => format!("a list of tables with {}", section.names()),
            Tables(section) | Named(section) => format!("{} tables", section.title),
        }
    }
}

impl Bounds {
    fn expected(&self) -> String {
        match (&self.zero, self.whole_seconds) {
            (Zero::Refused, None) => "a time above zero, such as \"30s\" or \"1h30m\"".to_owned(),
            (_, None) => "a time such as \"30s\" or \"1h30m\"".to_owned(),
            (Zero::Refused, Some(most)) => {
                format!("a time in whole seconds from \"1s\" to \"{most}s\"")
            }
            (_, Some(most)) => format!("a time in whole seconds from \"0s\" to \"{most}s\""),
        }
    }
}
