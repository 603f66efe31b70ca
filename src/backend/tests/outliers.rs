use std::time::Duration;

use super::*;
use crate::backend::{BackendId, State, WARM};
use crate::base::address::Endpoint;
use crate::base::random::Random;

const BEGIN: u64 = 1_000_000;

const NOBODY: [usize; 0] = [];

fn at(millis: u64) -> Instant {
    Instant::from_millis(BEGIN + millis)
}

struct Company {
    ejector: Arc<Ejector>,
    backends: Vec<Arc<Backend>>,
}

fn company(count: usize, settings: Outliers) -> Company {
    let ejector = Arc::<Ejector>::default();
    let backends: Vec<_> = (0..count)
        .map(|number| {
            let id = BackendId {
                pool: "p".into(),
                name: format!("b{number}").into(),
                endpoint: Endpoint::Inet("10.0.0.1:80".parse().unwrap()),
            };
            let backend = Backend::in_line(id, Arc::default(), Arc::clone(&ejector));
            Arc::new(backend)
        })
        .collect();
    ejector.set(settings, backends.iter(), at(0));
    Company { ejector, backends }
}

impl Company {
    fn fail(&self, place: usize, times: usize, millis: u64) {
        for _ in 0..times {
            self.backends[place].connect_failed(at(millis));
        }
    }

    fn ejected(&self, millis: u64) -> Vec<usize> {
        let all = 0..self.backends.len();
        all.filter(|place| self.backends[*place].is_ejected(at(millis)))
            .collect()
    }

    /// The words of what there is to log.
    fn news(&self, millis: u64) -> Vec<String> {
        let word = |notice: &Notice| match notice {
            Notice::Ejected {
                backend,
                cause,
                failed,
                all,
                time,
            } => format!("{} {cause:?} {failed}/{all} {time:?}", backend.name),
            Notice::Returned { backend, why } => format!("{} {why:?}", backend.name),
        };
        let news = self.ejector.look_after(at(millis));
        news.iter().map(word).collect()
    }

    fn set(&self, settings: Outliers, millis: u64) {
        self.ejector.set(settings, self.backends.iter(), at(millis));
    }
}

fn by_rate() -> Outliers {
    Outliers {
        connect_failures: 0,
        failure_rate: Some(50),
        ..Outliers::default()
    }
}

#[test]
fn five_failed_connects_in_a_row_eject_for_half_a_minute() {
    let pool = company(2, Outliers::default());
    pool.fail(0, 4, 0);
    assert_eq!(pool.ejected(0), NOBODY);
    pool.backends[0].connect_succeeded(at(0));
    pool.fail(0, 4, 0);
    assert_eq!(pool.ejected(0), NOBODY, "they are not in a row");
    pool.fail(0, 1, 0);
    assert_eq!(pool.ejected(0), [0]);
    assert!(!pool.backends[0].is_usable(at(0)) && pool.backends[0].is_up());
    assert_eq!(pool.ejected(29_999), [0]);
    // Nobody has to write that it is over.
    assert_eq!(pool.ejected(30_000), NOBODY);
    assert_eq!(pool.news(29_999), ["b0 ConnectFailures 5/0 30s"]);
    assert_eq!(pool.news(30_000), ["b0 Elapsed"]);
    assert_eq!(pool.news(30_100), [""; 0]);
    assert_eq!(
        pool.backends[0].ejections(EjectionCause::ConnectFailures),
        1
    );
}

#[test]
fn zero_switches_it_off() {
    let settings = Outliers {
        connect_failures: 0,
        ..Outliers::default()
    };
    let pool = company(2, settings);
    pool.fail(0, 1_000, 0);
    assert_eq!(pool.ejected(0), NOBODY);
}

#[test]
fn ejections_double_up_to_the_longest_and_begin_anew_after_a_good_while() {
    let pool = company(2, Outliers::default());
    let mut millis = 0;
    for seconds in [30, 60, 120, 240, 300, 300] {
        pool.fail(0, 5, millis);
        let over = millis + seconds * 1_000;
        assert_eq!(
            (pool.ejected(over - 1), pool.ejected(over)),
            (vec![0], NOBODY.to_vec())
        );
        // It fails again before it did well for as long.
        millis = over + seconds * 1_000 - 1;
    }
    millis += 300_000;
    pool.fail(0, 5, millis);
    assert_eq!(pool.ejected(millis + 29_999), [0]);
    assert_eq!(pool.ejected(millis + 30_000), NOBODY);
}

#[test]
fn failures_that_go_on_slowly_after_an_ejection_are_not_doing_well() {
    let pool = company(2, Outliers::default());
    pool.fail(0, 5, 0);
    // One client every 20 s, whom it fails.
    for n in 0..5 {
        pool.fail(0, 1, 40_000 + n * 20_000);
    }
    assert_eq!(pool.ejected(120_000 + 59_999), [0], "doubled");
    assert_eq!(pool.ejected(120_000 + 60_000), NOBODY);
}

#[test]
fn a_connect_or_a_check_that_succeeds_ends_it() {
    let pool = company(2, Outliers::default());
    pool.fail(0, 5, 1_000);
    pool.backends[0].probe_succeeded(at(999), at(1_500));
    assert_eq!(pool.ejected(1_500), [0], "the check began before");
    pool.backends[0].probe_succeeded(at(1_001), at(1_600));
    assert_eq!(pool.ejected(1_600), NOBODY);
    pool.fail(0, 5, 2_000);
    assert_eq!(pool.ejected(2_000), [0]);
    pool.backends[0].connect_succeeded(at(2_100));
    assert_eq!(pool.ejected(2_100), NOBODY);
    let news = pool.news(2_200);
    assert_eq!(
        news,
        [
            "b0 ConnectFailures 5/0 30s",
            "b0 Probed",
            "b0 ConnectFailures 5/0 1m".replace("1m", "60s").as_str(),
            "b0 Connected"
        ]
    );
}

#[test]
fn half_of_the_backends_are_ejected_at_the_most_and_one_of_two() {
    for (count, max_eject, most) in [
        (1, 100, 0),
        (2, 50, 1),
        (2, 0, 1),
        (2, 100, 2),
        (3, 50, 1),
        (5, 50, 2),
        (10, 35, 3),
    ] {
        let settings = Outliers {
            max_eject,
            ..Outliers::default()
        };
        let pool = company(count, settings);
        for place in 0..count {
            pool.fail(place, 6, 0);
        }
        assert_eq!(pool.ejected(0).len(), most, "{count} {max_eject}");
    }
}

#[test]
fn whoever_could_not_be_ejected_is_as_soon_as_another_returns() {
    let pool = company(2, Outliers::default());
    pool.fail(0, 5, 0);
    pool.fail(1, 50, 0);
    assert_eq!(pool.ejected(0), [0]);
    pool.fail(1, 1, 30_000);
    assert_eq!(pool.ejected(30_000), [1]);
}

#[test]
fn a_long_ejection_makes_room_for_another_once_a_short_one_would_be_over() {
    let pool = company(2, Outliers::default());
    pool.fail(0, 5, 0);
    pool.fail(0, 5, 30_000);
    assert_eq!(pool.ejected(30_000 + 59_999), [0], "60 s");
    pool.fail(1, 5, 59_999);
    assert_eq!(pool.ejected(59_999), [0]);
    pool.fail(1, 1, 60_000);
    assert_eq!(pool.ejected(60_000), [1], "the other one may be well again");
    assert!(pool.news(60_000).contains(&"b0 Replaced".to_owned()));
}

#[test]
fn max_eject_holds_however_many_workers_see_failures() {
    for _ in 0..20 {
        let pool = company(8, Outliers::default());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let pool = &pool;
                scope.spawn(move || {
                    for n in 0..200 {
                        pool.fail((n + thread) % 8, 1, n as u64);
                        assert!(pool.ejected(n as u64).len() <= 4);
                    }
                });
            }
        });
        assert_eq!(pool.ejected(200).len(), 4);
    }
}

#[test]
fn a_share_of_failed_beginnings_ejects_for_its_whole_time() {
    let pool = company(2, by_rate());
    let backend = &pool.backends[0];
    for n in 0..19 {
        let beginning = Beginning::of(backend);
        if n < 9 {
            beginning.succeeded(at(0));
        } else {
            beginning.failed(at(0));
        }
    }
    assert_eq!(pool.ejected(0), NOBODY, "too few");
    Beginning::of(backend).failed(at(0));
    assert_eq!(pool.ejected(0), [0]);
    assert_eq!(pool.news(0), ["b0 FailureRate 11/20 30s"]);
    backend.connect_succeeded(at(100));
    backend.probe_succeeded(at(200), at(300));
    assert_eq!(pool.ejected(29_999), [0]);
    assert_eq!(pool.ejected(30_000), NOBODY);
    Beginning::of(backend).failed(at(30_000));
    assert_eq!(
        pool.ejected(30_000),
        NOBODY,
        "what was before does not count twice"
    );
}

#[test]
fn failed_connects_are_samples_and_a_session_without_an_outcome_is_none() {
    let pool = company(2, by_rate());
    pool.fail(0, 19, 0);
    drop(Beginning::of(&pool.backends[0]));
    assert_eq!(pool.ejected(0), NOBODY);
    pool.fail(0, 1, 0);
    assert_eq!(pool.ejected(0), [0]);
}

#[test]
fn samples_older_than_the_window_do_not_count() {
    let pool = company(2, by_rate());
    for n in 0..1_000 {
        pool.fail(0, 1, n * 2_000);
    }
    assert_eq!(pool.ejected(2_000_000), NOBODY);
}

#[test]
fn a_reload_brings_back_whom_its_settings_do_not_eject() {
    let all = Outliers {
        max_eject: 100,
        ..Outliers::default()
    };
    let pool = company(4, all);
    for place in 0..4 {
        pool.fail(place, 5, place as u64);
    }
    assert_eq!(pool.ejected(10).len(), 4);
    pool.set(Outliers::default(), 10);
    assert_eq!(pool.ejected(10), [2, 3], "those that end first return");
    pool.ejector
        .set(Outliers::default(), pool.backends[2..].iter(), at(10));
    assert_eq!(pool.ejected(10), [3]);
    pool.set(by_rate(), 10);
    assert_eq!(pool.ejected(10), NOBODY);
    let reloaded = pool
        .news(10)
        .iter()
        .filter(|it| it.contains("Reloaded"))
        .count();
    assert_eq!(reloaded, 4);
}

#[test]
fn who_takes_no_clients_is_not_ejected() {
    let pool = company(3, Outliers::default());
    pool.ejector
        .set(Outliers::default(), pool.backends[1..].iter(), at(0));
    pool.fail(0, 10, 0);
    assert_eq!(pool.ejected(0), NOBODY);
}

#[test]
fn slow_start_begins_as_the_ejection_ends() {
    let time = Duration::from_secs(10);
    let pool = company(2, Outliers::default());
    pool.fail(0, 5, 0);
    let warmth = |millis| pool.backends[0].warmth(at(millis), time);
    assert_eq!((warmth(30_000), warmth(40_000)), (102, WARM));
    pool.backends[0].connect_succeeded(at(5_000));
    assert_eq!((warmth(5_000), warmth(15_000)), (102, WARM));
}

#[test]
fn down_is_down_whether_ejected_or_not() {
    let pool = company(2, Outliers::default());
    pool.backends[0].set_state(State::Down);
    pool.fail(0, 5, 0);
    pool.backends[0].probe_succeeded(at(1), at(2));
    assert!(!pool.backends[0].is_usable(at(2)));
}

/// Failures, successes and probes at random: never too many, and each is over in time.
#[test]
fn whatever_comes_the_rules_hold() {
    for seed in 0..64 {
        let mut random = Random::new(seed);
        let count = 1 + usize::try_from(random.below(6)).unwrap();
        let settings = Outliers {
            failure_rate: (random.below(2) == 0).then_some(40),
            max_eject: u8::try_from(random.below(101)).unwrap(),
            ..Outliers::default()
        };
        let pool = company(count, settings);
        let (mut millis, mut ejections) = (0, 0);
        for _ in 0..2_000 {
            millis += random.below(400);
            let place = usize::try_from(random.below(count as u64)).unwrap();
            let backend = &pool.backends[place];
            match random.below(8) {
                0 => backend.connect_succeeded(at(millis)),
                1 => Beginning::of(backend).succeeded(at(millis)),
                2 => Beginning::of(backend).failed(at(millis)),
                3 => backend.probe_succeeded(at(millis - random.below(millis + 1)), at(millis)),
                _ => backend.connect_failed(at(millis)),
            }
            let ejected = pool.ejected(millis).len();
            assert!(ejected <= settings.ejected_max(count), "seed {seed}");
            assert_eq!(pool.ejected(millis + 300_000), NOBODY, "seed {seed}");
            ejections += pool.news(millis).len();
        }
        assert_eq!(ejections == 0, count == 1, "seed {seed}");
    }
}

#[test]
fn a_slow_start_waits_for_the_end_of_an_ejection_that_outlasts_a_comeback() {
    let pool = company(2, Outliers::default());
    let it = &pool.backends[0];
    let time = Duration::from_secs(10);
    pool.fail(0, 5, 0);
    it.became_usable(at(15_000));
    assert_eq!(it.warmth(at(30_000), time), WARM / 10);
    assert_eq!(it.warmth(at(40_000), time), WARM);
}

#[test]
fn room_that_comes_early_is_used_at_once() {
    let settings = |max_eject| Outliers {
        max_eject,
        ..Outliers::default()
    };
    for max_eject in [50, 100] {
        let pool = company(2, settings(50));
        pool.fail(0, 5, 0);
        pool.fail(1, 50, 10);
        assert_eq!(pool.ejected(10), [0]);
        if max_eject == 50 {
            pool.backends[0].connect_succeeded(at(20));
        } else {
            pool.set(settings(max_eject), 20);
        }
        pool.fail(1, 1, 30);
        assert!(pool.backends[1].is_ejected(at(30)));
    }
}
