//! What each source has open and when it was last at its rate: one table for all workers, bounded.
//!
//! A source is a word of an atomic: 44 bits of its name's hash and 20 of its connections, and beside it a
//! time. Its place in the table is one of two buckets in each part that the same hash gives, so that the
//! hash counts for at least 53 bits, and for 62 in the largest part. The hash is keyed by chance: nobody can
//! choose addresses that meet.
//!
//! Whoever asks first counts one connection up, which holds the word to its source, then looks at the
//! time. A word without connections whose time is over says nothing any more and may be taken for another
//! source. Nothing else ever leaves the table: where all words of a source's buckets are in use, the source
//! is not counted.

use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::base::clock::Instant;
use crate::config::model::Rate;

/// Words in a bucket: one cache line of them.
const WAYS: usize = 8;

/// Buckets in each part, from the one that is always there to the largest: 4,096, 65,536 and 2,097,152
/// sources; 64 KiB, 1 MiB and 32 MiB. A part is made when the one before has no room for somebody.
const PARTS: [usize; 3] = [1 << 9, 1 << 13, 1 << 18];

const COUNT_BITS: u32 = 20;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// How often a source is looked for again that another worker has just made room for, or moved.
const TRIES: usize = 32;

/// The sources of one listener.
///
/// Written and read by workers. What a source's time says must be seen by who sees its connections at
/// zero: counting down releases, looking acquires.
#[derive(Debug)]
pub struct Sources {
    parts: [OnceLock<Box<[Bucket]>>; PARTS.len()],
    /// When each source of a part may move a whole second's bytes at once again, nanoseconds, at the index of its
    /// word. Made when the first one there is limited in bytes.
    bytes: [OnceLock<Box<[AtomicU64]>>; PARTS.len()],
    keys: (u64, u64),
    /// Clients that were let in uncounted.
    uncounted: AtomicU64,
    /// Leading bits that are one source, of IPv4 and of IPv6.
    prefixes: (u8, u8),
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket {
    words: [AtomicU64; WAYS],
    /// When each source would be at its full rate again, nanoseconds (GCRA's theoretical arrival time).
    dues: [AtomicU64; WAYS],
}

/// A rate with its burst.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The time from one to the next at the full rate.
    interval: Duration,
    /// How far ahead of that a source may be.
    burst: Duration,
}

/// Counts one connection of a source for as long as it lives.
#[derive(Debug)]
pub struct Permit {
    sources: Arc<Sources>,
    place: Place,
}

/// A word's place: its part, then bucket and way.
#[derive(Clone, Copy, Debug)]
struct Place {
    part: u8,
    index: u32,
}

/// Where a source may be, and how it is known there.
struct Name {
    tag: u64,
    buckets: [usize; 2],
}

impl Pace {
    /// `burst` at once, then one in each `rate.per` divided by `rate.count`.
    pub fn new(rate: Rate, burst: u32) -> Self {
        let interval = rate.per / rate.count.max(1);
        Self {
            interval,
            burst: interval.saturating_mul(burst.saturating_sub(1)),
        }
    }
}

impl Sources {
    /// Nobody yet. `keys` are random numbers that nobody knows.
    pub fn new(keys: (u64, u64), prefixes: (u8, u8)) -> Self {
        Self {
            parts: Default::default(),
            bytes: Default::default(),
            keys,
            uncounted: AtomicU64::new(0),
            prefixes,
        }
    }

    /// Leading bits that are one source, of IPv4 and of IPv6.
    pub const fn prefixes(&self) -> (u8, u8) {
        self.prefixes
    }

    /// Counts a connection of `client`, and how many its source had before; `None`: there is no room.
    pub fn begin(self: &Arc<Self>, client: IpAddr, now: Instant) -> Option<(Permit, u64)> {
        let found = self.count(&self.name(client), now);
        if found.is_none() {
            self.uncounted.fetch_add(1, Ordering::Relaxed);
        }
        let (place, before) = found?;
        let sources = Arc::clone(self);
        Some((Permit { sources, place }, before))
    }

    /// Sources that have a connection or are above their rate, by looking at each: for the metrics.
    pub fn known(&self, now: Instant) -> u64 {
        let parts = self.parts.iter().enumerate();
        let parts = parts.filter_map(|(number, part)| Some((number, part.get()?.len())));
        let used = parts.map(|(number, buckets)| {
            let free = (0..buckets).map(|bucket| self.free(number, bucket, now));
            buckets * WAYS - free.sum::<usize>()
        });
        used.sum::<usize>() as u64
    }

    /// Clients that were let in uncounted so far.
    pub fn uncounted(&self) -> u64 {
        self.uncounted.load(Ordering::Relaxed)
    }

    /// What the table takes now, bytes.
    pub fn bytes(&self) -> usize {
        let parts = self.parts.iter().filter_map(OnceLock::get);
        let bytes = self.bytes.iter().filter_map(OnceLock::get);
        parts.map(|part| size_of_val(&**part)).sum::<usize>()
            + bytes.map(|part| size_of_val(&**part)).sum::<usize>()
    }

    fn name(&self, client: IpAddr) -> Name {
        let mut hasher = SipHasher13::new_with_keys(self.keys.0, self.keys.1);
        hasher.write_u128(network(client, self.prefixes));
        let hash = hasher.finish128();
        let (low, high) = (hash.h2 & 0xffff_ffff, hash.h2 >> 32);
        Name {
            tag: (hash.h1 >> COUNT_BITS).max(1),
            buckets: [low, high].map(|half| usize::try_from(half).unwrap_or_default()),
        }
    }

    fn count(&self, name: &Name, now: Instant) -> Option<(Place, u64)> {
        for _ in 0..TRIES {
            if let Some(place) = self.find(name) {
                let word = self.word(place);
                // Another source may have taken the place meanwhile.
                let counted = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                    let has_room = word >> COUNT_BITS == name.tag && word & COUNT_MASK < COUNT_MASK;
                    has_room.then_some(word + 1)
                });
                match counted {
                    Ok(before) => return Some((place, before & COUNT_MASK)),
                    Err(word) if word >> COUNT_BITS == name.tag => return None,
                    Err(_) => continue,
                }
            }
            let (place, seen) = self.room(name, now)?;
            let ours = name.tag << COUNT_BITS | 1;
            let word = self.word(place);
            if word
                .compare_exchange(seen, ours, Ordering::SeqCst, Ordering::Relaxed)
                .is_err()
            {
                continue;
            }
            // Another worker may have made room for the same source elsewhere: one of the two, or both,
            // see the other's word, since both write before they look, in one order for all (SeqCst).
            if self
                .places(name)
                .all(|other| other.index == place.index && other.part == place.part)
            {
                return Some((place, 0));
            }
            // Nobody must find the source here any more, or it would have two counts.
            let left = word.compare_exchange(ours, 0, Ordering::SeqCst, Ordering::Relaxed);
            if left.is_err() {
                word.fetch_sub(1, Ordering::Release);
            }
        }
        None
    }

    fn find(&self, name: &Name) -> Option<Place> {
        self.places(name).next()
    }

    /// Every word that is the source's; mostly one or none.
    fn places(&self, name: &Name) -> impl Iterator<Item = Place> {
        let parts = self.parts.iter().enumerate();
        let parts = parts.filter_map(|(number, part)| Some((number, part.get()?)));
        parts.flat_map(move |(number, part)| {
            name.buckets.iter().flat_map(move |&bucket| {
                let bucket = bucket & (part.len() - 1);
                let words = part[bucket].words.iter().enumerate();
                let ours =
                    words.filter(|(_, word)| word.load(Ordering::SeqCst) >> COUNT_BITS == name.tag);
                ours.map(move |(way, _)| Place::new(number, bucket, way))
            })
        })
    }

    /// A word that says nothing any more, and what it holds.
    fn room(&self, name: &Name, now: Instant) -> Option<(Place, u64)> {
        for (number, part) in self.parts.iter().enumerate() {
            let buckets = PARTS[number];
            let part = part.get_or_init(|| (0..buckets).map(|_| Bucket::default()).collect());
            let both = name.buckets.map(|bucket| bucket & (buckets - 1));
            // The emptier of the two: so a table that is half full has room for everybody.
            let free = both.map(|bucket| self.free(number, bucket, now));
            let emptier = usize::from(free[1] > free[0]);
            for bucket in [both[emptier], both[1 - emptier]] {
                // What a word holds is read before its times: whoever takes it meanwhile changes it.
                let found = (0..WAYS).find_map(|way| {
                    let seen = part[bucket].words[way].load(Ordering::Acquire);
                    let place = Place::new(number, bucket, way);
                    let is_free = seen & COUNT_MASK == 0 && self.is_free(place, now);
                    is_free.then_some((place, seen))
                });
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }

    fn free(&self, part: usize, bucket: usize, now: Instant) -> usize {
        let places = (0..WAYS).map(|way| Place::new(part, bucket, way));
        places.filter(|&place| self.is_free(place, now)).count()
    }

    /// Whether a word says nothing any more. Its count is looked at first: what the times say then is final.
    fn is_free(&self, place: Place, now: Instant) -> bool {
        self.word(place).load(Ordering::Acquire) & COUNT_MASK == 0
            && self.due(place).load(Ordering::Relaxed) <= now.as_nanos()
            && self.bytes[usize::from(place.part)]
                .get()
                .is_none_or(|part| {
                    part[place.index as usize].load(Ordering::Relaxed) <= now.as_nanos()
                })
    }

    fn word(&self, place: Place) -> &AtomicU64 {
        let (bucket, way) = self.bucket(place);
        &bucket.words[way]
    }

    fn due(&self, place: Place) -> &AtomicU64 {
        let (bucket, way) = self.bucket(place);
        &bucket.dues[way]
    }

    fn bucket(&self, place: Place) -> (&Bucket, usize) {
        let part = self.parts[usize::from(place.part)].get();
        let part = part.expect("a place is in a part that has been made, and none is ever unmade");
        let index = place.index as usize;
        (&part[index / WAYS], index % WAYS)
    }
}

impl Place {
    fn new(part: usize, bucket: usize, way: usize) -> Self {
        let number =
            |number: usize| u32::try_from(number).expect("parts have fewer than 2^32 words");
        Self {
            part: u8::try_from(part).expect("there are three parts"),
            index: number(bucket * WAYS + way),
        }
    }
}

impl Permit {
    /// Counts this connection against its source's rate; whether that allows it.
    pub fn is_within(&self, pace: Pace, now: Instant) -> bool {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let (now, interval, burst) = (now.as_nanos(), nanos(pace.interval), nanos(pace.burst));
        let due = self.sources.due(self.place);
        due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| {
            let begun = due.max(now);
            (begun - now <= burst).then(|| begun.saturating_add(interval))
        })
        .is_ok()
    }

    /// When its source may move a whole second's bytes at once again, nanoseconds.
    pub(super) fn full_at(&self) -> &AtomicU64 {
        let part = usize::from(self.place.part);
        let words = PARTS[part] * WAYS;
        let bytes = self.sources.bytes[part]
            .get_or_init(|| (0..words).map(|_| AtomicU64::new(0)).collect());
        &bytes[self.place.index as usize]
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // The word is held to its source by this count, so there is at least the one.
        self.sources
            .word(self.place)
            .fetch_sub(1, Ordering::Release);
    }
}

/// What counts as one source.
fn network(client: IpAddr, (v4, v6): (u8, u8)) -> u128 {
    let leading = |bits: u128, length: u32| {
        let host = 128_u32.saturating_sub(length);
        bits.checked_shr(host)
            .unwrap_or(0)
            .checked_shl(host)
            .unwrap_or(0)
    };
    match client.to_canonical() {
        IpAddr::V4(address) => {
            let mapped = address.to_ipv6_mapped().to_bits();
            leading(mapped, 96 + u32::from(v4))
        }
        IpAddr::V6(address) => leading(address.to_bits(), u32::from(v6)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const KEYS: (u64, u64) = (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);

    fn sources() -> Arc<Sources> {
        Arc::new(Sources::new(KEYS, (32, 64)))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn pace(count: u32, burst: u32) -> Pace {
        let per = Duration::from_secs(1);
        Pace::new(Rate { count, per }, burst)
    }

    /// Whoever can find addresses that share a bucket can fill it; under keys that he does not know they do not.
    #[test]
    fn addresses_that_meet_under_one_key_do_not_under_another() {
        const BUCKET: usize = 7;
        let (known, unknown) = (sources(), Sources::new((7, 8), (32, 64)));
        let buckets = PARTS[0] - 1;
        let crowd: Vec<IpAddr> = (0..200_000)
            .map(|number| Ipv4Addr::from_bits(number).into())
            .filter(|&client| known.name(client).buckets[0] & buckets == BUCKET)
            .collect();
        assert!(crowd.len() > 300, "{}", crowd.len());
        let mut met = vec![0; PARTS[0]];
        for client in &crowd {
            met[unknown.name(*client).buckets[0] & buckets] += 1;
            assert_ne!(known.name(*client).tag, unknown.name(*client).tag);
        }
        assert!(met.iter().all(|&met| met < 12), "{met:?}");
    }

    #[test]
    fn connections_of_a_source_are_counted_until_they_end() {
        let (sources, now) = (sources(), Instant::from_millis(1));
        let begin = |text| sources.begin(ip(text), now).unwrap();
        let (first, before) = begin("192.0.2.1");
        assert_eq!(before, 0);
        let (second, before) = begin("::ffff:192.0.2.1");
        assert_eq!(before, 1);
        assert_eq!(begin("192.0.2.2").1, 0);
        drop(first);
        assert_eq!(begin("192.0.2.1").1, 1);
        drop(second);
        assert_eq!(begin("192.0.2.1").1, 0);
        assert_eq!(sources.known(now), 0);
    }

    #[test]
    fn prefixes_make_networks_one_source() {
        let now = Instant::from_millis(1);
        let (sources, wide) = (sources(), Arc::new(Sources::new(KEYS, (24, 48))));
        for (table, one, other, same) in [
            (&sources, "2001:db8::1", "2001:db8::ffff:1", true),
            (&sources, "2001:db8::1", "2001:db8:0:1::1", false),
            (&sources, "192.0.2.1", "192.0.2.2", false),
            (&wide, "192.0.2.1", "192.0.2.2", true),
            (&wide, "192.0.2.1", "192.0.3.1", false),
            (&wide, "2001:db8::1", "2001:db8:0:1::1", true),
            (&wide, "2001:db8::1", "2001:db8:1::1", false),
        ] {
            let (_first, _) = table.begin(ip(one), now).unwrap();
            let (_second, before) = table.begin(ip(other), now).unwrap();
            assert_eq!(before, u64::from(same), "{one} and {other}");
        }
    }

    #[test]
    fn a_source_gets_its_rate_and_its_burst_and_no_more() {
        for burst in [1, 5, 10, 30] {
            let (sources, start) = (sources(), Instant::from_millis(5_000));
            let admitted = |at: Duration| {
                let (permit, _) = sources.begin(ip("192.0.2.1"), start + at).unwrap();
                permit.is_within(pace(10, burst), start + at)
            };
            let at_once = (0..100).filter(|_| admitted(Duration::ZERO)).count();
            assert_eq!(at_once, usize::try_from(burst).unwrap());
            // Then one every 100 ms, however often it asks.
            let later = (1..=500).filter(|step| admitted(Duration::from_millis(10 * step)));
            assert_eq!(later.count(), 50);
            // After a rest it has its burst again.
            let rested = Duration::from_secs(60);
            let again = (0..100).filter(|_| admitted(rested)).count();
            assert_eq!(again, usize::try_from(burst).unwrap());
        }
    }

    #[test]
    fn a_million_sources_are_told_apart_within_the_bound() {
        const MANY: u32 = 1_000_000;
        let (sources, now) = (sources(), Instant::from_millis(5_000));
        let client = |number: u32| -> IpAddr {
            if number.is_multiple_of(2) {
                return Ipv4Addr::from_bits(number).into();
            }
            Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | u128::from(number) << 64 | 1).into()
        };
        let held: Vec<_> = (0..MANY)
            .map(|number| {
                let (permit, before) = sources.begin(client(number), now).unwrap();
                assert_eq!(before, 0, "{number} is taken for another");
                permit
            })
            .collect();
        assert_eq!(sources.known(now), u64::from(MANY));
        assert_eq!(sources.uncounted(), 0);
        assert!(sources.bytes() <= 128 << 20, "{} bytes", sources.bytes());
        for number in (0..MANY).step_by(7) {
            assert_eq!(sources.begin(client(number), now).unwrap().1, 1);
        }
        drop(held);
        assert_eq!(sources.known(now), 0);
        // The memory is used again by others.
        let bytes = sources.bytes();
        for number in 0..MANY {
            let other = Ipv4Addr::from_bits(0x8000_0000 | number);
            assert_eq!(sources.begin(other.into(), now).unwrap().1, 0);
        }
        assert_eq!(sources.bytes(), bytes);
    }

    #[test]
    fn a_full_table_lets_strangers_in_and_forgets_nobody() {
        let most: usize = PARTS.iter().map(|buckets| buckets * WAYS).sum();
        let (sources, now) = (sources(), Instant::from_millis(5_000));
        let mut known = Vec::new();
        let mut refused = 0_u64;
        for number in 0..u32::try_from(most + most / 8).unwrap() {
            match sources.begin(Ipv4Addr::from_bits(number).into(), now) {
                Some((permit, 0)) => known.push((number, permit)),
                Some(_) => panic!("{number} is taken for another"),
                None => refused += 1,
            }
        }
        assert!(refused > 0);
        assert_eq!(sources.uncounted(), refused);
        assert!(known.len() > most * 9 / 10, "{} of {most}", known.len());
        assert!(sources.bytes() <= 34 << 20);
        for (number, _) in &known {
            let (_, before) = sources
                .begin(Ipv4Addr::from_bits(*number).into(), now)
                .unwrap();
            assert_eq!(before, 1);
        }
    }

    #[test]
    fn who_is_above_its_rate_is_not_forgotten_for_others() {
        let (sources, now) = (sources(), Instant::from_millis(5_000));
        let slow = Pace::new(
            Rate {
                count: 1,
                per: Duration::from_secs(3600),
            },
            1,
        );
        let ask = |number: u32, at: Instant| {
            let (permit, _) = sources
                .begin(Ipv4Addr::from_bits(number).into(), at)
                .unwrap();
            permit.is_within(slow, at)
        };
        assert!((0..100_000).all(|number| ask(number, now)));
        assert_eq!(sources.known(now), 100_000);
        assert!(!(0..100_000).any(|number| ask(number, now + Duration::from_secs(3599))));
        let later = now + Duration::from_secs(3600);
        assert_eq!(sources.known(later), 0);
        assert!((0..100_000).all(|number| ask(number, later)));
    }

    #[test]
    fn many_threads_lose_no_count() {
        let (sources, now) = (sources(), Instant::from_millis(5_000));
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let sources = &sources;
                scope.spawn(move || {
                    let mut held = Vec::new();
                    for round in 0..50_000_u32 {
                        let client = Ipv4Addr::from_bits((round * 7 + thread) % 20_000);
                        held.extend(sources.begin(client.into(), now));
                        if held.len() > 500 {
                            held.clear();
                        }
                    }
                });
            }
        });
        assert_eq!(sources.known(now), 0);
        let (_, before) = sources.begin(ip("0.0.0.1"), now).unwrap();
        assert_eq!(before, 0);
    }

    /// Each of the workers may be just between its count and its verdict, no more.
    #[test]
    fn the_limit_holds_to_the_worker_under_contention() {
        const LIMIT: u64 = 100;
        let (sources, now) = (sources(), Instant::from_millis(5_000));
        let held: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| {
                    let sources = &sources;
                    scope.spawn(move || {
                        let asked = (0..10_000).filter_map(|_| {
                            let (permit, before) = sources.begin(ip("192.0.2.1"), now)?;
                            (before < LIMIT).then_some(permit)
                        });
                        let held: Vec<_> = asked.collect();
                        let count = held.len();
                        std::mem::forget(held);
                        count
                    })
                })
                .collect();
            workers.into_iter().map(|it| it.join().unwrap()).sum()
        });
        assert!((96..=103).contains(&held), "{held}");
    }
}
