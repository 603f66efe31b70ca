//! Files in use, looked at again and again: what has changed is read, checked and swapped in.
//!
//! A file is told by what it is, not by its name: a rename over it and a link that leads elsewhere
//! give another inode. What has only been touched is found out by its content.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;

use super::certificates::{self, Loaded};
use super::client::{self, Trust};
use super::fault::Fault;
use super::files;
use super::live::{Encrypting, Terminating};
use super::tickets::TicketKeys;
use crate::base::clock::Instant;
use crate::config::model::{Certificate, ClientAuth, PoolTls, Termination, Verify};
use crate::sys::file::{Look, look};

/// How long files that cannot be used may be under way: a chain and its key are written one after the
/// other, and what is in between is no fault.
pub(super) const SETTLE: Duration = Duration::from_secs(2);

/// How often files that cannot be used are tried again though they have not changed: a certificate may
/// become valid by time alone.
const RETRY: Duration = Duration::from_mins(1);

/// A file that changed so lately could change again without looking different, since the kernel's
/// times go in steps of milliseconds.
const YOUNG: Duration = Duration::from_secs(2);

/// What is made of some files, and replaced when they change.
pub(super) enum Made {
    /// A certificate of a listener, by its place.
    Certificate(Arc<Terminating>, usize),
    /// The rules about clients of a listener.
    Clients(Arc<Terminating>),
    /// The keys of a listener's tickets.
    TicketKeys(Arc<TicketKeys>),
    /// All settings of a pool.
    Backends(Arc<Encrypting>),
}

/// A certificate that is to be put in force.
pub(super) struct Renewed {
    pub(super) terminating: Arc<Terminating>,
    pub(super) place: usize,
    pub(super) certificate: Loaded,
}

/// Files that are of use only together.
pub(super) struct Watched {
    pub(super) made: Made,
    /// Whose they are, for messages.
    pub(super) owner: String,
    files: Vec<PathBuf>,
    looks: Vec<Option<Look>>,
    /// Whether they may change without looking different.
    young: bool,
    /// What is in force was made of this.
    in_force: Digest,
    trouble: Option<Trouble>,
}

/// `None`: some file cannot be read.
type Digest = Option<[u8; 32]>;

/// Why what is there is not in force.
struct Trouble {
    of: Digest,
    fault: Fault,
    since: Instant,
    retry: Instant,
    is_told: bool,
}

/// What came of a look at some files.
#[derive(Debug)]
pub(super) enum Seen {
    /// There is nothing to tell.
    Nothing,
    /// Others are in force now.
    Replaced,
    /// They cannot be used, for so long now that nobody seems to be writing them.
    Unusable(String),
}

impl Watched {
    pub(super) fn files(&self) -> usize {
        self.files.len()
    }

    /// The certificate of `terminating` at this place, if this is what is watched.
    pub(super) fn is_certificate(&self, terminating: &Arc<Terminating>, place: usize) -> bool {
        matches!(&self.made, Made::Certificate(ours, at) if Arc::ptr_eq(ours, terminating) && *at == place)
    }

    /// Whether this is what the pool's settings were made of.
    pub(super) fn is_of(&self, encrypting: &Arc<Encrypting>) -> bool {
        matches!(&self.made, Made::Backends(ours) if Arc::ptr_eq(ours, encrypting))
    }

    /// Whether `files` hold what is in force.
    pub(super) fn is_in_force(&self, files: &Files) -> bool {
        self.in_force.is_some() && self.in_force == files.digest
    }

    /// Goes on as `other`, which kept what was in force before although the files have changed.
    pub(super) fn keep(&mut self, other: &Self, fault: Fault, now: Instant) {
        self.trouble = Some(Trouble {
            of: self.in_force,
            fault,
            since: now,
            retry: now + RETRY,
            is_told: true,
        });
        self.in_force = other.in_force;
    }

    /// A changed certificate comes back in `renewed`, since many are put in force together.
    pub(super) fn look(&mut self, now: Instant, trust: &Trust, renewed: &mut Vec<Renewed>) -> Seen {
        let looks: Vec<_> = self.files.iter().map(|file| look(file)).collect();
        let is_due = self.trouble.as_ref().is_some_and(|it| now >= it.retry);
        if looks != self.looks || self.young || is_due {
            self.young = are_young(&looks, trust.now());
            self.looks = looks;
            let digest = files::digest(&self.files).ok();
            if digest.is_some() && digest == self.in_force {
                self.trouble = None;
                return Seen::Nothing;
            }
            let is_known = self.trouble.as_ref().is_some_and(|it| it.of == digest);
            if !is_known || is_due {
                let made = self.made.again(trust);
                return self.take(digest, now, made.map(|made| renewed.extend(made)));
            }
        }
        self.tell(now)
    }

    /// Notes what has been made of the files as they are now.
    fn take(&mut self, digest: Digest, now: Instant, made: Result<(), Fault>) -> Seen {
        match made {
            Ok(()) => {
                self.trouble = None;
                self.in_force = digest;
                Seen::Replaced
            }
            Err(fault) => {
                let known = self.trouble.take().filter(|known| known.of == digest);
                self.trouble = Some(Trouble {
                    of: digest,
                    since: known.as_ref().map_or(now, |known| known.since),
                    is_told: known.is_some_and(|known| known.is_told),
                    fault,
                    retry: now + RETRY,
                });
                self.tell(now)
            }
        }
    }

    /// Each trouble once, when it has lasted.
    fn tell(&mut self, now: Instant) -> Seen {
        match &mut self.trouble {
            Some(trouble) if !trouble.is_told && now - trouble.since >= SETTLE => {
                trouble.is_told = true;
                Seen::Unusable(trouble.fault.to_string())
            }
            _ => Seen::Nothing,
        }
    }
}

/// Files before anything is made of them.
pub(super) struct Files {
    files: Vec<PathBuf>,
    looks: Vec<Option<Look>>,
    young: bool,
    digest: Digest,
}

impl Files {
    /// To be made before the files are read for use: what changes afterwards is found at the next look.
    pub(super) fn new(files: Vec<PathBuf>, now: UnixTime) -> Self {
        let looks: Vec<_> = files.iter().map(|file| look(file)).collect();
        Self {
            young: are_young(&looks, now),
            digest: files::digest(&files).ok(),
            looks,
            files,
        }
    }

    pub(super) fn watched(self, made: Made, owner: String) -> Watched {
        Watched {
            made,
            owner,
            files: self.files,
            looks: self.looks,
            young: self.young,
            in_force: self.digest,
            trouble: None,
        }
    }
}

impl Made {
    /// Makes it again; all but a certificate is in force then.
    fn again(&self, trust: &Trust) -> Result<Option<Renewed>, Fault> {
        match self {
            Self::Certificate(terminating, place) => {
                let Some(certificate) = terminating.settings.certificates.get(*place) else {
                    return Ok(None);
                };
                let certificate = certificates::load(certificate, trust.now())?;
                return Ok(Some(Renewed {
                    terminating: Arc::clone(terminating),
                    place: *place,
                    certificate,
                }));
            }
            Self::Clients(terminating) => terminating.renew()?,
            Self::TicketKeys(keys) => keys.reload()?,
            Self::Backends(encrypting) => {
                let side = client::client(&encrypting.settings, trust)?;
                if let (Some(new), Some((file, _))) =
                    (&side.certificate, &encrypting.settings.certificate)
                {
                    let wrong = |wrong| Fault::file(file, wrong);
                    new.holds(trust.now()).map_err(wrong)?;
                }
                encrypting.replace(side);
            }
        }
        Ok(None)
    }
}

/// The files of a certificate.
pub(super) fn of_certificate(certificate: &Certificate) -> Vec<PathBuf> {
    let Certificate { chain, key, ocsp } = certificate;
    let both = [chain.clone(), key.clone()];
    both.into_iter().chain(ocsp.clone()).collect()
}

/// The files of the rules about clients; none where there are no rules.
pub(super) fn of_clients(termination: &Termination) -> Vec<PathBuf> {
    match &termination.client_auth {
        ClientAuth::Off => Vec::new(),
        ClientAuth::Request(ca) | ClientAuth::Require(ca) => {
            let authorities = [ca.ca.clone()].into_iter();
            authorities.chain(ca.crl.clone()).collect()
        }
    }
}

/// The files of a pool's settings; the system's authorities are no file.
pub(super) fn of_pool(pool: &PoolTls) -> Vec<PathBuf> {
    let authorities = match &pool.verify {
        Verify::Ca(ca) => Some(ca.clone()),
        Verify::System | Verify::None => None,
    };
    let own = pool.certificate.clone();
    let own = own.into_iter().flat_map(|(chain, key)| [chain, key]);
    authorities.into_iter().chain(own).collect()
}

fn are_young(looks: &[Option<Look>], now: UnixTime) -> bool {
    let since = now.as_secs().saturating_sub(YOUNG.as_secs());
    let is_young = |look: &Look| u64::try_from(look.changed()).is_ok_and(|at| at >= since);
    looks.iter().flatten().any(is_young)
}
