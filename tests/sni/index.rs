//! Values by name, against the rule written down as plainly as possible.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use ringlane::base::name::NamePattern;
use ringlane::sni::NameIndex;

fn index(patterns: &[&str]) -> NameIndex<String> {
    let values = patterns.iter().enumerate();
    values
        .map(|(place, text)| (NamePattern::parse(text).unwrap(), format!("{text} {place}")))
        .collect()
}

#[track_caller]
fn assert_order(patterns: &[&str], name: &str, expected: &[&str]) {
    let index = index(patterns);
    assert_eq!(
        index.lookup_all(name).collect::<Vec<_>>(),
        expected,
        "{name}"
    );
    assert_eq!(
        index.lookup(name).map(String::as_str),
        expected.first().copied()
    );
}

#[test]
fn the_exact_name_comes_first_then_the_longest_suffix() {
    let patterns = [
        "**.example",
        "*.b.example",
        "a.b.example",
        "**.b.example",
        "*.example",
        "b.example",
        "**.a.b.example",
    ];
    assert_order(
        &patterns,
        "a.b.example",
        &[
            "a.b.example 2",
            "*.b.example 1",
            "**.b.example 3",
            "**.example 0",
        ],
    );
    assert_order(
        &patterns,
        "c.b.example",
        &["*.b.example 1", "**.b.example 3", "**.example 0"],
    );
    assert_order(
        &patterns,
        "c.a.b.example",
        &["**.a.b.example 6", "**.b.example 3", "**.example 0"],
    );
    assert_order(
        &patterns,
        "b.example",
        &["b.example 5", "*.example 4", "**.example 0"],
    );
    assert_order(&patterns, "x.example", &["*.example 4", "**.example 0"]);
    assert_order(&patterns, "example", &[]);
    assert_order(&patterns, "aexample", &[]);
    assert_order(&patterns, "a.b.example.org", &[]);
    assert_order(&patterns, "", &[]);
}

#[test]
fn values_of_one_pattern_keep_their_order() {
    let patterns = ["*.a", "x.a", "**.a", "x.a", "*.a", "x.a", "**.a"];
    assert_order(
        &patterns,
        "x.a",
        &[
            "x.a 1", "x.a 3", "x.a 5", "*.a 0", "*.a 4", "**.a 2", "**.a 6",
        ],
    );
    let index = index(&patterns);
    assert_eq!((index.len(), index.is_empty()), (7, false));
}

#[test]
fn an_index_of_nothing_finds_nothing() {
    let index = index(&[]);
    assert!(index.is_empty() && index.lookup("a.example").is_none());
}

#[test]
fn names_of_any_depth_are_found() {
    let deepest = vec!["a"; 127].join(".");
    assert_order(&["**.a"], &deepest, &["**.a 0"]);
    assert_order(&["*.a"], &deepest, &[]);
    assert_order(&[&deepest], &deepest, &[&format!("{deepest} 0")]);
    let endless = vec!["a"; 5_000].join(".");
    assert_order(&[&deepest, "**.a.a"], &endless, &["**.a.a 1"]);
}

/// Whether a pattern matches, and where it stands in the order: lower is better.
fn rank(pattern: &NamePattern, name: &str) -> Option<(usize, usize)> {
    let labels = |text: &str| text.split('.').count();
    let behind = |suffix: &Arc<str>| name.strip_suffix(&**suffix)?.strip_suffix('.').map(labels);
    let from_end = |text: &str| usize::MAX - labels(text);
    match pattern {
        NamePattern::Exact(text) => (**text == *name).then_some((0, 0)),
        NamePattern::OneLabel(text) => (behind(text)? == 1).then(|| (from_end(text), 0)),
        NamePattern::AnyDepth(text) => behind(text).map(|_| (from_end(text), 1)),
    }
}

proptest! {
    #[test]
    fn the_index_agrees_with_the_rule(
        patterns in vec("(\\*\\.|\\*\\*\\.)?([ab]\\.){0,3}[abc]", 0..40),
        names in vec("([ab]\\.){0,5}[abc]", 1..20),
    ) {
        let patterns: Vec<NamePattern> = patterns
            .iter()
            .map(|text| NamePattern::parse(text).unwrap())
            .collect();
        let index: NameIndex<usize> = patterns.iter().cloned().zip(0..).collect();
        for name in &names {
            let mut ranked: Vec<_> = patterns
                .iter()
                .zip(0..)
                .filter_map(|(pattern, place)| Some((rank(pattern, name)?, place)))
                .collect();
            ranked.sort_unstable();
            let expected: Vec<usize> = ranked.iter().map(|&(_, place)| place).collect();
            let found: Vec<usize> = index.lookup_all(name).copied().collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(index.lookup(name), ranked.first().map(|(_, place)| place));
        }
    }
}
