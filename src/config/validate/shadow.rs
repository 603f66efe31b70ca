//! Routes that an earlier one shadows: it takes the same names, under conditions that hold at least
//! as often.

use std::collections::HashMap;
use std::sync::Arc;

use ipnet::IpNet;

use crate::base::name::NamePattern;
use crate::config::model::{ACME_TLS, Route};
use crate::config::report::Finding;
use crate::config::source::Place;

/// One kind of connection that a route takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Taken {
    Name(NamePattern),
    NoSni,
    Default,
    Plain,
}

/// The routes of one listener so far.
#[derive(Debug)]
pub(super) struct Shadows {
    routes: Vec<Seen>,
    takers: HashMap<Taken, Vec<(usize, Place)>>,
    work_left: usize,
}

#[derive(Debug)]
struct Seen {
    name: Arc<str>,
    alpn: Vec<Arc<str>>,
    client: Vec<IpNet>,
    ja4: Vec<Arc<str>>,
}

/// Conditions that are compared for all warnings of a listener: with tens of thousands of routes for
/// the same name, that would take minutes.
const WORK_MAX: usize = 1_000_000;

impl Default for Shadows {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            takers: HashMap::new(),
            work_left: WORK_MAX,
        }
    }
}

impl Shadows {
    /// Adds the next route, which takes each of `taken` as said at the place beside it; gives a warning
    /// for each that never gets there.
    pub(super) fn add(&mut self, route: &Route, taken: Vec<(Taken, Place)>) -> Vec<Finding> {
        let number = self.routes.len();
        let seen = Seen::new(route);
        let mut warnings = Vec::new();
        for (kind, place) in taken {
            let takers = self.takers.entry(kind.clone()).or_default();
            if let Some((_, first)) = takers.last().filter(|(taker, _)| *taker == number) {
                let message = format!("{} has no effect: the route has it twice", kind.text());
                warnings.push(Finding::at(place, message).also(*first, "it is first given here"));
                continue;
            }
            let earlier = takers.iter().find_map(|(taker, first)| {
                self.work_left = self.work_left.checked_sub(seen.weight())?;
                let earlier = self.routes.get(*taker)?;
                earlier.covers(&seen).then_some((earlier, *first))
            });
            if let Some((earlier, first)) = earlier {
                let (name, by, what) = (&seen.name, &earlier.name, kind.text());
                let message = format!(
                    "the route \"{name}\" never gets {what}: the earlier route \"{by}\" shadows it"
                );
                warnings.push(Finding::at(place, message).also(first, "it is taken here"));
            } else {
                takers.push((number, place));
            }
        }
        self.routes.push(seen);
        warnings
    }
}

impl Taken {
    fn text(&self) -> String {
        match self {
            Self::Name(pattern) => format!("\"{pattern}\""),
            Self::NoSni => "`no_sni`".to_owned(),
            Self::Default => "`default`".to_owned(),
            Self::Plain => "`plain`".to_owned(),
        }
    }
}

impl Seen {
    fn new(route: &Route) -> Self {
        let sorted = |words: &[Arc<str>]| {
            let mut words = words.to_vec();
            words.sort_unstable();
            words
        };
        // Afterwards they are in order, and none is within another.
        let mut client = IpNet::aggregate(&route.client);
        client.sort_unstable();
        Self {
            name: Arc::clone(&route.name),
            alpn: sorted(&route.alpn),
            client,
            ja4: sorted(&route.ja4),
        }
    }

    /// How much there is to compare with each other route.
    fn weight(&self) -> usize {
        1 + self.alpn.len() + self.client.len() + self.ja4.len()
    }

    /// Whether its conditions hold whenever the other's do.
    fn covers(&self, other: &Self) -> bool {
        let has_words = |ours: &[Arc<str>], theirs: &[Arc<str>]| {
            let has = |word| ours.binary_search(word).is_ok();
            ours.is_empty() || (!theirs.is_empty() && theirs.iter().all(has))
        };
        let has_networks = || {
            let has = |network| contains(&self.client, network);
            self.client.is_empty() || (!other.client.is_empty() && other.client.iter().all(has))
        };
        let checks = |route: &Self| route.alpn.iter().any(|it| **it == *ACME_TLS);
        // An authority's check comes to the route that names its protocol, wherever that stands.
        (checks(self) || !checks(other))
            && has_words(&self.alpn, &other.alpn)
            && has_words(&self.ja4, &other.ja4)
            && has_networks()
    }
}

/// Whether one of `networks`, which are in order, contains all of `network`.
fn contains(networks: &[IpNet], network: &IpNet) -> bool {
    let after = networks.partition_point(|one| one.network() <= network.network());
    let before = after.checked_sub(1).and_then(|at| networks.get(at));
    before.is_some_and(|one| one.contains(network))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{RouteNames, Target};

    const HERE: Place = Place {
        file: 0,
        start: 0,
        end: 0,
    };

    fn route(alpn: &[&str], client: &[&str], ja4: &[&str]) -> Route {
        let words = |list: &[&str]| list.iter().map(|word| Arc::from(*word)).collect();
        Route {
            name: Arc::from("route"),
            place: Arc::from("test.toml:1"),
            names: RouteNames::default(),
            alpn: words(alpn),
            client: client.iter().map(|text| text.parse().unwrap()).collect(),
            ja4: words(ja4),
            target: Target::Reject,
            client_names: Vec::new(),
            entrance: None,
        }
    }

    fn covers(one: &Route, other: &Route) -> bool {
        Seen::new(one).covers(&Seen::new(other))
    }

    #[test]
    fn wider_conditions_cover_narrower_ones() {
        let any = route(&[], &[], &[]);
        let h2 = route(&["h2"], &[], &[]);
        let both = route(&["http/1.1", "h2"], &[], &[]);
        let check = route(&[ACME_TLS], &[], &[]);
        let inside = route(&[], &["10.1.0.0/16", "10.9.9.9/32"], &[]);
        let halves = route(&[], &["10.128.0.0/9", "10.0.0.0/9", "::/0"], &[]);
        let print = route(&["h2"], &["10.1.1.0/24"], &["t13d"]);
        for (wide, narrow) in [
            (&any, &h2),
            (&any, &inside),
            (&any, &print),
            (&both, &h2),
            (&both, &print),
            (&halves, &inside),
            (&inside, &print),
        ] {
            assert!(covers(wide, wide), "{wide:?}");
            assert!(covers(wide, narrow), "{wide:?} {narrow:?}");
            assert!(!covers(narrow, wide), "{wide:?} {narrow:?}");
        }
        assert!(!covers(&any, &check), "an authority's check goes first");
        assert!(covers(&check, &check));
    }

    #[test]
    fn networks_are_found_in_those_that_contain_them() {
        let networks: Vec<IpNet> = [
            "10.0.0.0/8",
            "10.128.0.0/24",
            "192.0.2.0/24",
            "2001:db8::/32",
        ]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
        let networks = Seen::new(&Route {
            client: networks,
            ..route(&[], &[], &[])
        })
        .client;
        let has = |text: &str| contains(&networks, &text.parse().unwrap());
        for inside in [
            "10.255.0.0/16",
            "10.0.0.0/8",
            "192.0.2.7/32",
            "2001:db8:1::/48",
        ] {
            assert!(has(inside), "{inside}");
        }
        for outside in [
            "0.0.0.0/0",
            "11.0.0.0/8",
            "192.0.0.0/16",
            "::/0",
            "9.0.0.0/8",
        ] {
            assert!(!has(outside), "{outside}");
        }
    }

    #[test]
    fn comparing_many_routes_for_one_name_is_bounded() {
        let mut shadows = Shadows::default();
        for number in 0..2_000 {
            let one = route(&[&number.to_string()], &[], &[]);
            assert!(shadows.add(&one, vec![(Taken::Default, HERE)]).is_empty());
        }
        // Each was compared with all before it, until the work was used up.
        assert!(shadows.work_left < 2 * 2_000, "{}", shadows.work_left);
        let last = route(&["0"], &[], &[]);
        assert!(shadows.add(&last, vec![(Taken::Default, HERE)]).is_empty());
        assert!(
            Shadows::default()
                .add(&last, vec![(Taken::Plain, HERE); 2])
                .len()
                == 1
        );
    }
}
