//! What listeners and routes know of their clients, found again by name when a snapshot follows another.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use super::Snapshot;
use crate::config::model::Limits;
use crate::limits::crowd::Crowd;
use crate::limits::guard::Guard;
use crate::limits::sources::Sources;
use crate::limits::store::{Lists, Place};

/// Of each listener and each route that counts.
#[derive(Default)]
pub(super) struct Guards {
    /// What its sources are up to.
    sources: HashMap<Place, Arc<Sources>>,
    /// How many there are, where sessions are not counted otherwise.
    crowds: HashMap<Place, Arc<Crowd>>,
}

impl Guards {
    /// What `place` asks of its clients; `None`: nothing.
    pub(super) fn guard(&self, place: &Place, limits: &Limits, lists: &Lists) -> Option<Guard> {
        let guard = Guard::new(lists.get(place).cloned(), limits, |prefixes| {
            let known = self.sources.get(place);
            let known = known.filter(|sources| sources.prefixes() == prefixes);
            known.map_or_else(
                || Arc::new(Sources::new((random(), random()), prefixes)),
                Arc::clone,
            )
        })?;
        let is_route = place.1.is_some();
        let crowd = || self.crowds.get(place).map(Arc::clone).unwrap_or_default();
        Some(if is_route {
            guard.counting(crowd)
        } else {
            guard
        })
    }

    /// Takes over what a snapshot brought that is now in force, and forgets what nothing uses.
    pub(super) fn adopt(&mut self, snapshot: &Snapshot) {
        // Of what has left, too: it may come back while some of its sessions go on.
        self.sources
            .retain(|_, sources| Arc::strong_count(sources) > 1);
        self.crowds.retain(|_, crowd| Arc::strong_count(crowd) > 1);
        for listener in snapshot.listeners() {
            for (route, guard) in listener.guards() {
                let place = || (Arc::clone(&listener.name), route.cloned());
                if let Some(sources) = guard.sources() {
                    self.sources.insert(place(), Arc::clone(sources));
                }
                if let Some(crowd) = guard.crowd() {
                    self.crowds.insert(place(), Arc::clone(crowd));
                }
            }
        }
    }
}

/// A number that nobody can know.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::reason::Reason;

    fn place(route: Option<&str>) -> Place {
        (Arc::from("web"), route.map(Arc::from))
    }

    #[test]
    fn a_route_counts_its_own_and_a_listener_does_not() {
        let limits = Limits {
            connections: Some(1),
            ..Limits::NONE
        };
        let (guards, lists) = (Guards::default(), Lists::new());
        let route = guards.guard(&place(Some("a")), &limits, &lists).unwrap();
        let member = route.enter().unwrap();
        assert!(member.is_some());
        assert_eq!(route.enter().err(), Some(Reason::LimitRoute));
        drop(member);
        assert!(route.enter().is_ok());
        let listener = guards.guard(&place(None), &limits, &lists).unwrap();
        assert!(listener.crowd().is_none());
        assert!(listener.enter().unwrap().is_none());
    }

    #[test]
    fn who_asks_nothing_has_no_guard() {
        let guards = Guards::default();
        let none = guards.guard(&place(Some("a")), &Limits::NONE, &Lists::new());
        assert!(none.is_none());
    }
}
