//! How long the hot parts of ringlane take.
//!
//! ```sh
//! cargo bench --bench hot                       # all of them
//! cargo bench --bench hot -- least_connections  # those whose name has this in it
//! cargo bench --bench hot -- --save-baseline before
//! cargo bench --bench hot -- --baseline before  # what has changed since
//! ```
//!
//! The figures are those of one core that does nothing else, with the case's data in its caches. They
//! waver by some percent from run to run; `tools/instructions` counts the same cases exactly.

mod cases;

use std::time::Duration;

use criterion::Criterion;
use ringlane::base::clock::{now, now_coarse};
use ringlane::log::wall_clock;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(50)
        .configure_from_args();
    for case in cases::all() {
        // Laid out once, and only where the command line names the case.
        let mut prepared = None;
        criterion.bench_function(&case.name, |bencher| {
            let run = prepared.get_or_insert_with(|| case.prepare());
            bencher.iter_custom(|times| {
                let begun = now();
                run(times);
                now() - begun
            });
        });
    }
    clocks(&mut criterion);
    criterion.final_summary();
}

/// Not among the cases: what a clock costs is the kernel's page of code, which valgrind hides.
fn clocks(criterion: &mut Criterion) {
    criterion.bench_function("clock/now", |bencher| bencher.iter(now));
    criterion.bench_function("clock/now_coarse", |bencher| bencher.iter(now_coarse));
    criterion.bench_function("clock/wall_clock", |bencher| bencher.iter(wall_clock));
}
