//! What is allowed but probably not meant.

use std::path::Path;
use std::sync::Arc;

use super::Loading;
use crate::base::name::NamePattern;
use crate::config::model::{Route, Routes, Target, Termination};
use crate::config::{Owner, Remark, Spot};
use crate::tls::certificates::{Loaded, date};
use crate::tls::coverage::{self, Names, Terminated};
use crate::tls::fault::Wrong;

/// A certificate that expires within so many days is worth a warning.
const DAYS_LOW: u64 = 30;

const DAY: u64 = 24 * 60 * 60;

impl Loading<'_> {
    /// Warns of a certificate that holds no longer, or not for long.
    pub(super) fn validity(&mut self, owner: &Owner, chain: &Path, loaded: &Loaded) {
        let (file, today) = (chain.display(), self.today.as_secs());
        let who = match owner {
            Owner::Pool(_) => "backends",
            _ => "clients",
        };
        let days = loaded.not_after.saturating_sub(today) / DAY;
        let left = match loaded.holds(self.today) {
            Err(Wrong::NotYetValid { from }) => {
                let message =
                    format!("{file}: not valid before {from}, {who} refuse it until then");
                self.warn(owner, chain, message);
                format!("not valid before {from}")
            }
            Err(_) => {
                let since = date(loaded.not_after);
                let message = format!("{file}: expired on {since}, {who} refuse it");
                self.warn(owner, chain, message);
                format!("expired on {since}")
            }
            Ok(()) => {
                let left = match days {
                    1 => "1 day left".to_owned(),
                    days => format!("{days} days left"),
                };
                if days < DAYS_LOW {
                    let message = format!("{file}: {left} until it expires");
                    self.warn(owner, chain, message);
                }
                left
            }
        };
        let names: Vec<_> = loaded.names.iter().collect();
        let names = match names.is_empty() {
            true => "no names".to_owned(),
            false => coverage::list(&names),
        };
        let line = format!("certificate {file}: {names}, {}, {left}", loaded.kind);
        self.certificates.push(line);
    }

    /// Warns of names that only the routes or only the certificates of a listener have.
    pub(super) fn coverage(
        &mut self,
        listener: &Arc<str>,
        routes: &Routes,
        (termination, loaded): (&Termination, &[Loaded]),
    ) {
        let terminated = Terminated::of(routes);
        for (place, loaded) in loaded.iter().enumerate() {
            let unused = terminated.unused(&loaded.names);
            if let Some(certificate) = termination.certificates.get(place)
                && !unused.is_empty()
            {
                let owner = Owner::Certificate(Arc::clone(listener), place);
                let file = certificate.chain.display();
                let unused = coverage::list(&unused);
                let message = format!("{file}: no route of the listener terminates {unused}");
                self.warn(&owner, &certificate.chain, message);
            }
        }
        let carried = Names::of(loaded.iter().flat_map(|loaded| &loaded.names));
        let terminates = |route: &&Route| matches!(route.target, Target::Terminate(_));
        for route in routes.routes.iter().filter(terminates) {
            let missing = |name: &&NamePattern| !carried.meet(name);
            for name in route.names.sni.iter().filter(missing) {
                let instead = match termination.default_certificate {
                    Some(_) => "clients are shown the default certificate and refuse it",
                    None => "clients that ask for it are refused",
                };
                let owner = Owner::Route(Arc::clone(listener), Arc::clone(&route.name));
                let message = format!("no certificate carries \"{name}\": {instead}");
                let text = Arc::from(name.to_string());
                let at = Spot { owner, text };
                self.warnings.push(Remark { at, message });
            }
        }
    }
}
