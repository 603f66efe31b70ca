//! Backends that are down, and pools in which all are.

use std::collections::HashSet;

use super::*;
use crate::backend::{Ejector, State};
use crate::config::model::{AllDown, Outliers};

fn pool(balance: Balance, members: Vec<Member>, all_down: AllDown) -> Pool {
    let mut pool = Pool::new(balance, members);
    pool.balancer = pool.balancer.with_all_down(all_down);
    pool
}

fn at(millis: u64, seed: u64) -> Ask {
    Ask {
        source: Some(Ipv4Addr::from_bits(7).into()),
        now: Instant::from_millis(millis),
        seed,
    }
}

#[test]
fn backend_that_is_down_is_not_tried_while_another_is_up() {
    for balance in ALL {
        for state in [State::Down, State::Unchecked] {
            let mut pool = Pool::new(balance, members(&[9, 1, 1]));
            pool.backend(0).set_state(state);
            for _ in 0..50 {
                let walk: HashSet<_> = pool.walk().into_iter().collect();
                assert_eq!(walk, HashSet::from([1, 2]), "{balance:?}");
            }
            pool.backend(0).set_state(State::Up);
            assert_eq!(pool.walk().len(), 3, "{balance:?}");
        }
    }
}

#[test]
fn backend_that_failed_lately_is_rather_tried_than_one_that_is_down() {
    for balance in ALL {
        let mut pool = Pool::new(balance, members(&[1, 1]));
        pool.backend(0).set_state(State::Down);
        pool.backend(1).connect_failed(NOW);
        assert_eq!(pool.walk(), [1], "{balance:?}");
    }
}

#[test]
fn next_tier_serves_when_a_lower_one_is_down() {
    for balance in ALL {
        let backup = member(2, 1, 1);
        let mut pool = Pool::new(balance, vec![member(0, 1, 0), member(1, 1, 0), backup]);
        pool.backend(0).set_state(State::Down);
        assert_eq!(pool.walk(), [1, 2], "{balance:?}");
        pool.backend(1).set_state(State::Down);
        assert_eq!(pool.walk(), [2], "{balance:?}");
        pool.backend(0).set_state(State::Up);
        assert_eq!(pool.walk(), [0, 2], "{balance:?}");
    }
}

#[test]
fn shares_of_those_that_are_up_keep_to_their_weights() {
    for balance in [Balance::RoundRobin, Balance::LeastConnections] {
        let mut pool = Pool::new(balance, members(&[2, 2, 2, 2]));
        pool.backend(2).set_state(State::Down);
        assert_eq!(pool.shares(3_000), [1_000, 1_000, 0, 1_000], "{balance:?}");
    }
}

#[test]
fn ten_seconds_of_a_hundred_clients_let_ten_through_in_rotation() {
    for balance in ALL {
        let mut all = members(&[1, 5]);
        all.push(member(2, 1, 3));
        all.push(member(3, 0, 0));
        let pool = pool(balance, all, AllDown::Trickle);
        (0..4).for_each(|index| pool.backend(index).set_state(State::Down));
        let mut turns = Vec::new();
        for client in 0..1_000 {
            let walk = pool.walk_of(at(20_000 + client * 10, client));
            assert!(walk.len() <= 1, "{balance:?} {walk:?}");
            turns.extend(walk);
        }
        assert!((9..=11).contains(&turns.len()), "{balance:?} {turns:?}");
        let rotation: Vec<_> = (0..turns.len()).map(|turn| turn % 3).collect();
        assert_eq!(turns, rotation, "{balance:?}");
    }
}

#[test]
fn open_pool_serves_as_if_all_were_up() {
    for balance in ALL {
        let mut all = members(&[1, 1]);
        all.push(member(2, 1, 1));
        let pool = pool(balance, all, AllDown::Open);
        (0..3).for_each(|index| pool.backend(index).set_state(State::Down));
        for client in 0..100 {
            let walk = pool.walk_of(at(20_000, client));
            assert_eq!((walk.len(), walk[2]), (3, 2), "{balance:?}");
        }
    }
}

#[test]
fn closed_pool_gives_an_empty_walk() {
    for balance in ALL {
        let pool = pool(balance, members(&[1, 1]), AllDown::Closed);
        (0..2).for_each(|index| pool.backend(index).set_state(State::Unchecked));
        assert!(pool.walk_of(at(20_000, 1)).is_empty(), "{balance:?}");
        pool.backend(1).set_state(State::Up);
        assert_eq!(pool.walk_of(at(20_000, 1)), [1], "{balance:?}");
    }
}

#[test]
fn pool_without_weights_trickles_to_nobody() {
    let pool = pool(Balance::First, members(&[0, 0]), AllDown::Trickle);
    assert!(pool.walk_of(at(20_000, 1)).is_empty());
}

/// Backends of one pool of which all may be ejected, each for a minute.
fn ejectable(balance: Balance, count: usize, all_down: AllDown) -> Pool {
    let ejector = Arc::<Ejector>::default();
    let members: Vec<_> = (0..count)
        .map(|index| {
            let Member { backend, .. } = member(index, 1, 0);
            let id = backend.id().clone();
            let backend = Backend::in_line(id, Arc::default(), Arc::clone(&ejector));
            Member {
                backend: Arc::new(backend),
                weight: 1,
                tier: 0,
            }
        })
        .collect();
    let settings = Outliers {
        connect_failures: 1,
        eject: Duration::from_secs(60),
        max_eject: 100,
        ..Outliers::default()
    };
    let backends = members.iter().map(|member| &member.backend);
    ejector.set(settings, backends, Instant::ZERO);
    pool(balance, members, all_down)
}

#[test]
fn backend_that_is_ejected_is_not_tried_until_its_time_is_over() {
    for balance in ALL {
        let pool = ejectable(balance, 3, AllDown::Trickle);
        pool.backend(1).connect_failed(Instant::from_millis(1_000));
        for millis in [1_000, 2_500, 60_999] {
            let walk: HashSet<_> = pool.walk_of(at(millis, millis)).into_iter().collect();
            assert_eq!(walk, HashSet::from([0, 2]), "{balance:?} {millis}");
        }
        assert_eq!(pool.walk_of(at(61_000, 1)).len(), 3, "{balance:?}");
    }
}

#[test]
fn pool_whose_backends_are_all_ejected_is_all_down() {
    for balance in ALL {
        for (all_down, expected) in [(AllDown::Closed, 0), (AllDown::Open, 2)] {
            let pool = ejectable(balance, 2, all_down);
            (0..2).for_each(|index| pool.backend(index).connect_failed(Instant::ZERO));
            assert_eq!(pool.walk_of(at(100, 1)).len(), expected, "{balance:?}");
        }
        let pool = ejectable(balance, 2, AllDown::Trickle);
        (0..2).for_each(|index| pool.backend(index).connect_failed(Instant::ZERO));
        // 10 s of 100 clients a second.
        let passed: Vec<_> = (0..1_000)
            .flat_map(|n| pool.walk_of(at(5_000 + n * 10, n)))
            .collect();
        assert!((9..=11).contains(&passed.len()), "{balance:?}: {passed:?}");
        assert!(passed.windows(2).all(|two| two[0] != two[1]), "{passed:?}");
    }
}

#[test]
fn a_backend_without_room_is_no_reason_to_try_one_that_is_down() {
    for balance in ALL {
        for all_down in [AllDown::Trickle, AllDown::Open] {
            let mut pool = pool(balance, members(&[1, 1]), all_down);
            pool.backend(0).set_limit(1);
            pool.backend(1).set_state(State::Down);
            let _held = pool.backend(0).try_lease().unwrap();
            assert_eq!(pool.walk(), [0; 0], "{balance:?}");
        }
    }
}
