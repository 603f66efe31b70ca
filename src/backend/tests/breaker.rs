use super::*;
use crate::base::random::Random;

fn at(millis: u64) -> Instant {
    Instant::from_millis(1_000_000 + millis)
}

fn settings() -> model::Breaker {
    model::Breaker {
        max_connections: 0,
        max_pending: 0,
        failure_rate: Some(50),
        window: Duration::from_secs(10),
        min_samples: 20,
        open: Duration::from_secs(2),
        probes: 5,
    }
}

fn breaker(settings: &model::Breaker) -> Arc<Breaker> {
    let breaker = Arc::<Breaker>::default();
    breaker.set(Some(settings));
    breaker
}

fn fail(breaker: &Arc<Breaker>, times: usize, millis: u64) {
    for _ in 0..times {
        let permit = breaker.enter(&settings(), at(millis)).unwrap();
        permit.failed(at(millis));
    }
}

fn phases(breaker: &Breaker) -> Vec<Phase> {
    breaker.news().iter().map(|turn| turn.phase).collect()
}

#[test]
fn half_of_twenty_failed_connects_open_it() {
    let breaker = breaker(&settings());
    for _ in 0..10 {
        let permit = breaker.enter(&settings(), at(0)).unwrap();
        permit.succeeded(at(0));
    }
    fail(&breaker, 9, 0);
    assert_eq!(breaker.phase(), Phase::Closed, "9 of 19");
    fail(&breaker, 1, 0);
    assert_eq!(breaker.phase(), Phase::Open);
    let turn = Turn {
        phase: Phase::Open,
        failed: Some((10, 20)),
    };
    assert_eq!(breaker.news(), [turn]);
    assert!(breaker.is_open(&settings(), at(1_999)));
    assert_eq!(
        breaker.enter(&settings(), at(1_999)).unwrap_err(),
        Refusal::Open
    );
    assert_eq!(breaker.pending(), 0);
}

#[test]
fn five_good_probes_close_it() {
    let breaker = breaker(&settings());
    fail(&breaker, 20, 0);
    assert!(!breaker.is_open(&settings(), at(2_000)));
    let mut probes: Vec<_> = (0..5)
        .map(|_| breaker.enter(&settings(), at(2_000)).unwrap())
        .collect();
    assert_eq!(breaker.phase(), Phase::HalfOpen);
    assert!(breaker.is_open(&settings(), at(2_000)), "no more than five");
    assert!(breaker.enter(&settings(), at(2_000)).is_err());
    let last = probes.pop().unwrap();
    probes
        .into_iter()
        .for_each(|probe| probe.succeeded(at(2_100)));
    assert!(breaker.enter(&settings(), at(2_100)).is_err(), "one is out");
    last.succeeded(at(2_200));
    assert_eq!(breaker.phase(), Phase::Closed);
    fail(&breaker, 19, 2_200);
    assert_eq!(
        breaker.phase(),
        Phase::Closed,
        "what was before is forgotten"
    );
    assert_eq!(
        phases(&breaker),
        [Phase::Open, Phase::HalfOpen, Phase::Closed]
    );
    assert_eq!(breaker.turns(Phase::Open), 1);
}

#[test]
fn one_bad_probe_opens_it_again() {
    let breaker = breaker(&settings());
    fail(&breaker, 20, 0);
    let enter = |millis| breaker.enter(&settings(), at(millis));
    let (good, bad, late) = (
        enter(2_000).unwrap(),
        enter(2_000).unwrap(),
        enter(2_000).unwrap(),
    );
    good.succeeded(at(2_100));
    bad.failed(at(2_500));
    assert_eq!(breaker.phase(), Phase::Open);
    assert!(enter(4_499).is_err());
    let again = enter(4_500).unwrap();
    late.failed(at(4_600));
    assert_eq!(
        breaker.phase(),
        Phase::HalfOpen,
        "it was let through before"
    );
    again.succeeded(at(4_700));
    let rest: Vec<_> = (0..4).map(|_| enter(4_700).unwrap()).collect();
    assert!(enter(4_700).is_err());
    drop(rest);
    (0..4).for_each(|_| enter(4_800).unwrap().succeeded(at(4_800)));
    assert_eq!(breaker.phase(), Phase::Closed);
    assert_eq!(breaker.pending(), 0);
}

#[test]
fn a_probe_that_tells_nothing_makes_room_for_another() {
    let breaker = breaker(&settings());
    fail(&breaker, 20, 0);
    for _ in 0..100 {
        let probes: Vec<_> = (0..5)
            .map(|_| breaker.enter(&settings(), at(2_000)).unwrap())
            .collect();
        drop(probes);
    }
    assert_eq!((breaker.phase(), breaker.pending()), (Phase::HalfOpen, 0));
}

#[test]
fn a_connect_from_before_it_opened_neither_closes_nor_opens_it() {
    let breaker = breaker(&settings());
    let enter = |millis| breaker.enter(&settings(), at(millis)).unwrap();
    let (good, bad) = (enter(0), enter(0));
    let slow: Vec<_> = (0..40).map(|_| enter(0)).collect();
    fail(&breaker, 20, 0);
    good.succeeded(at(2_000));
    assert_eq!(breaker.phase(), Phase::Open);
    let probe = enter(2_000);
    bad.failed(at(2_000));
    assert_eq!(breaker.phase(), Phase::HalfOpen);
    probe.succeeded(at(2_100));
    (0..4).for_each(|_| enter(2_100).succeeded(at(2_100)));
    slow.into_iter().for_each(|late| late.failed(at(3_000)));
    assert_eq!(breaker.phase(), Phase::Closed);
}

#[test]
fn maxima_hold_however_many_workers_ask() {
    let settings = model::Breaker {
        max_connections: 7,
        max_pending: 3,
        ..settings()
    };
    let breaker = breaker(&settings);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (breaker, settings) = (&breaker, &settings);
            scope.spawn(move || {
                let mut random = Random::new(thread);
                let (mut slots, mut permits) = (Vec::new(), Vec::new());
                for _ in 0..20_000 {
                    match random.below(4) {
                        0 => slots.extend(breaker.try_slot(settings)),
                        1 => permits.extend(breaker.enter(settings, at(0))),
                        2 => drop(slots.pop()),
                        _ => drop(permits.pop()),
                    }
                    assert!(breaker.connections() <= 7 && breaker.pending() <= 3);
                }
            });
        }
    });
    assert_eq!((breaker.connections(), breaker.pending()), (0, 0));
    let slots: Vec<_> = (0..9).filter_map(|_| breaker.try_slot(&settings)).collect();
    assert_eq!(slots.len(), 7);
    let permits: Vec<_> = (0..9)
        .filter_map(|_| breaker.enter(&settings, at(0)).ok())
        .collect();
    assert_eq!(permits.len(), 3);
    let refused = breaker.enter(&settings, at(0)).unwrap_err();
    assert_eq!(refused, Refusal::Full);
}

#[test]
fn a_reload_may_close_it_or_ask_for_fewer_probes() {
    let breaker = breaker(&settings());
    fail(&breaker, 20, 0);
    breaker.set(Some(&settings()));
    assert_eq!(breaker.phase(), Phase::Open, "a reload keeps it");
    for _ in 0..3 {
        let probe = breaker.enter(&settings(), at(2_000)).unwrap();
        probe.succeeded(at(2_000));
    }
    let fewer = model::Breaker {
        probes: 3,
        ..settings()
    };
    breaker.set(Some(&fewer));
    assert!(!breaker.is_open(&fewer, at(2_000)));
    assert!(breaker.enter(&fewer, at(2_000)).is_ok());
    assert_eq!(breaker.phase(), Phase::Closed);
    fail(&breaker, 20, 3_000);
    let never = model::Breaker {
        failure_rate: None,
        ..settings()
    };
    assert!(breaker.enter(&never, at(3_000)).is_ok());
    breaker.set(None);
    assert_eq!(breaker.phase(), Phase::Closed);
}

/// Connects of four threads that succeed, fail or tell nothing; replay with RINGLANE_SEED.
#[test]
fn whatever_comes_no_slot_is_lost_and_it_closes_again() {
    let seed = std::env::var("RINGLANE_SEED").map_or(7, |seed| seed.parse().unwrap());
    let breaker = breaker(&settings());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let breaker = &breaker;
            scope.spawn(move || {
                let mut random = Random::new(seed + thread);
                let mut held = Vec::new();
                for n in 0..20_000 {
                    let now = at(n * 10);
                    let entered = breaker.enter(&settings(), now);
                    // Whoever is refused ends one, so that a thread that runs alone comes on, too.
                    let ends = entered.is_err() || held.len() > 5;
                    held.extend(entered);
                    if ends && !held.is_empty() {
                        let place = usize::try_from(random.below(held.len() as u64)).unwrap();
                        let permit: Permit = held.swap_remove(place);
                        match random.below(8) {
                            0..4 => permit.failed(now),
                            4..7 => permit.succeeded(now),
                            _ => drop(permit),
                        }
                    }
                }
            });
        }
    });
    assert!(breaker.turns(Phase::Open) > 2, "seed {seed}");
    assert_eq!(breaker.pending(), 0, "seed {seed}");
    for n in 0..5 {
        let later = at(300_000 + n);
        if let Ok(permit) = breaker.enter(&settings(), later) {
            permit.succeeded(later);
        }
    }
    assert_eq!(breaker.phase(), Phase::Closed, "seed {seed}");
}
