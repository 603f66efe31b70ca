//! Who may connect, and how often.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::Rate;

/// `listener.allow`, `allow_file`, `deny` and `deny_file`.
///
/// The most specific network that holds a client decides; of two alike, the one that denies. Whom none
/// holds is let in if no network and no file is there to allow any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Access {
    /// Networks that are let in.
    pub allow: Vec<IpNet>,
    /// A file of such.
    pub allow_file: Option<PathBuf>,
    /// Networks that are refused.
    pub deny: Vec<IpNet>,
    /// A file of such.
    pub deny_file: Option<PathBuf>,
}

/// `listener.max_connections` and `listener.limits`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of all clients together; `None`: any number.
    pub connections: Option<u32>,
    /// Connections of one source; `None`: any number.
    pub per_source: Option<u32>,
    /// New connections of one source; `None`: as many as it likes.
    pub rate: Option<Rate>,
    /// Bytes that one source may move in a second, at least 1,024; `None`: as many as it likes.
    pub bytes: Option<u32>,
    /// How many new connections may come at once; at least 1.
    pub burst: u32,
    /// What happens to who is over a limit.
    pub action: Action,
    /// Networks to which the limits of sources do not apply.
    pub exempt: Vec<IpNet>,
    /// Leading bits of an IPv4 address that are one source, 1 to 32.
    pub ipv4_prefix: u8,
    /// Leading bits of an IPv6 address that are one source, 1 to 128.
    pub ipv6_prefix: u8,
    /// What becomes of who is over a limit of sources.
    pub enforcement: Enforcement,
}

/// What a route asks of its clients beyond what its listener asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrance {
    /// Who may take it.
    pub access: Access,
    /// How many, and how often.
    pub limits: Limits,
}

/// `listener.limits.action`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A reset.
    Reset,
    /// An orderly end.
    Finish,
    /// Nothing is said as far as the kernel can be kept from it.
    Silent,
    /// A reset after so long.
    Tarpit(Duration),
}

/// `listener.limits.log_only`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// It is rejected.
    Reject,
    /// It is counted and logged, and served.
    LogOnly,
}

impl Access {
    /// Whether it lets everybody in.
    pub const fn is_open(&self) -> bool {
        self.allow.is_empty()
            && self.deny.is_empty()
            && self.allow_file.is_none()
            && self.deny_file.is_none()
    }

    /// Whether only some are let in.
    pub const fn is_closed(&self) -> bool {
        !self.allow.is_empty() || self.allow_file.is_some()
    }
}

impl Limits {
    /// None.
    pub const NONE: Self = Self {
        connections: None,
        per_source: None,
        rate: None,
        bytes: None,
        burst: 1,
        action: Action::Reset,
        exempt: Vec::new(),
        ipv4_prefix: 32,
        ipv6_prefix: 64,
        enforcement: Enforcement::Reject,
    };

    /// Whether sources have to be told apart.
    pub const fn counts_sources(&self) -> bool {
        self.per_source.is_some() || self.rate.is_some() || self.bytes.is_some()
    }
}
