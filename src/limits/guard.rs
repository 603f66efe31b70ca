//! The verdict on a client that has just come: let in, or why not.

use std::net::IpAddr;
use std::sync::Arc;

use super::bytes::{BytePace, Meter};
use super::crowd::{Crowd, Member};
use super::networks::{Networks, Others};
use super::sources::{Pace, Permit, Sources};
use super::store::Access;
use crate::base::clock::Instant;
use crate::base::reason::Reason;
use crate::config::model::{Action, Enforcement, Limits};

/// What one listener asks of its clients.
#[derive(Debug)]
pub struct Guard {
    access: Option<Arc<Access>>,
    connections: Option<u32>,
    /// Who is in, where that is not known otherwise.
    crowd: Option<Arc<Crowd>>,
    action: Action,
    sources: Option<SourceLimits>,
}

/// What one source may do.
#[derive(Debug)]
struct SourceLimits {
    table: Arc<Sources>,
    connections: Option<u64>,
    pace: Option<Pace>,
    bytes: Option<BytePace>,
    exempt: Networks,
    enforcement: Enforcement,
}

/// A client that is let in.
#[derive(Debug, Default)]
pub struct Pass {
    /// Counts its connection among its source's; to be kept as long as that.
    pub permit: Option<Permit>,
    /// Its share in the bytes that its source may move, which counts the connection instead of `permit`.
    pub meter: Option<Box<Meter>>,
    /// The limit that it is over, where that is only counted and logged.
    pub over: Option<Reason>,
}

impl Guard {
    /// `None`: everybody may do everything. `sources` finds the table for these prefixes.
    pub fn new(
        access: Option<Arc<Access>>,
        limits: &Limits,
        sources: impl FnOnce((u8, u8)) -> Arc<Sources>,
    ) -> Option<Self> {
        let counts = limits.counts_sources();
        let acts = limits.connections.is_some() || limits.action != Action::Reset;
        if access.is_none() && !acts && !counts {
            return None;
        }
        Some(Self {
            access,
            connections: limits.connections,
            crowd: None,
            action: limits.action,
            sources: counts.then(|| SourceLimits {
                table: sources((limits.ipv4_prefix, limits.ipv6_prefix)),
                connections: limits.per_source.map(u64::from),
                pace: limits.rate.map(|rate| Pace::new(rate, limits.burst)),
                bytes: limits.bytes.map(BytePace::new),
                exempt: Networks::new(&limits.exempt, &[], Others::Refuse),
                enforcement: limits.enforcement,
            }),
        })
    }

    /// Counts connections in `crowd`, for [`enter`](Self::enter).
    pub fn counting(self, crowd: impl FnOnce() -> Arc<Crowd>) -> Self {
        let crowd = self.connections.map(|_| crowd());
        Self { crowd, ..self }
    }

    /// Where connections are counted; `None`: not here.
    pub const fn crowd(&self) -> Option<&Arc<Crowd>> {
        self.crowd.as_ref()
    }

    /// Counts one more connection of all clients together.
    ///
    /// # Errors
    /// There are as many as there may be: `limit_route`.
    pub fn enter(&self) -> Result<Option<Member>, Reason> {
        let (Some(most), Some(crowd)) = (self.connections, &self.crowd) else {
            return Ok(None);
        };
        crowd.enter(most).map(Some).ok_or(Reason::LimitRoute)
    }

    /// Who may connect at all; `None`: everybody.
    pub const fn access(&self) -> Option<&Arc<Access>> {
        self.access.as_ref()
    }

    /// Connections that the listener may have at a time.
    pub const fn connections(&self) -> Option<u32> {
        self.connections
    }

    /// What happens to who is over a limit.
    pub const fn action(&self) -> Action {
        self.action
    }

    /// The sources that are counted; `None`: they are not.
    pub fn sources(&self) -> Option<&Arc<Sources>> {
        self.sources.as_ref().map(|limits| &limits.table)
    }

    /// Whether the client with this address may connect at all.
    pub fn is_allowed(&self, client: IpAddr) -> bool {
        self.access.as_ref().is_none_or(|it| it.admit(client))
    }

    /// Counts a connection of the client with this address, if it may have one more.
    ///
    /// # Errors
    /// What it is refused for: `limit_source` or `limit_rate`.
    pub fn count(&self, client: IpAddr, now: Instant) -> Result<Pass, Reason> {
        match &self.sources {
            Some(limits) => limits.admit(client, now),
            None => Ok(Pass::default()),
        }
    }
}

impl SourceLimits {
    fn admit(&self, client: IpAddr, now: Instant) -> Result<Pass, Reason> {
        if self.exempt.prefixes() > 0 && self.exempt.admit(client) {
            return Ok(Pass::default());
        }
        // Whom the table has no room for is served: to refuse strangers would be to let whoever has many
        // addresses shut everybody out.
        let Some((permit, before)) = self.table.begin(client, now) else {
            return Ok(Pass::default());
        };
        let over = if self.connections.is_some_and(|most| before >= most) {
            Some(Reason::LimitSource)
        } else {
            let pace = self.pace.filter(|pace| !permit.is_within(*pace, now));
            pace.map(|_| Reason::LimitRate)
        };
        match over {
            Some(reason) if self.enforcement == Enforcement::Reject => Err(reason),
            over => Ok(match self.bytes {
                Some(pace) => Pass {
                    permit: None,
                    meter: Some(Box::new(Meter::new(permit, pace, self.enforcement))),
                    over,
                },
                // Who counts only new connections need not know when they end.
                None => Pass {
                    permit: self.connections.map(|_| permit),
                    meter: None,
                    over,
                },
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::model::Rate;

    const UNLIMITED: Limits = Limits::NONE;

    fn guard(limits: &Limits) -> Guard {
        Guard::new(None, limits, |prefixes| {
            Arc::new(Sources::new((1, 2), prefixes))
        })
        .unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn without_any_limit_there_is_no_guard() {
        let none = Guard::new(None, &UNLIMITED, |_| unreachable!());
        assert!(none.is_none());
    }

    #[test]
    fn a_source_has_so_many_and_may_come_back_when_one_has_ended() {
        let guard = guard(&Limits {
            per_source: Some(3),
            exempt: vec!["198.51.100.0/24".parse().unwrap()],
            ..UNLIMITED
        });
        let now = Instant::from_millis(1);
        let mut held: Vec<_> = (0..3)
            .map(|_| guard.count(ip("192.0.2.1"), now).unwrap())
            .collect();
        assert_eq!(
            guard.count(ip("192.0.2.1"), now).err(),
            Some(Reason::LimitSource)
        );
        assert!(guard.count(ip("192.0.2.2"), now).is_ok());
        held.pop();
        held.push(guard.count(ip("192.0.2.1"), now).unwrap());
        assert!(guard.count(ip("192.0.2.1"), now).is_err());
        let exempt: Vec<_> = (0..9)
            .map(|_| guard.count(ip("198.51.100.7"), now).unwrap())
            .collect();
        assert!(exempt.iter().all(|pass| pass.permit.is_none()));
    }

    #[test]
    fn a_rate_is_counted_without_holding_the_source() {
        let guard = guard(&Limits {
            rate: Some(Rate {
                count: 10,
                per: Duration::from_secs(1),
            }),
            burst: 2,
            ..UNLIMITED
        });
        let start = Instant::from_millis(1_000);
        let at = |millis| guard.count(ip("2001:db8::1"), start + Duration::from_millis(millis));
        assert!(at(0).is_ok_and(|pass| pass.permit.is_none()));
        assert!(at(0).is_ok());
        assert_eq!(at(0).err(), Some(Reason::LimitRate));
        assert_eq!(at(99).err(), Some(Reason::LimitRate));
        assert!(at(100).is_ok());
        assert!(at(100).is_err());
    }

    #[test]
    fn log_only_says_what_would_have_been_and_counts_on() {
        let guard = guard(&Limits {
            per_source: Some(1),
            enforcement: Enforcement::LogOnly,
            ..UNLIMITED
        });
        let now = Instant::from_millis(1);
        let first = guard.count(ip("192.0.2.1"), now).unwrap();
        let second = guard.count(ip("192.0.2.1"), now).unwrap();
        assert_eq!((first.over, second.over), (None, Some(Reason::LimitSource)));
        drop(first);
        // The second still counts.
        let third = guard.count(ip("192.0.2.1"), now).unwrap();
        assert_eq!(third.over, Some(Reason::LimitSource));
    }
}
