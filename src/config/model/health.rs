//! What the configuration says of probes, and of pools whose backends are all down.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use regex::bytes::{Regex, RegexBuilder};

/// What happens to clients of a pool whose backends are all down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllDown {
    /// One a second goes to a backend that is down, each in its turn; the others are refused.
    #[default]
    Trickle,
    /// They go to backends as if all were up.
    Open,
    /// They are refused.
    Closed,
}

/// `[pool.NAME.health]`; no duration here is zero, nor is a count.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// What a probe does.
    pub probe: Probe,
    /// From one probe of a backend to the next, before it is varied by a tenth.
    pub interval: Duration,
    /// A whole probe.
    pub timeout: Duration,
    /// Good probes in a row that bring a backend up.
    pub rise: u32,
    /// Bad probes in a row that take a backend down.
    pub fall: u32,
    /// The address that is probed; `None`: the backend's own. With a backend on a unix socket there is
    /// either this and a port, or neither.
    pub address: Option<IpAddr>,
    /// The port that is probed; `None`: the backend's own.
    pub port: Option<u16>,
    /// What a new backend is.
    pub initial: Initial,
}

/// `health.initial`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initial {
    /// Used until `fall` probes failed.
    Up,
    /// Not used until `rise` probes succeeded.
    Down,
    /// Not used until the first probe, which decides alone.
    Check,
}

/// What a probe does once it is connected.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// Nothing.
    Tcp,
    /// A TLS handshake.
    Tls,
    /// A request by HTTP/1.1.
    Http(HttpProbe),
    /// Sends bytes and expects others.
    Exchange(Exchange),
}

/// `health.http`
#[derive(Clone, Debug, PartialEq)]
pub struct HttpProbe {
    /// The method, in capitals.
    pub method: Arc<str>,
    /// Begins with a slash.
    pub path: Arc<str>,
    /// `None`: the backend's own name or address.
    pub host: Option<Arc<str>>,
    /// Good answers; at least one.
    pub status: Vec<RangeInclusive<u16>>,
}

/// `health.exchange`
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// Sent first; may be empty.
    pub send: Arc<[u8]>,
    /// What must come back.
    pub expect: Expect,
}

/// A good answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Expect {
    /// Begins with these bytes, of which there is at least one.
    Prefix(Arc<[u8]>),
    /// Has this in its first 4 KiB.
    Regex(BytesPattern),
}

/// A regular expression over bytes, of which two are equal if they are written alike.
#[derive(Clone, Debug)]
pub struct BytesPattern(Regex);

/// What a compiled expression may take, bytes; it is matched in linear time whatever it is.
const PATTERN_BYTES_MAX: usize = 1 << 20;

impl BytesPattern {
    /// Compiles `text`, in which `.` and `\xff` stand for bytes, not characters.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn new(text: &str) -> Result<Self, String> {
        let compiled = RegexBuilder::new(text)
            .unicode(false)
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX)
            .build();
        compiled.map(Self).map_err(|error| {
            // The place is drawn over several lines, the cause stands in the last one.
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.trim_start_matches("error: ").to_owned()
        })
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it is found in `bytes`.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.0.is_match(bytes)
    }
}

impl PartialEq for BytesPattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}
