//! How often one source may begin a handshake.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use parking_lot::Mutex;

use crate::base::clock::Instant;
use crate::config::model::Rate;

/// Sources remembered at a time, about 60 bytes each. A source beyond them is let in: whoever has so many
/// addresses is not stopped by counting them.
const SOURCES_MAX: usize = 65_536;

/// How often sources are looked through for those that can be forgotten: some 0.5 ms, while everybody
/// else waits.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The leading bits of an IPv6 address that are one source: what one network gets.
const IPV6_PREFIX: u32 = 64;

/// Counts handshakes by source, for all workers; asked before anything is paid for a handshake.
#[derive(Debug)]
pub struct SourceRate {
    /// The time from one handshake to the next at the full rate.
    interval: Duration,
    /// How far ahead of that a source may be.
    burst: Duration,
    sources: Mutex<Sources>,
}

#[derive(Debug)]
struct Sources {
    /// When each source would be at the full rate again (GCRA's theoretical arrival time).
    due: HashMap<IpAddr, Instant>,
    /// They are not looked through before.
    sweep: Instant,
}

impl SourceRate {
    /// At most `rate.count` at once, then one in each `rate.per` divided by that.
    pub fn new(rate: Rate) -> Self {
        let interval = rate.per / rate.count.max(1);
        Self {
            interval,
            burst: rate.per.saturating_sub(interval),
            sources: Mutex::new(Sources {
                due: HashMap::new(),
                sweep: Instant::ZERO,
            }),
        }
    }

    /// Counts a handshake that begins `now`; whether it may.
    pub fn admit(&self, source: IpAddr, now: Instant) -> bool {
        let mut sources = self.sources.lock();
        let source = network(source);
        if sources.due.len() >= SOURCES_MAX && !sources.due.contains_key(&source) {
            sources.forget(now);
            if sources.due.len() >= SOURCES_MAX {
                return true;
            }
        }
        let due = sources.due.entry(source).or_insert(now);
        let begun = (*due).max(now);
        if begun - now > self.burst {
            return false;
        }
        *due = begun + self.interval;
        true
    }
}

impl Sources {
    fn forget(&mut self, now: Instant) {
        if now >= self.sweep {
            self.sweep = now + SWEEP_INTERVAL;
            self.due.retain(|_, due| *due > now);
        }
    }
}

/// What counts as one source.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() >> IPV6_PREFIX << IPV6_PREFIX;
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::now;

    fn rate(count: u32) -> SourceRate {
        SourceRate::new(Rate {
            count,
            per: Duration::from_secs(1),
        })
    }

    #[test]
    fn a_source_gets_its_rate_and_no_more() {
        let (rate, start) = (rate(10), now());
        let source: IpAddr = "192.0.2.1".parse().unwrap();
        let admitted = |at: Duration| rate.admit(source, start + at);
        let at_once = (0..100).filter(|_| admitted(Duration::ZERO)).count();
        assert_eq!(at_once, 10);
        // Then one every 100 ms, however often it asks.
        let later = (1..=500).filter(|step| admitted(Duration::from_millis(10 * step)));
        assert_eq!(later.count(), 50);
        assert!(rate.admit("192.0.2.2".parse().unwrap(), start));
    }

    #[test]
    fn a_network_of_ipv6_and_a_mapped_address_are_one_source_each() {
        let (rate, now) = (rate(1), now());
        let ask = |text: &str| rate.admit(text.parse().unwrap(), now);
        assert!(ask("2001:db8::1"));
        assert!(!ask("2001:db8::ffff:1"));
        assert!(ask("2001:db8:0:1::1"));
        assert!(ask("192.0.2.1"));
        assert!(!ask("::ffff:192.0.2.1"));
    }

    #[test]
    fn more_sources_than_are_remembered_are_let_in_and_forgotten_in_time() {
        let (rate, start) = (rate(1), now());
        for number in 0..u32::try_from(SOURCES_MAX).unwrap() + 1_000 {
            assert!(rate.admit(IpAddr::V4(number.into()), start));
        }
        assert_eq!(rate.sources.lock().due.len(), SOURCES_MAX);
        let later = start + Duration::from_secs(2);
        assert!(rate.admit("255.0.0.1".parse().unwrap(), later));
        assert_eq!(rate.sources.lock().due.len(), 1);
    }

    /// Many new sources at once, each of which would pay for a look through all of them.
    #[test]
    fn sources_are_looked_through_once_in_a_while() {
        let (rate, start) = (rate(1_000), now());
        let most = u32::try_from(SOURCES_MAX).unwrap();
        for number in 0..=most {
            assert!(rate.admit(IpAddr::V4(number.into()), start));
        }
        let known = |at: Duration| {
            assert!(rate.admit("255.0.0.1".parse().unwrap(), start + at));
            rate.sources.lock().due.len()
        };
        // All are at the full rate again after 1 ms.
        assert_eq!(known(Duration::from_millis(999)), SOURCES_MAX);
        assert_eq!(known(Duration::from_secs(1)), 1);
    }
}
