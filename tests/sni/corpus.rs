//! The fuzz target's check, without a fuzzer: on its corpus, on real hellos and on changes of them.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::pieces::real;
use crate::replay::{files, replay_changed};

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
    let mut corpus = corpus();
    corpus.retain(|(_, bytes)| bytes.len() < 3_000);
    replay_changed(&corpus, 300, client_hello::check);
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
