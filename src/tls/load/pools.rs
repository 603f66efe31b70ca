//! `pool.tls` to settings toward backends.

use std::sync::Arc;

use super::Loading;
use crate::config::Owner;
use crate::config::model::{Pool, PoolTls, Verify};
use crate::tls::client::{self, ClientSide};
use crate::tls::fault::Fault;
use crate::tls::live::Encrypting;
use crate::tls::watch::{self, Files, Made};

impl Loading<'_> {
    /// How connections to the backends of a pool are encrypted.
    pub(super) fn pool(&mut self, pool: &Pool, tls: &PoolTls) {
        let owner = Owner::Pool(Arc::clone(&pool.name));
        let paths = watch::of_pool(tls);
        let is_watched = !paths.is_empty();
        let files = Files::new(paths, self.today);
        let system = match &tls.verify {
            Verify::System => {
                let digest = self.trust.system_digest();
                match self.taken(&owner, digest) {
                    Some(digest) => Some(digest),
                    None => return,
                }
            }
            Verify::Ca(_) | Verify::None => None,
        };
        let running = self.before.settings().pool(&pool.name);
        let running = running.filter(|it| it.settings == *tls && it.system == system);
        let watched = running.and_then(|running| {
            let mut all = self.before.watched().iter();
            all.find(|one| one.is_of(running))
        });
        let mut kept = None;
        let encrypting = match running {
            // Sessions that can be resumed stay so.
            Some(running) if watched.is_none_or(|it| it.is_in_force(&files)) => Arc::clone(running),
            _ => {
                let side = client::client(tls, self.trust);
                let Some(side) = self.taken(&owner, side) else {
                    return;
                };
                self.renewed += u64::from(running.is_some());
                match running.zip(self.worse(tls, &side, running)) {
                    Some((running, fault)) => {
                        let (chain, _) = tls.certificate.as_ref().expect("it was compared");
                        self.keep(&owner, chain, &fault);
                        kept = watched.zip(Some(fault));
                        Arc::clone(running)
                    }
                    None => Arc::new(Encrypting::new(tls, side, system)),
                }
            }
        };
        self.own_certificate(&owner, tls, &encrypting);
        if is_watched {
            let made = Made::Backends(Arc::clone(&encrypting));
            let mut watched = files.watched(made, format!("pool {}", pool.name));
            if let Some((before, fault)) = kept {
                watched.keep(before, fault, self.now);
            }
            self.watched.push(watched);
        }
        let name = Arc::clone(&pool.name);
        self.settings.pools.insert(name, encrypting);
    }

    /// What makes our certificate in `side` worse than the one that is in use.
    fn worse(
        &self,
        tls: &PoolTls,
        side: &ClientSide,
        running: Option<&Arc<Encrypting>>,
    ) -> Option<Fault> {
        let (chain, _) = tls.certificate.as_ref()?;
        let wrong = side.certificate.as_ref()?.holds(self.today).err()?;
        let running = running?.certificate()?;
        running.holds(self.today).ok()?;
        Some(Fault::file(chain, wrong))
    }

    fn own_certificate(&mut self, owner: &Owner, tls: &PoolTls, encrypting: &Encrypting) {
        if let (Some((chain, _)), Some(loaded)) = (&tls.certificate, encrypting.certificate()) {
            self.validity(owner, chain, &loaded);
        }
    }
}
