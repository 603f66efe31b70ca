//! From a model to settings of TLS: every file is read, and every fault is found with its place.

mod pools;
mod remarks;

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::UnixTime;

use super::certificates::{self, Loaded};
use super::client::Trust;
use super::fault::Fault;
use super::index::CertificateIndex;
use super::live::{Settings, Terminating};
use super::store::{Prepared, Store};
use super::tickets::TicketKeys;
use super::watch::{self, Files, Made, Watched};
use crate::base::clock::Instant;
use crate::config::model::{Certificate, Model, Routes, Routing, Termination, Tickets};
use crate::config::{Owner, Places, Remark, Report, Spot};

/// What has been read and found so far.
pub(super) struct Loading<'a> {
    before: &'a Store,
    trust: &'a Trust,
    now: Instant,
    /// The time of day.
    today: UnixTime,
    settings: Settings,
    watched: Vec<Watched>,
    faults: Vec<Remark>,
    warnings: Vec<Remark>,
    certificates: Vec<String>,
    kept: u64,
    renewed: u64,
}

/// A certificate of a listener, and what is watched of it.
struct Entry<'a> {
    loaded: Loaded,
    files: Files,
    /// What it keeps out, and what was watched of the one that is kept instead.
    kept: Option<(&'a Watched, Fault)>,
}

impl<'a> Loading<'a> {
    pub(super) fn new(before: &'a Store, trust: &'a Trust, now: Instant) -> Self {
        Self {
            before,
            trust,
            now,
            today: trust.now(),
            settings: Settings::default(),
            watched: Vec::new(),
            faults: Vec::new(),
            warnings: Vec::new(),
            certificates: Vec::new(),
            kept: 0,
            renewed: 0,
        }
    }

    pub(super) fn load(mut self, model: &Model, places: &Places) -> Result<Prepared, Report> {
        for listener in &model.listeners {
            if let Routing::ByHello(routes) = &listener.routing
                && let Some(termination) = &routes.termination
            {
                self.listener(&listener.name, routes, termination);
            }
        }
        for pool in &model.pools {
            if let Some(tls) = &pool.tls {
                self.pool(pool, tls);
            }
        }
        if !self.faults.is_empty() {
            return Err(places.faults(self.faults));
        }
        Ok(Prepared {
            settings: Arc::new(self.settings),
            watched: self.watched,
            warnings: places.warnings(self.warnings),
            certificates: self.certificates,
            kept: self.kept,
            renewed: self.renewed,
        })
    }

    fn listener(&mut self, name: &Arc<str>, routes: &Routes, termination: &Termination) {
        let entries: Vec<_> = termination
            .certificates
            .iter()
            .enumerate()
            .map(|(place, certificate)| self.certificate(name, place, certificate))
            .collect();
        let owner = Owner::Termination(Arc::clone(name));
        let clients = Owner::Clients(Arc::clone(name));
        let ticket_files = match &termination.tickets {
            Tickets::File(file) => Some(Files::new(vec![file.clone()], self.today)),
            Tickets::Off | Tickets::Rotating(_) => None,
        };
        let tickets = self.tickets(name, &termination.tickets);
        let tickets = self.taken(&owner, tickets).flatten();
        let client_files = watch::of_clients(termination);
        let client_files = (!client_files.is_empty()).then(|| Files::new(client_files, self.today));
        // With a certificate missing names would seem not to be carried.
        let entries: Option<Vec<Entry<'a>>> = entries.into_iter().collect();
        let Some(entries) = entries else {
            // The rules about clients may have faults, too.
            let none = Vec::new();
            self.terminating(&clients, termination, (none, None));
            return;
        };
        let loaded: Vec<_> = entries.iter().map(|entry| entry.loaded.clone()).collect();
        self.coverage(name, routes, (termination, &loaded));
        let Some(terminating) = self.terminating(&clients, termination, (loaded, tickets.clone()))
        else {
            return;
        };
        let what = format!("listener {name}");
        for (place, entry) in entries.into_iter().enumerate() {
            let made = Made::Certificate(Arc::clone(&terminating), place);
            let mut watched = entry.files.watched(made, what.clone());
            if let Some((before, fault)) = entry.kept {
                watched.keep(before, fault, self.now);
            }
            self.watched.push(watched);
        }
        if let Some(files) = client_files {
            let made = Made::Clients(Arc::clone(&terminating));
            self.watched.push(files.watched(made, what.clone()));
        }
        if let (Some(files), Some(keys)) = (ticket_files, tickets) {
            self.watched
                .push(files.watched(Made::TicketKeys(keys), what));
        }
        self.settings
            .listeners
            .insert(Arc::clone(name), terminating);
    }

    fn terminating(
        &mut self,
        owner: &Owner,
        termination: &Termination,
        (loaded, tickets): (Vec<Loaded>, Option<Arc<TicketKeys>>),
    ) -> Option<Arc<Terminating>> {
        let clock = Arc::clone(self.before.clock());
        let index = CertificateIndex::new(loaded, termination.default_certificate, clock);
        let made = Terminating::new(termination, Arc::new(index), tickets);
        self.taken(owner, made).map(Arc::new)
    }

    fn certificate(
        &mut self,
        listener: &Arc<str>,
        place: usize,
        certificate: &Certificate,
    ) -> Option<Entry<'a>> {
        let owner = Owner::Certificate(Arc::clone(listener), place);
        let files = Files::new(watch::of_certificate(certificate), self.today);
        let read = certificates::read(certificate, self.today);
        let mut loaded = self.taken(&owner, read)?;
        let mut kept = None;
        let running = self.running(listener, certificate);
        if let Some((_, watched)) = &running {
            self.renewed += u64::from(!watched.is_in_force(&files));
        }
        if let Err(wrong) = loaded.holds(self.today)
            && let Some((running, watched)) = running
            && running.holds(self.today).is_ok()
        {
            let fault = Fault::file(&certificate.chain, wrong);
            self.keep(&owner, &certificate.chain, &fault);
            kept = Some((watched, fault));
            loaded = running;
        }
        for warning in &loaded.warnings {
            let of = |file: &&Path| warning.starts_with(&*file.to_string_lossy());
            let file = certificate.ocsp.as_deref().filter(of);
            self.warn(&owner, file.unwrap_or(&certificate.chain), warning.clone());
        }
        self.validity(&owner, &certificate.chain, &loaded);
        Some(Entry {
            loaded,
            files,
            kept,
        })
    }

    /// What the running configuration has of this certificate.
    fn running(
        &self,
        listener: &Arc<str>,
        certificate: &Certificate,
    ) -> Option<(Loaded, &'a Watched)> {
        let before: &'a Store = self.before;
        let terminating = before.settings().listener(listener)?;
        let mut all = terminating.settings.certificates.iter();
        let place = all.position(|one| one == certificate)?;
        let loaded = terminating.certificates().into_iter().nth(place)?;
        let mut watched = before.watched().iter();
        let watched = watched.find(|one| one.is_certificate(terminating, place))?;
        Some((loaded, watched))
    }

    /// Keys of this process live as long as their settings; those of a file are as the file has them.
    fn tickets(
        &self,
        listener: &str,
        settings: &Tickets,
    ) -> Result<Option<Arc<TicketKeys>>, Fault> {
        let running = self.before.settings().listener(listener);
        let running = running.and_then(|running| running.tickets.as_ref());
        match (settings, running) {
            (Tickets::Rotating(_), Some(keys)) if keys.serve(settings) => {
                Ok(Some(Arc::clone(keys)))
            }
            _ => TicketKeys::new(settings, self.now, Arc::clone(self.before.clock())),
        }
    }

    /// Notes that what is in use is better than what is there.
    fn keep(&mut self, owner: &Owner, chain: &Path, fault: &Fault) {
        let message = format!("{fault}; the one before stays in use");
        self.warn(owner, chain, message);
        self.kept += 1;
        self.renewed -= 1;
    }

    fn warn(&mut self, owner: &Owner, file: &Path, message: String) {
        let at = spot(owner, file);
        self.warnings.push(Remark { at, message });
    }

    /// What was read, unless it has a fault, which is noted.
    fn taken<T>(&mut self, owner: &Owner, read: Result<T, Fault>) -> Option<T> {
        read.map_err(|fault| {
            let at = match &fault {
                Fault::File { file, .. } => spot(owner, file),
                Fault::NoSystemAuthorities { .. } | Fault::Settings(_) | Fault::NoRandom => {
                    spot(owner, Path::new(""))
                }
            };
            let message = fault.to_string();
            self.faults.push(Remark { at, message });
        })
        .ok()
    }
}

fn spot(owner: &Owner, file: &Path) -> Spot {
    Spot {
        owner: owner.clone(),
        text: Arc::from(&*file.to_string_lossy()),
    }
}
