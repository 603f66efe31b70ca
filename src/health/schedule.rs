//! Which backend is probed when, and what its probes have come to.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::verdict::Verdict;
use super::{Failure, Target};
use crate::backend::{Backend, BackendId, State};
use crate::base::clock::Instant;
use crate::base::random::Random;

/// How far one interval may be off either way, percent.
const JITTER: u64 = 10;

/// One probe that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

/// A probe that is to be made now.
#[derive(Clone, Debug)]
pub struct Due {
    /// To be given back with what comes of it.
    pub ticket: Ticket,
    /// Whom.
    pub target: Target,
}

/// A backend that is up or down from now on.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which.
    pub target: Target,
    /// What it is now.
    pub state: State,
}

/// All backends that are probed, each once every interval, spread over it.
///
/// An interval runs from the time that a probe was due to the next, so that the rate is kept however long
/// probes take. Only one that is still under way when the next is due puts that off.
#[derive(Debug)]
pub struct Schedule {
    checks: HashMap<BackendId, Check>,
    /// Whose probes are due when, first those that are due first; those under way are not in it.
    queue: BTreeSet<(Instant, u64)>,
    /// Whom a number in the queue means. None is used twice, so that a late result meets nobody else.
    ids: HashMap<u64, BackendId>,
    numbers: u64,
    random: Random,
}

#[derive(Debug)]
struct Check {
    number: u64,
    target: Target,
    verdict: Verdict,
    due: Instant,
    /// When the probe under way, or the last one, began.
    begun: Instant,
    /// Its place in the interval, until its probes have come to that: the first one was made at once.
    place: Option<Instant>,
}

impl Schedule {
    /// Nobody is probed yet; the same `seed` gives the same times.
    pub fn new(seed: u64) -> Self {
        Self {
            checks: HashMap::new(),
            queue: BTreeSet::new(),
            ids: HashMap::new(),
            numbers: 0,
            random: Random::new(seed),
        }
    }

    /// Probes exactly `targets` from now on.
    ///
    /// What was known of a backend holds on, and so do its times where it is still probed in the same
    /// way. One that is not probed any more is up; these are returned.
    pub fn reconcile(&mut self, targets: Vec<Target>, now: Instant) -> Vec<Arc<Backend>> {
        let mut before = std::mem::take(&mut self.checks);
        let mut fresh = Vec::new();
        for target in targets {
            let id = target.backend.id();
            match before.remove(id) {
                Some(known) if known.target.plan.is_as(&target.plan) => {
                    self.checks.insert(id.clone(), Check { target, ..known });
                }
                known => {
                    if let Some(known) = known {
                        self.forget(&known);
                    }
                    fresh.push(target);
                }
            }
        }
        let gone = before.into_values().map(|gone| {
            self.forget(&gone);
            let backend = gone.target.backend;
            if !backend.is_up() {
                backend.set_state(State::Up);
                backend.became_usable(now);
            }
            backend
        });
        let gone = gone.collect();
        self.spread(fresh, now);
        gone
    }

    fn forget(&mut self, check: &Check) {
        self.ids.remove(&check.number);
        self.queue.remove(&(check.due, check.number));
    }

    /// Gives each its place in the interval, those with the same interval evenly. Whose first probe
    /// decides is probed at once besides.
    fn spread(&mut self, fresh: Vec<Target>, now: Instant) {
        let mut counts = HashMap::<Duration, (u32, u32)>::new();
        for target in &fresh {
            counts.entry(target.plan.health.interval).or_default().0 += 1;
        }
        for target in fresh {
            let interval = target.plan.health.interval;
            let (count, place) = counts.entry(interval).or_insert((1, 0));
            // Widened, as a long interval times many backends would overflow.
            let share = interval.as_nanos() * u128::from(2 * *place + 1) / u128::from(2 * *count);
            *place += 1;
            let state = target.backend.state();
            let place = now + Duration::from_nanos(u64::try_from(share).unwrap_or(u64::MAX));
            let (due, place) = match state {
                State::Unchecked => (now, Some(place)),
                State::Up | State::Down => (place, None),
            };
            self.numbers += 1;
            let id = target.backend.id().clone();
            self.ids.insert(self.numbers, id.clone());
            self.queue.insert((due, self.numbers));
            let check = Check {
                number: self.numbers,
                target,
                verdict: Verdict::new(state),
                due,
                begun: now,
                place,
            };
            self.checks.insert(id, check);
        }
    }

    /// How many are probed.
    pub fn len(&self) -> usize {
        self.checks.len()
    }

    /// Whether nobody is probed.
    pub fn is_empty(&self) -> bool {
        self.checks.is_empty()
    }

    /// When the next probe is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// The next probe that is due by `now`. Its backend is not probed again before [`Schedule::end`].
    pub fn begin(&mut self, now: Instant) -> Option<Due> {
        let &(due, number) = self.queue.first().filter(|(due, _)| *due <= now)?;
        self.queue.remove(&(due, number));
        let check = self.checks.get_mut(self.ids.get(&number)?)?;
        let interval = check.target.plan.health.interval;
        check.begun = now;
        let place = check.place.take();
        check.due = place.unwrap_or_else(|| due + jittered(interval, &mut self.random));
        if check.due <= now {
            // Too much to do: probes that were missed are not made up for.
            check.due = now + jittered(interval, &mut self.random);
        }
        Some(Due {
            ticket: Ticket(number),
            target: check.target.clone(),
        })
    }

    /// Takes in what came of a probe that took so long; says whether the backend changed.
    ///
    /// A result that comes after its backend left, or came to be probed in another way, counts for nothing.
    pub fn end(
        &mut self,
        ticket: Ticket,
        outcome: &Result<(), Failure>,
        took: Duration,
    ) -> Option<Change> {
        let check = self.checks.get_mut(self.ids.get(&ticket.0)?)?;
        // Where that has passed it is next.
        self.queue.insert((check.due, ticket.0));
        let backend = &check.target.backend;
        let health = &check.target.plan.health;
        let state = match outcome {
            Ok(()) => {
                backend.probe_passed(took);
                backend.probe_succeeded(check.begun, check.begun + took);
                check.verdict.passed(health)
            }
            Err(why) if why.counts() => {
                backend.probe_failed(took);
                check.verdict.failed(health)
            }
            Err(_) => None,
        }?;
        backend.set_state(state);
        Some(Change {
            target: check.target.clone(),
            state,
        })
    }
}

fn jittered(interval: Duration, random: &mut Random) -> Duration {
    let nanos = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
    let spread = nanos / 100 * JITTER;
    let offset = random.below(2 * spread + 1);
    Duration::from_nanos((nanos - spread).saturating_add(offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::address::Endpoint;
    use crate::config::model::{Health, Initial, Probe};
    use crate::health::Plan;

    const BEGIN: Instant = Instant::from_millis(100_000);

    fn plan(change: impl FnOnce(&mut Health)) -> Arc<Plan> {
        let mut health = Health {
            probe: Probe::Tcp,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            rise: 2,
            fall: 3,
            address: None,
            port: None,
            initial: Initial::Up,
        };
        change(&mut health);
        Arc::new(Plan {
            health: Arc::new(health),
            source: None,
            proxy_protocol: None,
            tls: None,
        })
    }

    fn backend(number: usize) -> Arc<Backend> {
        Arc::new(Backend::new(BackendId {
            pool: "p".into(),
            name: format!("b{number}").into(),
            endpoint: Endpoint::Inet("10.0.0.1:80".parse().unwrap()),
        }))
    }

    fn target(backend: &Arc<Backend>, plan: &Arc<Plan>) -> Target {
        Target {
            backend: Arc::clone(backend),
            plan: Arc::clone(plan),
            name: None,
        }
    }

    /// Probes for so long, each answered at once; when each was due, and of whom.
    fn run(
        schedule: &mut Schedule,
        from: Instant,
        time: Duration,
        outcome: &Result<(), Failure>,
    ) -> Vec<(Instant, String)> {
        let mut begun = Vec::new();
        while let Some(due) = schedule.next_due().filter(|due| *due < from + time) {
            let probe = schedule.begin(due).unwrap();
            begun.push((due, probe.target.backend.id().name.to_string()));
            schedule.end(probe.ticket, outcome, Duration::ZERO);
        }
        begun
    }

    #[test]
    fn rate_is_backends_by_interval_and_even() {
        let backends: Vec<_> = (0..1_000).map(backend).collect();
        let plan = plan(|_| {});
        let mut schedule = Schedule::new(3);
        schedule.reconcile(backends.iter().map(|it| target(it, &plan)).collect(), BEGIN);
        let probes = run(&mut schedule, BEGIN, Duration::from_secs(500), &Ok(()));
        assert!(probes.len().abs_diff(100_000) < 500, "{}", probes.len());
        let mut by_second = [0_u32; 500];
        for (at, _) in &probes {
            by_second[usize::try_from((*at - BEGIN).as_secs()).unwrap()] += 1;
        }
        assert!(
            by_second[..5].iter().all(|n| (180..=220).contains(n)),
            "{by_second:?}"
        );
        // Jitter mixes them, so that later seconds are as even as chance is.
        assert!(
            by_second.iter().all(|n| (140..=260).contains(n)),
            "{by_second:?}"
        );
    }

    #[test]
    fn intervals_vary_by_a_tenth() {
        let backends = [backend(0)];
        let plan = plan(|_| {});
        let mut schedule = Schedule::new(5);
        schedule.reconcile(vec![target(&backends[0], &plan)], BEGIN);
        assert_eq!(
            schedule.next_due(),
            Some(BEGIN + Duration::from_millis(2_500))
        );
        let probes = run(&mut schedule, BEGIN, Duration::from_secs(5_000), &Ok(()));
        let gaps = probes
            .windows(2)
            .map(|pair| (pair[1].0 - pair[0].0).as_millis());
        let gaps: Vec<_> = gaps.collect();
        assert!(gaps.iter().all(|gap| (4_500..=5_500).contains(gap)));
        let (least, most) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
        assert!(*least < 4_550 && *most > 5_450, "{least} to {most}");
    }

    #[test]
    fn states_reach_the_backend_after_rise_and_fall() {
        let one = backend(0);
        let plan = plan(|_| {});
        let mut schedule = Schedule::new(1);
        schedule.reconcile(vec![target(&one, &plan)], BEGIN);
        let mut end = |outcome: Result<(), Failure>| {
            let due = schedule.next_due().unwrap();
            let probe = schedule.begin(due).unwrap();
            let change = schedule.end(probe.ticket, &outcome, Duration::from_millis(2));
            change.map(|change| change.state)
        };
        let bad = || Err(Failure::Refused);
        let ours = || Err(Failure::Ours("no descriptor".to_owned()));
        assert_eq!([end(bad()), end(bad()), end(ours())], [None; 3]);
        assert!(one.is_up());
        assert_eq!(end(bad()), Some(State::Down));
        assert_eq!(one.state(), State::Down);
        assert_eq!(end(Ok(())), None);
        assert_eq!(end(Ok(())), Some(State::Up));
        assert!(one.is_up());
        let probed = one.probed();
        assert_eq!((probed.passed, probed.failed), (2, 3));
        assert_eq!(probed.took, Duration::from_millis(2));
    }

    #[test]
    fn first_probe_that_decides_is_due_at_once() {
        let one = backend(0);
        one.set_state(State::Unchecked);
        let plan = plan(|_| {});
        let mut schedule = Schedule::new(1);
        schedule.reconcile(vec![target(&one, &plan)], BEGIN);
        let probe = schedule.begin(BEGIN).unwrap();
        let change = schedule.end(probe.ticket, &Err(Failure::Timeout), Duration::ZERO);
        assert_eq!(change.unwrap().state, State::Down);
    }

    #[test]
    fn first_probes_made_at_once_do_not_bunch_those_that_follow() {
        let backends: Vec<_> = (0..1_000).map(backend).collect();
        backends
            .iter()
            .for_each(|it| it.set_state(State::Unchecked));
        let plan = plan(|_| {});
        let mut schedule = Schedule::new(3);
        schedule.reconcile(backends.iter().map(|it| target(it, &plan)).collect(), BEGIN);
        let probes = run(&mut schedule, BEGIN, Duration::from_secs(50), &Ok(()));
        let mut by_second = [0_u32; 50];
        for (at, _) in probes.iter().skip(1_000) {
            by_second[usize::try_from((*at - BEGIN).as_secs()).unwrap()] += 1;
        }
        assert_eq!(probes[999].0, BEGIN, "all at once");
        assert!(
            by_second.iter().all(|n| (140..=260).contains(n)),
            "{by_second:?}"
        );
    }

    #[test]
    fn reload_keeps_counts_and_times_of_those_that_stay_as_they_are() {
        let (one, other) = (backend(0), backend(1));
        let first = plan(|_| {});
        let mut schedule = Schedule::new(1);
        schedule.reconcile(vec![target(&one, &first)], BEGIN);
        let due = schedule.next_due().unwrap();
        for time in [due, due + Duration::from_secs(6)] {
            let probe = schedule.begin(time).unwrap();
            schedule.end(probe.ticket, &Err(Failure::Refused), Duration::ZERO);
        }
        let due = schedule.next_due().unwrap();
        for _ in 0..50 {
            let same = plan(|_| {});
            let both = vec![target(&one, &same), target(&other, &same)];
            schedule.reconcile(both, BEGIN + Duration::from_secs(11));
        }
        assert_eq!(schedule.len(), 2);
        assert_eq!(
            schedule.next_due(),
            Some(due.min(BEGIN + Duration::from_millis(13_500)))
        );
        // The third failure of the first one is the last that it takes.
        let (mut change, mut begun) = (None, 0);
        while change.is_none() && begun < 2 {
            let probe = schedule.begin(schedule.next_due().unwrap()).unwrap();
            change = schedule.end(probe.ticket, &Err(Failure::Refused), Duration::ZERO);
            begun += 1;
        }
        assert_eq!(change.unwrap().target.backend.id(), one.id());
    }

    #[test]
    fn other_settings_begin_anew_with_the_state_there_is() {
        let one = backend(0);
        let mut schedule = Schedule::new(1);
        schedule.reconcile(vec![target(&one, &plan(|health| health.fall = 1))], BEGIN);
        let probe = schedule.begin(schedule.next_due().unwrap()).unwrap();
        schedule.end(probe.ticket, &Err(Failure::Refused), Duration::ZERO);
        assert_eq!(one.state(), State::Down);
        let late = schedule.begin(BEGIN + Duration::from_secs(20)).unwrap();
        let other = plan(|health| health.rise = 1);
        schedule.reconcile(vec![target(&one, &other)], BEGIN + Duration::from_secs(20));
        assert_eq!(one.state(), State::Down);
        // What was under way asked in the old way.
        assert!(schedule.end(late.ticket, &Ok(()), Duration::ZERO).is_none());
        assert_eq!(one.state(), State::Down);
        let probe = schedule.begin(schedule.next_due().unwrap()).unwrap();
        assert!(
            schedule
                .end(probe.ticket, &Ok(()), Duration::ZERO)
                .is_some()
        );
        assert!(one.is_up());
    }

    #[test]
    fn who_is_not_probed_any_more_is_up() {
        let one = backend(0);
        let mut schedule = Schedule::new(1);
        schedule.reconcile(vec![target(&one, &plan(|_| {}))], BEGIN);
        one.set_state(State::Down);
        let late = schedule.begin(BEGIN + Duration::from_secs(5)).unwrap();
        schedule.reconcile(Vec::new(), BEGIN);
        assert!(one.is_up() && schedule.is_empty() && schedule.next_due().is_none());
        for _ in 0..3 {
            let outcome = Err(Failure::Refused);
            assert!(
                schedule
                    .end(late.ticket, &outcome, Duration::ZERO)
                    .is_none()
            );
        }
        assert!(one.is_up() && schedule.next_due().is_none());
    }

    #[test]
    fn backend_has_one_probe_at_a_time_and_missed_ones_are_not_made_up_for() {
        let one = backend(0);
        let mut schedule = Schedule::new(1);
        schedule.reconcile(vec![target(&one, &plan(|_| {}))], BEGIN);
        let probe = schedule.begin(schedule.next_due().unwrap()).unwrap();
        assert!(schedule.begin(BEGIN + Duration::from_secs(60)).is_none());
        schedule.end(probe.ticket, &Ok(()), Duration::from_secs(57));
        let late = BEGIN + Duration::from_secs(60);
        let probe = schedule.begin(late).unwrap();
        schedule.end(probe.ticket, &Ok(()), Duration::ZERO);
        assert!(schedule.begin(late).is_none());
        assert!(schedule.next_due().unwrap() - late >= Duration::from_millis(4_500));
    }
}
