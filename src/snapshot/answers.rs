//! What the names of a configuration stand for.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

/// The answers for each name that the configuration uses; a name that never had one is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// The addresses of hosts, those that services offer included; sorted, without duplicates.
    pub hosts: HashMap<Arc<str>, Vec<IpAddr>>,
    /// What SRV records offer, sorted, each host and port once; empty: decidedly nothing.
    pub services: HashMap<Arc<str>, Vec<Offer>>,
}

/// What one SRV record says (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offer {
    /// Lower ones come first.
    pub priority: u16,
    /// The host, in lower case, without a trailing dot.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// Its share among offers of the same priority.
    pub weight: u16,
}

/// An offer as one pool weighs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranked<'a> {
    /// The offer.
    pub offer: &'a Offer,
    /// How many priorities come before its own.
    pub rank: u8,
    /// Never 0.
    pub weight: u16,
}

/// How much less than an offer of weight 1 one of weight 0 gets: "a very small chance of being selected"
/// (RFC 2782, "Weight").
const NEXT_TO_NOTHING: u16 = 100;

/// Backends that one service may stand for.
const SERVICE_BACKENDS_MAX: usize = 1_024;

impl Answers {
    /// No answers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the hosts that are neither in `wanted` nor offered by a service.
    pub fn keep_only(&mut self, wanted: &BTreeSet<Arc<str>>) {
        let offered = self.services.values().flatten();
        let offered: HashSet<&str> = offered.map(|offer| &*offer.host).collect();
        self.hosts
            .retain(|host, _| wanted.contains(host) || offered.contains(&**host));
    }

    /// The addresses of a host, as far as they are known.
    pub fn of_host(&self, host: &str) -> &[IpAddr] {
        self.hosts.get(host).map_or(&[], Vec::as_slice)
    }

    /// Every address that a service stands for, with the offer that it comes from; the first ones by priority.
    pub fn of_service(&self, service: &str) -> impl Iterator<Item = (Ranked<'_>, IpAddr)> {
        let ranked = self.ranked(service).into_iter();
        let places = ranked.flat_map(|ranked| {
            let addresses = self.of_host(&ranked.offer.host).iter();
            addresses.map(move |&address| (ranked, address))
        });
        places.take(SERVICE_BACKENDS_MAX)
    }

    /// What a service has to offer, with ranks for priorities, and weights of which none is 0.
    fn ranked(&self, service: &str) -> Vec<Ranked<'_>> {
        let offers = self.services.get(service).map_or(&[][..], Vec::as_slice);
        let mut ranked = Vec::new();
        let equals = offers.chunk_by(|one, next| one.priority == next.priority);
        for (rank, equals) in equals.enumerate() {
            let rank = u8::try_from(rank).unwrap_or(u8::MAX);
            let weights = equals.iter().map(|offer| offer.weight);
            let factor = if weights.clone().any(|weight| weight == 0) {
                let most = weights.max().unwrap_or(0).max(1);
                NEXT_TO_NOTHING.min(u16::MAX / most)
            } else {
                1
            };
            ranked.extend(equals.iter().map(|offer| Ranked {
                offer,
                rank,
                weight: offer.weight.saturating_mul(factor).max(1),
            }));
        }
        ranked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranked(offers: &[(u16, u16)]) -> Vec<(u8, u16)> {
        let offer = |(host, &(priority, weight)): (usize, &(u16, u16))| Offer {
            priority,
            host: format!("{host}.example").into(),
            port: 1,
            weight,
        };
        let offers = offers.iter().enumerate().map(offer).collect();
        let answers = Answers {
            services: HashMap::from([("s".into(), offers)]),
            ..Answers::new()
        };
        let ranked = answers.ranked("s");
        ranked.iter().map(|it| (it.rank, it.weight)).collect()
    }

    #[test]
    fn priorities_become_ranks_and_weights_hold_among_equals() {
        let offers = [(5, 10), (5, 20), (7, 3), (900, 65_535)];
        assert_eq!(ranked(&offers), [(0, 10), (0, 20), (1, 3), (2, 65_535)]);
        assert!(ranked(&[]).is_empty());
        assert!(Answers::new().ranked("s").is_empty());
        let many: Vec<_> = (0..300).map(|priority| (priority, 1)).collect();
        assert_eq!(ranked(&many)[299], (255, 1));
    }

    #[test]
    fn a_service_stands_for_so_many_addresses_and_not_for_more() {
        let offer = |host: &str, priority| Offer {
            priority,
            host: host.into(),
            port: 1,
            weight: 1,
        };
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        let answers = Answers {
            services: HashMap::from([("s".into(), vec![offer("a", 0), offer("b", 1)])]),
            hosts: HashMap::from([
                ("a".into(), (0..1_000).map(address).collect()),
                ("b".into(), (2_000..3_000).map(address).collect()),
            ]),
        };
        let places: Vec<_> = answers.of_service("s").collect();
        assert_eq!(places.len(), SERVICE_BACKENDS_MAX);
        assert_eq!(places[1_000].1, address(2_000));
        assert_eq!((places[999].0.rank, places[1_000].0.rank), (0, 1));
    }

    #[test]
    fn weight_zero_is_next_to_nothing_beside_others_and_all_alike_among_themselves() {
        assert_eq!(ranked(&[(0, 0), (0, 0)]), [(0, 1), (0, 1)]);
        assert_eq!(
            ranked(&[(0, 0), (0, 1), (0, 3)]),
            [(0, 1), (0, 100), (0, 300)]
        );
        assert_eq!(ranked(&[(0, 0), (0, 1_000)]), [(0, 1), (0, 65_000)]);
        assert_eq!(ranked(&[(0, 0), (0, 65_535)]), [(0, 1), (0, 65_535)]);
        // What another priority has is of no account.
        assert_eq!(ranked(&[(0, 0), (1, 9)]), [(0, 1), (1, 9)]);
    }
}
