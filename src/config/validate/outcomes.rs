//! `outliers` and `breaker` of a pool.

use super::{Check, section};
use crate::base::address::Address;
use crate::config::keys::OUTLIERS;
use crate::config::model::{Backend, Breaker, Outliers};
use crate::config::report::Finding;
use crate::config::source::Place;
use crate::config::table::{Table, Value};

const BY_RATE: [&str; 2] = ["window", "min_samples"];

impl Check<'_> {
    /// Which of a pool's backends are ejected.
    pub(super) fn outliers(&mut self, pool: &Table, backends: &[(Place, Backend)]) -> Outliers {
        let table = section(pool, "outliers");
        let outliers = Outliers {
            connect_failures: table.number("connect_failures"),
            failure_rate: share(table, "failure_rate"),
            window: table.time("window"),
            min_samples: table.number("min_samples"),
            eject: table.time("eject"),
            eject_most: table.time("eject_most"),
            max_eject: u8::try_from(table.number("max_eject")).unwrap_or(100),
        };
        if is_alone(backends) {
            for key in OUTLIERS.keys {
                self.idle_setting(
                    table,
                    key.name,
                    "the only backend of a pool is never ejected",
                );
            }
            return outliers;
        }
        if outliers.failure_rate.is_none() {
            for name in BY_RATE {
                self.idle_setting(table, name, "`outliers.failure_rate` is \"off\"");
            }
            if outliers.connect_failures == 0 {
                let why = "`connect_failures` is 0 and `failure_rate` is \"off\"";
                for name in ["eject", "eject_most", "max_eject"] {
                    self.idle_setting(table, name, why);
                }
            }
        }
        if outliers.eject > outliers.eject_most {
            let given = ["eject", "eject_most"].map(|name| table.changed(name));
            let place = given.into_iter().flatten().next();
            let place = place.map_or(table.place, |entry| entry.place);
            let message = "`outliers.eject` has no effect: `outliers.eject_most` is shorter";
            self.warnings.push(Finding::at(place, message));
        }
        outliers
    }

    /// What a pool is spared.
    pub(super) fn breaker(
        &mut self,
        pool: &Table,
        backends: &[(Place, Backend)],
    ) -> Option<Breaker> {
        let table = pool.table("breaker")?;
        let breaker = Breaker {
            max_connections: table.number("max_connections"),
            max_pending: table.number("max_pending"),
            failure_rate: share(table, "failure_rate"),
            window: table.time("window"),
            min_samples: table.number("min_samples"),
            open: table.time("open"),
            probes: table.number("probes"),
        };
        if breaker.failure_rate.is_none() {
            let why = "`breaker.failure_rate` is \"off\"";
            for name in BY_RATE.into_iter().chain(["open", "probes"]) {
                self.idle_setting(table, name, why);
            }
            if breaker.max_connections == 0 && breaker.max_pending == 0 {
                let why = "it has no maximum, and its `failure_rate` is \"off\"";
                self.idle_setting(pool, "breaker", why);
            }
        }
        self.maxima(pool, &breaker, room(backends));
        Some(breaker)
    }

    /// Warns about a maximum that another one leaves without effect.
    fn maxima(&mut self, pool: &Table, breaker: &Breaker, room: Option<u64>) {
        let most = u64::from(breaker.max_connections);
        let Some(table) = pool.table("breaker").filter(|_| most > 0) else {
            return;
        };
        if u64::from(breaker.max_pending) >= most {
            let why = "`breaker.max_connections` is no higher, and counts them, too";
            self.idle_setting(table, "max_pending", why);
        }
        match room {
            Some(room) if most > room => {
                let why = format!("the backends' `max_connections` come to {room} together");
                self.idle_setting(table, "max_connections", &why);
            }
            Some(room) if most < room => {
                if let Some(entry) = pool.changed("queue") {
                    let message = format!(
                        "`queue` is of use only while backends are down: nobody waits for \
                         `breaker.max_connections`, got {most}, expected the {room} that the \
                         backends allow together"
                    );
                    self.warnings.push(Finding::at(entry.key, message));
                }
            }
            _ => {}
        }
    }
}

/// How many connections all backends may have together; `None`: any number, or it cannot be known.
fn room(backends: &[(Place, Backend)]) -> Option<u64> {
    let mut open = backends.iter().filter(|(_, backend)| backend.weight > 0);
    open.try_fold(0, |room, (_, backend)| {
        let is_one = matches!(backend.address, Address::Endpoint(_));
        let most = u64::from(backend.max_connections);
        (is_one && most > 0).then_some(room + most)
    })
}

/// Whether the pool never has a second backend to turn to.
fn is_alone(backends: &[(Place, Backend)]) -> bool {
    let mut open = backends.iter().filter(|(_, backend)| backend.weight > 0);
    match (open.next(), open.next()) {
        // A host name may stand for several addresses.
        (Some((_, only)), None) => matches!(only.address, Address::Endpoint(_)),
        _ => false,
    }
}

fn share(table: &Table, name: &str) -> Option<u8> {
    match table.entry(name).map(|entry| &entry.value) {
        Some(Value::Number(percent)) => u8::try_from(*percent).ok(),
        _ => None,
    }
}
