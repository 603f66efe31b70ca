//! From a pool without room to a backend that has some again.

use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;

use rustix::io::Errno;

use super::dial::{Dialled, Dialler};
use crate::backend::{Era, Lease};
use crate::balance::Ask;
use crate::base::clock::now;
use crate::base::reason::Reason;
use crate::config::model::{AllDown, Waiting};
use crate::io::deadline::ended_after;
use crate::io::socket::Socket;
use crate::snapshot::Pool;
use crate::sys::room::{has_left, watch_leaving};
use crate::sys::wake::Wake;

impl Pool {
    /// Whether a backend lacks nothing but room.
    pub(super) fn is_worth_waiting_for(&self) -> bool {
        let time = now();
        let all_count = self.balancer.all_down() == AllDown::Open && !self.balancer.is_usable(time);
        let mut members = self.balancer.members().iter();
        members.any(|member| {
            let backend = &member.backend;
            let is_sound = (all_count || backend.is_usable(time)) && !backend.has_failed();
            member.weight > 0 && backend.is_full() && is_sound
        })
    }

    /// Whether clients may go to some backend as soon as it has room.
    fn lacks_room(&self) -> bool {
        let mut members = self.balancer.members().iter();
        match self.balancer.all_down() {
            AllDown::Open => members.any(|it| it.weight > 0),
            AllDown::Trickle | AllDown::Closed => self.balancer.is_usable(now()),
        }
    }
}

impl Dialler<'_> {
    /// What is left for a client that no backend took: to wait for one that has room again.
    pub(super) async fn dial_later(&mut self) -> Option<Dialled> {
        let pool = self.call.pool;
        if self.fault.attempts == 0 && pool.lacks_room() {
            self.fault.reason = Reason::PoolFull;
        }
        // Whoever may not try again has nothing to wait for.
        if self.link.ending().is_some() || self.fault.attempts >= pool.connect.attempts {
            return None;
        }
        if !pool.is_worth_waiting_for() {
            // Somebody gave a slot back since the look at all of them.
            let untried = self.fault.attempts == 0;
            return if untried {
                self.dial_again().await
            } else {
                None
            };
        }
        let waiting = pool.queue?;
        // Who waits is no connection of the pool; the slot that it gets may come with one.
        self.slot = None;
        let begun = now();
        let waited = self.wait(waiting).await;
        let time = now();
        self.fault.queued = Some(time - begun);
        match waited {
            Ok((mut lease, chosen)) => {
                self.link.choose(chosen);
                self.begun = time;
                self.slot = lease.take_slot();
                if !self.may_try() {
                    return None;
                }
                if let Some(dialled) = self.attempt(lease).await {
                    return Some(dialled);
                }
                self.dial_again().await
            }
            Err((reason, cause)) => {
                self.fault.reason = reason;
                self.fault.cause = cause;
                None
            }
        }
    }

    /// Tries what may have changed meanwhile; nobody waits twice.
    async fn dial_again(&mut self) -> Option<Dialled> {
        let pool = self.call.pool;
        let ask = Ask {
            now: now(),
            ..self.call.ask
        };
        let mut walk = pool.balancer.walk(&pool.live.rotation, ask);
        while let Some(backend) = walk.next() {
            self.link.choose(backend.era().of_choice(walk.chose()));
            let last = self.fault.backend.as_ref();
            if last.is_some_and(|last| Arc::ptr_eq(last, backend)) {
                continue;
            }
            let Some(lease) = backend.try_lease() else {
                continue;
            };
            if !self.may_try() {
                break;
            }
            if let Some(dialled) = self.attempt(lease).await {
                return Some(dialled);
            }
        }
        None
    }

    /// Waits in the pool's line for a slot.
    async fn wait(&self, waiting: Waiting) -> Result<(Lease, Era), (Reason, Option<Errno>)> {
        let pool = self.call.pool;
        let client = self.link.client();
        let lacks = |cause| (Reason::PoolFull, Some(cause));
        if pool.live.queue.waiting() >= waiting.most {
            // A flood of those who cannot wait costs no descriptors.
            return Err((Reason::PoolFull, None));
        }
        let wake = Wake::new().map_err(lacks)?;
        let watch = watch_leaving(client.as_fd(), wake.as_fd()).map_err(lacks)?;
        let watch = Socket::new(watch)
            .map_err(|error| lacks(Errno::from_io_error(&error).unwrap_or(Errno::NOMEM)))?;
        let place = pool.live.queue.join(waiting.most, wake.clone());
        let place = place.ok_or((Reason::PoolFull, None))?;
        // A slot given back before we stood in the line went to nobody.
        let members = pool.balancer.members().iter();
        members.for_each(|member| member.backend.serve_waiting());
        let cells = self.call.cells;
        cells.queued.inc();
        cells.queue.inc();
        ended_after(pin!(watch.readable()), waiting.timeout, || wake.wake()).await;
        cells.queue.dec();
        if self.link.ending().is_some() || has_left(client.as_fd()) {
            self.link.client_left();
            return Err((Reason::ClientReset, None));
        }
        place.take().ok_or((Reason::QueueTimeout, None))
    }
}
