//! The fuzz target's check of PROXY headers, without a fuzzer: on its corpus, on headers of real senders
//! and on changes of both.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use proptest::collection::vec;
use proptest::prelude::*;

#[path = "../../tools/fuzz/checks/proxy_protocol.rs"]
mod proxy_protocol;
#[path = "../../tools/fuzz/replay.rs"]
mod replay;

use replay::{files, replay_changed};

fn corpus() -> Vec<(String, Vec<u8>)> {
    let corpus = files("tools/fuzz/corpus/proxy_protocol");
    assert!(corpus.len() >= 30, "only {} files", corpus.len());
    let real = files("tests/proxy_headers");
    assert!(real.len() >= 15, "only {} files", real.len());
    [corpus, real].concat()
}

#[test]
fn the_corpus_holds_what_the_check_says() {
    for (_, bytes) in corpus() {
        proxy_protocol::check(&bytes);
    }
}

#[test]
fn changed_headers_hold_what_the_check_says() {
    let mut corpus = corpus();
    corpus.retain(|(_, bytes)| bytes.len() < 3_000);
    replay_changed(&corpus, 300, proxy_protocol::check);
}

proptest! {
    #[test]
    fn any_bytes_behind_a_beginning_hold_what_the_check_says(
        beginning in prop::sample::select(vec![
            &b""[..],
            b"PROXY ",
            b"PROXY TCP4 ",
            b"PROXY UNKNOWN",
            b"\r\n\r\n\0\r\nQUIT\n",
        ]),
        bytes in vec(any::<u8>(), 0..200),
    ) {
        proxy_protocol::check(&[beginning, &bytes].concat());
    }

    #[test]
    fn any_block_of_a_header_holds_what_the_check_says(
        command in prop::sample::select(vec![0x20, 0x21]),
        family in prop::sample::select(vec![0, 1, 0x10, 0x11, 0x12, 0x21, 0x31]),
        addresses in prop::sample::select(vec![0, 12, 36, 216]),
        values in vec((any::<u8>(), vec(any::<u8>(), 0..20)), 0..6),
    ) {
        let mut block = vec![7; addresses];
        for (kind, value) in values {
            block.extend([&[kind, 0, u8::try_from(value.len()).unwrap()], &value[..]].concat());
        }
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        let fixed = [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &length].concat();
        proxy_protocol::check(&[fixed, block].concat());
    }
}
