//! A timer wheel: every session of a worker, in the order in which they next need a look.
//!
//! Entering, leaving and moving cost a few nanoseconds and allocate only when the number of entries
//! exceeds its previous peak. A visit may come early, never late by more than one slot and the time
//! between two calls of [`Wheel::advance`]; the visited entry says when to come again.

use std::time::Duration;

use crate::base::clock::Instant;

/// How exact the wheel is.
pub const SLOT: Duration = Duration::from_millis(25);

/// How far the wheel sees: 51 s; later entries are visited on the way.
const SLOTS: usize = 2048;
const SLOTS_NUMBER: u64 = SLOTS as u64;

const NONE: u32 = u32::MAX;

/// The place of an entry, until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u32);

/// Values with the time of their next visit.
pub struct Wheel<T> {
    /// The first entry of each slot's list.
    slots: Box<[u32]>,
    entries: Vec<Entry<T>>,
    /// The first of the unused entries, which are chained by `next`.
    unused: u32,
    /// The last slot number that was visited.
    visited: u64,
    length: usize,
}

struct Entry<T> {
    value: Option<T>,
    slot: u32,
    previous: u32,
    next: u32,
    mark: u32,
}

impl<T> Wheel<T> {
    /// An empty wheel whose time begins at `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            slots: vec![NONE; SLOTS].into_boxed_slice(),
            entries: Vec::new(),
            unused: NONE,
            visited: slot_number(now),
            length: 0,
        }
    }

    /// How many values are in.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether no value is in.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// All values, in no order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().filter_map(|entry| entry.value.as_ref())
    }

    /// Puts a value in, to be visited at `due`.
    pub fn insert(&mut self, due: Instant, value: T) -> Key {
        let index = self.unused;
        let index = if index == NONE {
            let index = u32::try_from(self.entries.len()).expect("fewer sessions than descriptors");
            self.entries.push(Entry::vacant());
            index
        } else {
            self.unused = self.entry(index).next;
            index
        };
        self.entry(index).value = Some(value);
        self.length += 1;
        self.link(index, due);
        Key(index)
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let value = self.entry(key.0).value.take()?;
        self.unlink(key.0);
        self.entry(key.0).mark = 0;
        self.entry(key.0).next = self.unused;
        self.unused = key.0;
        self.length -= 1;
        Some(value)
    }

    /// Has a value visited at `due`, unless its next visit comes sooner anyway.
    pub fn hasten(&mut self, key: Key, due: Instant) {
        let entry = self.entry(key.0);
        if entry.value.is_none() {
            return;
        }
        // Every entry lies less than one turn of the wheel ahead of the last slot visited.
        let (slot, visited) = (entry.slot as usize, slot_index(self.visited));
        let ahead = (slot + SLOTS - visited) % SLOTS;
        if self.slot_number_for(due) < self.visited + ahead as u64 {
            self.unlink(key.0);
            self.link(key.0, due);
        }
    }

    /// Marks a value, so that [`Wheel::hasten_marked`] finds it among all; 0: without a mark.
    pub fn mark(&mut self, key: Key, mark: u32) {
        self.entry(key.0).mark = mark;
    }

    /// Looks at `count` places from `from` on. Every value with a mark there is shown to `due`, and visited
    /// when that says, unless its next visit comes sooner anyway. Returns where to go on; `None`: that was the
    /// last. Values that come in between are looked at or not.
    pub fn hasten_marked(
        &mut self,
        from: usize,
        count: usize,
        mut due: impl FnMut(u32, &T) -> Option<Instant>,
    ) -> Option<usize> {
        let until = self.entries.len().min(from.saturating_add(count));
        for index in from..until {
            let entry = &self.entries[index];
            let marked = entry.value.as_ref().filter(|_| entry.mark != 0);
            if let Some(value) = marked
                && let Some(at) = due(entry.mark, value)
            {
                let index = u32::try_from(index).expect("it was made from one");
                self.hasten(Key(index), at);
            }
        }
        (until < self.entries.len()).then_some(until)
    }

    /// Visits values that are due by `now`, but not many more than `most`; `visit` returns when to come again.
    /// Whether that was all: else the next call goes on.
    pub fn advance(
        &mut self,
        now: Instant,
        most: usize,
        mut visit: impl FnMut(&T) -> Instant,
    ) -> bool {
        let target = slot_number(now);
        let mut left = most;
        // After a standstill longer than the wheel, once around visits all.
        self.visited = self.visited.max(target.saturating_sub(SLOTS_NUMBER));
        while self.visited < target {
            self.visited += 1;
            let slot = slot_index(self.visited);
            let mut index = std::mem::replace(&mut self.slots[slot], NONE);
            while index != NONE {
                if left == 0 {
                    // What is left of the slot stays where it is.
                    self.slots[slot] = index;
                    self.entry(index).previous = NONE;
                    self.visited -= 1;
                    return false;
                }
                left -= 1;
                let next = self.entry(index).next;
                let due = self.entry(index).value.as_ref().map(&mut visit);
                self.link(index, due.unwrap_or(now));
                index = next;
            }
        }
        true
    }

    fn slot_number_for(&self, due: Instant) -> u64 {
        // Rounded up, so that a visit never finds that it came too early by a part of a slot.
        let number = slot_number(due) + 1;
        // One slot is left free: a visit in pieces goes back to the slot before the one that it is at.
        number.clamp(self.visited + 1, self.visited + SLOTS_NUMBER - 2)
    }

    fn link(&mut self, index: u32, due: Instant) {
        let slot = slot_index(self.slot_number_for(due));
        let next = std::mem::replace(&mut self.slots[slot], index);
        if next != NONE {
            self.entry(next).previous = index;
        }
        let entry = self.entry(index);
        entry.slot = u32::try_from(slot).expect("below the number of slots");
        entry.previous = NONE;
        entry.next = next;
    }

    fn unlink(&mut self, index: u32) {
        let entry = self.entry(index);
        let (slot, previous, next) = (entry.slot as usize, entry.previous, entry.next);
        if previous == NONE {
            self.slots[slot] = next;
        } else {
            self.entry(previous).next = next;
        }
        if next != NONE {
            self.entry(next).previous = previous;
        }
    }

    fn entry(&mut self, index: u32) -> &mut Entry<T> {
        &mut self.entries[index as usize]
    }
}

impl<T> Entry<T> {
    const fn vacant() -> Self {
        Self {
            value: None,
            slot: 0,
            previous: NONE,
            next: NONE,
            mark: 0,
        }
    }
}

const fn slot_number(at: Instant) -> u64 {
    const SLOT_NANOS: u64 = SLOT.subsec_nanos() as u64;
    at.as_nanos() / SLOT_NANOS
}

fn slot_index(number: u64) -> usize {
    usize::try_from(number % SLOTS_NUMBER).expect("below the number of slots")
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::random::Random;

    const ALL: usize = usize::MAX;

    #[test]
    fn values_are_visited_within_a_slot_of_their_time_and_until_removed() {
        let mut random = Random::new(11);
        let mut now = Instant::from_millis(1_000_000);
        let mut wheel = Wheel::new(now);
        let mut keys = BTreeMap::new();
        let due = RefCell::new(BTreeMap::new());
        for step in 0..20_000_u64 {
            if random.below(2) == 0 {
                let at = now + Duration::from_millis(random.below(120_000));
                keys.insert(step, wheel.insert(at, step));
                due.borrow_mut().insert(step, at);
            } else if random.below(2) == 0
                && let Some((&name, &key)) = keys.iter().next()
            {
                assert_eq!(wheel.remove(key), Some(name));
                keys.remove(&name);
                due.borrow_mut().remove(&name);
            }
            now = now + Duration::from_millis(random.below(60));
            let visit = |name: &u64| {
                let mut due = due.borrow_mut();
                let at = due[name];
                if now < at {
                    return at;
                }
                assert!(
                    now - at <= SLOT * 2 + Duration::from_millis(60),
                    "late: {name}"
                );
                let later = now + Duration::from_secs(50);
                due.insert(*name, later);
                later
            };
            // All at once, or in pieces, between which others come and go.
            while !wheel.advance(now, 1 + usize::try_from(random.below(20)).unwrap(), visit) {
                if random.below(2) == 0
                    && let Some((&name, &key)) = keys.iter().next_back()
                {
                    assert_eq!(wheel.remove(key), Some(name));
                    keys.remove(&name);
                    due.borrow_mut().remove(&name);
                }
            }
            assert_eq!(wheel.len(), keys.len());
            let overdue = due.borrow().values().any(|&at| at + SLOT * 2 < now);
            assert!(!overdue, "step {step}");
        }
        assert_eq!(wheel.values().count(), keys.len());
    }

    #[test]
    fn hastening_again_and_again_never_puts_a_visit_off() {
        let start = Instant::from_millis(7_777);
        let mut wheel = Wheel::new(start);
        let due = start + Duration::from_secs(2);
        let key = wheel.insert(due, ());
        let mut now = start;
        let mut visited = None;
        while visited.is_none() && now < due + Duration::from_secs(5) {
            now = now + Duration::from_millis(10);
            wheel.hasten(key, now + Duration::from_secs(3));
            wheel.advance(now, ALL, |()| {
                visited = Some(now);
                now
            });
        }
        let visited = visited.expect("a visit");
        assert!(visited >= due && visited - due <= SLOT * 2);

        wheel.hasten(key, now + Duration::from_secs(30));
        let sooner = now + Duration::from_millis(300);
        wheel.advance(now + SLOT * 3, ALL, |()| now + Duration::from_secs(40));
        wheel.hasten(key, sooner);
        let mut visits = 0;
        wheel.advance(sooner + SLOT * 2, ALL, |()| {
            visits += 1;
            now + Duration::from_secs(40)
        });
        assert_eq!(visits, 1);
    }

    /// A slot that is left in the middle counts as not visited, and what was visited there may lie a whole
    /// turn ahead.
    #[test]
    fn who_was_visited_in_the_first_piece_can_be_hastened_before_the_second() {
        let start = Instant::from_millis(9_000);
        let mut wheel = Wheel::new(start);
        let keys: Vec<_> = (0..2).map(|n| wheel.insert(start, n)).collect();
        let mut now = start + SLOT * 2;
        let far = now + Duration::from_secs(3_600);
        assert!(!wheel.advance(now, 1, |_| far));
        for key in keys {
            wheel.hasten(key, now + SLOT);
        }
        let mut visited = Vec::new();
        for _ in 0..4 {
            now = now + SLOT;
            wheel.advance(now, ALL, |value| {
                visited.push(*value);
                far
            });
        }
        visited.sort_unstable();
        visited.dedup();
        assert_eq!(visited, [0, 1]);
    }

    #[test]
    fn marked_values_are_found_piece_by_piece_and_visited_when_told() {
        let start = Instant::from_millis(9_000);
        let mut wheel = Wheel::new(start);
        let late = start + Duration::from_secs(40);
        let keys: Vec<_> = (0..100_u32).map(|n| wheel.insert(late, n)).collect();
        for (key, mark) in keys.iter().zip(0..) {
            wheel.mark(*key, mark % 3);
        }
        // Whoever takes the place of another does not inherit its mark.
        wheel.remove(keys[50]);
        wheel.insert(late, 1_000);
        let soon = start + Duration::from_millis(100);
        let mut seen = Vec::new();
        let mut next = Some(0);
        while let Some(from) = next {
            next = wheel.hasten_marked(from, 7, |mark, value| {
                seen.push((mark, *value));
                (mark == 2).then_some(soon)
            });
        }
        let expected = (0..100).filter(|n| n % 3 != 0 && *n != 50);
        assert_eq!(seen, expected.map(|n| (n % 3, n)).collect::<Vec<_>>());
        let mut visited = Vec::new();
        wheel.advance(soon + SLOT * 2, ALL, |value| {
            visited.push(*value);
            late
        });
        visited.sort_unstable();
        let expected = (0..100).filter(|n| n % 3 == 2 && *n != 50);
        assert_eq!(visited, expected.collect::<Vec<_>>());
    }

    #[test]
    fn an_entry_takes_no_more_than_it_did_without_a_mark() {
        assert_eq!(size_of::<Entry<std::rc::Rc<()>>>(), 24);
    }

    #[test]
    fn standstill_longer_than_the_wheel_leaves_no_value_out() {
        let start = Instant::from_millis(5_000);
        let mut wheel = Wheel::new(start);
        for value in 0..100_u64 {
            wheel.insert(start + Duration::from_millis(value * 400), value);
        }
        let mut visits = vec![0; 100];
        let now = start + Duration::from_secs(3_600);
        wheel.advance(now, ALL, |&value| {
            visits[usize::try_from(value).unwrap()] += 1;
            now + Duration::from_secs(60)
        });
        assert!(visits.iter().all(|&visits| visits > 0), "{visits:?}");
    }
}
