//! What a session costs in its worker's timer wheel, and what a tick costs.

use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;

use ringlane::base::clock::Instant;
use ringlane::base::random::Random;
use ringlane::io::wheel::{Key, SLOT, Wheel};

use super::{Case, place_below, seeded};

/// Sessions in the wheel.
const SESSIONS: u64 = 10_000;

/// Within the wheel's sight; visits are spread over it.
const SPREAD: Duration = Duration::from_secs(50);

/// Between two visits of a session with its backend.
const REVISIT: Duration = Duration::from_secs(5);

/// Beyond every visit that is hastened.
const LATE: Duration = Duration::from_secs(51);

/// Something to point to, as the worker's wheel holds its links.
type Link = Rc<u64>;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("wheel/remove_insert/10000", remove_insert),
        Case::new("wheel/remove_insert_hasten/10000", remove_insert_hasten),
        Case::new("wheel/tick/10000", tick),
    ]
}

/// One session leaves, another comes.
fn remove_insert() -> impl FnMut() {
    let mut full = Full::new(SPREAD);
    move || {
        let (place, link) = full.remove_one();
        let due = full.now + below(&mut full.random, SPREAD);
        full.keys[place] = full.wheel.insert(black_box(due), link);
    }
}

/// The same, and the new one's visit is moved.
fn remove_insert_hasten() -> impl FnMut() {
    let mut full = Full::new(SPREAD);
    move || {
        let (place, link) = full.remove_one();
        let key = full.wheel.insert(black_box(full.now + LATE), link);
        let due = full.now + below(&mut full.random, SPREAD);
        full.wheel.hasten(key, black_box(due));
        full.keys[place] = key;
    }
}

/// 25 ms go by, in which one in 200 sessions is due.
fn tick() -> impl FnMut() -> u64 {
    let mut full = Full::new(REVISIT);
    move || {
        full.now = full.now + SLOT;
        let now = full.now;
        let mut sum = 0;
        full.wheel.advance(now, usize::MAX, |link| {
            sum += **link;
            now + REVISIT
        });
        sum
    }
}

/// A wheel with its sessions.
struct Full {
    now: Instant,
    wheel: Wheel<Link>,
    keys: Vec<Key>,
    random: Random,
}

impl Full {
    fn new(spread: Duration) -> Self {
        let now = Instant::from_millis(1_000_000);
        let mut random = seeded();
        let mut wheel = Wheel::new(now);
        let keys = (0..SESSIONS)
            .map(|number| wheel.insert(now + below(&mut random, spread), Rc::new(number)))
            .collect();
        Self {
            now,
            wheel,
            keys,
            random,
        }
    }

    /// Takes any session out; its place among the keys is free then.
    fn remove_one(&mut self) -> (usize, Link) {
        let place = place_below(&mut self.random, self.keys.len());
        let link = self.wheel.remove(self.keys[place]);
        (place, link.expect("every key is that of a session inside"))
    }
}

fn below(random: &mut Random, spread: Duration) -> Duration {
    let nanos = u64::try_from(spread.as_nanos()).expect("seconds");
    Duration::from_nanos(random.below(nanos))
}
