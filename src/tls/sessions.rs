//! What a pool remembers of its backends, so that the next connection to one of them is resumed.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use parking_lot::{Mutex, MutexGuard};
use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// Names remembered; with [`PoolSni::Client`](crate::config::model::PoolSni::Client) clients choose
/// them.
pub(super) const NAMES_MAX: usize = 256;

/// Tickets of one name, about 1 KiB each. Each resumes one connection and brings a new one.
pub(super) const TICKETS_MAX: usize = 8;

/// Shared by all workers, and no worker ever waits for it: whoever meets another one here goes on
/// without, which costs a full handshake at the most.
#[derive(Default)]
pub(super) struct Sessions(Mutex<Names>);

#[derive(Default)]
struct Names {
    known: HashMap<ServerName<'static>, Known>,
    /// The same names, the first remembered first.
    order: VecDeque<ServerName<'static>>,
}

#[derive(Default)]
struct Known {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tickets: VecDeque<Tls13ClientSessionValue>,
}

impl Sessions {
    fn names(&self) -> Option<MutexGuard<'_, Names>> {
        self.0.try_lock()
    }

    fn edit(&self, name: ServerName<'static>, edit: impl FnOnce(&mut Known)) {
        if let Some(mut names) = self.names() {
            edit(names.remember(name));
        }
    }
}

impl Names {
    fn remember(&mut self, name: ServerName<'static>) -> &mut Known {
        if !self.known.contains_key(&name) {
            if self.order.len() == NAMES_MAX
                && let Some(first) = self.order.pop_front()
            {
                self.known.remove(&first);
            }
            self.order.push_back(name.clone());
        }
        self.known.entry(name).or_default()
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.edit(name, |known| known.group = Some(group));
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.names()?.known.get(name)?.group
    }

    fn set_tls12_session(&self, name: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.edit(name, |known| known.tls12 = Some(session));
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.names()?.known.get(name)?.tls12.clone()
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        if let Some(mut names) = self.names()
            && let Some(known) = names.known.get_mut(name)
        {
            known.tls12 = None;
        }
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.edit(name, |known| {
            if known.tickets.len() == TICKETS_MAX {
                known.tickets.pop_front();
            }
            known.tickets.push_back(ticket);
        });
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        // The newest: it holds longest.
        self.names()?.known.get_mut(name)?.tickets.pop_back()
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never what is in it: those are secrets.
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}
