//! What becomes of the sessions that a backend already has, once it is down, removed or drained.
//!
//! The main thread says which place a backend has in the configuration in force and by which rules, the
//! control thread what probes make of it. What follows from both are [`Orders`], which workers read: for
//! all sessions of a backend when they have changed, and for each session that goes to a backend that has
//! some. They hold until the backend comes back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::{Backend, State};
use crate::base::clock::Instant;
use crate::base::reason::Reason;
use crate::config::model::{Parting, Partings};

/// Why the sessions of a backend shall end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Probes have taken it down.
    Down,
    /// The configuration has it no longer.
    Removed,
    /// Its weight is 0.
    Drained,
}

/// The place of a backend in the configuration in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It takes new sessions.
    Serving,
    /// It is there, but takes none.
    Drained,
    /// It is not there.
    Removed,
}

/// What one cause asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Order {
    since: Instant,
    parting: Parting,
    /// Who is meant: sessions that chose the backend in another era than this; `None`: all.
    era: Option<Era>,
}

/// What all causes ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orders([Option<Order>; Cause::ALL.len()]);

/// Counts how often a backend has gone down or come back, so that sessions from before are told from those
/// that have chosen it though it was down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Era(pub(super) u32);

/// When a session is to end, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The time.
    pub at: Instant,
    /// The reason.
    pub cause: Cause,
}

/// What the orders of one backend are made from. Written by the main thread and the control thread under the
/// lock, which a worker takes only where there is an order, or one has just gone.
#[derive(Debug)]
pub(super) struct Facts {
    /// Whether there is any order. Whoever is told of a change is told after this was written.
    ordered: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    rules: Partings,
    standing: Standing,
    orders: Orders,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 3] = [Self::Down, Self::Removed, Self::Drained];

    /// The word for the end of a session.
    pub const fn reason(self) -> Reason {
        match self {
            Self::Down => Reason::BackendDown,
            Self::Removed => Reason::BackendRemoved,
            Self::Drained => Reason::Drain,
        }
    }
}

impl Facts {
    pub(super) const fn new() -> Self {
        Self {
            ordered: AtomicBool::new(false),
            inner: Mutex::new(Inner {
                rules: Partings {
                    down: Parting::Keep,
                    removed: Parting::Keep,
                    drained: Parting::Keep,
                },
                standing: Standing::Serving,
                orders: Orders([None; Cause::ALL.len()]),
            }),
        }
    }
}

impl Backend {
    /// Takes in the backend's place in a configuration that has come into force; `rules` are those of its
    /// pool, and `None` where the pool has gone: then the last ones hold. Says whether workers have to be told.
    pub fn stand(&self, standing: Standing, rules: Option<Partings>, now: Instant) -> bool {
        let mut inner = self.parting.inner.lock();
        inner.standing = standing;
        inner.rules = rules.unwrap_or(inner.rules);
        self.order(&mut inner, now)
    }

    /// Its place in the configuration in force.
    pub fn standing(&self) -> Standing {
        self.parting.inner.lock().standing
    }

    /// Takes in what probes have made of the backend. Says whether workers have to be told.
    pub fn reconsider(&self, now: Instant) -> bool {
        self.order(&mut self.parting.inner.lock(), now)
    }

    fn order(&self, inner: &mut Inner, now: Instant) -> bool {
        // Read under the lock: of two who write, the latter has seen what both know.
        let (state, era) = self.state_and_era();
        let before = inner.orders;
        inner.orders = before.renewed((inner.standing, inner.rules), (state, era), now);
        let ordered = inner.orders != Orders::default();
        self.parting.ordered.store(ordered, Ordering::Relaxed);
        inner.orders != before
    }

    /// Whether sessions that go to the backend are to be looked at.
    pub fn has_orders(&self) -> bool {
        self.parting.ordered.load(Ordering::Relaxed)
    }

    /// What holds for its sessions.
    pub fn orders(&self) -> Orders {
        self.parting.inner.lock().orders
    }
}

impl Orders {
    /// What holds now. A cause that goes on keeps its order, so that times count from its beginning, or from
    /// when its rule was changed.
    fn renewed(
        self,
        (standing, rules): (Standing, Partings),
        (state, era): (State, Era),
        now: Instant,
    ) -> Self {
        let order = |cause: Cause, is_on: bool, parting: Parting, era: Option<Era>| {
            let before = self.0[cause as usize];
            // Who is removed does not come back by that, whatever was the matter before.
            if !is_on && cause != Cause::Removed && standing == Standing::Removed {
                return before;
            }
            if !is_on || parting == Parting::Keep {
                return None;
            }
            let goes_on = before.filter(|it| (it.parting, it.era) == (parting, era));
            goes_on.or(Some(Order {
                since: now,
                parting,
                era,
            }))
        };
        Self(Cause::ALL.map(|cause| match cause {
            Cause::Down => order(cause, state == State::Down, rules.down, Some(era)),
            Cause::Removed => order(cause, standing == Standing::Removed, rules.removed, None),
            Cause::Drained => order(cause, standing == Standing::Drained, rules.drained, None),
        }))
    }

    /// When a session that chose the backend in `chosen` is to end, and of several reasons the first.
    ///
    /// `before` is what was decided earlier; it stays where it is still good, so that looking again changes
    /// nothing. `share`, out of 2^32, is the session's own place in a time over which many end; no
    /// two of them end in less than `room` divided by their number.
    pub fn due(
        &self,
        (chosen, before): (Era, Option<Due>),
        now: Instant,
        room: Duration,
        mut share: impl FnMut() -> u32,
    ) -> Option<Due> {
        let meant = Cause::ALL
            .into_iter()
            .zip(self.0)
            .filter_map(|(cause, it)| {
                let order = it?;
                let spared = order.era.is_some_and(|era| !chosen.is_before(era));
                (!spared).then_some((cause, order))
            });
        let due = meant.map(|(cause, order)| {
            let window = order.window(now, room);
            let still = before.filter(|it| it.cause == cause && window.has(it.at));
            let at = still.map_or_else(|| window.place(share()), |still| still.at);
            Due { at, cause }
        });
        due.min_by_key(|due| due.at)
    }

    /// The cause for which a session should not even begin with the backend.
    pub fn forbids(&self, chosen: Era) -> Option<Cause> {
        Cause::ALL.into_iter().zip(self.0).find_map(|(cause, it)| {
            let order = it.filter(|it| it.parting == Parting::Reset)?;
            let spared = order.era.is_some_and(|era| !chosen.is_before(era));
            (!spared).then_some(cause)
        })
    }
}

/// The time in which the sessions of one order end.
struct Window {
    begins: Instant,
    /// The same, or now, if that is later.
    from: Instant,
    length: Duration,
}

impl Order {
    fn window(&self, now: Instant, room: Duration) -> Window {
        let (wait, length) = match self.parting {
            Parting::Keep => (Duration::MAX, Duration::ZERO),
            Parting::Drain(time) => (time, room),
            Parting::CloseSpread(time) => (Duration::ZERO, time.max(room)),
            Parting::Reset => (Duration::ZERO, room),
        };
        let begins = self.since + wait;
        let end = begins + length;
        // What is over already ends now, with room between.
        let from = begins.max(now);
        Window {
            begins,
            from,
            length: (end - from).max(room),
        }
    }
}

impl Window {
    fn has(&self, at: Instant) -> bool {
        self.begins <= at && at <= self.from + self.length
    }

    fn place(&self, share: u32) -> Instant {
        let nanos = (self.length.as_nanos() * u128::from(share)) >> 32;
        self.from + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl Era {
    /// Whether this one is over when `other` has come. Counts go round, so it is the shorter way that tells.
    fn is_before(self, other: Self) -> bool {
        other != self && other.0.wrapping_sub(self.0) << Self::UNUSED < 1 << (u32::BITS - 1)
    }

    /// Bits that the count does not have.
    const UNUSED: u32 = 2;

    /// The era of whoever chose the backend for one that is up, if this one has just begun.
    pub const fn of_choice(self, as_up: AsUp) -> Self {
        match as_up {
            AsUp::Yes => Self(self.0 & !1),
            AsUp::No => self,
        }
    }
}

/// Whether a backend was chosen because it was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsUp {
    /// It was.
    Yes,
    /// It was down, but so were all.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::BackendId;
    use crate::base::address::Endpoint;

    const T0: Instant = Instant::from_millis(50_000);
    const TEN: Duration = Duration::from_secs(10);
    const ROOM: Duration = Duration::from_millis(25);

    fn backend() -> Backend {
        Backend::new(BackendId {
            pool: "p".into(),
            name: "a".into(),
            endpoint: Endpoint::Unix("/run/p".into()),
        })
    }

    fn rules(down: Parting, removed: Parting, drained: Parting) -> Option<Partings> {
        Some(Partings {
            down,
            removed,
            drained,
        })
    }

    fn at(millis: u64) -> Instant {
        T0 + Duration::from_millis(millis)
    }

    /// When a session of this era ends by what holds at that time.
    fn due(backend: &Backend, chosen: Era, before: Option<Due>, now: Instant) -> Option<Due> {
        let orders = backend.orders();
        orders.due((chosen, before), now, ROOM, || 0)
    }

    #[test]
    fn sessions_are_kept_unless_a_rule_says_otherwise() {
        let backend = backend();
        let era = backend.era();
        assert!(!backend.stand(Standing::Removed, Some(Partings::default()), T0));
        backend.set_state(State::Down);
        assert!(!backend.reconsider(T0) && !backend.has_orders());
        assert_eq!(due(&backend, era, None, T0), None);
    }

    #[test]
    fn each_cause_has_its_rule_and_ends_when_the_backend_is_back() {
        let rules = rules(
            Parting::Drain(TEN),
            Parting::Reset,
            Parting::CloseSpread(TEN),
        );
        let backend = backend();
        let era = backend.era();
        assert!(!backend.stand(Standing::Serving, rules, T0));
        backend.set_state(State::Down);
        assert!(backend.reconsider(T0) && backend.has_orders());
        assert!(!backend.reconsider(at(5)), "nothing new");
        let down = due(&backend, era, None, at(5)).unwrap();
        assert_eq!((down.at, down.cause), (at(10_000), Cause::Down));
        backend.set_state(State::Up);
        assert!(backend.reconsider(at(9_000)) && !backend.has_orders());
        assert_eq!(due(&backend, era, Some(down), at(9_000)), None);

        assert!(backend.stand(Standing::Drained, rules, at(20_000)));
        let drained = due(&backend, era, None, at(20_000)).unwrap();
        assert_eq!((drained.at, drained.cause), (at(20_000), Cause::Drained));
        assert!(backend.stand(Standing::Serving, rules, at(21_000)));
        assert!(!backend.has_orders());

        // The pool has gone with its rules.
        assert!(backend.stand(Standing::Removed, None, at(30_000)));
        let removed = due(&backend, era, None, at(30_000)).unwrap();
        assert_eq!((removed.at, removed.cause), (at(30_000), Cause::Removed));
        assert_eq!(backend.orders().forbids(era), Some(Cause::Removed));
        assert!(backend.stand(Standing::Serving, rules, at(31_000)));
        assert_eq!(due(&backend, era, Some(removed), at(31_000)), None);
    }

    #[test]
    fn whoever_chose_it_though_it_was_down_stays_until_it_goes_down_again() {
        let backend = backend();
        let before = backend.era().of_choice(AsUp::Yes);
        let rules = rules(Parting::Reset, Parting::Keep, Parting::Keep);
        backend.stand(Standing::Serving, rules, T0);
        backend.set_state(State::Down);
        backend.reconsider(T0);
        // Chosen while it was up, by a worker that comes too late to say so.
        let late = backend.era().of_choice(AsUp::Yes);
        let trickled = backend.era().of_choice(AsUp::No);
        assert!(due(&backend, before, None, T0).is_some());
        assert!(due(&backend, late, None, T0).is_some());
        assert_eq!(due(&backend, trickled, None, T0), None);
        assert_eq!(backend.orders().forbids(trickled), None);
        // Down, up and down again before anybody could be told.
        backend.set_state(State::Up);
        backend.set_state(State::Down);
        assert!(backend.reconsider(at(100)));
        assert!(due(&backend, trickled, None, at(100)).is_some());
        // One that begins where it was down at first.
        let first = self::backend();
        first.set_state(State::Down);
        first.stand(Standing::Serving, rules, T0);
        assert_eq!(due(&first, first.era().of_choice(AsUp::No), None, T0), None);
    }

    #[test]
    fn eras_go_round() {
        let last = Era(u32::MAX >> 2);
        assert!(last.is_before(Era(0)) && !Era(0).is_before(last));
        assert!(Era(4).is_before(Era(5)) && !Era(5).is_before(Era(5)));
        let backend = backend();
        for _ in 0..6 {
            backend.set_state(State::Down);
            backend.set_state(State::Unchecked);
            backend.set_state(State::Up);
        }
        assert_eq!((backend.era(), backend.state()), (Era(12), State::Up));
    }

    #[test]
    fn removal_is_no_comeback_and_the_first_of_several_times_counts() {
        let backend = backend();
        let era = backend.era();
        let rules = rules(Parting::Drain(TEN), Parting::Drain(TEN * 6), Parting::Keep);
        backend.stand(Standing::Serving, rules, T0);
        backend.set_state(State::Down);
        backend.reconsider(T0);
        backend.stand(Standing::Removed, rules, at(1_000));
        // Nobody probes it any more, so it passes for up.
        backend.set_state(State::Up);
        assert!(!backend.reconsider(at(1_001)));
        let both = due(&backend, era, None, at(1_001)).unwrap();
        assert_eq!((both.at, both.cause), (at(10_000), Cause::Down));
        backend.stand(Standing::Serving, rules, at(2_000));
        assert_eq!(due(&backend, era, Some(both), at(2_000)), None);
    }

    #[test]
    fn a_rule_that_changes_counts_from_then_on_and_the_same_from_the_beginning() {
        let backend = backend();
        let era = backend.era();
        let with = |down| rules(down, Parting::Keep, Parting::Keep);
        backend.stand(Standing::Serving, with(Parting::Drain(TEN)), T0);
        backend.set_state(State::Down);
        backend.reconsider(T0);
        assert!(!backend.stand(Standing::Serving, with(Parting::Drain(TEN)), at(4_000)));
        assert_eq!(due(&backend, era, None, at(4_000)).unwrap().at, at(10_000));
        assert!(backend.stand(Standing::Serving, with(Parting::Drain(TEN * 2)), at(5_000)));
        assert_eq!(due(&backend, era, None, at(5_000)).unwrap().at, at(25_000));
        assert!(backend.stand(Standing::Serving, with(Parting::Keep), at(6_000)));
        assert_eq!(due(&backend, era, None, at(6_000)), None);
    }

    #[test]
    fn spread_ends_are_even_and_stay_when_looked_at_again() {
        let backend = backend();
        let era = backend.era();
        let spread = rules(Parting::CloseSpread(TEN), Parting::Keep, Parting::Keep);
        backend.stand(Standing::Serving, spread, T0);
        backend.set_state(State::Down);
        backend.reconsider(T0);
        let orders = backend.orders();
        let mut by_second = [0; 10];
        for number in 0..1_000_u32 {
            let share = number.wrapping_mul(0x9e37_79b9);
            let due = orders.due((era, None), at(20), ROOM, || share);
            let due = due.unwrap();
            by_second[usize::try_from((due.at - T0).as_secs()).unwrap()] += 1;
            let again = orders.due((era, Some(due)), at(3_000), ROOM, || 0);
            assert_eq!(again, Some(due), "overdue or not");
        }
        assert!(
            by_second.iter().all(|count| (95..=105).contains(count)),
            "{by_second:?}"
        );
        // Who is looked at late gets its place in what is left.
        for share in [0, 1 << 31, u32::MAX] {
            let late = orders.due((era, None), at(8_000), ROOM, || share);
            let late = late.unwrap().at;
            assert!((at(8_000)..=at(10_000)).contains(&late), "{late:?}");
        }
    }

    #[test]
    fn many_that_end_together_do_not_end_in_one_moment() {
        let backend = backend();
        let era = backend.era();
        let room = Duration::from_millis(2_500);
        for (parting, begins) in [(Parting::Reset, 0), (Parting::Drain(TEN), 10_000)] {
            let rules = rules(Parting::Keep, parting, Parting::Keep);
            backend.stand(Standing::Removed, rules, T0);
            for now in [T0, at(60_000)] {
                let orders = backend.orders();
                let place = |share| orders.due((era, None), now, room, || share).unwrap().at;
                let begins = at(begins).max(now);
                assert_eq!(place(0), begins);
                let last = place(u32::MAX) - begins;
                assert!(last > room / 2 && last <= room, "{last:?}");
            }
            backend.stand(Standing::Serving, rules, T0);
        }
        let forever = rules(Parting::Keep, Parting::Drain(Duration::MAX), Parting::Keep);
        backend.stand(Standing::Removed, forever, T0);
        let orders = backend.orders();
        let never = orders.due((era, None), T0, room, || u32::MAX).unwrap().at;
        assert_eq!(never, Instant::from_nanos(u64::MAX));
    }
}
