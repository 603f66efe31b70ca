//! Backends that fail their clients are left out for a while, whatever probes say.
//!
//! What decides stands under one lock for each pool, so that however many workers see failures at once, no
//! more backends are ejected than may be. It is taken when a connect or the beginning of a session fails, when
//! an ejection ends early, and ten times a second while somebody is ejected; never on the way of a session
//! that goes well.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use super::Backend;
use super::notice::{EjectionCause, Notice, Return};
use super::past::Past;
use super::window::Rate;
use crate::base::clock::Instant;
use crate::config::model::Outliers;

/// Notices that may wait to be logged; more in so short a time are only counted.
const NOTICES_MAX: usize = 256;

/// Who of a pool's backends is ejected; kept over reloads and shared by all workers.
#[derive(Debug, Default)]
pub struct Ejector {
    /// There is somebody to [look after](Ejector::look_after), or something to log. Written under the lock,
    /// read without: what is seen a moment late is seen the next time.
    is_astir: AtomicBool,
    pool: Mutex<Pool>,
}

/// What the lock guards. No lease may be dropped and nobody who waits may be served under it.
#[derive(Debug, Default)]
struct Pool {
    settings: Outliers,
    /// The backends that the pool has now and that take new connections.
    members: Vec<Weak<Backend>>,
    notices: Vec<Notice>,
    /// Until then nobody else can be ejected, unless an ejection ends early: in a large pool that fails
    /// altogether, each failed connect would otherwise look at all its backends to find that out.
    no_room_until: Instant,
}

/// What is known of the failures of one backend.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Nanoseconds of when the ejection ends; 0: there is none. Written under the pool's lock, read by
    /// balancers for every candidate: that its time is over they see by themselves, and 0 is written
    /// within a tenth of a second.
    until: AtomicU64,
    /// Failed connects in a row. Added to under the pool's lock; a connect that succeeds after a failed one sets it to 0
    /// without, and whichever of the two comes last is right.
    streak: AtomicU32,
    /// Beginnings of sessions; only where the pool goes by them.
    rate: OnceLock<Box<Rate>>,
    /// Ejections so far by [`EjectionCause`]; written under the pool's lock, read by metrics.
    ejections: [AtomicU64; 2],
    past: Mutex<Past>,
}

/// A session that has a connection to its backend and nothing from it yet.
#[derive(Debug)]
pub struct Beginning(Arc<Backend>);

impl Beginning {
    /// Of a session with this backend.
    pub fn of(backend: &Arc<Backend>) -> Self {
        Self(Arc::clone(backend))
    }

    /// The backend's first byte has come.
    pub fn succeeded(self, now: Instant) {
        if let Some(rate) = self.0.outliers.rate.get() {
            rate.note_good(now);
        }
    }

    /// The backend has ended the session without a byte.
    pub fn failed(self, now: Instant) {
        self.0.ejector.note_failure(&self.0, now);
    }
}

impl Backend {
    /// Whether it is left out because of its failures.
    pub fn is_ejected(&self, now: Instant) -> bool {
        now.as_nanos() < self.outliers.until.load(Ordering::Relaxed)
    }

    /// Whether it is left out, or was until just now: for those who cannot say what time it is.
    pub(super) fn is_out(&self) -> bool {
        self.outliers.until.load(Ordering::Relaxed) != 0
    }

    /// Nanoseconds; 0: it is not ejected.
    pub(super) fn ejected_until(&self) -> u64 {
        self.outliers.until.load(Ordering::Relaxed)
    }

    /// Whether new clients may go there: neither probes nor failures speak against it.
    pub fn is_usable(&self, now: Instant) -> bool {
        self.is_up() && !self.is_ejected(now)
    }

    /// How often it was ejected for this.
    pub fn ejections(&self, cause: EjectionCause) -> u64 {
        self.outliers.ejections[cause as usize].load(Ordering::Relaxed)
    }

    /// Notes that a health check that began then has succeeded.
    pub fn probe_succeeded(self: &Arc<Self>, begun: Instant, now: Instant) {
        if self.is_out() {
            let began_after = |past: &Past| begun >= past.since;
            self.ejector
                .end_early(self, now, Return::Probed, began_after);
        }
    }

    pub(super) fn end_ejection(self: &Arc<Self>, now: Instant) {
        self.outliers.streak.store(0, Ordering::Relaxed);
        if self.is_out() {
            self.ejector
                .end_early(self, now, Return::Connected, |_| true);
        }
    }
}

impl Ejector {
    /// From now on these settings hold, and `members` are the pool's backends that take new connections.
    pub fn set<'a>(
        &self,
        settings: Outliers,
        members: impl Iterator<Item = &'a Arc<Backend>>,
        now: Instant,
    ) {
        let members: Vec<_> = members.collect();
        for member in &members {
            if let Some(rate) = member.outliers.rate.get() {
                rate.set_time(settings.window);
            } else if settings.failure_rate.is_some() {
                let new = || Box::new(Rate::new(settings.window));
                member.outliers.rate.get_or_init(new);
            }
        }
        let mut pool = self.pool.lock();
        pool.settings = settings;
        pool.members = members.into_iter().map(Arc::downgrade).collect();
        pool.no_room_until = Instant::ZERO;
        // Of one that comes back nobody has noticed it meanwhile.
        pool.notice_ends(now);
        let back = pool.bring_back(now);
        self.is_astir.store(true, Ordering::Relaxed);
        drop(pool);
        back.iter().for_each(|backend| backend.became_usable(now));
    }

    /// Takes in a connect that failed.
    pub(super) fn connect_failed(&self, backend: &Backend, now: Instant) {
        let mut pool = self.pool.lock();
        let facts = &backend.outliers;
        if backend.is_ejected(now) {
            return;
        }
        let needed = pool.settings.connect_failures;
        let streak = facts.streak.fetch_add(1, Ordering::Relaxed) + 1;
        if streak == 1 {
            facts.past.lock().forget_if_well(now);
        }
        if needed > 0 && streak >= needed {
            let failed = (EjectionCause::ConnectFailures, u64::from(streak), 0);
            self.eject(&mut pool, backend, failed, now);
        }
        self.judge(&mut pool, backend, now);
    }

    fn note_failure(&self, backend: &Backend, now: Instant) {
        let mut pool = self.pool.lock();
        if !backend.is_ejected(now) {
            self.judge(&mut pool, backend, now);
        }
    }

    /// Takes in a beginning that failed.
    fn judge(&self, pool: &mut Pool, backend: &Backend, now: Instant) {
        let (Some(percent), Some(rate)) = (pool.settings.failure_rate, backend.outliers.rate.get())
        else {
            return;
        };
        rate.note_failed(now);
        if let Some((failed, all)) = rate.reaches(now, percent, pool.settings.min_samples) {
            let failed = (EjectionCause::FailureRate, failed, all);
            self.eject(pool, backend, failed, now);
        }
    }

    fn eject(
        &self,
        pool: &mut Pool,
        backend: &Backend,
        (cause, failed, all): (EjectionCause, u64, u64),
        now: Instant,
    ) {
        if now < pool.no_room_until {
            return;
        }
        let members = pool.members();
        let is_it = |member: &&Arc<Backend>| ptr::eq(Arc::as_ptr(member), backend);
        let Some(it) = members.iter().find(is_it) else {
            return;
        };
        if backend.is_ejected(now) || !pool.make_room(&members, now) {
            return;
        }
        let facts = &backend.outliers;
        if facts.until.load(Ordering::Relaxed) != 0 {
            // Nobody has noticed yet that the last one is over.
            pool.note_end(it);
        }
        let mut past = facts.past.lock();
        if cause == EjectionCause::FailureRate {
            past.forget_if_well(now);
        }
        let time = past.begin(cause, &pool.settings, now);
        let until = past.back.as_nanos().max(1);
        drop(past);
        // A slow start begins as the ejection ends, without anybody writing then.
        backend.usable_since.store(until, Ordering::Relaxed);
        facts.until.store(until, Ordering::Relaxed);
        facts.streak.store(0, Ordering::Relaxed);
        if let Some(rate) = facts.rate.get() {
            rate.clear();
        }
        facts.ejections[cause as usize].fetch_add(1, Ordering::Relaxed);
        pool.note(Notice::Ejected {
            backend: it.id().clone(),
            cause,
            failed,
            all,
            time,
        });
        self.is_astir.store(true, Ordering::Relaxed);
    }

    /// Ends an ejection for failed connects.
    fn end_early(
        &self,
        backend: &Arc<Backend>,
        now: Instant,
        why: Return,
        is_enough: impl Fn(&Past) -> bool,
    ) {
        let mut pool = self.pool.lock();
        let mut past = backend.outliers.past.lock();
        let is_for_connects = past.cause == Some(EjectionCause::ConnectFailures);
        if !backend.is_ejected(now) || !is_for_connects || !is_enough(&past) {
            return;
        }
        past.back = now;
        drop(past);
        pool.no_room_until = Instant::ZERO;
        backend.outliers.until.store(0, Ordering::Relaxed);
        pool.note(Notice::Returned {
            backend: backend.id().clone(),
            why,
        });
        self.is_astir.store(true, Ordering::Relaxed);
        drop(pool);
        backend.became_usable(now);
    }

    /// Notices whose time is over, and lets those go there who wait; returns what there is to log. To be
    /// called ten times a second.
    pub fn look_after(&self, now: Instant) -> Vec<Notice> {
        if !self.is_astir.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut pool = self.pool.lock();
        let (over, out) = pool.notice_ends(now);
        self.is_astir.store(!out.is_empty(), Ordering::Relaxed);
        let notices = std::mem::take(&mut pool.notices);
        drop(pool);
        over.iter().for_each(Backend::serve_waiting);
        notices
    }
}

impl Pool {
    fn members(&self) -> Vec<Arc<Backend>> {
        self.members.iter().filter_map(Weak::upgrade).collect()
    }

    fn note(&mut self, notice: Notice) {
        if self.notices.len() < NOTICES_MAX {
            self.notices.push(notice);
        }
    }

    /// Notices whose time is over; returns them, and those who are still out.
    fn notice_ends(&mut self, now: Instant) -> (Vec<Arc<Backend>>, Vec<Arc<Backend>>) {
        let out = self.members().into_iter().filter(|it| it.is_out());
        let (over, out): (Vec<_>, Vec<_>) = out.partition(|it| !it.is_ejected(now));
        for backend in &over {
            backend.outliers.until.store(0, Ordering::Relaxed);
            self.note_end(backend);
        }
        (over, out)
    }

    /// Notes that an ejection is over.
    fn note_end(&mut self, backend: &Backend) {
        let was_replaced = backend.outliers.past.lock().was_replaced;
        self.note(Notice::Returned {
            backend: backend.id().clone(),
            why: if was_replaced {
                Return::Replaced
            } else {
                Return::Elapsed
            },
        });
    }

    /// Whether one more may be ejected. If not, one returns that has been out for `eject` already: whoever is
    /// out for longer than that would otherwise be, though it may be well again, while another fails everybody.
    fn make_room(&mut self, members: &[Arc<Backend>], now: Instant) -> bool {
        let ejected = || members.iter().filter(|member| member.is_ejected(now));
        let most = self.settings.ejected_max(members.len());
        if ejected().count() < most {
            return true;
        }
        let since = |member: &Arc<Backend>| member.outliers.past.lock().since;
        let first = ejected().min_by_key(|member| since(member));
        let Some(first) = first.filter(|first| now.since(since(first)) >= self.settings.eject)
        else {
            let first = first.map(|first| since(first) + self.settings.eject);
            let over = ejected().map(|it| Instant::from_nanos(it.ejected_until()));
            let room = over.chain(first).min();
            self.no_room_until = room.unwrap_or(Instant::from_nanos(u64::MAX));
            return false;
        };
        let mut past = first.outliers.past.lock();
        (past.back, past.was_replaced) = (now, true);
        drop(past);
        // As if its time were over, so that those who wait are looked after.
        let over = now.as_nanos().max(1);
        first.outliers.until.store(over, Ordering::Relaxed);
        first.usable_since.store(over, Ordering::Relaxed);
        // A reload may have left more of them out than that.
        ejected().count() < most
    }

    /// Ends what the settings have no reason for any more; of too many, those that end first.
    fn bring_back(&mut self, now: Instant) -> Vec<Arc<Backend>> {
        let members = self.members();
        let most = self.settings.ejected_max(members.len());
        let mut ejected: Vec<_> = members.iter().filter(|it| it.is_ejected(now)).collect();
        ejected.sort_by_key(|it| std::cmp::Reverse(it.outliers.until.load(Ordering::Relaxed)));
        let mut back = Vec::new();
        let mut kept = 0;
        for backend in ejected {
            let mut past = backend.outliers.past.lock();
            let has_reason = match past.cause {
                Some(EjectionCause::FailureRate) => self.settings.failure_rate.is_some(),
                _ => self.settings.connect_failures > 0,
            };
            if has_reason && kept < most {
                kept += 1;
                continue;
            }
            past.back = now;
            backend.outliers.until.store(0, Ordering::Relaxed);
            back.push(Arc::clone(backend));
        }
        for backend in &back {
            self.note(Notice::Returned {
                backend: backend.id().clone(),
                why: Return::Reloaded,
            });
        }
        back
    }
}

#[cfg(test)]
#[path = "tests/outliers.rs"]
mod tests;
