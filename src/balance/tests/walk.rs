//! In which order backends are tried, whatever the algorithm.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::backend::State;
use crate::base::limits::CONNECT_ATTEMPTS_MAX;
use crate::config::model::AllDown;

#[test]
fn pool_without_usable_backends_gives_an_empty_walk() {
    for balance in ALL {
        assert!(Pool::new(balance, Vec::new()).walk().is_empty());
        assert!(Pool::new(balance, members(&[0, 0, 0])).walk().is_empty());
    }
}

#[test]
fn only_backend_is_tried_even_after_a_failure() {
    for balance in ALL {
        let mut pool = Pool::new(balance, members(&[3]));
        assert_eq!(pool.walk(), [0]);
        pool.backend(0).connect_failed(NOW);
        assert_eq!(pool.walk(), [0]);
    }
}

#[test]
fn walk_over_a_thousand_backends_ends_at_the_limit() {
    for balance in ALL {
        let mut pool = Pool::new(balance, members(&[1; 1_000]));
        assert_eq!(pool.walk().len(), CONNECT_ATTEMPTS_MAX, "{balance:?}");
    }
}

#[test]
fn thousand_backends_all_get_their_share() {
    for balance in ALL {
        if balance == Balance::First {
            continue;
        }
        let mut pool = Pool::new(balance, members(&[1; 1_000]));
        let shares = pool.shares(100_000);
        assert!(
            shares.iter().all(|share| (50..=160).contains(share)),
            "{balance:?} {shares:?}"
        );
    }
}

#[test]
fn backup_tier_follows_the_primary_tier() {
    for balance in ALL {
        let mut pool = Pool::new(
            balance,
            vec![
                member(0, 1, 7),
                member(1, 1, 0),
                member(2, 1, 1),
                member(3, 1, 0),
            ],
        );
        for _ in 0..50 {
            let walk = pool.walk();
            let tiers: Vec<_> = walk
                .iter()
                .map(|&index| pool.balancer.members()[index].tier)
                .collect();
            assert_eq!(tiers, [0, 0, 1, 7], "{balance:?}");
        }
    }
}

#[test]
fn tier_of_weight_zero_is_as_if_it_were_not_there() {
    let mut pool = Pool::new(Balance::First, vec![member(0, 0, 0), member(1, 1, 1)]);
    assert_eq!(pool.walk(), [1]);
}

#[test]
fn backend_is_tried_last_after_a_failure() {
    for balance in ALL {
        let mut all = members(&[9, 1, 1]);
        all.push(member(3, 1, 1));
        let mut pool = Pool::new(balance, all);
        pool.backend(0).connect_failed(NOW);
        for _ in 0..50 {
            assert_eq!(pool.walk()[2..], [3, 0], "{balance:?}");
        }
        pool.backend(0).connect_succeeded(Instant::ZERO);
        if balance == Balance::PeakEwma {
            // It may be first again, yet the failure counts as a slow connect.
            continue;
        }
        let firsts: HashSet<_> = (0..50).map(|_| pool.walk()[0]).collect();
        assert!(firsts.contains(&0), "{balance:?}");
    }
}

#[test]
fn backup_comes_before_primaries_that_have_failed_lately() {
    for balance in ALL {
        let backup = member(2, 1, 1);
        let mut pool = Pool::new(balance, vec![member(0, 1, 0), member(1, 1, 0), backup]);
        pool.backend(0).connect_failed(NOW);
        assert_eq!(pool.walk(), [1, 2, 0], "{balance:?}");
        pool.backend(1).connect_failed(NOW);
        assert_eq!(pool.walk()[0], 2, "{balance:?}");
        pool.backend(0).connect_succeeded(Instant::ZERO);
        assert_eq!(pool.walk(), [0, 2, 1], "{balance:?}");
    }
}

#[test]
fn failure_during_a_walk_counts_for_the_rest_of_it() {
    for balance in ALL {
        let pool = Pool::new(balance, members(&[1; 6]));
        let mut walk = pool.balancer.walk(&pool.rotation, client(5));
        let first = pool.index_of(walk.next().unwrap());
        let failing = (first + 1) % 6;
        pool.backend(failing).connect_failed(NOW);
        let rest: Vec<_> = walk.map(|backend| pool.index_of(backend)).collect();
        assert_eq!(rest.last(), Some(&failing), "{balance:?}");
    }
}

#[test]
fn turns_of_a_failed_backend_spread_over_the_others() {
    for balance in [Balance::RoundRobin, Balance::LeastConnections] {
        let mut pool = Pool::new(balance, members(&[1, 1, 1, 1]));
        pool.backend(1).connect_failed(NOW);
        assert_eq!(pool.shares(3_000), [1_000, 0, 1_000, 1_000], "{balance:?}");
    }
}

#[test]
fn few_survivors_among_many_failed_share_evenly() {
    for balance in [
        Balance::RoundRobin,
        Balance::LeastConnections,
        Balance::RandomTwo,
        SOURCE_HASH,
    ] {
        let mut pool = Pool::new(balance, members(&[1; 400]));
        for index in 4..400 {
            pool.backend(index).connect_failed(NOW);
        }
        let shares = pool.shares(8_000);
        assert!(
            shares[..4].iter().all(|n| (1_700..=2_300).contains(n)),
            "{balance:?} {:?}",
            &shares[..4]
        );
    }
}

#[test]
fn full_backends_are_left_out_until_they_have_room() {
    for balance in ALL {
        let mut all = members(&[9, 1, 1]);
        all.push(member(3, 1, 1));
        let mut pool = Pool::new(balance, all);
        for index in [0, 2] {
            pool.backend(index).set_limit(1);
        }
        let held = [pool.backend(0).lease(), pool.backend(2).lease()];
        for _ in 0..50 {
            assert_eq!(pool.walk(), [1, 3], "{balance:?}");
        }
        drop(held);
        assert_eq!(pool.walk().len(), 4, "{balance:?}");
    }
}

fn any_balance() -> impl Strategy<Value = Balance> {
    prop_oneof![
        Just(Balance::RoundRobin),
        Just(Balance::LeastConnections),
        Just(Balance::RandomTwo),
        Just(Balance::PeakEwma),
        (0_u8..=128).prop_map(|ipv6_prefix| Balance::SourceHash { ipv6_prefix }),
        Just(Balance::First),
    ]
}

/// Weight, tier, open connections, whether it failed lately, whether it is down.
type Facts = (u16, u8, usize, bool, bool);

fn any_facts() -> impl Strategy<Value = Facts> {
    let weight = prop_oneof![Just(0), Just(1), 1_u16..10, Just(u16::MAX)];
    (weight, 0_u8..3, 0_usize..4, any::<bool>(), any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn walk_yields_each_usable_backend_once_in_rank(
        balance in any_balance(),
        facts in prop::collection::vec(any_facts(), 0..24),
        turns in any::<u64>(),
        seed in any::<u64>(),
        source in any::<Option<IpAddr>>(),
    ) {
        let members = (0..)
            .zip(&facts)
            .map(|(number, &(weight, tier, ..))| member(number, weight, tier))
            .collect();
        let mut pool = Pool::new(balance, members);
        pool.balancer = pool.balancer.with_all_down(AllDown::Closed);
        pool.rotation.turns.store(turns, Ordering::Relaxed);
        let mut leases = Vec::new();
        for (index, &(_, _, active, failed, down)) in facts.iter().enumerate() {
            leases.extend((0..active).map(|_| pool.backend(index).lease()));
            if failed {
                pool.backend(index).connect_failed(NOW);
            }
            if down {
                pool.backend(index).set_state(State::Down);
            }
        }

        let walk = pool.walk_of(Ask { source, now: NOW, seed });

        let is_usable = |facts: &&Facts| facts.0 > 0 && !facts.4;
        let usable = facts.iter().filter(is_usable).count();
        prop_assert_eq!(walk.len(), usable.min(CONNECT_ATTEMPTS_MAX));
        prop_assert_eq!(walk.iter().collect::<HashSet<_>>().len(), walk.len());
        prop_assert!(walk.iter().all(|&index| is_usable(&&facts[index])));
        let ranks: Vec<_> = walk.iter().map(|&index| (facts[index].3, facts[index].1)).collect();
        let mut expected: Vec<_> = facts
            .iter()
            .filter(is_usable)
            .map(|&(_, tier, _, failed, _)| (failed, tier))
            .collect();
        expected.sort_unstable();
        expected.truncate(CONNECT_ATTEMPTS_MAX);
        prop_assert_eq!(ranks, expected);
    }

    #[test]
    fn least_connections_never_passes_over_a_lesser_load(
        facts in prop::collection::vec((1_u16..20, 0_usize..30), 1..12),
        seed in any::<u64>(),
    ) {
        let weights: Vec<u16> = facts.iter().map(|(weight, _)| *weight).collect();
        let mut pool = Pool::new(Balance::LeastConnections, members(&weights));
        pool.random = Random::new(seed);
        let mut leases = Vec::new();
        for (index, &(_, active)) in facts.iter().enumerate() {
            leases.extend((0..active).map(|_| pool.backend(index).lease()));
        }
        let chosen = pool.walk()[0];
        let (weight, active) = facts[chosen];
        for &(other_weight, other_active) in &facts {
            prop_assert!(active * usize::from(other_weight) <= other_active * usize::from(weight));
        }
    }
}
