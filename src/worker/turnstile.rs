//! What a route asks of the clients that take it, asked once the route is known.

use std::net::IpAddr;
use std::os::fd::AsFd;

use super::Worker;
use super::admit::over_text;
use super::record::Record;
use crate::base::clock::now;
use crate::base::reason::Reason;
use crate::config::model::Action;
use crate::forward::link::{Ending, Link};
use crate::limits::crowd::Member;
use crate::limits::guard::{Guard, Pass};
use crate::snapshot::Listener;
use crate::snapshot::routes::Entry;

/// Counts a session among those of its route, and of its source there, for as long as it lives.
#[derive(Default)]
pub(super) struct Ticket {
    pass: Pass,
    _member: Option<Member>,
}

impl Ticket {
    /// The limit that the session is over, for its line.
    pub(super) fn over(&self) -> Option<&'static str> {
        self.pass.over.map(over_text)
    }
}

impl Worker {
    /// Lets a client take its route, or ends its session.
    pub(super) fn let_through(
        &self,
        link: &Link,
        listener: &Listener,
        entry: &Entry,
        record: &mut Record,
    ) -> Result<(), Ending> {
        let Some(guard) = entry.guard.as_deref() else {
            return Ok(());
        };
        let source = record.client.map(|client| client.ip());
        match admit(guard, source) {
            Ok(mut ticket) => {
                if let Some(meter) = ticket.pass.meter.take() {
                    link.meter(*meter);
                }
                self.count_over(listener, ticket.pass.over);
                if let Some(heard) = &mut record.heard {
                    heard.ticket = ticket;
                }
                Ok(())
            }
            Err(reason) => {
                if reason == Reason::Denied {
                    record.note("the route's lists of networks do not let it in");
                }
                // The connection of a proxy is the proxy's, and a wait can be ended only by a reset.
                let resets = reason == Reason::Denied
                    || listener.proxy_protocol.is_some()
                    || link.client().is_waited_for();
                let action = if resets {
                    Action::Reset
                } else {
                    guard.action()
                };
                Err(self.send_away(link, reason, action))
            }
        }
    }

    /// Ends the session of a client that its route does not let through.
    fn send_away(&self, link: &Link, reason: Reason, action: Action) -> Ending {
        if action == Action::Reset {
            return link.reject(reason, None);
        }
        // The session is over at once; what becomes of the connection, a second descriptor sees to.
        match link.client().as_fd().try_clone_to_owned() {
            Ok(socket) => {
                self.act(socket, action);
                link.dismiss(reason)
            }
            Err(_) => link.reject(reason, None),
        }
    }
}

fn admit(guard: &Guard, source: Option<IpAddr>) -> Result<Ticket, Reason> {
    if source.is_some_and(|source| !guard.is_allowed(source)) {
        return Err(Reason::Denied);
    }
    let member = guard.enter()?;
    let pass = match source {
        Some(source) => guard.count(source, now())?,
        None => Pass::default(),
    };
    Ok(Ticket {
        pass,
        _member: member,
    })
}
