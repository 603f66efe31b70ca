//! Health checks and balancing together, with a simulated clock: backends die and come back, probes take
//! their time, reloads come in between.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ringlane::backend::{Backend, BackendId, State};
use ringlane::balance::{Ask, Balancer, Member, Rotation};
use ringlane::base::address::Endpoint;
use ringlane::base::clock::Instant;
use ringlane::base::random::Random;
use ringlane::config::model::{AllDown, Balance, Health, Initial, Probe};
use ringlane::health::{Failure, Plan, Schedule, Target, Ticket};

use super::{is_whole, seeds};

/// Of each seed.
const TIME: Duration = Duration::from_secs(120);

/// The longest that a probe takes.
const PROBE_MAX: Duration = Duration::from_millis(300);

#[test]
fn nobody_meets_a_backend_that_is_down_while_another_is_up() {
    let seeds = seeds();
    let mut seen = Seen::default();
    for seed in seeds.clone() {
        World::new(seed).run(&mut seen);
    }
    // The rules are of use only if each of them had its day.
    if is_whole(&seeds) {
        assert!(seen.changes > 1_000 && seen.reloads > 1_000, "{seen:?}");
        assert!(seen.served > 100_000 && seen.backups > 1_000, "{seen:?}");
        assert!(seen.all_down.iter().all(|count| *count > 1_000), "{seen:?}");
        assert!(seen.trickled > 100, "{seen:?}");
    }
}

#[derive(Debug, Default)]
struct Seen {
    changes: usize,
    reloads: usize,
    served: usize,
    backups: usize,
    /// Clients that came while nobody was up, by `all_down`.
    all_down: [usize; 3],
    trickled: usize,
}

struct World {
    seed: u64,
    random: Random,
    plan: Arc<Plan>,
    members: Vec<Member>,
    /// Whether each really works, and since when.
    truth: Vec<(bool, Instant)>,
    /// Since when each is probed without a break.
    probed: Vec<Option<Instant>>,
    balancer: Balancer,
    all_down: AllDown,
    rotation: Rotation,
    schedule: Schedule,
    /// Probes under way by their end.
    running: BTreeMap<(Instant, u64), (Ticket, usize, Duration)>,
    begun: u64,
    trickled_at: Option<Instant>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut below = |bound: u64| random.below(bound);
        let balance = [
            Balance::RoundRobin,
            Balance::LeastConnections,
            Balance::RandomTwo,
            Balance::SourceHash { ipv6_prefix: 64 },
            Balance::First,
        ][usize::try_from(below(5)).unwrap()];
        let all_down =
            [AllDown::Trickle, AllDown::Open, AllDown::Closed][usize::try_from(below(3)).unwrap()];
        let health = Health {
            probe: Probe::Tcp,
            interval: Duration::from_secs(1 + below(3)),
            timeout: PROBE_MAX,
            rise: u32::try_from(1 + below(3)).unwrap(),
            fall: u32::try_from(1 + below(3)).unwrap(),
            address: None,
            port: None,
            initial: Initial::Up,
        };
        let members: Vec<_> = (0..1 + below(5))
            .map(|number| Member {
                backend: Arc::new(backend(number)),
                weight: u16::try_from(1 + below(4)).unwrap(),
                tier: u8::try_from(below(2)).unwrap(),
            })
            .collect();
        for member in &members {
            let states = [State::Up, State::Down, State::Unchecked];
            let state = states[usize::try_from(below(3)).unwrap()];
            member.backend.set_state(state);
        }
        let count = members.len();
        let mut world = Self {
            seed,
            random,
            plan: plan(health),
            balancer: Balancer::new(balance, members.clone()).with_all_down(all_down),
            members,
            truth: vec![(true, Instant::ZERO); count],
            probed: vec![None; count],
            all_down,
            rotation: Rotation::new(),
            schedule: Schedule::new(seed),
            running: BTreeMap::new(),
            begun: 0,
            trickled_at: None,
        };
        world.reload(Instant::ZERO, count);
        world
    }

    fn run(mut self, seen: &mut Seen) {
        let mut now = Instant::ZERO;
        while now < Instant::ZERO + TIME {
            now = now + Duration::from_millis(1 + self.random.below(40));
            self.probe(now, seen);
            self.client(now, seen);
            if self.random.below(400) == 0 {
                self.die_or_revive(now);
            }
            if self.random.below(400) == 0 {
                seen.reloads += 1;
                let keep = self.random.below(self.members.len() as u64 * 4);
                let keep = usize::try_from(keep).unwrap();
                self.reload(now, keep.max(1));
            }
            self.states_follow_the_truth(now);
        }
    }

    /// Begins and ends the probes that are due, in the order of their times.
    fn probe(&mut self, now: Instant, seen: &mut Seen) {
        loop {
            let due = self.schedule.next_due().filter(|due| *due <= now);
            let end = self.running.first_key_value().map(|(key, _)| *key);
            match (due, end.filter(|(end, _)| *end <= now)) {
                (Some(due), end) if end.is_none_or(|(end, _)| due <= end) => self.begin(due),
                (_, Some(key)) => {
                    let (ticket, index, took) = self.running.remove(&key).unwrap();
                    let outcome = match self.truth[index].0 {
                        true => Ok(()),
                        false => Err(Failure::Refused),
                    };
                    let change = self.schedule.end(ticket, &outcome, took);
                    seen.changes += usize::from(change.is_some());
                }
                _ => return,
            }
        }
    }

    fn begin(&mut self, due: Instant) {
        let probe = self.schedule.begin(due).unwrap();
        let millis = u64::try_from(PROBE_MAX.as_millis()).unwrap();
        let took = Duration::from_millis(self.random.below(millis));
        let is_it = |member: &Member| Arc::ptr_eq(&member.backend, &probe.target.backend);
        let index = self.members.iter().position(is_it).unwrap();
        let running = self.running.values();
        let twice = running.filter(|(ticket, ..)| *ticket == probe.ticket);
        assert_eq!(twice.count(), 0, "seed {}: probed twice at once", self.seed);
        self.begun += 1;
        let key = (due + took, self.begun);
        self.running.insert(key, (probe.ticket, index, took));
    }

    fn client(&mut self, now: Instant, seen: &mut Seen) {
        let ask = Ask {
            source: Some(IpAddr::V4(Ipv4Addr::from_bits(
                u32::try_from(self.random.below(1 << 32)).unwrap(),
            ))),
            now,
            seed: self.random.next_u64(),
        };
        let walk: Vec<_> = self.balancer.walk(&self.rotation, ask).collect();
        let up = self.members.iter().filter(|it| it.backend.is_up()).count();
        let seed = self.seed;
        if up > 0 {
            assert_eq!(walk.len(), up, "seed {seed}: each that is up, once");
            assert!(walk.iter().all(|it| it.is_up()), "seed {seed}: one is down");
            let tier = |backend: &Arc<Backend>| {
                let mut members = self.members.iter();
                members
                    .find(|it| Arc::ptr_eq(&it.backend, backend))
                    .unwrap()
                    .tier
            };
            assert!(
                walk.is_sorted_by_key(|it| tier(it)),
                "seed {seed}: tiers in order"
            );
            seen.served += 1;
            let lower = self.members.iter().any(|it| it.tier < tier(walk[0]));
            seen.backups += usize::from(lower);
            return;
        }
        let (place, expected) = match self.all_down {
            AllDown::Trickle => {
                let last = self.trickled_at;
                let may = last.is_none_or(|last| now - last >= Duration::from_secs(1));
                if may {
                    self.trickled_at = Some(now);
                    seen.trickled += 1;
                }
                (0, usize::from(may))
            }
            AllDown::Open => (1, self.members.len()),
            AllDown::Closed => (2, 0),
        };
        seen.all_down[place] += 1;
        assert_eq!(walk.len(), expected, "seed {seed}: {:?}", self.all_down);
    }

    fn die_or_revive(&mut self, now: Instant) {
        // Now and then all at once.
        let all = self.random.below(4) == 0;
        let works = self.random.below(2) == 0;
        let chosen = self.random.below(self.members.len() as u64);
        for (index, truth) in self.truth.iter_mut().enumerate() {
            if (all || index as u64 == chosen) && truth.0 != works {
                *truth = (works, now);
            }
        }
    }

    /// Probes the first `count` members from now on, by settings that are the same but new.
    fn reload(&mut self, now: Instant, count: usize) {
        self.plan = plan((*self.plan.health).clone());
        let kept = self.members.iter().take(count);
        let targets = kept.map(|member| Target {
            backend: Arc::clone(&member.backend),
            plan: Arc::clone(&self.plan),
            name: None,
        });
        self.schedule.reconcile(targets.collect(), now);
        for (index, probed) in self.probed.iter_mut().enumerate() {
            *probed = probed.or(Some(now)).filter(|_| index < count);
        }
    }

    /// Whoever has been dead, or well, for long enough is known to be; who is not probed is up.
    fn states_follow_the_truth(&self, now: Instant) {
        let health = &self.plan.health;
        for (index, member) in self.members.iter().enumerate() {
            let Some(since) = self.probed[index] else {
                assert!(member.backend.is_up(), "seed {}: not probed", self.seed);
                continue;
            };
            let (works, changed) = self.truth[index];
            let needed = if works { health.rise } else { health.fall };
            // One interval until the first probe that sees it, which may have begun before the change.
            let within = health.interval * (needed + 1) * 11 / 10 + 2 * PROBE_MAX;
            if now - changed.max(since) > within {
                let state = member.backend.state();
                let expected = if works { State::Up } else { State::Down };
                assert_eq!(state, expected, "seed {}: b{index} at {now:?}", self.seed);
            }
        }
    }
}

fn plan(health: Health) -> Arc<Plan> {
    Arc::new(Plan {
        health: Arc::new(health),
        source: None,
        proxy_protocol: None,
        tls: None,
    })
}

fn backend(number: u64) -> Backend {
    Backend::new(BackendId {
        pool: "p".into(),
        name: format!("b{number}").into(),
        endpoint: Endpoint::Inet("10.0.0.1:80".parse().unwrap()),
    })
}
