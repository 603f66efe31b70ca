//! All cells of the process, kept by name so that counts survive a reload.
//!
//! Only the control side locks the registry: it creates the cells that a new snapshot needs, reads
//! them at a scrape and forgets those that nothing needs any more. Workers reach their cells through
//! the snapshot.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;

use super::cells::{Absorb, Cells, ListenerCells, PoolCells, WorkerCells};
use super::names::{OTHER, VALUES_MAX};
use crate::base::reason::Reason;

/// Every cell of the process.
///
/// An entry costs 640 bytes per worker for a listener or a pool, and about 100 bytes for its
/// name: 10,000 listeners on 2 workers take 14 MB.
#[derive(Debug)]
pub struct Registry {
    workers: Arc<Cells<WorkerCells>>,
    named: Mutex<Named>,
}

#[derive(Debug)]
struct Named {
    listeners: Table<ListenerCells>,
    pools: Table<PoolCells>,
}

#[derive(Debug)]
struct Table<T> {
    workers: usize,
    known: BTreeMap<Arc<str>, Known<T>>,
    /// How many of `known` are shown by name, at most [`VALUES_MAX`].
    by_name: usize,
    /// Whether a name was ever shown as [`OTHER`].
    has_other: bool,
    /// Counts of forgotten names that were shown under their own name; needed for totals that must
    /// never fall.
    gone: Cells<T>,
    /// Counts of forgotten names that were shown as [`OTHER`].
    gone_other: Cells<T>,
}

#[derive(Debug)]
struct Known<T> {
    cells: Arc<Cells<T>>,
    /// Fixed when the entry is made: a series that changed its label later would look like a fall
    /// of one counter and a leap of another.
    shown: Shown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    ByName,
    AsOther,
}

/// What is shown under one name.
pub(super) type Row<T> = (Arc<str>, Arc<Cells<T>>);

impl Registry {
    /// A registry for so many workers.
    pub fn new(workers: usize) -> Self {
        Self {
            workers: Arc::new(Cells::new(workers)),
            named: Mutex::new(Named {
                listeners: Table::new(workers),
                pools: Table::new(workers),
            }),
        }
    }

    /// The cells of the listener `name`, the same as long as the registry knows the name.
    pub fn listener(&self, name: &Arc<str>) -> Arc<Cells<ListenerCells>> {
        self.named.lock().listeners.find_or_add(name)
    }

    /// The cells of the pool `name`, the same as long as the registry knows the name.
    pub fn pool(&self, name: &Arc<str>) -> Arc<Cells<PoolCells>> {
        self.named.lock().pools.find_or_add(name)
    }

    /// The cells that the worker at `index` counts for itself; `index` must be below the number of
    /// workers.
    pub fn worker(&self, index: usize) -> &WorkerCells {
        self.workers.worker(index)
    }

    /// The cells of all workers.
    pub const fn workers(&self) -> &Arc<Cells<WorkerCells>> {
        &self.workers
    }

    /// Forgets each name that is not to be kept, once nothing outside the registry holds its cells:
    /// the snapshot of a session that still runs does, so call this again at the next reload.
    pub fn retain(&self, listener: impl Fn(&str) -> bool, pool: impl Fn(&str) -> bool) {
        let mut named = self.named.lock();
        named.listeners.retain(listener);
        named.pools.retain(pool);
    }

    /// Sessions open on all workers.
    pub fn sessions(&self) -> u64 {
        let open: i64 = self.workers.all().map(|cells| cells.sessions.read()).sum();
        // One that moves between two reads may be missed, but none is counted below zero.
        u64::try_from(open).unwrap_or(0)
    }

    /// Clients that hold descriptors on all workers: sessions, and those that are kept waiting.
    pub fn held(&self) -> u64 {
        let cells = self.workers.all();
        let held: i64 = cells
            .map(|cells| cells.sessions.read() + cells.tarpitted.read())
            .sum();
        u64::try_from(held).unwrap_or(0)
    }

    pub(super) fn listener_rows(&self) -> Vec<Row<ListenerCells>> {
        self.named.lock().listeners.rows()
    }

    pub(super) fn pool_rows(&self) -> Vec<Row<PoolCells>> {
        self.named.lock().pools.rows()
    }

    /// Sessions that ended for `reason` since the start, those of forgotten listeners too.
    pub(super) fn ended(&self, reason: Reason) -> u64 {
        let named = self.named.lock();
        let table = &named.listeners;
        let known = table.known.values().map(|known| &*known.cells);
        known
            .chain([&table.gone, &table.gone_other])
            .flat_map(Cells::all)
            .map(|cells| cells.ended[reason.index()].read())
            .sum()
    }
}

impl<T: Absorb + Default> Table<T> {
    fn new(workers: usize) -> Self {
        Self {
            workers,
            known: BTreeMap::new(),
            by_name: 0,
            has_other: false,
            gone: Cells::new(workers),
            gone_other: Cells::new(workers),
        }
    }

    fn find_or_add(&mut self, name: &Arc<str>) -> Arc<Cells<T>> {
        let known = match self.known.entry(Arc::clone(name)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let shown = if self.by_name < VALUES_MAX && &**name != OTHER {
                    self.by_name += 1;
                    Shown::ByName
                } else {
                    self.has_other = true;
                    Shown::AsOther
                };
                let cells = Arc::new(Cells::new(self.workers));
                entry.insert(Known { cells, shown })
            }
        };
        Arc::clone(&known.cells)
    }

    fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        let (gone, gone_other, by_name) = (&self.gone, &self.gone_other, &mut self.by_name);
        self.known.retain(|name, known| {
            // `get_mut` and not `strong_count`: it also makes the last user's writes visible.
            if keep(name) || Arc::get_mut(&mut known.cells).is_none() {
                return true;
            }
            match known.shown {
                Shown::ByName => {
                    *by_name -= 1;
                    gone.absorb(&known.cells);
                }
                Shown::AsOther => gone_other.absorb(&known.cells),
            }
            false
        });
    }

    /// Every name with what is shown under it, at most [`VALUES_MAX`] and [`OTHER`].
    fn rows(&self) -> Vec<Row<T>> {
        let mut rows = Vec::new();
        let other = Cells::new(self.workers);
        other.absorb(&self.gone_other);
        for (name, known) in &self.known {
            match known.shown {
                Shown::ByName => rows.push((Arc::clone(name), Arc::clone(&known.cells))),
                Shown::AsOther => other.absorb(&known.cells),
            }
        }
        if self.has_other {
            rows.push((Arc::from(OTHER), Arc::new(other)));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(index: usize) -> Arc<str> {
        Arc::from(format!("l{index:05}"))
    }

    fn accepted(rows: &[Row<ListenerCells>], name: &str) -> Option<u64> {
        let (_, cells) = rows.iter().find(|row| &*row.0 == name)?;
        Some(cells.all().map(|cells| cells.accepted.read()).sum())
    }

    #[test]
    fn a_name_keeps_its_cells() {
        let registry = Registry::new(2);
        registry.listener(&name(1)).worker(1).accepted.add(5);
        registry.retain(|_| true, |_| true);
        registry.listener(&name(1)).worker(0).accepted.add(1);
        assert_eq!(accepted(&registry.listener_rows(), "l00001"), Some(6));
    }

    #[test]
    fn a_name_in_use_is_not_forgotten() {
        let registry = Registry::new(1);
        let used = registry.listener(&name(1));
        registry.retain(|_| false, |_| false);
        used.worker(0).accepted.inc();
        assert_eq!(accepted(&registry.listener_rows(), "l00001"), Some(1));
        drop(used);
        registry.retain(|_| false, |_| false);
        assert!(registry.listener_rows().is_empty());
    }

    #[test]
    fn forgetting_a_listener_does_not_lower_the_total() {
        let registry = Registry::new(1);
        let cells = registry.listener(&name(1));
        cells.worker(0).ended[Reason::NoBackend.index()].add(9);
        drop(cells);
        registry.retain(|_| false, |_| false);
        assert_eq!(registry.ended(Reason::NoBackend), 9);
        assert_eq!(registry.ended(Reason::Eof), 0);
    }

    #[test]
    fn names_past_the_cap_are_summed_as_other_and_never_fall() {
        let registry = Registry::new(1);
        for index in 0..VALUES_MAX + 10 {
            registry.listener(&name(index)).worker(0).accepted.inc();
        }
        let rows = registry.listener_rows();
        assert_eq!(rows.len(), VALUES_MAX + 1);
        assert_eq!(accepted(&rows, OTHER), Some(10));
        drop(rows);

        // One of those shown as `other` goes, and one shown by name makes room for a newcomer.
        let (folded, named) = (name(VALUES_MAX + 3), name(0));
        registry.retain(|name| *name != *folded && *name != *named, |_| true);
        registry.listener(&Arc::from("newcomer"));
        let rows = registry.listener_rows();
        assert_eq!(rows.len(), VALUES_MAX + 1);
        assert_eq!(accepted(&rows, OTHER), Some(10));
        assert_eq!(accepted(&rows, &named), None);
        assert_eq!(accepted(&rows, "newcomer"), Some(0));
    }

    #[test]
    fn a_listener_called_other_shares_the_row() {
        let registry = Registry::new(1);
        for index in 0..=VALUES_MAX {
            registry.pool(&name(index)).worker(0).retries_failed.inc();
        }
        registry
            .pool(&Arc::from(OTHER))
            .worker(0)
            .retries_failed
            .inc();
        let rows = registry.pool_rows();
        let other: Vec<_> = rows.iter().filter(|row| &*row.0 == OTHER).collect();
        assert_eq!(other.len(), 1);
        assert_eq!(other[0].1.worker(0).retries_failed.read(), 2);
    }
}
