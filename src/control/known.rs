//! What is known of one name.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::snapshot::Offer;

/// A host by its addresses.
pub(super) struct Host {
    /// Sorted, without duplicates; empty: never resolved.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) watch: Watch,
}

/// What a service offers.
#[derive(Default)]
pub(super) struct Offers {
    /// What holds; `None`: never resolved.
    pub(super) known: Option<Arc<[Offer]>>,
    /// The latest answer, while hosts of it are looked up that nobody has asked for before: until then
    /// those before it serve.
    pub(super) coming: Option<Arc<[Offer]>>,
}

/// A service by its SRV records.
pub(super) struct Service {
    pub(super) offers: Offers,
    pub(super) watch: Watch,
}

/// The look-ups of one name.
pub(super) struct Watch {
    /// Whether one has ended since the last call that wanted one.
    pub(super) settled: bool,
    /// Asks for one before its time.
    pub(super) wake: Arc<Notify>,
    pub(super) task: AbortHandle,
}

/// What a look-up has found.
pub(super) enum News {
    Addresses(Vec<IpAddr>),
    Offers(Arc<[Offer]>),
}

impl Host {
    /// Says whether the addresses are others now.
    pub(super) fn take(&mut self, news: Option<News>) -> bool {
        self.watch.settled = true;
        match news {
            Some(News::Addresses(addresses)) if addresses != self.addresses => {
                self.addresses = addresses;
                true
            }
            _ => false,
        }
    }

    pub(super) const fn is_answered(&self) -> bool {
        self.watch.settled || !self.addresses.is_empty()
    }
}

impl Service {
    /// Nothing changes before the hosts are known.
    pub(super) fn take(&mut self, news: Option<News>) -> bool {
        self.watch.settled = true;
        if let Some(News::Offers(offers)) = news {
            let same = self.offers.known.as_ref() == Some(&offers);
            self.offers.coming = (!same).then_some(offers);
        }
        false
    }

    pub(super) const fn is_answered(&self) -> bool {
        let offers = &self.offers;
        (self.watch.settled && offers.coming.is_none()) || offers.known.is_some()
    }
}

impl Offers {
    /// Puts the latest answer in force once every host of it has been looked up, and one of them found: names
    /// that nobody can find are no better than those before. Says whether it did.
    pub(super) fn promote(&mut self, hosts: &HashMap<Arc<str>, Host>) -> bool {
        let host = |offer: &Offer| hosts.get(&offer.host);
        let is_answered = |offer: &Offer| host(offer).is_some_and(Host::is_answered);
        let is_found = |offer: &Offer| host(offer).is_some_and(|it| !it.addresses.is_empty());
        let nothing_yet = self.known.is_none();
        let coming = self.coming.take_if(|it| {
            let better = nothing_yet || it.is_empty() || it.iter().any(is_found);
            better && it.iter().all(is_answered)
        });
        let promoted = coming.is_some();
        self.known = coming.or_else(|| self.known.take());
        promoted
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Offer> {
        [&self.known, &self.coming]
            .into_iter()
            .flatten()
            .flat_map(|offers| offers.iter())
    }
}

impl Watch {
    /// Looks the name up now if there is no answer yet.
    pub(super) fn hurry_unless(&mut self, is_known: bool) {
        if !is_known {
            self.settled = false;
            self.wake.notify_one();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
