//! Finds the backends that are still in use, so that the next snapshot takes them over.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::{Backend, BackendId};

/// Every backend that a snapshot or a session holds, by id; owned by the control thread.
///
/// It keeps no backend alive itself: one that was removed from the configuration stays findable
/// while sessions are open on it, and is forgotten with the last of them.
#[derive(Debug, Default)]
pub struct Registry {
    backends: HashMap<BackendId, Weak<Backend>>,
}

impl Registry {
    /// A registry that knows no backend.
    pub fn new() -> Self {
        Self::default()
    }

    /// The backend of this id, with all its counts, if anything still holds it.
    pub fn find(&self, id: &BackendId) -> Option<Arc<Backend>> {
        self.backends.get(id).and_then(Weak::upgrade)
    }

    /// Every backend that something holds.
    pub fn all(&self) -> impl Iterator<Item = Arc<Backend>> {
        self.backends.values().filter_map(Weak::upgrade)
    }

    /// Adds the backends of the snapshot that has just become live and forgets those that nothing
    /// holds any more. Of two with one id the latter is found from now on, so take what
    /// [`Registry::find`] gives when building a snapshot.
    pub fn reconcile<'a>(&mut self, live: impl Iterator<Item = &'a Arc<Backend>>) {
        for backend in live {
            self.backends
                .insert(backend.id().clone(), Arc::downgrade(backend));
        }
        self.backends
            .retain(|_, backend| backend.strong_count() > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::address::Endpoint;

    fn backend(name: &str) -> Arc<Backend> {
        Arc::new(Backend::new(BackendId {
            pool: "p".into(),
            name: name.into(),
            endpoint: Endpoint::Unix("/run/p".into()),
        }))
    }

    #[test]
    fn registry_finds_the_same_backend_again() {
        let a = backend("a");
        let mut registry = Registry::new();
        registry.reconcile([&a].into_iter());
        assert!(Arc::ptr_eq(&registry.find(a.id()).unwrap(), &a));
        assert!(registry.find(backend("b").id()).is_none());
    }

    #[test]
    fn registry_forgets_what_nothing_holds() {
        let a = backend("a");
        let id = a.id().clone();
        let mut registry = Registry::new();
        registry.reconcile([&a].into_iter());
        drop(a);
        assert!(registry.find(&id).is_none());
        registry.reconcile(std::iter::empty());
        assert!(registry.backends.is_empty());
    }

    #[test]
    fn removed_backend_comes_back_with_its_count_while_a_session_is_open() {
        let a = backend("a");
        let id = a.id().clone();
        let lease = a.lease();
        let mut registry = Registry::new();
        registry.reconcile([&a].into_iter());
        drop(a);
        registry.reconcile(std::iter::empty());
        assert_eq!(registry.find(&id).unwrap().active(), 1);
        drop(lease);
        assert!(registry.find(&id).is_none());
    }
}
