//! The clients of a simulated pool: they dial as `forward::dial` does, wait, are served, and leave.

use std::sync::Arc;
use std::time::Duration;

use ringlane::backend::{Backend, Beginning, Lease, Permit, Place, Refusal, Slot};
use ringlane::balance::{Ask, Walk};
use ringlane::base::clock::Instant;
use ringlane::config::model::AllDown;
use ringlane::sys::wake::Wake;

use super::pool::{Event, Mood, Seen, Snapshot, WORKERS, World};

/// See [`super::pool`].
const TICK_NANOS: u64 = 100_000_000;

/// How long one may wait in the queue.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(2);

/// One client, with all that it holds; it gives everything back as it is dropped.
pub(super) struct Session {
    worker: usize,
    snapshot: &'static Snapshot,
    ask: Ask,
    walk: Walk<'static>,
    attempts: u8,
    /// The last attempt looked whether a backend that had failed is back.
    probed: bool,
    lease: Option<Lease>,
    slot: Option<Slot>,
    permit: Option<Permit>,
    beginning: Option<Beginning>,
    place: Option<Place>,
    has_waited: bool,
}

/// Whether one more connect may be made.
enum May {
    Try,
    Stop,
}

impl World {
    pub(super) fn client(&mut self, seen: &mut Seen) {
        let (id, worker) = (self.next_number(), self.pick(WORKERS));
        let (snapshot, ask) = (self.snapshot, self.ask(worker));
        if let Some(settings) = &snapshot.breaker
            && self.live.breaker.is_open(settings, ask.now)
        {
            seen.breaker_open += 1;
            return;
        }
        let session = Session {
            worker,
            snapshot,
            ask,
            walk: snapshot.balancer.walk(self.live.rotation, ask),
            attempts: 0,
            probed: false,
            lease: None,
            slot: None,
            permit: None,
            beginning: None,
            place: None,
            has_waited: false,
        };
        if self.pick(20) == 0 {
            // It leaves whatever it has come to by then.
            seen.left += 1;
            let within = Duration::from_millis(self.random.below(1_500));
            self.after(within, Event::Ended(id));
        }
        self.dial(id, session, seen);
    }

    /// Tries the next backend; who finds none waits or is gone.
    fn dial(&mut self, id: u64, mut session: Session, seen: &mut Seen) {
        while let Some(backend) = session.walk.next() {
            self.choice_is_right(&session, backend, seen);
            let now = self.clock(session.worker);
            let is_failing = backend.recently_failed(now);
            if session.snapshot.queue > 0 && is_failing && is_worth_waiting(session.snapshot, now) {
                continue;
            }
            let Some(lease) = backend.try_lease() else {
                continue;
            };
            match self.may_try(&mut session, now, seen) {
                May::Try => return self.attempt(id, session, lease),
                May::Stop => return,
            }
        }
        if session.attempts == 0 {
            seen.all_down += usize::from(!session.snapshot.balancer.is_usable(session.ask.now));
        }
        self.wait(id, session, seen);
    }

    fn may_try(&mut self, session: &mut Session, now: Instant, seen: &mut Seen) -> May {
        let budget = &self.live.budget;
        if session.attempts == 0 {
            budget.note_connect(now);
        } else if session.attempts >= session.snapshot.attempts
            || !session.probed && !budget.try_retry(now, 20)
        {
            return May::Stop;
        }
        let Some(settings) = &session.snapshot.breaker else {
            return May::Try;
        };
        let breaker = &self.live.breaker;
        if session.slot.is_none() {
            session.slot = breaker.try_slot(settings);
            let most = settings.max_connections;
            let is_within = most == 0 || breaker.connections() <= most;
            assert!(is_within || session.slot.is_none(), "seed {}", self.seed);
        }
        let entered = match session.slot {
            Some(_) => breaker.enter(settings, now),
            None => Err(Refusal::Full),
        };
        match entered {
            Ok(permit) => {
                session.permit = Some(permit);
                May::Try
            }
            Err(refusal) => {
                match refusal {
                    Refusal::Full => seen.breaker_full += 1,
                    Refusal::Open => seen.breaker_open += 1,
                }
                May::Stop
            }
        }
    }

    fn attempt(&mut self, id: u64, mut session: Session, lease: Lease) {
        let now = self.clock(session.worker);
        let backend = lease.backend();
        session.attempts += 1;
        session.probed = backend.has_failed() && !backend.recently_failed(now);
        backend.connect_begins(now);
        let (millis, is_good) = match self.mood_of(backend) {
            Mood::Well | Mood::EndsEarly => (1 + self.random.below(5), true),
            Mood::Slow => (100 + self.random.below(800), true),
            Mood::Refuses => (1, false),
            Mood::Hangs => (1_000, false),
        };
        session.lease = Some(lease);
        self.sessions.insert(id, session);
        self.after(Duration::from_millis(millis), Event::Connected(id, is_good));
    }

    fn mood_of(&self, backend: &Backend) -> Mood {
        self.moods[usize::from(backend.id().name.as_bytes()[1] - b'0')]
    }

    pub(super) fn connected(&mut self, id: u64, is_good: bool, seen: &mut Seen) {
        let Some(mut session) = self.sessions.remove(&id) else {
            return;
        };
        let now = self.clock(session.worker);
        let mut lease = session.lease.take().unwrap();
        let backend = Arc::clone(lease.backend());
        let permit = session.permit.take();
        seen.retried += usize::from(session.attempts > 1);
        if !is_good {
            backend.connect_failed(now);
            permit.into_iter().for_each(|permit| permit.failed(now));
            seen.failed += 1;
            drop(lease);
            if session.has_waited {
                return;
            }
            return self.dial(id, session, seen);
        }
        backend.connect_succeeded(now);
        backend.feel_connect(now, Duration::from_millis(3));
        permit.into_iter().for_each(|permit| permit.succeeded(now));
        lease.set_slot(session.slot.take());
        session.lease = Some(lease);
        let is_judged = session.snapshot.outliers.failure_rate.is_some();
        session.beginning = is_judged.then(|| Beginning::of(&backend));
        let is_good = self.mood_of(&backend) != Mood::EndsEarly;
        self.sessions.insert(id, session);
        let soon = Duration::from_millis(1 + self.random.below(20));
        self.after(soon, Event::Begun(id, is_good));
    }

    pub(super) fn begun(&mut self, id: u64, is_good: bool, seen: &mut Seen) {
        let held = Duration::from_millis(20 + self.random.below(700));
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let (beginning, worker) = (session.beginning.take(), session.worker);
        let now = self.clock(worker);
        if is_good {
            seen.served += 1;
            beginning.into_iter().for_each(|it| it.succeeded(now));
            self.after(held, Event::Ended(id));
        } else {
            seen.early_ends += 1;
            beginning.into_iter().for_each(|it| it.failed(now));
            self.sessions.remove(&id);
        }
    }

    /// Waits for a slot, where there is something to wait for.
    fn wait(&mut self, id: u64, mut session: Session, seen: &mut Seen) {
        let snapshot = session.snapshot;
        let now = self.clock(session.worker);
        let is_limited = snapshot.queue > 0;
        if !is_limited || session.attempts >= snapshot.attempts || !is_worth_waiting(snapshot, now)
        {
            return;
        }
        session.slot = None;
        let wake = Wake::new().unwrap();
        let Some(place) = self.live.queue.join(snapshot.queue, wake) else {
            seen.full += 1;
            return;
        };
        seen.queued += 1;
        for member in snapshot.balancer.members() {
            member.backend.serve_waiting();
        }
        session.place = Some(place);
        self.sessions.insert(id, session);
        self.after(QUEUE_TIMEOUT, Event::QueueTimeout(id));
    }

    pub(super) fn queue_timeout(&mut self, id: u64) {
        let is_waiting = |session: &Session| session.place.is_some();
        if self.sessions.get(&id).is_some_and(is_waiting) {
            self.sessions.remove(&id);
        }
    }

    /// Who was given a slot takes it at once, as the woken session would.
    pub(super) fn serve_granted(&mut self, seen: &mut Seen) {
        loop {
            let granted = self.sessions.iter().find_map(|(id, session)| {
                let (lease, _) = session.place.as_ref()?.take()?;
                Some((*id, lease))
            });
            let Some((id, mut lease)) = granted else {
                return;
            };
            let seed = self.seed;
            // With `open` and nobody usable all are taken for usable.
            let is_open = self.snapshot.all_down == AllDown::Open;
            // That an ejection is over, the queue knows within a tick.
            let then = Instant::from_nanos(self.now.as_nanos() - TICK_NANOS);
            let is_usable =
                lease.is_usable(self.now) || is_open && !self.snapshot.balancer.is_usable(then);
            assert!(is_usable, "seed {seed}: {:?}", lease.id());
            let mut session = self.sessions.remove(&id).unwrap();
            drop(session.place.take());
            session.has_waited = true;
            session.slot = lease.take_slot();
            seen.queue_served += 1;
            let now = self.clock(session.worker);
            if let May::Try = self.may_try(&mut session, now, seen) {
                self.attempt(id, session, lease);
            }
        }
    }

    /// Nobody meets a backend that is down or ejected while another is neither; a backup is met only where
    /// nobody of a lower tier could be.
    fn choice_is_right(&mut self, session: &Session, chosen: &Arc<Backend>, seen: &mut Seen) {
        let (seed, now) = (self.seed, session.ask.now);
        let balancer = &session.snapshot.balancer;
        if !balancer.is_usable(now) {
            seen.all_down += 1;
            let all_down = session.snapshot.all_down;
            assert_ne!(
                all_down,
                AllDown::Closed,
                "seed {seed}: nobody may be tried"
            );
            if all_down == AllDown::Trickle {
                // The workers' clocks are not quite the same.
                let least = Duration::from_millis(990);
                let last = self.trickled_at.replace(self.now);
                let may = last.is_none_or(|last| self.now - last >= least);
                assert!(may, "seed {seed}: one a second");
            }
            return;
        }
        if session.attempts > 0 && session.snapshot.all_down == AllDown::Open {
            // It may have begun when nobody was usable, and goes on as it began.
            return;
        }
        assert!(chosen.is_usable(now), "seed {seed}: {:?}", chosen.id());
        if session.attempts > 0 {
            return;
        }
        let members = || balancer.members().iter().filter(|it| it.weight > 0);
        let is_it = |member: &&ringlane::balance::Member| Arc::ptr_eq(&member.backend, chosen);
        let tier = members().find(is_it).unwrap().tier;
        for member in members().filter(|it| it.tier < tier) {
            seen.backups += 1;
            let backend = &member.backend;
            let could_be = backend.is_usable(now) && !backend.is_full();
            let is_fresh = !backend.recently_failed(now);
            assert!(!could_be || !is_fresh, "seed {seed}: {:?}", backend.id());
        }
    }
}

/// Whether a backend lacks nothing but room.
fn is_worth_waiting(snapshot: &Snapshot, now: Instant) -> bool {
    let all_count = snapshot.all_down == AllDown::Open && !snapshot.balancer.is_usable(now);
    snapshot.balancer.members().iter().any(|member| {
        let backend = &member.backend;
        let is_sound = (all_count || backend.is_usable(now)) && !backend.has_failed();
        member.weight > 0 && backend.is_full() && is_sound
    })
}
