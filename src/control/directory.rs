//! One look-up of one name: the hosts file, then DNS over the search list, both address families.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Hosts, TokioResolver};
use parking_lot::Mutex;

use crate::base::name::host_name;
use crate::snapshot::Offer;

/// Where names are looked up; replaced as a whole when the name servers change.
pub(super) struct Directory {
    /// The fault: why there are no name servers, so that only the hosts file has answers.
    resolver: Result<TokioResolver, String>,
    search: Vec<Name>,
    /// Parsed again when the file has changed.
    hosts: Mutex<(Option<SystemTime>, Hosts)>,
}

/// What a look-up found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// In no particular order; at least one.
    pub(super) addresses: Vec<IpAddr>,
    /// For how long they hold.
    pub(super) ttl: Duration,
    /// The family whose question went unanswered, so that its addresses are not known.
    pub(super) missing: Option<Family>,
}

/// What a look-up of SRV records found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offered {
    /// Sorted, each host and port once; empty: the service is decidedly not there.
    pub(super) offers: Arc<[Offer]>,
    /// For how long they hold.
    pub(super) ttl: Duration,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Directory {
    /// Asks `nameservers`, or those of the system where there are none.
    pub(super) fn new(nameservers: &[SocketAddr]) -> Self {
        let configured = if nameservers.is_empty() {
            read_system_conf()
        } else {
            Ok(given(nameservers))
        };
        // Without names to look up this is no fault, so it is told with the first name that fails.
        let built = configured.and_then(|(config, options)| build(config, options));
        let (resolver, search) = match built {
            Ok((resolver, search)) => (Ok(resolver), search),
            Err(error) => (Err(format!("/etc/resolv.conf: {error}")), Vec::new()),
        };
        Self {
            resolver,
            search,
            hosts: Mutex::new((None, Hosts::default())),
        }
    }

    /// All addresses of `host`; the error is a text for the operator.
    pub(super) async fn look_up(&self, host: &str) -> Result<Found, String> {
        let name = absolute(host)?;
        if let Some(found) = self.in_hosts(&name) {
            return Ok(found);
        }
        let resolver = self.resolver.as_ref();
        let resolver = resolver
            .map_err(|fault| format!("not in {HOSTS_FILE}, and no name servers ({fault})"))?;
        for candidate in self.candidates(&name, resolver.options().ndots) {
            let (v4, v6) = tokio::join!(
                resolver.lookup(candidate.clone(), RecordType::A),
                resolver.lookup(candidate, RecordType::AAAA),
            );
            if let Some(found) = combine(v4, v6)? {
                return Ok(found);
            }
        }
        Err("no such name, or it has no addresses".to_owned())
    }

    /// What the SRV records of `service` offer; the error is a text for the operator.
    pub(super) async fn look_up_service(&self, service: &str) -> Result<Offered, String> {
        let name = absolute(service)?;
        let resolver = self.resolver.as_ref();
        let resolver = resolver.map_err(|fault| format!("no name servers ({fault})"))?;
        for candidate in self.candidates(&name, resolver.options().ndots) {
            match resolver.lookup(candidate, RecordType::SRV).await {
                Ok(lookup) => {
                    if let Some(offered) = offered(&lookup)? {
                        return Ok(offered);
                    }
                }
                Err(error) if error.is_no_records_found() => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Err("no such name, or it has no SRV records".to_owned())
    }

    fn in_hosts(&self, name: &Name) -> Option<Found> {
        let mut cache = self.hosts.lock();
        let modified = fs::metadata(HOSTS_FILE)
            .and_then(|metadata| metadata.modified())
            .ok();
        if modified != cache.0 {
            *cache = (modified, read_hosts().unwrap_or_default());
        }
        let answer = |kind| {
            cache
                .1
                .lookup_static_host(&Query::query(name.clone(), kind))
        };
        let records = [RecordType::A, RecordType::AAAA].map(answer);
        let addresses: Vec<IpAddr> = records.iter().flatten().flat_map(addresses).collect();
        (!addresses.is_empty()).then_some(Found {
            addresses,
            ttl: HOSTS_TTL,
            missing: None,
        })
    }

    /// The names to ask for, in order, as resolv.conf(5) has it: a name with fewer dots than
    /// `ndots` is first sought in the search domains.
    fn candidates(&self, name: &Name, ndots: usize) -> Vec<Name> {
        let mut relative = name.clone();
        relative.set_fqdn(false);
        let mut names: Vec<Name> = self
            .search
            .iter()
            .filter_map(|domain| relative.clone().append_domain(domain).ok())
            .collect();
        let dots = usize::from(name.num_labels()).saturating_sub(1);
        let place = if dots >= ndots { 0 } else { names.len() };
        names.insert(place, name.clone());
        names
    }
}

const HOSTS_FILE: &str = "/etc/hosts";

/// The hosts file has no TTL of its own; a change of it is noticed after this long.
const HOSTS_TTL: Duration = Duration::from_secs(5);

fn read_hosts() -> io::Result<Hosts> {
    let mut hosts = Hosts::default();
    hosts.read_hosts_conf(File::open(HOSTS_FILE)?)?;
    Ok(hosts)
}

fn given(nameservers: &[SocketAddr]) -> (ResolverConfig, ResolverOpts) {
    let servers = nameservers
        .iter()
        .map(|address| {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            for connection in &mut server.connections {
                connection.port = address.port();
            }
            server
        })
        .collect();
    let mut options = ResolverOpts::default();
    options.timeout = Duration::from_secs(2);
    (ResolverConfig::from_name_servers(servers), options)
}

fn build(
    config: ResolverConfig,
    mut options: ResolverOpts,
) -> Result<(TokioResolver, Vec<Name>), NetError> {
    // The hosts file is read here, before the search list, and again when it changes.
    options.use_hosts_file = ResolveHosts::Never;
    // Names are asked for again when their TTL is over, and never earlier but on purpose.
    options.cache_size = 0;
    // Two questions for each of the look-ups that may run at once.
    options.max_active_requests = 2 * super::names::LOOKUPS_MAX;
    let search = config.search().to_vec();
    let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()?;
    Ok((resolver, search))
}

/// What both families' answers come to: `None` where the name has no addresses. Some servers answer
/// for A and leave AAAA unanswered or the other way round; the half that is known is better than none.
fn combine(
    v4: Result<Lookup, NetError>,
    v6: Result<Lookup, NetError>,
) -> Result<Option<Found>, String> {
    let mut found = Found {
        addresses: Vec::new(),
        ttl: Duration::MAX,
        missing: None,
    };
    let mut fault = None;
    for (family, answer) in [(Family::V4, v4), (Family::V6, v6)] {
        match answer {
            Ok(lookup) => {
                let before = found.addresses.len();
                found.addresses.extend(addresses(&lookup));
                if found.addresses.len() > before {
                    found.ttl = found.ttl.min(ttl(&lookup));
                }
            }
            Err(error) if error.is_no_records_found() => {}
            Err(error) => {
                found.missing = Some(family);
                fault = Some(error.to_string());
            }
        }
    }
    match fault {
        _ if !found.addresses.is_empty() => Ok(Some(found)),
        Some(fault) => Err(fault),
        None => Ok(None),
    }
}

/// Offers of one service; more would be no service but a flood.
const OFFERS_MAX: usize = 256;

/// What SRV records come to: `None` where there are none.
fn offered(lookup: &Lookup) -> Result<Option<Offered>, String> {
    let records = lookup
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(srv),
            _ => None,
        });
    let found = records.clone().next().is_some();
    let offers = sifted(records)?;
    let ttl = ttl(lookup);
    Ok(found.then_some(Offered { offers, ttl }))
}

/// Offers in order, each host and port once. Records that nobody can connect to are left out, and refused where
/// there are only such.
fn sifted<'a>(records: impl Iterator<Item = &'a SRV>) -> Result<Arc<[Offer]>, String> {
    let mut refused = None;
    let mut offers = Vec::new();
    // A target of "." says that "the service is decidedly not available" (RFC 2782).
    for srv in records.filter(|srv| !srv.target.is_root()) {
        let target = srv.target.to_ascii();
        match host_name(&target).filter(|_| srv.port > 0) {
            Some(host) => offers.push(Offer {
                priority: srv.priority,
                host,
                port: srv.port,
                weight: srv.weight,
            }),
            None => refused = Some(format!("it offers {}:{}", target.escape_debug(), srv.port)),
        }
    }
    if let (true, Some(refused)) = (offers.is_empty(), refused) {
        return Err(refused);
    }
    offers.sort_unstable();
    // Of two records for the same the first one by priority holds.
    let mut seen = HashSet::new();
    offers.retain(|offer| seen.insert((Arc::clone(&offer.host), offer.port)));
    offers.truncate(OFFERS_MAX);
    Ok(offers.into())
}

fn absolute(name: &str) -> Result<Name, String> {
    let mut name = Name::from_str(name).map_err(|error| error.to_string())?;
    name.set_fqdn(true);
    Ok(name)
}

fn addresses(lookup: &Lookup) -> impl Iterator<Item = IpAddr> {
    lookup
        .answers()
        .iter()
        .filter_map(|record| record.data.ip_addr())
}

/// The least TTL of the answer, aliases included.
fn ttl(lookup: &Lookup) -> Duration {
    let seconds = lookup.answers().iter().map(|record| record.ttl).min();
    Duration::from_secs(seconds.unwrap_or(0).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(search: &[&str]) -> Directory {
        Directory {
            resolver: Err("nothing there".to_owned()),
            search: search
                .iter()
                .map(|domain| Name::from_str(domain).unwrap())
                .collect(),
            hosts: Mutex::new((None, Hosts::default())),
        }
    }

    fn candidates(host: &str, ndots: usize) -> Vec<String> {
        let mut name = Name::from_str(host).unwrap();
        name.set_fqdn(true);
        directory(&["a.example.", "b.example."])
            .candidates(&name, ndots)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn short_names_are_sought_in_the_search_domains_first() {
        assert_eq!(
            candidates("db", 1),
            ["db.a.example.", "db.b.example.", "db."]
        );
        assert_eq!(
            candidates("db.c", 1),
            ["db.c.", "db.c.a.example.", "db.c.b.example."]
        );
        assert_eq!(
            candidates("db.c", 5),
            ["db.c.a.example.", "db.c.b.example.", "db.c."]
        );
    }

    fn record(priority: u16, port: u16, target: &str) -> SRV {
        SRV::new(priority, 0, port, Name::from_str(target).unwrap())
    }

    #[test]
    fn a_root_target_takes_a_service_away_and_nonsense_does_not() {
        let none = sifted([record(0, 0, ".")].iter()).unwrap();
        assert!(none.is_empty());
        let good = sifted([record(0, 0, "."), record(1, 5, "A.Example.")].iter()).unwrap();
        assert_eq!((good.len(), &*good[0].host), (1, "a.example"));
        let fault = sifted([record(0, 0, "a.example.")].iter());
        assert_eq!(fault.unwrap_err(), "it offers a.example.:0");
    }

    #[test]
    fn offers_are_bounded_and_the_first_by_priority_are_kept() {
        let many = (1..=1_000).rev();
        let many: Vec<_> = many.map(|port| record(port, port, "a.example.")).collect();
        let offers = sifted(many.iter()).unwrap();
        assert_eq!(offers.len(), OFFERS_MAX);
        assert!(
            offers
                .iter()
                .zip(1..)
                .all(|(offer, port)| offer.port == port)
        );
    }

    #[test]
    fn without_name_servers_the_hosts_file_still_answers() {
        let directory = directory(&[]);
        let file = "192.0.2.7 box.example box\n2001:db8::7 box\n";
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf(file.as_bytes()).unwrap();
        let modified = fs::metadata(HOSTS_FILE).and_then(|metadata| metadata.modified());
        *directory.hosts.lock() = (modified.ok(), hosts);
        let name = Name::from_str("box.").unwrap();
        let mut found = directory.in_hosts(&name).unwrap().addresses;
        found.sort();
        let wanted: [IpAddr; 2] = ["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        assert_eq!(found, wanted);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let error = runtime.block_on(directory.look_up("absent.example"));
        assert!(
            error
                .unwrap_err()
                .contains("no name servers (nothing there)")
        );
    }
}
