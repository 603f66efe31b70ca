//! What decides, driven by a simulated clock: nothing waits, no socket is opened, and each world can be had
//! again by its seed. 256 seeds; `RINGLANE_SEED=N` replays one.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod health;
mod pool;
mod sessions;

use std::ops::Range;

/// As many as every run takes.
const SEEDS: u64 = 256;

/// The seeds of this run.
fn seeds() -> Range<u64> {
    match std::env::var("RINGLANE_SEED") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => 0..SEEDS,
    }
}

/// Whether so many worlds were seen that each rule must have had its day.
const fn is_whole(seeds: &Range<u64>) -> bool {
    seeds.end - seeds.start == SEEDS
}
