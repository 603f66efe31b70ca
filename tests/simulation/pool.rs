//! One pool with everything at once: backends that refuse, hang, reset early or are slow; health checks,
//! ejections, a breaker, slow starts, limits, a queue, retries; reloads that change all of that; clients of
//! several workers whose clocks are not quite the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ringlane::backend::{
    Backend, BackendId, Breaker, EjectionCause, Ejector, Notice, Phase, Queue, Registry,
    RetryBudget, Return, State,
};
use ringlane::balance::{Ask, Balancer, Member, Rotation};
use ringlane::base::address::Endpoint;
use ringlane::base::clock::Instant;
use ringlane::base::random::Random;
use ringlane::config::model::{self, AllDown, Balance, Health, Initial, Outliers, Probe};
use ringlane::health::{Failure, Plan, Schedule, Target, Ticket};

use super::sessions::Session;
use super::{is_whole, seeds};

/// When the faults of a world end.
const FAULTS: Duration = Duration::from_secs(60);

/// How long all is well then, until shares are looked at.
const CALM: Duration = Duration::from_secs(60);

/// Clients by whom shares are measured.
const MEASURED: usize = 2_000;

/// The longest ejection of any configuration.
const EJECT_MOST: Duration = Duration::from_secs(15);

/// How often returns are noticed, as in the control thread.
const TICK: Duration = Duration::from_millis(100);

pub(super) const WORKERS: usize = 3;

/// How far behind the worst worker's clock is.
const SKEW_MILLIS: u64 = 4;

#[test]
fn a_pool_serves_whatever_its_backends_do() {
    let mut seen = Seen::default();
    let seeds = seeds();
    for seed in seeds.clone() {
        World::new(seed).run(&mut seen);
    }
    if is_whole(&seeds) {
        seen.check();
    }
}

/// What happened in all worlds together.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) served: usize,
    pub(super) retried: usize,
    pub(super) failed: usize,
    pub(super) all_down: usize,
    pub(super) backups: usize,
    pub(super) full: usize,
    pub(super) breaker_full: usize,
    pub(super) breaker_open: usize,
    pub(super) queued: usize,
    pub(super) queue_served: usize,
    pub(super) left: usize,
    /// Ticks at which somebody waited while all were taken for up.
    waited_open: usize,
    pub(super) early_ends: usize,
    ejected: [usize; 2],
    returned: BTreeMap<String, usize>,
    breakers_opened: u64,
    breakers_closed: u64,
    reloads: usize,
    probes_changed: usize,
    measured: usize,
}

impl Seen {
    /// The rules are of use only if each of them had its day.
    fn check(&self) {
        assert!(self.served > 100_000 && self.reloads > 1_000, "{self:?}");
        assert!(self.retried > 1_000 && self.failed > 1_000, "{self:?}");
        assert!(self.all_down > 100 && self.backups > 1_000, "{self:?}");
        assert!(self.full > 100 && self.breaker_full > 100, "{self:?}");
        assert!(self.breaker_open > 1_000, "{self:?}");
        assert!(self.queued > 1_000 && self.queue_served > 300, "{self:?}");
        assert!(self.left > 1_000 && self.early_ends > 1_000, "{self:?}");
        assert!(self.waited_open > 0, "{self:?}");
        assert!(self.ejected.iter().all(|count| *count > 200), "{self:?}");
        let reasons = [
            Return::Connected,
            Return::Probed,
            Return::Elapsed,
            Return::Replaced,
            Return::Reloaded,
        ];
        for why in reasons {
            let count = self.returned.get(&format!("{why:?}"));
            assert!(count.is_some_and(|count| *count > 10), "{why:?}: {self:?}");
        }
        let opened = self.breakers_opened;
        assert!(opened > 100 && self.breakers_closed > 50, "{self:?}");
        assert!(self.probes_changed > 500 && self.measured > 100, "{self:?}");
    }
}

/// What a backend does with who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    Slow,
    Refuses,
    Hangs,
    /// It takes the connection and ends it before its first byte.
    EndsEarly,
}

/// One configuration of the pool, as sessions see it for all their life.
pub(super) struct Snapshot {
    pub(super) balance: Balance,
    pub(super) balancer: Balancer,
    pub(super) all_down: AllDown,
    pub(super) outliers: Outliers,
    pub(super) breaker: Option<model::Breaker>,
    pub(super) attempts: u8,
    /// Clients that may wait.
    pub(super) queue: u32,
    limits: Vec<u32>,
    health: Option<Arc<Plan>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Client,
    /// A connect is over.
    Connected(u64, bool),
    /// What a connection leads to shows: the first byte, or an early end.
    Begun(u64, bool),
    /// The session is over, or its client leaves before.
    Ended(u64),
    /// Nobody waits longer.
    QueueTimeout(u64),
    ProbeBegins,
    ProbeEnds(Ticket, usize, Instant),
    Tick,
    Moods,
    Reload,
}

/// What of the pool outlives configurations.
pub(super) struct Live {
    pub(super) rotation: &'static Rotation,
    pub(super) budget: RetryBudget,
    pub(super) queue: Arc<Queue>,
    pub(super) ejector: Arc<Ejector>,
    pub(super) breaker: Arc<Breaker>,
}

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) random: Random,
    pub(super) now: Instant,
    /// How far behind each worker's clock is.
    skew: [Duration; WORKERS],
    events: BTreeMap<(Instant, u64), Event>,
    numbers: u64,
    pub(super) live: Live,
    /// Sessions keep the snapshot that they began with, and hold walks that borrow from it: every one is
    /// kept for as long as the process lives.
    pub(super) snapshot: &'static Snapshot,
    registry: Registry,
    known: Vec<Weak<Backend>>,
    pub(super) moods: [Mood; 6],
    pub(super) sessions: BTreeMap<u64, Session>,
    schedule: Schedule,
    probe_at: Option<Instant>,
    pub(super) trickled_at: Option<Instant>,
    is_calm: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let skew = [(); WORKERS].map(|()| Duration::from_millis(random.below(SKEW_MILLIS + 1)));
        let live = Live {
            rotation: Box::leak(Box::default()),
            budget: RetryBudget::new(),
            queue: Arc::default(),
            ejector: Arc::default(),
            breaker: Arc::default(),
        };
        let empty = Snapshot {
            balance: Balance::First,
            balancer: Balancer::new(Balance::First, Vec::new()),
            all_down: AllDown::Closed,
            outliers: Outliers::default(),
            breaker: None,
            attempts: 1,
            queue: 0,
            limits: Vec::new(),
            health: None,
        };
        let mut world = Self {
            seed,
            random,
            // Far enough from zero for every clock to be behind.
            now: Instant::from_millis(1_000_000),
            skew,
            events: BTreeMap::new(),
            numbers: 0,
            live,
            snapshot: Box::leak(Box::new(empty)),
            registry: Registry::new(),
            known: Vec::new(),
            moods: [Mood::Well; 6],
            sessions: BTreeMap::new(),
            schedule: Schedule::new(seed),
            probe_at: None,
            trickled_at: None,
            is_calm: false,
        };
        world.reload();
        for event in [Event::Client, Event::Tick, Event::Moods, Event::Reload] {
            world.after(Duration::from_millis(1), event);
        }
        world
    }

    fn run(mut self, seen: &mut Seen) {
        let begun = self.now;
        while self.now < begun + FAULTS {
            self.step(seen);
        }
        self.moods = [Mood::Well; 6];
        self.is_calm = true;
        self.reload();
        while self.now < begun + FAULTS + CALM {
            self.step(seen);
        }
        let seed = self.seed;
        if self.snapshot.breaker.is_some() {
            let phase = self.live.breaker.phase();
            assert_eq!(phase, Phase::Closed, "seed {seed}: the faults are over");
        }
        seen.breakers_opened += self.live.breaker.turns(Phase::Open);
        seen.breakers_closed += self.live.breaker.turns(Phase::Closed);
        self.everything_is_given_back();
        self.shares_follow_the_weights(seen);
    }

    fn step(&mut self, seen: &mut Seen) {
        let ((at, _), event) = self.events.pop_first().unwrap();
        self.now = at;
        match event {
            Event::Client => {
                let pause = Duration::from_millis(1 + self.random.below(40));
                self.after(pause, Event::Client);
                self.client(seen);
            }
            Event::Connected(id, is_good) => self.connected(id, is_good, seen),
            Event::Begun(id, is_good) => self.begun(id, is_good, seen),
            Event::Ended(id) => {
                self.sessions.remove(&id);
            }
            Event::QueueTimeout(id) => self.queue_timeout(id),
            Event::ProbeBegins => self.probe(),
            Event::ProbeEnds(ticket, place, begun) => {
                self.probed(ticket, place, begun, seen);
            }
            Event::Tick => self.look_after(seen),
            Event::Moods => self.change_moods(),
            Event::Reload => {
                let pause = Duration::from_millis(1_000 + self.random.below(12_000));
                self.after(pause, Event::Reload);
                if !self.is_calm {
                    seen.reloads += 1;
                    self.reload();
                }
            }
        }
        self.serve_granted(seen);
        self.no_more_are_ejected_than_may_be();
    }

    pub(super) fn after(&mut self, time: Duration, event: Event) {
        self.numbers += 1;
        self.events.insert((self.now + time, self.numbers), event);
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// What a worker takes for the time.
    pub(super) fn clock(&self, worker: usize) -> Instant {
        let skew = u64::try_from(self.skew[worker].as_nanos()).unwrap();
        Instant::from_nanos(self.now.as_nanos() - skew)
    }

    pub(super) fn pick(&mut self, below: usize) -> usize {
        usize::try_from(self.random.below(below as u64)).unwrap()
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &'static Member> + use<> {
        let members = self.snapshot.balancer.members().iter();
        members.filter(|member| member.weight > 0)
    }

    fn change_moods(&mut self) {
        let pause = Duration::from_millis(500 + self.random.below(6_000));
        self.after(pause, Event::Moods);
        if self.is_calm {
            return;
        }
        let mood = [
            Mood::Well,
            Mood::Well,
            Mood::Slow,
            Mood::Refuses,
            Mood::Hangs,
            Mood::EndsEarly,
        ][self.pick(6)];
        // Now and then all at once.
        let all = self.pick(6) == 0;
        let chosen = self.pick(6);
        for (place, its) in self.moods.iter_mut().enumerate() {
            if all || place == chosen {
                *its = mood;
            }
        }
    }

    fn look_after(&mut self, seen: &mut Seen) {
        self.after(TICK, Event::Tick);
        for notice in self.live.ejector.look_after(self.now) {
            match notice {
                Notice::Ejected { cause, .. } => {
                    seen.ejected[usize::from(cause == EjectionCause::FailureRate)] += 1;
                }
                Notice::Returned { why, .. } => {
                    *seen.returned.entry(format!("{why:?}")).or_default() += 1;
                }
            }
        }
        self.live.queue.look_after();
        self.serve_granted(seen);
        // Whoever waits does so because nobody has room.
        if self.live.queue.waiting() > 0 {
            let is_open = self.snapshot.all_down == AllDown::Open;
            if is_open && !self.snapshot.balancer.is_usable(self.now) {
                seen.waited_open += 1;
                let is_worth = |it: &&Member| it.backend.is_full() && !it.backend.has_failed();
                let is_up = |it: &&Member| it.backend.is_up();
                let all_failed = self.members().filter(is_worth).count() == 0;
                let any_up = self.members().any(|it| it.backend.is_up());
                let meant = self.members().filter(|it| !any_up || is_up(it));
                let mut meant = meant.filter(|it| all_failed || !it.backend.has_failed());
                let free = meant.find(|it| !it.backend.is_full());
                let name = free.map(|it| &it.backend.id().name);
                assert!(
                    name.is_none(),
                    "seed {}: {name:?} at {:?}",
                    self.seed,
                    self.now
                );
            }
            for member in self.members() {
                let backend = &member.backend;
                let is_sound = backend.is_usable(self.now) && !backend.has_failed();
                let has_room = is_sound && !backend.is_full();
                let name = &backend.id().name;
                assert!(!has_room, "seed {}: {name} at {:?}", self.seed, self.now);
            }
        }
    }

    fn no_more_are_ejected_than_may_be(&self) {
        let seed = self.seed;
        let is_ejected = |member: &&Member| member.backend.is_ejected(self.now);
        let ejected = self.members().filter(is_ejected).count();
        let most = self.snapshot.outliers.ejected_max(self.members().count());
        assert!(ejected <= most, "seed {seed}: {ejected} of {most}");
        let later = self.now + EJECT_MOST;
        let never = self.members().find(|it| it.backend.is_ejected(later));
        assert!(never.is_none(), "seed {seed}: {never:?}");
    }

    fn everything_is_given_back(&mut self) {
        self.sessions.clear();
        let seed = self.seed;
        for backend in self.known.iter().filter_map(Weak::upgrade) {
            assert_eq!(backend.active(), 0, "seed {seed}: {:?}", backend.id());
        }
        let breaker = &self.live.breaker;
        let held = (breaker.connections(), breaker.pending());
        assert_eq!(held, (0, 0), "seed {seed}");
        assert_eq!(self.live.queue.waiting(), 0, "seed {seed}");
    }

    /// With everybody well for long, everybody gets its share and nobody is left out.
    fn shares_follow_the_weights(&mut self, seen: &mut Seen) {
        let seed = self.seed;
        let Some(tier) = self.members().map(|member| member.tier).min() else {
            return;
        };
        let members: Vec<_> = self.members().filter(|it| it.tier == tier).collect();
        for member in self.members() {
            assert!(
                member.backend.is_usable(self.now),
                "seed {seed}: {:?}",
                member.backend.id().name
            );
        }
        let mut counts = vec![0_usize; members.len()];
        for _ in 0..MEASURED {
            self.now = self.now + Duration::from_millis(5);
            let ask = self.ask(0);
            let mut walk = self.snapshot.balancer.walk(self.live.rotation, ask);
            let backend = walk.next().unwrap();
            let lease = backend.try_lease().unwrap();
            backend.connect_succeeded(self.now);
            backend.feel_connect(self.now, Duration::from_millis(3));
            drop(lease);
            let place = members
                .iter()
                .position(|it| Arc::ptr_eq(&it.backend, backend));
            counts[place.expect("a lower tier is well")] += 1;
        }
        seen.measured += 1;
        if self.snapshot.balance == Balance::First {
            assert_eq!(counts[0], MEASURED, "seed {seed}: {counts:?}");
            return;
        }
        let weights: f64 = members.iter().map(|it| f64::from(it.weight)).sum();
        for (member, count) in members.iter().zip(&counts) {
            let expected = MEASURED as f64 * f64::from(member.weight) / weights;
            let share = expected / MEASURED as f64;
            let deviation = (expected * (1.0 - share)).sqrt();
            let within = match self.snapshot.balance {
                Balance::RoundRobin | Balance::LeastConnections => 0.01 * expected + 8.0,
                // It goes by connect times, which have not forgotten all that was: nobody is left out.
                Balance::PeakEwma => MEASURED as f64,
                _ => 0.02 * expected + 5.0 * deviation,
            };
            let off = (*count as f64 - expected).abs();
            let balance = self.snapshot.balance;
            assert!(
                off <= within && *count > 0,
                "seed {seed}: {balance:?} {counts:?}, expected {expected} for {:?}",
                member.backend.id().name
            );
        }
    }

    pub(super) fn ask(&mut self, worker: usize) -> Ask {
        let source = u32::try_from(self.random.below(1 << 32)).unwrap();
        Ask {
            source: Some(std::net::Ipv4Addr::from_bits(source).into()),
            now: self.clock(worker),
            seed: self.random.next_u64(),
        }
    }

    /// Begins the probes that are due.
    fn probe(&mut self) {
        if self.probe_at != Some(self.now) {
            // A reload has put it off.
            return;
        }
        self.probe_at = None;
        while let Some(due) = self.schedule.begin(self.now) {
            let name = &due.target.backend.id().name;
            let place = usize::from(name.as_bytes()[1] - b'0');
            let took = match self.moods[place] {
                Mood::Hangs => 300,
                _ => 1 + self.random.below(50),
            };
            let took = Duration::from_millis(took);
            self.after(took, Event::ProbeEnds(due.ticket, place, self.now));
        }
        self.plan_probe();
    }

    fn probed(&mut self, ticket: Ticket, place: usize, begun: Instant, seen: &mut Seen) {
        // A program that ends its connections early still has a kernel that takes them.
        let outcome = match self.moods[place] {
            Mood::Refuses => Err(Failure::Refused),
            Mood::Hangs => Err(Failure::Timeout),
            _ => Ok(()),
        };
        let change = self.schedule.end(ticket, &outcome, self.now - begun);
        if let Some(change) = change {
            seen.probes_changed += 1;
            if change.state == State::Up {
                change.target.backend.became_usable(self.now);
            }
        }
        self.plan_probe();
    }

    fn plan_probe(&mut self) {
        let due = self.schedule.next_due().map(|due| due.max(self.now));
        if due != self.probe_at
            && let Some(due) = due
        {
            self.probe_at = Some(due);
            self.after(due - self.now, Event::ProbeBegins);
        }
    }

    /// Another configuration; with everything calm, one without limits that everybody is in.
    fn reload(&mut self) {
        let is_first = self.known.is_empty();
        let snapshot = self.configure(is_first);
        self.registry
            .reconcile(snapshot.balancer.members().iter().map(|it| &it.backend));
        let open = || {
            let open = snapshot.balancer.members().iter();
            open.filter(|it| it.weight > 0).map(|it| &it.backend)
        };
        for (member, limit) in snapshot.balancer.members().iter().zip(&snapshot.limits) {
            member.backend.set_limit(*limit);
        }
        self.live.queue.set_members(open());
        self.live.queue.set_all_down(snapshot.all_down);
        self.live.ejector.set(snapshot.outliers, open(), self.now);
        self.live.breaker.set(snapshot.breaker.as_ref());
        open()
            .filter(|backend| backend.is_up() && !backend.has_failed())
            .for_each(Backend::serve_waiting);
        let targets = snapshot.balancer.members().iter().filter_map(|member| {
            Some(Target {
                backend: Arc::clone(&member.backend),
                plan: Arc::clone(snapshot.health.as_ref()?),
                name: None,
            })
        });
        self.schedule.reconcile(targets.collect(), self.now);
        self.snapshot = snapshot;
        self.plan_probe();
    }

    fn configure(&mut self, is_first: bool) -> &'static Snapshot {
        let balance = [
            Balance::RoundRobin,
            Balance::LeastConnections,
            Balance::RandomTwo,
            Balance::PeakEwma,
            Balance::SourceHash { ipv6_prefix: 64 },
            Balance::First,
        ][self.pick(6)];
        let all_down = [AllDown::Trickle, AllDown::Open, AllDown::Closed][self.pick(3)];
        let is_limited = !self.is_calm && self.pick(2) == 0;
        let (mut members, mut limits) = (Vec::new(), Vec::new());
        for place in 0..6 {
            if self.pick(4) == 0 {
                continue;
            }
            members.push(Member {
                backend: self.backend(place, is_first),
                weight: u16::try_from([0, 1, 1, 2, 3, 4][self.pick(6)]).unwrap(),
                tier: u8::try_from(self.pick(2)).unwrap(),
            });
            let limit = 1 + self.pick(6);
            limits.push(u32::try_from(if is_limited { limit } else { 0 }).unwrap());
        }
        let slow_start = [None, Some(Duration::from_secs(5))][self.pick(2)];
        let balancer = Balancer::new(balance, members)
            .with_all_down(all_down)
            .starting_slowly(slow_start);
        Box::leak(Box::new(Snapshot {
            balance,
            balancer,
            all_down,
            outliers: self.outliers(),
            breaker: self.breaker(),
            attempts: u8::try_from(1 + self.pick(4)).unwrap(),
            queue: if is_limited { 10 } else { 0 },
            limits,
            health: (self.pick(2) == 0).then(|| self.health()),
        }))
    }

    fn backend(&mut self, place: usize, is_first: bool) -> Arc<Backend> {
        let id = BackendId {
            pool: "p".into(),
            name: format!("b{place}").into(),
            endpoint: Endpoint::Inet("10.0.0.1:80".parse().unwrap()),
        };
        self.registry.find(&id).unwrap_or_else(|| {
            let (queue, ejector) = (&self.live.queue, &self.live.ejector);
            let new = Backend::in_line(id, Arc::clone(queue), Arc::clone(ejector));
            let new = Arc::new(new);
            if !is_first {
                new.became_usable(self.now);
            }
            self.known.push(Arc::downgrade(&new));
            new
        })
    }

    fn outliers(&mut self) -> Outliers {
        Outliers {
            connect_failures: [0, 1, 3, 5][self.pick(4)],
            failure_rate: [None, Some(30), Some(60)][self.pick(3)],
            window: Duration::from_secs(1 + self.random.below(10)),
            min_samples: u32::try_from(1 + self.pick(10)).unwrap(),
            eject: Duration::from_secs(1 + self.random.below(5)),
            eject_most: EJECT_MOST,
            max_eject: [0, 50, 50, 100][self.pick(4)],
        }
    }

    fn breaker(&mut self) -> Option<model::Breaker> {
        let number = |number: usize| u32::try_from(number).unwrap();
        let maxima = if self.is_calm {
            [0, 0]
        } else {
            [[0, 10, 40][self.pick(3)], [0, 4, 10][self.pick(3)]]
        };
        let breaker = model::Breaker {
            max_connections: maxima[0],
            max_pending: maxima[1],
            failure_rate: [None, Some(30), Some(60)][self.pick(3)],
            window: Duration::from_secs(1 + self.random.below(10)),
            min_samples: number(5 + self.pick(20)),
            open: Duration::from_millis(200 + self.random.below(3_000)),
            probes: number(1 + self.pick(6)),
        };
        (self.pick(3) > 0).then_some(breaker)
    }

    fn health(&mut self) -> Arc<Plan> {
        let streak = |number: usize| u32::try_from(1 + number).unwrap();
        let health = Health {
            probe: Probe::Tcp,
            interval: Duration::from_secs(1 + self.random.below(2)),
            timeout: Duration::from_millis(300),
            rise: streak(self.pick(3)),
            fall: streak(self.pick(5)),
            address: None,
            port: None,
            initial: Initial::Up,
        };
        Arc::new(Plan {
            health: Arc::new(health),
            source: None,
            proxy_protocol: None,
            tls: None,
        })
    }
}
