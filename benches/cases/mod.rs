//! The hot parts of ringlane as cases that both benchmarks run, on the same seeded data.
//!
//! A case calls what a worker or a reload calls, through the library's public items. Its name is its
//! group, what is done, and on how much of it: `balance/round_robin/100`.

mod balance;
mod config;
mod limits;
mod metrics;
mod session_log;
mod snapshot;
mod wheel;

use std::hint::black_box;

use ringlane::base::random::Random;

/// Does an operation so many times.
pub(crate) type Run = Box<dyn FnMut(u64)>;

/// One hot part.
pub(crate) struct Case {
    /// Unique among the cases.
    pub(crate) name: String,
    prepare: Box<dyn Fn() -> Run>,
}

/// Every case, in the order of the tables that are printed.
pub(crate) fn all() -> Vec<Case> {
    [
        balance::cases(),
        limits::cases(),
        snapshot::cases(),
        metrics::cases(),
        wheel::cases(),
        session_log::cases(),
        config::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl Case {
    /// `prepare` lays out the data and gives the operation, whose result the optimizer must not drop.
    fn new<T, Operation: FnMut() -> T + 'static>(
        name: impl Into<String>,
        prepare: impl Fn() -> Operation + 'static,
    ) -> Self {
        let prepare = move || {
            let mut operation = prepare();
            let run = move |times: u64| {
                for _ in 0..times {
                    black_box(operation());
                }
            };
            Box::new(run) as Run
        };
        Self {
            name: name.into(),
            prepare: Box::new(prepare),
        }
    }

    /// The data, laid out anew, and the operation on it.
    pub(crate) fn prepare(&self) -> Run {
        (self.prepare)()
    }
}

/// The generator that a case draws its data from: the same at every run.
const fn seeded() -> Random {
    Random::new(0x7269_6e67_6c61_6e65)
}

/// A place among so many.
fn place_below(random: &mut Random, length: usize) -> usize {
    let place = random.below(length as u64);
    usize::try_from(place).expect("a place is below the length of something in memory")
}
