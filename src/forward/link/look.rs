//! The tick's look at a session: what has lasted too long, or broke unnoticed.

use std::os::fd::AsFd;

use super::{BLIND_INTERVAL, Ending, FLOWING, LONG, Link, Progress, broken_side};
use crate::base::clock::Instant;
use crate::base::reason::{Reason, Side};
use crate::config::model::Keepalive;
use crate::io::socket::Socket;
use crate::sys::socket::{finish, is_broken, keep_alive};

impl Link {
    /// When the session needs its first look after it has got its backend.
    pub fn first_check(&self, now: Instant) -> Instant {
        let due = self.next_deadline().map(|(due, _)| due);
        due.map_or(now + LONG, |due| due.min(now + LONG))
    }

    /// Ends what has lasted too long or broke unnoticed; returns when to look again.
    pub fn check(&self, now: Instant) -> Instant {
        let soon = now + BLIND_INTERVAL;
        let Some(backend) = self.backend() else {
            self.end_if_lost();
            // Mostly nobody reads a client that has no backend yet.
            if !self.heard.get() {
                self.end_if_broken(&self.client, Side::Client);
            }
            return match self.due() {
                Some(due) if due.at <= now => {
                    self.cut_attempt();
                    soon
                }
                due => due.map_or(soon, |due| due.at.min(soon)),
            };
        };
        if self.has_ended_early() {
            return soon;
        }
        if self.is_blind() {
            self.end_if_broken(&self.client, Side::Client);
            self.end_if_broken(backend, Side::Backend);
        }
        if now - self.connected.get() >= LONG {
            self.probe_when_silent(backend);
        }
        if self.is_held_back() {
            // It is not silent: nobody listens to it.
            self.active.set(now);
        }
        match self.next_deadline() {
            Some((due, reason)) if due <= now => {
                self.expire(reason, now);
                soon
            }
            Some((due, _)) if self.is_blind() => soon.min(due),
            _ => self.first_check(now),
        }
    }

    /// Sets the backend's keepalive, once, when the session has become a long one: short ones never
    /// pay for it, and the client's socket has inherited its own from the listener.
    fn probe_when_silent(&self, backend: &Socket) {
        if let Some(Keepalive {
            idle,
            interval,
            count,
        }) = self.limits.keepalive()
            && !self.probed.replace(true)
        {
            // A unix socket has no probes and needs none.
            let _ = keep_alive(backend.as_fd(), idle, interval, count);
        }
    }

    /// Whether something else than the ends of both streams has ended the session.
    pub(in crate::forward) fn has_ended_early(&self) -> bool {
        let ending = self.ending.get();
        ending.is_some_and(|ending| ending.reason != Reason::Eof)
    }

    fn end_if_broken(&self, socket: &Socket, side: Side) {
        if !self.has_ended_early() && is_broken(socket.as_fd()) {
            self.note(Ending {
                reason: broken_side(side),
                side,
                cause: None,
            });
            self.reset_all();
        }
    }

    fn next_deadline(&self) -> Option<(Instant, Reason)> {
        let limits = &self.limits;
        let silence = if self.up.finished.get() || self.down.finished.get() {
            (self.active.get() + limits.half_closed(), Reason::HalfClosed)
        } else {
            (self.active.get() + limits.idle(), Reason::Idle)
        };
        let first_byte = limits
            .first_byte()
            .filter(|_| self.first_byte.get().is_none() && !self.down.finished.get())
            .filter(|_| !self.is_held_back())
            .map(|limit| {
                // The backend cannot answer what was held back.
                let held = self.held_for().unwrap_or_default();
                (self.connected.get() + limit + held, Reason::FirstByte)
            });
        let lifetime = limits.lifetime_end().map(|end| (end, Reason::Lifetime));
        let parting = self.due().map(|due| (due.at, due.cause.reason()));
        [Some(silence), first_byte, lifetime, parting]
            .into_iter()
            .flatten()
            .min_by_key(|(due, _)| *due)
    }

    /// Ends both connections in an orderly way, unless that would make a cut stream look whole.
    fn expire(&self, reason: Reason, now: Instant) {
        let flowing = now - self.active.get() < FLOWING;
        let stalled = self.up.stalled.get() || self.down.stalled.get();
        // Whoever is told to go has not been served to the end.
        let parts = self.due().is_some_and(|due| due.cause.reason() == reason);
        let cut_short = parts || flowing || stalled || self.is_held_back();
        if cut_short {
            return self.kill(reason);
        }
        self.note(Ending::ours(reason));
        self.take_leave();
        finish(self.client.as_fd());
        if let Some(backend) = self.backend() {
            finish(backend.as_fd());
        }
    }

    /// Whether a side could be reset without a call of ours finding out: one whose stream has ended
    /// is not read any more, nor is one whose bytes have nowhere to go.
    fn is_blind(&self) -> bool {
        let blind = |progress: &Progress| progress.finished.get() || progress.stalled.get();
        blind(&self.up) || blind(&self.down) || self.is_held_back()
    }
}
