//! What it costs a worker to count.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use ringlane::base::random::Random;
use ringlane::metrics::{Cells, ListenerCells, Registry};

use super::{Case, seeded};

/// Durations recorded in turn; a power of two.
const DURATIONS: usize = 1024;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("metrics/counter_add", counter_add),
        Case::new("metrics/histogram_record", histogram_record),
    ]
}

fn counter_add() -> impl FnMut() {
    let cells = cells();
    move || black_box(&cells).worker(1).bytes_up.add(black_box(1460))
}

fn histogram_record() -> impl FnMut() {
    let cells = cells();
    let mut random = seeded();
    let durations: [Duration; DURATIONS] = std::array::from_fn(|_| duration(&mut random));
    let mut turn = 0;
    move || {
        turn = (turn + 1) % DURATIONS;
        let cells = black_box(&cells).worker(1);
        cells.session_seconds.record(durations[turn]);
    }
}

/// From a microsecond to a quarter of an hour, every power of two as likely as the others.
fn duration(random: &mut Random) -> Duration {
    let power = 10 + random.below(30);
    Duration::from_nanos((1 << power) + random.below(1 << power))
}

fn cells() -> Arc<Cells<ListenerCells>> {
    Registry::new(2).listener(&"web".into())
}
