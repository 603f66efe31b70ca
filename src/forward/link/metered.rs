//! A session whose client's source may move so many bytes in a second: it is read no faster.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use super::{Direction, Link};
use crate::base::clock::{Instant, now};
use crate::limits::bytes::Meter;

/// How long a direction waits at first, and at most, before it asks again: a source with many connections
/// must not keep a worker busy with asking.
const PAUSES: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(250));

/// What a link has of limits of bytes; links without have none of it.
pub(super) struct Metered {
    /// The listener's and the route's, as far as there are.
    meters: RefCell<Vec<Meter>>,
    pause: Cell<Duration>,
    /// Whether up and down are held back now.
    held: [Cell<bool>; 2],
    /// How long they have been, together.
    held_for: Cell<Duration>,
    /// Whether it was said of this session that it was slowed, or would have been.
    is_told: Cell<bool>,
}

/// What a direction that wants to read is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::forward) enum Grant {
    /// It may read so many bytes, at least one.
    Bytes(usize),
    /// It may ask again after so long.
    Wait(Duration),
}

/// What is worth counting of a session, the first time that it is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::forward) enum Noted {
    /// It is slowed.
    Slowed,
    /// It would be.
    Logged,
}

impl Link {
    /// Has the relay move no more than `meter` allows.
    pub fn meter(&self, meter: Meter) {
        let metered = self.metered.get_or_init(Box::default);
        metered.meters.borrow_mut().push(meter);
    }

    /// Whether there is a limit of bytes.
    pub(in crate::forward) fn is_metered(&self) -> bool {
        self.metered.get().is_some()
    }

    /// Counts what was read before the relay began, whether it has been passed on by now or not.
    pub fn charge_opening(&self) {
        if let Some(metered) = self.metered.get() {
            let moved = usize::try_from(self.bytes(Direction::Up)).unwrap_or(usize::MAX);
            let unsent = [Direction::Up, Direction::Down].map(|it| self.unsent(it));
            let read = unsent.iter().sum::<usize>().saturating_add(moved);
            let meters = metered.meters.borrow();
            meters.iter().for_each(|meter| meter.charge(read, now()));
        }
    }

    /// How long the session was held back; `None`: it never was.
    pub fn held_for(&self) -> Option<Duration> {
        let metered = self.metered.get()?;
        Some(metered.held_for.get()).filter(|time| !time.is_zero())
    }

    /// Whether it was over a limit of bytes that is only logged.
    pub fn is_over_bytes(&self) -> bool {
        self.metered.get().is_some_and(|metered| metered.is_over())
    }

    /// How many of `most` bytes may be read now.
    pub(in crate::forward) fn grant(&self, most: usize) -> Grant {
        match self.metered.get() {
            Some(metered) => metered.grant(most, now()),
            None => Grant::Bytes(most),
        }
    }

    /// Gives back what was granted and not there to be read.
    pub(in crate::forward) fn give_back(&self, bytes: usize) {
        if let Some(metered) = self.metered.get() {
            let meters = metered.meters.borrow();
            meters.iter().for_each(|meter| meter.give_back(bytes));
        }
    }

    /// What is to be counted of this session now, once.
    pub(in crate::forward) fn noted(&self) -> Option<Noted> {
        let metered = self.metered.get()?;
        let noted = if metered.is_held() {
            Noted::Slowed
        } else if metered.is_over() {
            Noted::Logged
        } else {
            return None;
        };
        (!metered.is_told.replace(true)).then_some(noted)
    }

    /// Notes that a direction is held back, or that it goes on after so long.
    pub(in crate::forward) fn set_held(&self, direction: Direction, held: Held) {
        let Some(metered) = self.metered.get() else {
            return;
        };
        metered.held[direction as usize].set(held == Held::Begins);
        if let Held::Ended(time, now) = held {
            metered.held_for.set(metered.held_for.get() + time);
            // Nobody was silent: nobody was listened to.
            self.active.set(self.active.get().max(now));
        }
    }

    /// Whether a direction is held back now.
    pub(super) fn is_held_back(&self) -> bool {
        self.metered.get().is_some_and(|metered| metered.is_held())
    }
}

/// A change of being held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::forward) enum Held {
    /// It begins.
    Begins,
    /// It was so long until then.
    Ended(Duration, Instant),
}

impl Metered {
    fn grant(&self, most: usize, now: Instant) -> Grant {
        let meters = self.meters.borrow();
        let mut granted = most;
        for (number, meter) in meters.iter().enumerate() {
            let (taken, wait) = match meter.take(granted, now) {
                Ok(taken) => (taken, None),
                Err(wait) => (0, Some(wait)),
            };
            // Those before have given more than this one does.
            let before = meters.iter().take(number);
            before.for_each(|meter| meter.give_back(granted - taken));
            granted = taken;
            if let Some(wait) = wait {
                let pause = self.pause.get();
                self.pause.set((pause * 2).min(PAUSES.1));
                return Grant::Wait(wait.max(pause).min(PAUSES.1));
            }
        }
        self.pause.set(PAUSES.0);
        Grant::Bytes(granted)
    }

    fn is_held(&self) -> bool {
        self.held.iter().any(Cell::get)
    }

    fn is_over(&self) -> bool {
        self.meters.borrow().iter().any(Meter::is_over)
    }
}

impl Default for Metered {
    fn default() -> Self {
        Self {
            meters: RefCell::default(),
            pause: Cell::new(PAUSES.0),
            held: Default::default(),
            held_for: Cell::default(),
            is_told: Cell::new(false),
        }
    }
}
