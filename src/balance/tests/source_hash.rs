//! Which client goes to which backend.

use std::collections::HashSet;

use super::*;
use crate::base::limits::CONNECT_ATTEMPTS_MAX;

/// The names of the backends that 100,000 clients start with.
fn homes(balancer: &Balancer) -> Vec<Arc<str>> {
    let rotation = Rotation::new();
    (0..100_000)
        .map(|number| {
            let mut walk = balancer.walk(&rotation, client(number));
            walk.next().unwrap().id().name.clone()
        })
        .collect()
}

#[test]
fn source_hash_moves_few_clients_when_a_backend_leaves() {
    let before = homes(&Balancer::new(SOURCE_HASH, members(&[1; 10])));
    for leaving in 0..10 {
        let mut left = members(&[1; 10]);
        let name = left.remove(leaving).backend.id().name.clone();
        let after = homes(&Balancer::new(SOURCE_HASH, left));
        let moved = before.iter().zip(&after).filter(|(b, a)| b != a).count();
        let homeless = before.iter().filter(|home| **home == name).count();
        assert!(homeless <= moved, "{homeless} of {moved}");
        assert!(
            moved <= 12_000,
            "{moved} of 100,000 moved when {name} leaves"
        );
    }
}

#[test]
fn source_hash_spreads_clients_by_weight() {
    let mut pool = Pool::new(SOURCE_HASH, members(&[5, 1, 1, 3]));
    let shares = pool.shares(100_000);
    for (share, expected) in shares.iter().zip([50_000, 10_000, 10_000, 30_000]) {
        assert!(share.abs_diff(expected) < 600, "{shares:?}");
    }
}

/// A change here moves the clients of every running process, and sends those of two processes of
/// different age to different backends.
#[test]
fn source_hash_table_never_changes() {
    let pool = Pool::new(SOURCE_HASH, members(&[5, 1, 1, 3]));
    let firsts: Vec<_> = (0..16).map(|n| pool.walk_of(client(n))[0]).collect();
    assert_eq!(firsts, [3, 3, 3, 3, 2, 3, 0, 2, 0, 0, 0, 0, 0, 0, 3, 3]);
}

#[test]
fn source_hash_ignores_the_order_of_the_list() {
    let listed = members(&[5, 1, 1, 3, 1]);
    let reversed = listed.iter().rev().cloned().collect();
    assert_eq!(
        homes(&Balancer::new(SOURCE_HASH, listed)),
        homes(&Balancer::new(SOURCE_HASH, reversed))
    );
}

#[test]
fn source_hash_depends_on_the_client_alone() {
    let pool = Pool::new(SOURCE_HASH, members(&[1; 8]));
    for number in 0..1_000 {
        let again = Ask {
            seed: 77,
            ..client(number)
        };
        assert_eq!(pool.walk_of(client(number)), pool.walk_of(again));
    }
    assert_eq!(pool.rotation.take_turn(), 0, "no turns are taken");
}

#[test]
fn clients_of_a_failed_backend_spread_over_the_others() {
    let pool = Pool::new(SOURCE_HASH, members(&[1; 5]));
    let before: Vec<_> = (0..50_000).map(|n| pool.walk_of(client(n))).collect();
    pool.backend(2).connect_failed(NOW);
    let mut refuges = [0; 5];
    for (number, before) in (0..).zip(before) {
        let now = pool.walk_of(client(number))[0];
        if before[0] == 2 {
            assert_eq!(now, before[1], "where a refusal would have led as well");
            refuges[now] += 1;
        } else {
            assert_eq!(now, before[0], "the others stay where they are");
        }
    }
    assert_eq!(refuges[2], 0);
    for place in [0, 1, 3, 4] {
        assert!((2_200..=2_800).contains(&refuges[place]), "{refuges:?}");
    }
}

#[test]
fn source_hash_serves_clients_without_address_in_rotation() {
    let pool = Pool::new(SOURCE_HASH, members(&[1, 1, 1]));
    let ask = Ask {
        source: None,
        ..client(1)
    };
    let firsts: Vec<_> = (0..6)
        .map(|_| pool.balancer.walk(&pool.rotation, ask).next().unwrap())
        .map(|backend| pool.index_of(backend))
        .collect();
    assert_eq!(firsts, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn source_hash_reaches_a_backend_of_tiny_weight_when_the_other_failed() {
    let pool = Pool::new(SOURCE_HASH, members(&[u16::MAX, 1]));
    pool.backend(0).connect_failed(NOW);
    for number in 0..1_000 {
        assert_eq!(pool.walk_of(client(number)), [1, 0]);
    }
}

#[test]
fn every_one_of_ten_thousand_backends_has_clients() {
    let balancer = Balancer::new(SOURCE_HASH, members(&[1; 10_000]));
    let homes: HashSet<_> = homes(&balancer).into_iter().collect();
    // Of about 10 clients each, the expected number of backends without any is below one.
    assert!(homes.len() > 9_990, "{}", homes.len());
}

#[test]
fn more_backends_than_entries_are_no_error() {
    for count in [65_536, 65_537, 70_000] {
        let mut pool = Pool::new(SOURCE_HASH, members(&vec![1; count]));
        assert_eq!(pool.walk().len(), CONNECT_ATTEMPTS_MAX);
    }
}
