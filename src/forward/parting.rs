//! Where a session is going, for when that backend leaves.

use super::dial::Dialler;
use super::link::room;
use crate::backend::{Backend, Era};
use crate::base::clock::now;
use crate::base::reason::Reason;

impl Dialler<'_> {
    /// Makes the session known as one of the backend's, and gives it its time where the backend has left
    /// meanwhile: its snapshot may be an old one. The reason for which it must not go there, if any.
    pub(super) fn go_to(&self, backend: &Backend) -> Option<Reason> {
        let orders = backend.has_orders().then(|| backend.orders());
        if let Some(cause) = orders.and_then(|orders| orders.forbids(self.link.chosen())) {
            return Some(cause.reason());
        }
        let mut sessions = self.call.sessions.borrow_mut();
        let key = self.link.key()?;
        sessions.mark(key, backend.number());
        if let Some(orders) = orders {
            let room = room(sessions.len());
            // The session's own random number; the balancer has drawn from other bits of it.
            let share = || u32::try_from(self.call.ask.seed >> 32).unwrap_or(0);
            if let Some(at) = self.link.obey(&orders, now(), room, share) {
                sessions.hasten(key, at);
            }
        }
        None
    }

    /// The session has no backend again.
    pub(super) fn leave(&self) {
        self.link.choose(Era::default());
        if let Some(key) = self.link.key() {
            self.call.sessions.borrow_mut().mark(key, 0);
        }
    }
}
