//! What the tables of sources take, counted at the allocator, and that they stay exact when they are full.
//!
//! A program of its own: the allocator is the whole program's.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::alloc::System;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use ringlane::base::clock::Instant;
use ringlane::base::reason::Reason;
use ringlane::config::model::{Limits, Rate};
use ringlane::limits::guard::{Guard, Pass};
use ringlane::limits::sources::Sources;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SOURCES: u32 = 1_000_000;

/// For as many sources, whatever limits there are.
const BYTES_MAX: usize = 128 << 20;

const PER_SOURCE: u32 = 2;
const WORKERS: usize = 4;
const START: Instant = Instant::from_millis(5_000);

/// From several loopback networks, and from as many IPv6 networks of 64 bits.
fn client(number: u32) -> IpAddr {
    if number.is_multiple_of(2) {
        let [_, a, b, c] = (number / 2).to_be_bytes();
        return Ipv4Addr::new(127, a, b, c).into();
    }
    let prefix = 0x2001_0db8_u128 << 96 | u128::from(number) << 64;
    Ipv6Addr::from_bits(prefix | u128::from(number.reverse_bits())).into()
}

fn guard(limits: &Limits) -> Guard {
    let sources = |prefixes| Arc::new(Sources::new((0x5eed, 0xfeed), prefixes));
    Guard::new(None, limits, sources).unwrap()
}

/// What a guard took from the allocator, in all its life so far.
fn allocated(region: &Region<'_, System>) -> usize {
    let change = region.change();
    change.bytes_allocated - change.bytes_deallocated
}

/// One test, since the allocator counts for all threads.
#[test]
fn a_million_sources_stay_within_the_bound_and_limits_exact() {
    let region = Region::new(ALLOCATOR);
    churn();
    assert!(
        allocated(&region) < 1 << 20,
        "{} bytes are left",
        allocated(&region)
    );
    flood_of_rates();
}

/// Sources come and go, a million at a time, on four threads at once, which fight for each limit.
fn churn() {
    let region = Region::new(ALLOCATOR);
    let guard = guard(&Limits {
        per_source: Some(PER_SOURCE),
        bytes: Some(1 << 20),
        ..Limits::NONE
    });
    let mut most = 0;
    for round in 0..2 {
        let threads: Vec<Filled> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..WORKERS)
                .map(|_| scope.spawn(|| fill(&guard, round * SOURCES)))
                .collect();
            threads.into_iter().map(|it| it.join().unwrap()).collect()
        });
        let sources = guard.sources().unwrap();
        assert_is_exact(&threads, sources.uncounted());
        let known = u32::try_from(sources.known(START)).unwrap();
        assert!(
            (SOURCES..SOURCES + SOURCES / 1_000).contains(&known),
            "{known}"
        );
        most = most.max(sources.bytes());
        drop(threads);
        assert_eq!(sources.known(START), 0);
    }
    // The sessions are gone; what is left is the table.
    let left = allocated(&region);
    assert!(left <= BYTES_MAX, "{left} bytes");
    assert!(
        left.abs_diff(most) < 1 << 20,
        "{left} bytes, {most} by itself"
    );
}

/// What one thread was let in with.
struct Filled {
    held: Vec<Pass>,
    /// Connections of each source.
    by_source: Vec<u8>,
}

/// Every source, three times.
fn fill(guard: &Guard, first: u32) -> Filled {
    let mut filled = Filled {
        held: Vec::new(),
        by_source: vec![0; SOURCES as usize],
    };
    for _ in 0..3 {
        for (number, count) in (first..).zip(&mut filled.by_source) {
            if let Ok(pass) = guard.count(client(number), START) {
                filled.held.push(pass);
                *count += 1;
            }
        }
    }
    filled
}

/// No source has fewer connections than it may, nor more than one and one for each worker above that.
fn assert_is_exact(threads: &[Filled], uncounted: u64) {
    // Who meets the others again and again while they make room for the same source is let in uncounted.
    assert!(uncounted < 100, "{uncounted}");
    let most = PER_SOURCE + 1 + u32::try_from(WORKERS).unwrap();
    let mut above = 0_u32;
    for number in 0..SOURCES as usize {
        let counts = threads.iter().map(|it| u32::from(it.by_source[number]));
        let count: u32 = counts.sum();
        assert!((PER_SOURCE..=most).contains(&count), "{number} has {count}");
        above += count - PER_SOURCE;
    }
    assert!(above < SOURCES / 1_000, "{above} above the limit");
    let held: usize = threads.iter().map(|it| it.held.len()).sum();
    assert_eq!(held, (SOURCES * PER_SOURCE + above) as usize);
}

/// More sources than there is room for, each with one connection that is soon over: those above their
/// rate are kept, and the rest is let in.
fn flood_of_rates() {
    let region = Region::new(ALLOCATOR);
    let guard = guard(&Limits {
        rate: Some(Rate {
            count: 1,
            per: Duration::from_secs(3600),
        }),
        ..Limits::NONE
    });
    let mut refused = 0;
    for number in 0..3 * SOURCES {
        refused += u32::from(guard.count(client(number), START).is_err());
    }
    assert_eq!(refused, 0, "nobody came twice");
    let sources = guard.sources().unwrap();
    let known = sources.known(START);
    assert!(known >= u64::from(SOURCES), "{known}");
    assert_eq!(known + sources.uncounted(), u64::from(3 * SOURCES));
    assert!(allocated(&region) <= BYTES_MAX, "{}", allocated(&region));
    // The first million are known, whatever came after them.
    for number in (0..SOURCES).step_by(101) {
        let again = guard.count(client(number), START).err();
        assert_eq!(again, Some(Reason::LimitRate), "{number}");
    }
}
