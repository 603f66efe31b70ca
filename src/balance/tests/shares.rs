//! Who gets how many sessions.

use super::*;
use crate::backend::Registry;

#[test]
fn round_robin_keeps_the_weights_exactly() {
    let mut pool = Pool::new(Balance::RoundRobin, members(&[5, 1, 1]));
    assert_eq!(pool.shares(7_000), [5_000, 1_000, 1_000]);
    let mut pool = Pool::new(Balance::RoundRobin, members(&[500, 7, 3]));
    assert_eq!(pool.shares(5_100), [5_000, 70, 30]);
}

#[test]
fn round_robin_is_exact_across_workers() {
    let pool = Pool::new(Balance::RoundRobin, members(&[5, 1, 1]));
    let ask = Ask {
        source: None,
        now: NOW,
        seed: 1,
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1_750 {
                    let backend = pool.balancer.walk(&pool.rotation, ask).next().unwrap();
                    std::mem::forget(backend.lease());
                }
            });
        }
    });
    assert_eq!(pool.active(), [5_000, 1_000, 1_000]);
}

#[test]
fn rotation_goes_on_after_a_reload() {
    let mut pool = Pool::new(Balance::RoundRobin, members(&[1, 1, 1]));
    assert_eq!(pool.shares(4), [2, 1, 1]);
    pool.balancer = Balancer::new(Balance::RoundRobin, members(&[1, 1, 1]));
    assert_eq!(pool.shares(2), [0, 1, 1]);
}

#[test]
fn least_connections_sends_the_next_hundred_to_the_idle_one() {
    let mut pool = Pool::new(Balance::LeastConnections, members(&[1, 1]));
    let _busy: Vec<_> = (0..100).map(|_| pool.backend(0).lease()).collect();
    let _next = pool.hold(100);
    assert_eq!(pool.active(), [100, 100]);
}

#[test]
fn least_connections_remembers_counts_over_a_reload() {
    let old = members(&[1, 1]);
    let mut registry = Registry::new();
    registry.reconcile(old.iter().map(|member| &member.backend));
    let _busy: Vec<_> = (0..100).map(|_| old[0].backend.lease()).collect();
    drop(old);

    let reloaded = (0..2)
        .map(|number| Member {
            backend: registry
                .find(&id(number))
                .unwrap_or_else(|| member(number, 1, 0).backend),
            weight: 1,
            tier: 0,
        })
        .collect();
    let mut pool = Pool::new(Balance::LeastConnections, reloaded);
    let _next = pool.hold(100);
    assert_eq!(pool.active(), [100, 100]);
}

#[test]
fn least_connections_follows_the_weights_under_equal_load() {
    let mut pool = Pool::new(Balance::LeastConnections, members(&[5, 1, 1]));
    assert_eq!(pool.shares(7_000), [5_000, 1_000, 1_000]);
}

#[test]
fn least_connections_holds_sessions_by_weight() {
    let mut pool = Pool::new(Balance::LeastConnections, members(&[5, 1, 1]));
    let _held = pool.hold(700);
    assert_eq!(pool.active(), [500, 100, 100]);
}

#[test]
fn turns_of_a_busy_backend_spread_over_the_others() {
    let mut pool = Pool::new(Balance::LeastConnections, members(&[1, 1, 1, 1]));
    let _busy = pool.backend(0).lease();
    let shares = pool.shares(12_000);
    assert_eq!(shares[0], 0);
    assert!(
        shares[1..].iter().all(|n| (3_800..=4_200).contains(n)),
        "{shares:?}"
    );
}

#[test]
fn random_two_follows_the_weights_under_equal_load() {
    let mut pool = Pool::new(Balance::RandomTwo, members(&[5, 1, 1]));
    let shares = pool.shares(70_000);
    assert!((49_000..=51_000).contains(&shares[0]), "{shares:?}");
    assert!((9_500..=10_500).contains(&shares[1]), "{shares:?}");
}

#[test]
fn random_two_holds_sessions_by_weight() {
    let mut pool = Pool::new(Balance::RandomTwo, members(&[5, 1, 1, 1, 1, 1]));
    let _held = pool.hold(10_000);
    let active = pool.active();
    assert!((4_900..=5_100).contains(&active[0]), "{active:?}");
    assert!(
        active[1..].iter().all(|n| (950..=1_050).contains(n)),
        "{active:?}"
    );
}

#[test]
fn random_two_takes_the_idle_one_of_two() {
    let mut pool = Pool::new(Balance::RandomTwo, members(&[1, 1]));
    let _busy = pool.backend(0).lease();
    assert_eq!(pool.shares(100), [0, 100]);
}

#[test]
fn first_takes_the_files_order() {
    let mut pool = Pool::new(Balance::First, members(&[1, 9, 1]));
    assert_eq!(pool.walk(), [0, 1, 2]);
    pool.backend(0).connect_failed(NOW);
    assert_eq!(pool.walk(), [1, 2, 0]);
}

#[test]
fn backend_that_starts_slowly_gets_its_part() {
    let time = Duration::from_secs(10);
    for balance in ALL.into_iter().filter(|&balance| balance != Balance::First) {
        // Milliseconds since it came, its part of a whole weight in percent.
        for (since, percent) in [(0, 10), (5_000, 55), (9_000, 91), (10_000, 100)] {
            let mut pool = Pool::new(balance, members(&[2, 1, 1]));
            pool.balancer = Balancer::new(balance, members(&[2, 1, 1])).starting_slowly(Some(time));
            let came = Instant::from_millis(NOW.as_millis() - since);
            pool.backend(1).became_usable(came);
            let shares = pool.shares(20_000);
            let expected = 20_000 * percent / (300 + percent);
            let off = shares[1].abs_diff(expected);
            assert!(
                off < 60 + expected / 12,
                "{balance:?} {since} ms: {shares:?}"
            );
            let (twice, once) = (shares[0], shares[2]);
            assert!(twice.abs_diff(once * 2) < 1_000, "{balance:?}: {shares:?}");
        }
    }
}

#[test]
fn least_connections_fills_a_backend_that_starts_slowly_by_its_part() {
    let time = Duration::from_secs(10);
    let mut pool = Pool::new(Balance::LeastConnections, Vec::new());
    pool.balancer =
        Balancer::new(Balance::LeastConnections, members(&[1, 1, 1])).starting_slowly(Some(time));
    pool.backend(2).became_usable(NOW);
    let _held = pool.hold(2_100);
    let active = pool.active();
    assert!(
        (980..=1_020).contains(&active[0]) && (95..=105).contains(&active[2]),
        "{active:?}"
    );
}

#[test]
fn backends_that_all_start_slowly_share_everything() {
    let time = Duration::from_secs(10);
    for balance in ALL.into_iter().filter(|&balance| balance != Balance::First) {
        let mut pool = Pool::new(balance, Vec::new());
        pool.balancer = Balancer::new(balance, members(&[1, 3])).starting_slowly(Some(time));
        for index in 0..2 {
            pool.backend(index).became_usable(NOW);
        }
        let shares = pool.shares(8_000);
        assert!(shares[0].abs_diff(2_000) < 250, "{balance:?}: {shares:?}");
    }
}
