//! The kinds of text that a key can take: what is expected, and how it is read.

mod load;
mod parting;
mod probe;
mod wire;

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use super::table::Value;
use crate::base::address::{Address, Endpoint, HostPort};

pub(crate) use load::{BYTE_RATE, LAG, MEMORY, PART, byte_rate_text, memory_text};
pub(crate) use parting::{PARTING, parting, parting_text};
pub(crate) use probe::{
    BYTES, EXPECTED_BYTES, HOST, METHOD, PATH, REGEX, STATUS, bytes_text, status_text,
};
pub(crate) use wire::network;
pub(crate) use wire::{
    ACTION, JA4, NETWORK, PATTERN, PLAIN, POOL_SNI, PROTOCOL, RATE, TLV_VALUE, action, action_text,
    rate_text,
};

/// A kind of text.
#[derive(Debug)]
pub(crate) struct Text {
    /// What the operator should have written.
    pub(crate) expected: &'static str,
    /// The words among what can be written, for advice on a mistyped one.
    pub(crate) words: &'static [&'static str],
    /// What the schema lets pass: an ECMA 262 expression, never stricter than `parse`.
    pub(crate) pattern: &'static str,
    /// Reads it; the error is a more exact `expected`.
    pub(crate) parse: fn(&str) -> Result<Value, Expected>,
}

/// What should have been there instead.
pub(crate) type Expected = Cow<'static, str>;

/// Characters of a name; longer ones would make log lines and metric labels useless.
const NAME_MAX: usize = 128;

const NAME_PATTERN: &str = r"^[^\u0000-\u001f\u007f]{1,128}$";

/// The most that `sun_path` holds with its closing zero (unix(7)).
const UNIX_PATH_MAX: usize = 107;

/// Ports of one range; each costs a socket on every worker.
const PORT_RANGE_MAX: usize = 4096;

const SERVICE: &str = "a name without a port after \"srv:\", as in \"srv:_http._tcp.example.com\"";

const PORT: &str = "a port from 1 to 65535";

/// The name of a listener, pool or backend.
pub(crate) static NAME: Text = Text {
    expected: "a name of 1 to 128 characters without control characters",
    words: &[],
    pattern: NAME_PATTERN,
    parse: name,
};

/// The name of a pool that must exist.
pub(crate) static POOL: Text = Text {
    expected: "the NAME of a [pool.NAME] table",
    words: &[],
    pattern: NAME_PATTERN,
    parse: name,
};

/// The path of a file.
pub(crate) static FILE: Text = Text {
    expected: "the path of a file",
    words: &[],
    pattern: "^.+$",
    parse: |text| {
        if text.is_empty() || text.contains('\0') {
            return Err(FILE.expected.into());
        }
        Ok(Value::Text(Arc::from(text)))
    },
};

/// `log.sessions`. A path has a slash, so that a mistyped word does not become a file.
pub(crate) static SESSIONS: Text = Text {
    expected: "\"stdout\", \"off\" or a path with a slash, such as \"./sessions.log\"",
    words: &["stdout", "off"],
    pattern: r"^(stdout|off|.*/.*)$",
    parse: |text| match text {
        "stdout" | "off" => Ok(Value::Text(Arc::from(text))),
        path if path.contains('/') && !path.contains('\0') => Ok(Value::Text(Arc::from(path))),
        _ => Err(SESSIONS.expected.into()),
    },
};

/// Whole percents.
pub(crate) static PERCENT: Text = Text {
    expected: "a percentage from \"0%\" to \"100%\"",
    words: &[],
    pattern: r"^\d+%$",
    parse: |text| {
        let digits = text.strip_suffix('%').filter(|digits| is_number(digits));
        match digits.and_then(|digits| digits.parse().ok()) {
            Some(percent @ 0..=100) => Ok(Value::Number(percent)),
            _ => Err(PERCENT.expected.into()),
        }
    },
};

/// A share of failures that something happens at.
pub(crate) static SHARE: Text = Text {
    expected: "a percentage from \"1%\" to \"100%\", or \"off\"",
    words: &["off"],
    pattern: r"^(off|\d+%)$",
    parse: |text| match (text, (PERCENT.parse)(text)) {
        ("off", _) => Ok(Value::Off),
        (_, Ok(Value::Number(percent @ 1..))) => Ok(Value::Number(percent)),
        _ => Err(SHARE.expected.into()),
    },
};

/// Permission bits.
pub(crate) static MODE: Text = Text {
    expected: "permission bits in octal from \"0\" to \"0777\"",
    words: &[],
    pattern: "^[0-7]{1,4}$",
    parse: |text| {
        let octal = text.len() <= 4 && is_number(text);
        match u32::from_str_radix(text, 8) {
            Ok(mode @ 0..=0o777) if octal => Ok(Value::Number(mode)),
            _ => Err(MODE.expected.into()),
        }
    },
};

/// `listener.listen`.
pub(crate) static LISTEN: Text = Text {
    expected: "\"ip:port\", \"[v6]:port\", \"ip:first-last\" or \"unix:/path\"",
    words: &[],
    pattern: r"^(unix:/.+|(\d+\.\d+\.\d+\.\d+|\[[0-9a-fA-F:.%]+\]):\d+(-\d+)?)$",
    parse: |text| {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Value::Endpoint(unix(path)?));
        }
        let (ip, ports) = ip_and_rest(text, LISTEN.expected)?;
        let Some((first, last)) = ports.split_once('-') else {
            return Ok(Value::Endpoint(inet(ip, port(ports)?)));
        };
        let (first, last) = (port(first)?, port(last)?);
        if last < first {
            return Err("a range whose last port is not below its first".into());
        }
        if usize::from(last - first) >= PORT_RANGE_MAX {
            return Err(format!("a range of at most {PORT_RANGE_MAX} ports").into());
        }
        Ok(Value::Ports(ip, first..=last))
    },
};

/// `admin.listen`.
pub(crate) static ADMIN: Text = Text {
    expected: "\"ip:port\", \"[v6]:port\", \"unix:/path\" or \"off\"",
    words: &["off"],
    pattern: r"^(off|unix:/.+|(\d+\.\d+\.\d+\.\d+|\[[0-9a-fA-F:.%]+\]):\d+)$",
    parse: |text| {
        if text == "off" {
            return Ok(Value::Off);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Value::Endpoint(unix(path)?));
        }
        let (ip, rest) = ip_and_rest(text, ADMIN.expected)?;
        Ok(Value::Endpoint(inet(ip, port(rest)?)))
    },
};

/// The address of a backend.
pub(crate) static BACKEND: Text = Text {
    expected: "\"ip:port\", \"[v6]:port\", \"name:port\", \"srv:name\" or \"unix:/path\"",
    words: &[],
    pattern: r"^(unix:/.+|srv:[A-Za-z0-9._-]+|(\[[0-9a-fA-F:.%]+\]|[A-Za-z0-9._-]+):\d+)$",
    parse: |text| {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Value::Address(Address::Endpoint(unix(path)?)));
        }
        // A host may be called "srv"; it has a port.
        if let Some(name) = text.strip_prefix("srv:").filter(|it| !is_number(it)) {
            let name = host_name(name).map_err(|_| SERVICE)?;
            return Ok(Value::Address(Address::Service(Arc::from(name))));
        }
        if text.starts_with('[') {
            let (ip, rest) = ip_and_rest(text, BACKEND.expected)?;
            return Ok(Value::Address(Address::Endpoint(inet(ip, port(rest)?))));
        }
        let (host, rest) = host_and_rest(text, BACKEND.expected)?;
        let port = port(rest)?;
        if let Ok(ip) = host.parse::<Ipv4Addr>() {
            return Ok(Value::Address(Address::Endpoint(inet(
                IpAddr::V4(ip),
                port,
            ))));
        }
        let host = host_name(host)?;
        Ok(Value::Address(Address::Name(HostPort {
            host: Arc::from(host),
            port,
        })))
    },
};

/// A DNS server.
pub(crate) static SERVER: Text = Text {
    expected: "\"ip:port\" or \"[v6]:port\"",
    words: &[],
    pattern: r"^(\d+\.\d+\.\d+\.\d+|\[[0-9a-fA-F:.%]+\]):\d+$",
    parse: |text| {
        let (ip, rest) = ip_and_rest(text, SERVER.expected)?;
        Ok(Value::Server(SocketAddr::new(ip, port(rest)?)))
    },
};

/// An IP address without a port.
pub(crate) static IP: Text = Text {
    expected: "an IP address without a port",
    words: &[],
    pattern: r"^[0-9a-fA-F:.]+$",
    parse: |text| text.parse().map(Value::Ip).map_err(|_| IP.expected.into()),
};

fn name(text: &str) -> Result<Value, Expected> {
    let length = text.chars().count();
    if length == 0 || length > NAME_MAX || text.chars().any(char::is_control) {
        return Err(NAME.expected.into());
    }
    Ok(Value::Text(Arc::from(text)))
}

const fn inet(ip: IpAddr, port: u16) -> Endpoint {
    Endpoint::Inet(SocketAddr::new(ip, port))
}

fn unix(path: &str) -> Result<Endpoint, Expected> {
    if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
        return Err("an absolute path after \"unix:\"".into());
    }
    if path.len() > UNIX_PATH_MAX {
        let length = path.len();
        return Err(format!("a path of at most {UNIX_PATH_MAX} bytes (this has {length})").into());
    }
    Ok(Endpoint::Unix(PathBuf::from(path)))
}

fn port(text: &str) -> Result<u16, Expected> {
    match text.parse() {
        Ok(port @ 1..) if is_number(text) => Ok(port),
        _ => Err(PORT.into()),
    }
}

/// Splits before the port; an IPv6 address without brackets gets its own advice.
fn host_and_rest<'t>(
    text: &'t str,
    expected: &'static str,
) -> Result<(&'t str, &'t str), Expected> {
    if text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4()) {
        return Err(format!("a port too, as in \"{text}:80\"").into());
    }
    let (host, rest) = text.rsplit_once(':').ok_or(expected)?;
    if host.contains(':') {
        return Err("an IPv6 address in brackets, as in \"[::1]:80\"".into());
    }
    Ok((host, rest))
}

fn ip_and_rest<'t>(text: &'t str, expected: &'static str) -> Result<(IpAddr, &'t str), Expected> {
    if let Some(rest) = text.strip_prefix('[') {
        let (ip, rest) = rest.split_once(']').ok_or(expected)?;
        let ip = ip
            .parse()
            .map_err(|_| "an IPv6 address between the brackets")?;
        let rest = rest.strip_prefix(':').ok_or(PORT)?;
        return Ok((IpAddr::V6(ip), rest));
    }
    let (host, rest) = host_and_rest(text, expected)?;
    Ok((IpAddr::V4(host.parse().map_err(|_| expected)?), rest))
}

/// Checks a name by its form (RFC 1123 §2.1; the underscore because it is in wide use).
fn host_name(text: &str) -> Result<String, Expected> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(BACKEND.expected.into());
    }
    // No top-level domain is a number: this is a mistyped IPv4 address (RFC 1123 §2.1).
    if name.rsplit('.').next().is_some_and(is_number) {
        return Err("four numbers from 0 to 255 in an IPv4 address".into());
    }
    Ok(name.to_ascii_lowercase())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
