//! Clients that wait for a slot at one of a pool's backends: first come, first served, whichever worker
//! they are on.
//!
//! A slot that is given back while somebody waits goes to the one that has waited longest, without ever
//! being free, so that no newcomer can take it. The lock is taken only by a session that must wait, by one
//! that gives a slot back while another waits, and by a reload; it is held for a few hundred nanoseconds.

use std::collections::BTreeMap;
use std::mem;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::{Backend, Era, Lease, Slot};
use crate::config::model::AllDown;
use crate::sys::wake::Wake;

/// The line of one pool; kept over reloads and shared by all workers.
#[derive(Debug, Default)]
pub struct Queue {
    /// How many wait without a slot. Written under the lock, read by any worker that gives a slot back.
    /// Whoever begins to wait writes it and then looks for a free slot; whoever frees a slot does that
    /// and then reads it. Both orders are sequentially consistent, so at least one sees the other.
    waiting: AtomicU32,
    line: Mutex<Line>,
}

/// What the lock guards. A lease must never be dropped while it is held: that asks for the lock.
#[derive(Debug, Default)]
struct Line {
    /// The next number to give out; numbers are never used twice.
    next: u64,
    /// Who waits, by number.
    waiting: BTreeMap<u64, Wake>,
    /// Slots that were given to one who has not taken it yet, by number, and when that was.
    granted: BTreeMap<u64, (Lease, Era)>,
    /// The backends that the pool has now and that take new connections.
    members: Vec<Weak<Backend>>,
    /// Where none of these is up clients go to them as if all were.
    is_open: bool,
}

/// A place in the line; whoever drops it has left, and a slot that it was given goes to the next.
#[derive(Debug)]
pub struct Place {
    queue: Arc<Queue>,
    number: u64,
}

impl Queue {
    /// How many wait now.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Joins the end of the line unless `most` wait already; `wake` is woken once there is a slot to
    /// [take](Place::take).
    ///
    /// The caller then lets the queue [serve](Backend::serve_waiting) from backends that have room: a slot
    /// may have been given back just before.
    pub fn join(self: &Arc<Self>, most: u32, wake: Wake) -> Option<Place> {
        let mut line = self.line.lock();
        if self.waiting() >= most {
            return None;
        }
        let number = line.next;
        line.next += 1;
        line.waiting.insert(number, wake);
        self.note(&line);
        Some(Place {
            queue: Arc::clone(self),
            number,
        })
    }

    /// From now on slots come from these backends only.
    pub fn set_members<'a>(&self, members: impl Iterator<Item = &'a Arc<Backend>>) {
        let members = members.map(Arc::downgrade).collect();
        // Freed after the lock: the last hold on a backend may be among them.
        let _before = mem::replace(&mut self.line.lock().members, members);
    }

    /// From now on this is what happens while no backend is up.
    pub fn set_all_down(&self, all_down: AllDown) {
        self.line.lock().is_open = all_down == AllDown::Open;
    }

    /// Lets those who wait go where there is room: whom they waited for may have left since, which makes
    /// others worth trying. To be called ten times a second.
    pub fn look_after(&self) {
        if self.waiting() == 0 {
            return;
        }
        let members = self.line.lock().members.clone();
        let members = members.iter().filter_map(Weak::upgrade);
        members
            .filter(|member| !member.is_full())
            .for_each(|member| self.serve(&member));
    }

    /// Gives a slot of `backend` that its holder no longer needs to whoever has waited longest, with that of
    /// the pool; `false`: nobody takes it.
    pub(super) fn hand_over(&self, backend: &Arc<Backend>, slot: &mut Option<Slot>) -> bool {
        if self.waiting() == 0 {
            return false;
        }
        let mut line = self.line.lock();
        if !line.has(backend) || !line.is_worth_trying(backend) {
            return false;
        }
        self.grant(&mut line, || {
            let mut lease = Lease::of(backend);
            lease.set_slot(slot.take());
            lease
        })
    }

    /// Gives the free slots of `backend` to those who wait, if they should try it.
    pub(super) fn serve(&self, backend: &Arc<Backend>) {
        self.serve_where(backend, |line| line.is_worth_trying(backend));
    }

    /// The same for one that has come back: its failures are of before.
    pub(super) fn serve_at_last(&self, backend: &Arc<Backend>) {
        self.serve_where(backend, |_| is_usable(backend));
    }

    fn serve_where(&self, backend: &Arc<Backend>, is_fit: impl Fn(&Line) -> bool) {
        while self.waiting() > 0 {
            let mut line = self.line.lock();
            if !line.has(backend) || !is_fit(&line) {
                return;
            }
            let Some(lease) = backend.try_lease() else {
                return;
            };
            let mut lease = Some(lease);
            self.grant(&mut line, || lease.take().expect("a grant asks once"));
            drop(line);
            // Nobody waits any more: it goes back outside the lock.
            drop(lease);
        }
    }

    fn grant(&self, line: &mut Line, lease: impl FnOnce() -> Lease) -> bool {
        let Some((number, wake)) = line.waiting.pop_first() else {
            return false;
        };
        let lease = lease();
        let era = lease.era();
        line.granted.insert(number, (lease, era));
        self.note(line);
        wake.wake();
        true
    }

    fn note(&self, line: &Line) {
        let waiting = u32::try_from(line.waiting.len()).unwrap_or(u32::MAX);
        self.waiting.store(waiting, Ordering::SeqCst);
    }
}

impl Line {
    fn has(&self, backend: &Arc<Backend>) -> bool {
        let wanted = Arc::as_ptr(backend);
        self.members.iter().any(|member| member.as_ptr() == wanted)
    }

    /// Whether a client should try `backend` rather than go on waiting: it is usable and has not failed, or
    /// there is none that has not and only lacks room. Without this the first failed connect would hand its
    /// slot to all who wait, one after the other, and they would all fail.
    fn is_worth_trying(&self, backend: &Backend) -> bool {
        let mut others = self.members.iter().filter_map(Weak::upgrade);
        let waits_for = |other: &Backend| other.is_full() && !other.has_failed();
        if is_usable(backend) {
            return !backend.has_failed() || !others.any(|it| is_usable(&it) && waits_for(&it));
        }
        // One that is up is ejected at the most, and that may be over already: nobody who is down comes
        // before it.
        let comes_first = |other: &Backend| {
            if backend.is_up() {
                is_usable(other)
            } else {
                other.is_up()
            }
        };
        self.is_open && !others.any(|it| comes_first(&it) || backend.has_failed() && waits_for(&it))
    }
}

/// Whether clients may go there at all. One whose ejection has just run out may not until it is noticed,
/// which is when those who wait are looked after.
fn is_usable(backend: &Backend) -> bool {
    backend.is_up() && !backend.is_out()
}

impl Place {
    /// The slot, once there is one, and the era of its backend in which it was given.
    pub fn take(&self) -> Option<(Lease, Era)> {
        self.queue.line.lock().granted.remove(&self.number)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut line = self.queue.line.lock();
        let granted = line.granted.remove(&self.number);
        if line.waiting.remove(&self.number).is_some() {
            self.queue.note(&line);
        }
        drop(line);
        // The next one's turn.
        drop(granted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{BackendId, State};
    use crate::base::address::Endpoint;
    use crate::base::clock::Instant;
    use crate::base::random::Random;
    use crate::config::model::Outliers;

    struct Pool {
        queue: Arc<Queue>,
        backends: Vec<Arc<Backend>>,
    }

    /// Backends of these limits.
    fn pool(limits: &[u32]) -> Pool {
        let (queue, ejector) = (Arc::<Queue>::default(), Arc::default());
        let backend = |(number, &limit): (usize, &u32)| {
            let id = BackendId {
                pool: "p".into(),
                name: format!("b{number}").into(),
                endpoint: Endpoint::Inet("10.0.0.1:80".parse().unwrap()),
            };
            let backend = Backend::in_line(id, Arc::clone(&queue), Arc::clone(&ejector));
            backend.set_limit(limit);
            Arc::new(backend)
        };
        let backends: Vec<_> = limits.iter().enumerate().map(backend).collect();
        queue.set_members(backends.iter());
        Pool { queue, backends }
    }

    impl Pool {
        fn fill(&self) -> Vec<Lease> {
            let leases = self.backends.iter().flat_map(|backend| {
                let room = std::iter::repeat_with(|| backend.try_lease());
                room.map_while(|lease| lease)
            });
            leases.collect()
        }

        fn join(&self) -> Place {
            self.queue.join(100, Wake::new().unwrap()).unwrap()
        }
    }

    #[test]
    fn a_slot_goes_to_the_one_that_has_waited_longest() {
        let pool = pool(&[1]);
        let lease = pool.fill().pop().unwrap();
        let places = [pool.join(), pool.join(), pool.join()];
        drop(lease);
        let second = places[0].take().expect("the first was first");
        assert!(places[1].take().is_none() && places[2].take().is_none());
        assert!(pool.backends[0].try_lease().is_none(), "it was never free");
        drop(second);
        assert!(places[2].take().is_none());
        assert!(places[1].take().is_some());
        assert!(places[2].take().is_some());
        assert_eq!(pool.backends[0].active(), 0);
    }

    #[test]
    fn whoever_leaves_frees_the_place_and_gives_up_its_slot() {
        let pool = pool(&[1]);
        let lease = pool.fill().pop().unwrap();
        let (first, second, third) = (pool.join(), pool.join(), pool.join());
        assert!(pool.queue.join(3, Wake::new().unwrap()).is_none(), "full");
        drop(second);
        assert_eq!(pool.queue.waiting(), 2);
        let last = pool
            .queue
            .join(3, Wake::new().unwrap())
            .expect("room again");
        drop(lease);
        // It was given the slot and leaves without having taken it.
        drop(first);
        assert!(last.take().is_none());
        drop(third.take().expect("the next one's turn"));
        drop(last);
        assert_eq!((pool.backends[0].active(), pool.queue.waiting()), (0, 0));
    }

    #[test]
    fn a_higher_limit_lets_those_go_who_wait() {
        let pool = pool(&[1]);
        let _held = pool.fill();
        let places: Vec<_> = (0..4).map(|_| pool.join()).collect();
        pool.backends[0].set_limit(3);
        pool.backends[0].serve_waiting();
        let taken: Vec<_> = places.iter().map(Place::take).collect();
        assert_eq!(taken.iter().flatten().count(), 2);
        assert!(taken[0].is_some() && taken[1].is_some());
        pool.backends[0].set_limit(0);
        pool.backends[0].serve_waiting();
        assert!(places[2].take().is_some() && places[3].take().is_some());
    }

    #[test]
    fn a_lower_limit_hands_nothing_on_until_there_is_room() {
        let pool = pool(&[3]);
        let mut held = pool.fill();
        let place = pool.join();
        pool.backends[0].set_limit(2);
        held.pop();
        assert!(place.take().is_none());
        held.pop();
        assert!(place.take().is_some());
        assert_eq!(pool.backends[0].active(), 1);
    }

    #[test]
    fn a_backend_that_left_the_pool_gets_nobody() {
        let pool = pool(&[1, 1]);
        let mut held = pool.fill();
        let place = pool.join();
        pool.queue.set_members(pool.backends[1..].iter());
        drop(held.remove(0));
        assert!(place.take().is_none());
        drop(held);
        assert_eq!(
            place.take().unwrap().0.backend().id(),
            pool.backends[1].id()
        );
    }

    #[test]
    fn a_failed_backend_is_tried_only_if_there_is_nothing_else_to_wait_for() {
        let pool = pool(&[1, 1]);
        let mut held = pool.fill();
        let (first, second) = (pool.join(), pool.join());
        pool.backends[0].connect_failed(Instant::from_millis(1));
        drop(held.remove(0));
        assert!(first.take().is_none(), "the other is worth waiting for");
        let failed = pool.backends[0].try_lease().unwrap();
        pool.backends[1].connect_failed(Instant::from_millis(1));
        drop(failed);
        assert!(first.take().is_some());
        assert!(second.take().is_some());
    }

    #[test]
    fn nobody_who_waits_is_sent_to_a_backend_that_is_down_unless_all_are_taken_for_up() {
        let pool = pool(&[1, 1]);
        let mut held = pool.fill();
        let places = [pool.join(), pool.join()];
        pool.backends[0].set_state(State::Down);
        drop(held.remove(0));
        pool.backends[0].serve_waiting();
        assert!(places[0].take().is_none(), "the other one is up");
        pool.backends[1].set_state(State::Down);
        pool.backends[0].serve_waiting();
        assert!(places[0].take().is_none(), "nobody is up");
        pool.queue.set_all_down(AllDown::Open);
        pool.backends[0].serve_waiting();
        let served = places[0].take().expect("all are taken for up");
        drop(held);
        assert!(places[1].take().is_some());
        drop(served);
    }

    #[test]
    fn who_waits_goes_to_ejected_backends_where_all_are_taken_for_up() {
        let now = Instant::from_millis(1_000);
        let pool = pool(&[1, 1]);
        pool.queue.set_all_down(AllDown::Open);
        let ejector = &pool.backends[0].ejector;
        let settings = Outliers {
            connect_failures: 1,
            ..Outliers::default()
        };
        ejector.set(settings, pool.backends.iter(), now);
        pool.backends[1].set_state(State::Down);
        let mut held = pool.fill();
        let (first, second) = (pool.join(), pool.join());
        pool.backends[0].connect_failed(now);
        assert!(pool.backends[0].is_ejected(now));
        pool.backends[0].set_limit(2);
        pool.backends[0].serve_waiting();
        assert!(first.take().is_none(), "the other one has not failed");
        pool.backends[1].connect_failed(now);
        drop(held.remove(0));
        let served = first.take().expect("nobody is usable");
        drop(served);
        assert!(second.take().is_some());
    }

    #[test]
    fn who_waits_for_one_that_leaves_goes_to_another_that_has_room() {
        let pool = pool(&[1, 2]);
        let mut held = pool.fill();
        let place = pool.join();
        pool.backends[1].connect_failed(Instant::from_millis(1));
        drop(held.pop());
        pool.queue.look_after();
        assert!(place.take().is_none(), "the first is worth waiting for");
        pool.backends[0].set_state(State::Down);
        pool.queue.look_after();
        assert!(place.take().is_some());
        drop(held);
        let served = [&pool.backends[0], &pool.backends[1]].map(|it| it.active());
        assert_eq!(served, [0, 0]);
    }

    /// Sessions of four threads come, wait, leave and end at random; replay with RINGLANE_SEED.
    #[test]
    fn slots_are_never_exceeded_nor_lost() {
        let seed = std::env::var("RINGLANE_SEED").map_or(11, |seed| seed.parse().unwrap());
        let pool = pool(&[3, 2]);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let pool = &pool;
                scope.spawn(move || churn(pool, Random::new(seed + thread)));
            }
        });
        for backend in &pool.backends {
            assert_eq!(backend.active(), 0, "seed {seed}");
        }
        assert_eq!(pool.queue.waiting(), 0, "seed {seed}");
        assert_eq!(pool.fill().len(), 5, "seed {seed}");
    }

    fn churn(pool: &Pool, mut random: Random) {
        let (mut held, mut places) = (Vec::new(), Vec::new());
        for _ in 0..20_000 {
            match random.below(5) {
                0 | 1 => match pool.backends.iter().find_map(Backend::try_lease) {
                    Some(lease) => held.push(lease),
                    None => {
                        places.extend(pool.queue.join(16, Wake::new().unwrap()));
                        pool.backends.iter().for_each(Backend::serve_waiting);
                    }
                },
                2 => drop(held.pop()),
                3 if !places.is_empty() => drop(places.swap_remove(0)),
                _ => {
                    let granted = places.iter().filter_map(Place::take);
                    held.extend(granted.map(|(lease, _)| lease).collect::<Vec<_>>());
                }
            }
            for (backend, limit) in pool.backends.iter().zip([3, 2]) {
                assert!(backend.active() <= limit);
            }
        }
    }
}
