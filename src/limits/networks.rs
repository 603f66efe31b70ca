//! Which networks are let in: lists of prefixes, laid out so that one search answers for an address.

use std::net::IpAddr;

use ipnet::IpNet;

/// The verdict on every address there is.
///
/// The most specific network decides, and of two alike the one that denies. So all addresses fall into
/// ranges with one verdict each, and a search among the ranges' first addresses finds it: 100,000 networks
/// are at most 200,000 ranges, 18 steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
    prefixes: usize,
}

/// What is done with an address that is in no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// It is let in.
    Admit,
    /// It is refused.
    Refuse,
}

/// Neighbouring ranges, each from its first address to the next one's.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ranges<T> {
    /// The first address of all ranges but the first, which begins at zero. Verdicts alternate.
    starts: Box<[T]>,
    /// Whether the first range is let in.
    first: bool,
}

/// One network of one family.
#[derive(Clone, Copy)]
struct Rule<T> {
    start: T,
    /// The last address.
    end: T,
    length: u8,
    admits: bool,
}

impl Networks {
    /// The verdicts that follow from both lists.
    pub fn new(allow: &[IpNet], deny: &[IpNet], others: Others) -> Self {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        let all = allow.iter().map(|net| (net, true));
        for (net, admits) in all.chain(deny.iter().map(|net| (net, false))) {
            match net {
                IpNet::V4(net) => v4.push(Rule {
                    start: net.network().to_bits(),
                    end: net.broadcast().to_bits(),
                    length: net.prefix_len(),
                    admits,
                }),
                IpNet::V6(net) => v6.push(Rule {
                    start: net.network().to_bits(),
                    end: net.broadcast().to_bits(),
                    length: net.prefix_len(),
                    admits,
                }),
            }
        }
        let otherwise = others == Others::Admit;
        Self {
            v4: Ranges::new(v4, otherwise, (u32::MIN, |end| end.checked_add(1))),
            v6: Ranges::new(v6, otherwise, (u128::MIN, |end| end.checked_add(1))),
            prefixes: allow.len() + deny.len(),
        }
    }

    /// Whether the client with this address is let in; an IPv4 client of an IPv6 socket counts as what it is.
    pub fn admit(&self, client: IpAddr) -> bool {
        match client.to_canonical() {
            IpAddr::V4(address) => self.v4.admit(address.to_bits()),
            IpAddr::V6(address) => self.v6.admit(address.to_bits()),
        }
    }

    /// How many networks both lists have.
    pub const fn prefixes(&self) -> usize {
        self.prefixes
    }
}

impl<T: Copy + Ord> Ranges<T> {
    /// `otherwise` is the verdict where no rule is; `zero` the first address, `next` the one after.
    fn new(
        mut rules: Vec<Rule<T>>,
        otherwise: bool,
        (zero, next): (T, fn(T) -> Option<T>),
    ) -> Self {
        // Larger networks before those inside of them; of two alike the one that denies is the inner one.
        rules.sort_by_key(|rule| (rule.start, rule.length, !rule.admits));
        let mut edges = vec![(zero, otherwise)];
        let mut around: Vec<Rule<T>> = Vec::new();
        for rule in rules {
            close(&mut edges, &mut around, otherwise, |end| {
                (end < rule.start).then(|| next(end)).flatten()
            });
            edge(&mut edges, rule.start, rule.admits);
            around.push(rule);
        }
        close(&mut edges, &mut around, otherwise, next);
        edges.dedup_by_key(|(_, admits)| *admits);
        Self {
            first: edges[0].1,
            starts: edges.into_iter().skip(1).map(|(start, _)| start).collect(),
        }
    }

    fn admit(&self, address: T) -> bool {
        let before = self.starts.partition_point(|&start| start <= address);
        self.first ^ (before % 2 == 1)
    }
}

/// Ends the innermost of the networks `around`, as long as `next` gives the address after one's last.
fn close<T: Copy + Ord>(
    edges: &mut Vec<(T, bool)>,
    around: &mut Vec<Rule<T>>,
    otherwise: bool,
    next: impl Fn(T) -> Option<T>,
) {
    while let Some(at) = around.last().and_then(|inner| next(inner.end)) {
        around.pop();
        let admits = around.last().map_or(otherwise, |outer| outer.admits);
        edge(edges, at, admits);
    }
}

/// From `at` on this is the verdict, whatever was said of it before.
fn edge<T: Copy + Ord>(edges: &mut Vec<(T, bool)>, at: T, admits: bool) {
    match edges.last_mut() {
        Some(last) if last.0 == at => last.1 = admits,
        _ => edges.push((at, admits)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::base::random::Random;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// What the rule says, word by word.
    fn naive(allow: &[IpNet], deny: &[IpNet], others: Others, client: IpAddr) -> bool {
        let longest = |nets: &[IpNet]| {
            let lengths = nets.iter().filter(|net| net.contains(&client));
            lengths.map(IpNet::prefix_len).max()
        };
        match (longest(allow), longest(deny)) {
            (None, None) => others == Others::Admit,
            (allow, deny) => allow > deny,
        }
    }

    #[test]
    fn the_most_specific_network_decides_and_denies_on_a_tie() {
        let allow = nets(&[
            "10.0.0.0/8",
            "10.1.2.0/24",
            "192.0.2.1/32",
            "2001:db8:1::/48",
        ]);
        let deny = nets(&["10.1.0.0/16", "192.0.2.1/32", "0.0.0.0/0", "2001:db8::/32"]);
        let lists = Networks::new(&allow, &deny, Others::Refuse);
        for (client, admitted) in [
            ("10.0.0.0", true),
            ("10.1.0.0", false),
            ("10.1.1.255", false),
            ("10.1.2.0", true),
            ("10.1.2.255", true),
            ("10.1.3.0", false),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("192.0.2.1", false),
            ("255.255.255.255", false),
            ("::ffff:10.0.0.1", true),
            ("::ffff:10.1.0.1", false),
            ("2001:db8:1::7", true),
            ("2001:db8:2::7", false),
            ("::1", false),
        ] {
            assert_eq!(lists.admit(client.parse().unwrap()), admitted, "{client}");
        }
        assert_eq!(lists.prefixes(), 8);
    }

    #[test]
    fn without_a_match_it_is_the_others_that_decide() {
        for (others, admitted) in [(Others::Admit, true), (Others::Refuse, false)] {
            let lists = Networks::new(&[], &nets(&["10.0.0.0/8"]), others);
            for client in ["0.0.0.0", "11.0.0.0", "255.255.255.255", "::", "ffff::"] {
                assert_eq!(lists.admit(client.parse().unwrap()), admitted, "{client}");
            }
            assert!(!lists.admit("10.9.9.9".parse().unwrap()));
        }
        let all = Networks::new(&nets(&["0.0.0.0/0", "::/0"]), &[], Others::Refuse);
        assert!(all.admit("255.255.255.255".parse().unwrap()));
        assert!(all.admit(Ipv6Addr::from_bits(u128::MAX).into()));
    }

    /// Networks of all lengths close to each other, so that they nest and touch.
    fn random_net(random: &mut Random) -> IpNet {
        let mut below = |most: u64| u32::try_from(random.below(most)).unwrap();
        let (is_v4, bits) = (below(2) == 0, below(1 << 16));
        let (address, least, most): (IpAddr, _, _) = if is_v4 {
            (Ipv4Addr::from_bits(0x0a00_0000 | bits).into(), 12_u8, 32_u8)
        } else {
            let bits = 0x2001_0db8_u128 << 96 | u128::from(bits) << 64;
            (Ipv6Addr::from_bits(bits).into(), 36, 128)
        };
        let length = least + u8::try_from(below(u64::from(most - least) + 1)).unwrap();
        IpNet::new(address, length).unwrap().trunc()
    }

    #[test]
    fn random_lists_agree_with_a_naive_model() {
        for seed in 0..64 {
            let mut random = Random::new(seed);
            let count = 1 + random.below(200);
            let mut list = || {
                (0..count)
                    .map(|_| random_net(&mut random))
                    .collect::<Vec<_>>()
            };
            let (allow, deny) = (list(), list());
            for others in [Others::Admit, Others::Refuse] {
                let lists = Networks::new(&allow, &deny, others);
                for net in allow.iter().chain(&deny) {
                    for client in [net.network(), net.broadcast(), after(net), before(net)] {
                        let expected = naive(&allow, &deny, others, client);
                        assert_eq!(lists.admit(client), expected, "seed {seed}: {client}");
                    }
                }
            }
        }
    }

    fn after(net: &IpNet) -> IpAddr {
        match net.broadcast() {
            IpAddr::V4(last) => Ipv4Addr::from_bits(last.to_bits().wrapping_add(1)).into(),
            IpAddr::V6(last) => Ipv6Addr::from_bits(last.to_bits().wrapping_add(1)).into(),
        }
    }

    fn before(net: &IpNet) -> IpAddr {
        match net.network() {
            IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits().wrapping_sub(1)).into(),
            IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits().wrapping_sub(1)).into(),
        }
    }

    #[test]
    fn lists_of_100_000_networks_agree_with_a_set_of_their_members() {
        use std::collections::HashSet;

        let mut random = Random::new(7);
        let mut net = || u32::try_from(random.below(1 << 24)).unwrap();
        let mut all = || -> HashSet<u32> { (0..100_000).map(|_| net()).collect() };
        let (allow, deny, strangers) = (all(), all(), all());
        let list = |set: &HashSet<u32>| -> Vec<IpNet> {
            let nets = set.iter().map(|&net| Ipv4Addr::from_bits(net << 8));
            nets.map(|net| IpNet::new(net.into(), 24).unwrap())
                .collect()
        };
        let lists = Networks::new(&list(&allow), &list(&deny), Others::Refuse);
        let bytes = size_of_val(&*lists.v4.starts);
        assert!(bytes <= 200_000 * 2 * 4, "{bytes} bytes");
        let known = allow.iter().chain(&deny).copied().collect::<Vec<_>>();
        for net in known.into_iter().chain(strangers) {
            let expected = allow.contains(&net) && !deny.contains(&net);
            for host in [0, 255] {
                let client = Ipv4Addr::from_bits(net << 8 | host);
                assert_eq!(lists.admit(client.into()), expected, "{client}");
            }
        }
    }
}
