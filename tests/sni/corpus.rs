//! The fuzz target's check, without a fuzzer: on its corpus, on real hellos and on changes of them.

use proptest::collection::vec;
use proptest::prelude::*;
use ringlane::base::random::Random;

use crate::pieces::{files, real};

#[path = "../../tools/fuzz/checks/client_hello.rs"]
mod client_hello;

fn corpus() -> Vec<(String, Vec<u8>)> {
    let corpus = files("tools/fuzz/corpus/client_hello");
    assert!(corpus.len() >= 30, "only {} files", corpus.len());
    [corpus, real()].concat()
}

#[test]
fn the_corpus_holds_what_the_check_says() {
    for (_, bytes) in corpus() {
        client_hello::check(&bytes);
    }
}

#[test]
fn changed_hellos_hold_what_the_check_says() {
    const CHANGES_OF_EACH: u64 = 300;
    let mut corpus = corpus();
    corpus.retain(|(_, bytes)| bytes.len() < 3_000);
    for (seed, (file, original)) in (0..).zip(&corpus) {
        let mut random = Random::new(seed);
        for change in 0..CHANGES_OF_EACH {
            let mut bytes = original.clone();
            for _ in 0..=random.below(3) {
                mutate(&mut bytes, &corpus, &mut random);
            }
            let held = std::panic::catch_unwind(|| client_hello::check(&bytes));
            assert!(
                held.is_ok(),
                "{file}: change {change} of seed {seed}: {bytes:?}"
            );
        }
    }
}

/// One of the things that a fuzzer does to a file.
fn mutate(bytes: &mut Vec<u8>, corpus: &[(String, Vec<u8>)], random: &mut Random) {
    let mut below = |bound: usize| usize::try_from(random.below(bound.max(1) as u64)).unwrap();
    if bytes.is_empty() {
        bytes.push(22);
    }
    let at = below(bytes.len());
    match below(8) {
        0 => bytes[at] ^= 1 << below(8),
        1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'.', b'A'][below(7)],
        2 => bytes[at] = bytes[at].wrapping_add(1),
        3 => bytes[at] = bytes[at].wrapping_sub(1),
        4 => bytes.truncate(at),
        5 => {
            let end = (at + 1 + below(40)).min(bytes.len());
            bytes.drain(at..end);
        }
        6 => {
            let end = (at + 1 + below(40)).min(bytes.len());
            let copied = bytes[at..end].to_vec();
            let place = below(bytes.len());
            bytes.splice(place..place, copied);
        }
        _ => {
            let other = &corpus[below(corpus.len())].1;
            let from = below(other.len());
            let tail = other.get(from..).unwrap_or_default();
            bytes.truncate(at);
            bytes.extend(tail);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_hold_what_the_check_says(bytes in vec(any::<u8>(), 0..300)) {
        client_hello::check(&bytes);
    }

    #[test]
    fn any_body_of_a_hello_holds_what_the_check_says(
        body in vec(any::<u8>(), 0..300),
        extensions in vec((0_u16..50, vec(any::<u8>(), 0..20)), 0..8),
    ) {
        client_hello::check(&crate::pieces::records(&crate::pieces::handshake(1, &body), 100));
        let none = crate::pieces::Hello::default();
        let hello = extensions.iter().fold(none, |hello, (kind, body)| hello.with(*kind, body));
        client_hello::check(&hello.bytes());
    }
}
