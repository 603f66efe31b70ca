//! A fuzz target's check without a fuzzer, for the ordinary tests: on files, and on changes of them.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use ringlane::base::random::Random;

/// Files of a directory of the repository with their bytes, by name.
pub(crate) fn files(dir: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "bin"));
    paths.sort();
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    paths
        .iter()
        .map(|path| (name(path), fs::read(path).unwrap()))
        .collect()
}

/// Calls `check` with so many `changes` of each file of `corpus`.
pub(crate) fn replay_changed(corpus: &[(String, Vec<u8>)], changes: u64, check: fn(&[u8])) {
    for (seed, (file, original)) in (0..).zip(corpus) {
        let mut random = Random::new(seed);
        for change in 0..changes {
            let mut bytes = original.clone();
            for _ in 0..=random.below(3) {
                mutate(&mut bytes, corpus, &mut random);
            }
            let held = catch_unwind(|| check(&bytes));
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
