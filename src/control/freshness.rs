//! What follows from a look-up of one name: what holds, and when to ask again.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::directory::{Family, Found, Offered};
use crate::snapshot::Offer;

/// What is known of one host, and how its look-ups go.
#[derive(Default)]
pub(super) struct Freshness {
    addresses: Vec<IpAddr>,
    attempts: Attempts,
}

/// How the look-ups of one name go.
#[derive(Default)]
pub(super) struct Attempts {
    /// Failed ones in a row.
    failures: u32,
}

/// What follows from a look-up.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Next<T> {
    /// `None`: it failed, and what was known holds.
    pub(super) news: Option<T>,
    pub(super) after: Duration,
}

/// What the operator is told, once each time.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    Fails(String),
    Recovered,
}

/// What came of a look-up, and what the operator is to hear of it.
type Settled<T> = (Next<T>, Option<Told>);

const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_secs(300);
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

impl Freshness {
    pub(super) fn settle(&mut self, outcome: Result<Found, String>) -> Settled<Vec<IpAddr>> {
        let outcome = outcome.map(|found| {
            let half = found.missing.is_some();
            let ttl = found.ttl;
            self.addresses = merge(&self.addresses, found);
            let most = if half { RETRY_MAX } else { TTL_MAX };
            (self.addresses.clone(), ttl.min(most))
        });
        self.attempts.settle(outcome)
    }
}

impl Attempts {
    pub(super) fn settle_offers(
        &mut self,
        outcome: Result<Offered, String>,
    ) -> Settled<Arc<[Offer]>> {
        self.settle(outcome.map(|offered| (offered.offers, offered.ttl)))
    }

    /// Takes in what was found and for how long it holds.
    fn settle<T>(&mut self, outcome: Result<(T, Duration), String>) -> Settled<T> {
        match outcome {
            Ok((news, ttl)) => {
                let recovered = self.failures > 0;
                self.failures = 0;
                let next = Next {
                    news: Some(news),
                    after: ttl.clamp(TTL_MIN, TTL_MAX),
                };
                (next, recovered.then_some(Told::Recovered))
            }
            Err(error) => {
                // Five doublings go past the maximum.
                let after = (RETRY_FIRST * 2_u32.pow(self.failures.min(5))).min(RETRY_MAX);
                self.failures = self.failures.saturating_add(1);
                let next = Next { news: None, after };
                (next, (self.failures == 1).then_some(Told::Fails(error)))
            }
        }
    }
}

/// The addresses found, and the old ones of a family that was not answered for.
fn merge(old: &[IpAddr], found: Found) -> Vec<IpAddr> {
    let mut addresses = found.addresses;
    addresses.extend(old.iter().filter(|address| match found.missing {
        Some(Family::V4) => address.is_ipv4(),
        Some(Family::V6) => address.is_ipv6(),
        None => false,
    }));
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(addresses: &[&str], ttl: u64, missing: Option<Family>) -> Result<Found, String> {
        Ok(Found {
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            ttl: Duration::from_secs(ttl),
            missing,
        })
    }

    #[test]
    fn a_name_is_asked_for_again_after_its_ttl_within_bounds() {
        for (ttl, seconds) in [(0, 1), (1, 1), (60, 60), (86_400, 300)] {
            let (next, told) = Freshness::default().settle(found(&["10.0.0.1"], ttl, None));
            assert_eq!((next.after.as_secs(), told), (seconds, None), "{ttl}");
        }
        let half = found(&["10.0.0.1"], 300, Some(Family::V6));
        let (next, _) = Freshness::default().settle(half);
        assert_eq!(next.after.as_secs(), 30);
    }

    #[test]
    fn failures_back_off_and_are_told_once_like_the_recovery() {
        let mut freshness = Freshness::default();
        freshness.settle(found(&["10.0.0.1"], 60, None));
        let mut told = Vec::new();
        let mut waits = Vec::new();
        for _ in 0..8 {
            let (next, message) = freshness.settle(Err("timeout".to_owned()));
            assert_eq!(next.news, None);
            waits.push(next.after.as_secs());
            told.extend(message);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(told, [Told::Fails("timeout".to_owned())]);
        let (_, message) = freshness.settle(found(&["10.0.0.1"], 60, None));
        assert_eq!(message, Some(Told::Recovered));
        let (_, message) = freshness.settle(found(&["10.0.0.1"], 60, None));
        assert_eq!(message, None);
        let (next, message) = freshness.settle(Err("refused".to_owned()));
        assert_eq!(next.after.as_secs(), 1);
        assert_eq!(message, Some(Told::Fails("refused".to_owned())));
    }

    #[test]
    fn old_addresses_of_an_unanswered_family_are_kept() {
        let old: Vec<IpAddr> = vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let merged = |missing| merge(&old, found(&["10.0.0.2"], 1, missing).unwrap());
        assert_eq!(merged(Some(Family::V6)).len(), 2);
        assert_eq!(merged(None).len(), 1);
    }
}
