//! Names that certificates carry and names that routes terminate: which of them have no counterpart.

use std::collections::HashSet;

use crate::base::name::NamePattern;
use crate::config::model::{Routes, Target};

/// Names of a text that lists some; the rest is counted.
const LISTED_MAX: usize = 5;

/// Patterns, to be asked whether they meet another one.
#[derive(Default)]
pub(super) struct Names<'a> {
    exact: HashSet<&'a str>,
    one_label: HashSet<&'a str>,
    any_depth: HashSet<&'a str>,
    /// What follows the first dot of each exact name.
    parents: HashSet<&'a str>,
    /// What names lie below: all that follows a dot of an exact name, and of `*.` and `**.` patterns.
    above: HashSet<&'a str>,
}

impl<'a> Names<'a> {
    pub(super) fn of(patterns: impl IntoIterator<Item = &'a NamePattern>) -> Self {
        let mut names = Self::default();
        for pattern in patterns {
            let suffix = match pattern {
                NamePattern::Exact(name) => {
                    names.exact.insert(name);
                    names.parents.extend(parents(name).next());
                    names.above.extend(parents(name));
                    continue;
                }
                NamePattern::OneLabel(suffix) => {
                    names.one_label.insert(suffix);
                    suffix
                }
                NamePattern::AnyDepth(suffix) => {
                    names.any_depth.insert(suffix);
                    suffix
                }
            };
            names.above.insert(suffix);
            names.above.extend(parents(suffix));
        }
        names
    }

    /// Whether some name is matched by `pattern` and by one of these.
    pub(super) fn meet(&self, pattern: &NamePattern) -> bool {
        let below_any = |name: &str| parents(name).any(|above| self.any_depth.contains(above));
        match pattern {
            NamePattern::Exact(name) => {
                let parent = parents(name).next();
                self.exact.contains(&**name)
                    || parent.is_some_and(|parent| self.one_label.contains(parent))
                    || below_any(name)
            }
            NamePattern::OneLabel(suffix) => {
                self.one_label.contains(&**suffix)
                    || self.parents.contains(&**suffix)
                    || self.any_depth.contains(&**suffix)
                    || below_any(suffix)
            }
            NamePattern::AnyDepth(suffix) => {
                self.above.contains(&**suffix)
                    || self.any_depth.contains(&**suffix)
                    || below_any(suffix)
            }
        }
    }
}

/// Which names lead to termination.
pub(super) struct Terminated<'a> {
    /// Whatever name no other route takes, too.
    any: bool,
    names: Names<'a>,
}

impl<'a> Terminated<'a> {
    pub(super) fn of(routes: &'a Routes) -> Self {
        let terminates = |target: &Target| matches!(target, Target::Terminate(_));
        let ours = || {
            let routes = routes.routes.iter();
            routes.filter(|route| terminates(&route.target))
        };
        Self {
            any: ours().any(|route| route.names.default),
            names: Names::of(ours().flat_map(|route| &route.names.sni)),
        }
    }

    /// Those of `carried` that no client will be shown the certificate for.
    pub(super) fn unused<'n>(&self, carried: &'n [NamePattern]) -> Vec<&'n NamePattern> {
        let unused = |name: &&NamePattern| !self.any && !self.names.meet(name);
        carried.iter().filter(unused).collect()
    }
}

/// Some of `names`, in quotes.
pub(super) fn list(names: &[&NamePattern]) -> String {
    let quoted = names.iter().take(LISTED_MAX);
    let quoted: Vec<String> = quoted.map(|name| format!("\"{name}\"")).collect();
    let mut text = quoted.join(", ");
    if names.len() > LISTED_MAX {
        text += &format!(" and {} more", names.len() - LISTED_MAX);
    }
    text
}

/// What follows the first dot of `name`, the second, and so on.
fn parents(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| Some(name.split_once('.')?.1)).skip(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meet(these: &[&str], pattern: &str) -> bool {
        let parse = |text: &&str| NamePattern::parse(text).unwrap();
        let these: Vec<_> = these.iter().map(parse).collect();
        Names::of(&these).meet(&parse(&pattern))
    }

    #[test]
    fn patterns_meet_where_some_name_is_matched_by_both() {
        let all = ["a.example", "*.b.example", "**.c.example"];
        for pattern in [
            "a.example",
            "*.example",
            "**.example",
            "x.b.example",
            "*.b.example",
            "**.b.example",
            "x.c.example",
            "x.y.c.example",
            "*.c.example",
            "*.y.c.example",
            "**.c.example",
            "**.y.c.example",
        ] {
            assert!(meet(&all, pattern), "{pattern}");
        }
        for pattern in [
            "b.example",
            "x.y.b.example",
            "c.example",
            "x.a.example",
            "*.a.example",
            "**.a.example",
            "*.x.b.example",
            "**.x.b.example",
            "xa.example",
            "*.other",
            "**.other",
        ] {
            assert!(!meet(&all, pattern), "{pattern}");
        }
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<_> = (0..7)
            .map(|n| NamePattern::parse(&format!("n{n}.example")).unwrap())
            .collect();
        let names: Vec<_> = names.iter().collect();
        assert_eq!(list(&names[..2]), "\"n0.example\", \"n1.example\"");
        assert!(list(&names).ends_with("\"n4.example\" and 2 more"));
    }
}
