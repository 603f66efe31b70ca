//! The sessions of backends that have left, or come back, get their time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use crate::backend::{Backend, Orders};
use crate::base::clock::now;
use crate::forward::link::room;

/// Places of the wheel that are looked at before others have their turn: half a millisecond where all of
/// them are meant, and some microseconds where none is.
const TURN: usize = 8_192;

/// How long others have it.
const PAUSE: Duration = Duration::from_millis(1);

/// A backend whose sessions are looked for.
struct Told {
    orders: Orders,
    /// The next session's place among those that end over a time, out of 2^32.
    share: u32,
}

/// The golden section of 2^32: however many multiples of it are taken, they lie evenly.
const STEP: u32 = 0x9e37_79b9;

impl Worker {
    /// Gives every session of these backends its time to go, or none.
    ///
    /// A session that goes to one of them while this is on its way finds the orders by itself.
    pub(super) async fn part(&self, changed: HashMap<u32, Arc<Backend>>) {
        let told = changed.into_iter().map(|(number, backend)| {
            let share = self.random.borrow_mut().next_u64() >> 32;
            let told = Told {
                orders: backend.orders(),
                share: u32::try_from(share).unwrap_or(0),
            };
            (number, told)
        });
        let mut told: HashMap<u32, Told> = told.collect();
        let mut next = Some(0);
        while let Some(from) = next {
            next = self.part_some(&mut told, from);
            if next.is_some() {
                monoio::time::sleep(PAUSE).await;
            }
        }
    }

    fn part_some(&self, told: &mut HashMap<u32, Told>, from: usize) -> Option<usize> {
        let time = now();
        let mut sessions = self.sessions.borrow_mut();
        let room = room(sessions.len());
        sessions.hasten_marked(from, TURN, |number, link| {
            let told = told.get_mut(&number)?;
            let share = || {
                told.share = told.share.wrapping_add(STEP);
                told.share
            };
            link.obey(&told.orders, time, room, share)
        })
    }
}
