//! An explanation for people.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use toml::Value;

use super::shown::{
    Asking, ClientCertificate, Explanation, HelloRead, LimitsShown, Outcome, PoolShown, Refused,
    Speaks, Why,
};

/// Routes that take other names, of which so many are listed; JSON has them all.
const OTHERS_SHOWN: usize = 10;

/// Protocols that are listed; JSON has them all.
const PROTOCOLS_SHOWN: usize = 5;

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        row(f, "listener", &self.listener)?;
        row(f, "client", &self.client)?;
        if let Some(hello) = &self.hello {
            row(f, "hello", hello)?;
        }
        match &self.route {
            Some(route) => {
                let text = format!("\"{}\" ({}), by {}", route.name, route.place, route.by);
                row(f, "route", &text)?;
            }
            None if self.pool.is_none() => row(f, "route", &"none")?,
            None => {}
        }
        for limits in &self.limits {
            row(f, "limits", limits)?;
        }
        row(f, "then", &self.outcome)?;
        if let Some(pool) = &self.pool {
            row(f, "pool", pool)?;
            if !pool.keys.is_empty() {
                row(f, "with", &listed(&pool.keys))?;
            }
            self.write_backends(f, pool)?;
        }
        self.write_skipped(f)?;
        for note in &self.notes {
            row(f, "note", note)?;
        }
        Ok(())
    }
}

fn row(f: &mut Formatter<'_>, title: &str, value: &dyn Display) -> fmt::Result {
    writeln!(f, "{title:<9} {value}")
}

impl Explanation {
    fn write_backends(&self, f: &mut Formatter<'_>, pool: &PoolShown) -> fmt::Result {
        let width = pool.candidates.iter().map(|one| one.name.chars().count());
        let width = width.max().unwrap_or(0);
        for (place, backend) in pool.candidates.iter().enumerate() {
            let title = if place == 0 { "backends" } else { "" };
            let number = place + 1;
            let mut text = format!("{number}. {:<width$}", backend.name);
            if backend.name != backend.address {
                text = format!("{text}  {}", backend.address);
            }
            if backend.tier > 0 {
                text = format!("{text}  tier {}", backend.tier);
            }
            if backend.max_connections > 0 {
                text = format!("{text}  max_connections {}", backend.max_connections);
            }
            row(f, title, &text.trim_end())?;
        }
        Ok(())
    }

    fn write_skipped(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (mut title, mut others) = ("skipped", 0_usize);
        for route in &self.skipped {
            if route.why == Why::Names {
                others += 1;
                if others > OTHERS_SHOWN {
                    continue;
                }
            }
            let text = format!("\"{}\" ({}): {}", route.name, route.place, route.detail);
            row(f, title, &text)?;
            title = "";
        }
        match others.checked_sub(OTHERS_SHOWN) {
            Some(more) if more > 0 => row(f, title, &format!("and {more} more that take others")),
            _ => Ok(()),
        }
    }
}

fn listed(keys: &BTreeMap<&'static str, Value>) -> String {
    let keys = keys.iter().map(|(key, value)| format!("{key} = {value}"));
    keys.collect::<Vec<_>>().join(", ")
}

impl Display for LimitsShown {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.of, listed(&self.keys))?;
        if self.is_exempt {
            f.write_str("; the client is exempt from those of sources")?;
        }
        Ok(())
    }
}

impl Display for Asking {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.source {
            Some(source) => write!(f, "{source}")?,
            None => f.write_str("address unknown")?,
        }
        match self.speaks {
            Speaks::Unknown => return Ok(()),
            Speaks::Plain => return f.write_str(", not TLS"),
            Speaks::Tls => f.write_str(", TLS")?,
        }
        match &self.name {
            Some(name) => write!(f, " for {name}")?,
            None => f.write_str(" without a name")?,
        }
        if !self.alpn.is_empty() {
            let shown = self.alpn.len().min(PROTOCOLS_SHOWN);
            let protocols = self.alpn.get(..shown).unwrap_or_default();
            write!(f, ", ALPN {}", protocols.join(" "))?;
            match self.alpn.len() - shown {
                0 => {}
                more => write!(f, " and {more} more")?,
            }
        }
        match &self.ja4 {
            Some(ja4) => write!(f, ", JA4 {ja4}"),
            None => Ok(()),
        }
    }
}

impl Display for HelloRead {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let versions = self.versions.join(", ");
        write!(f, "{} bytes, TLS {versions}", self.bytes)
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (certificates, client_certificate, client_names) = match self {
            Self::Passed => return f.write_str("passed on as it comes"),
            Self::Refused(refused) => return refused.fmt(f),
            Self::Terminated {
                certificates,
                client_certificate,
                client_names,
            } => (certificates, client_certificate, client_names),
        };
        f.write_str("TLS ends here")?;
        let shown = certificates
            .iter()
            .map(|one| format!("{} ({}, {})", one.name, one.key, one.file));
        let shown: Vec<String> = shown.collect();
        match &*shown {
            [] => {}
            [one] => write!(f, ", certificate {one}")?,
            several => write!(f, ", certificate {}", several.join(", otherwise "))?,
        }
        match client_certificate {
            ClientCertificate::Off => {}
            ClientCertificate::Requested => f.write_str(", client certificate requested")?,
            ClientCertificate::Required => f.write_str(", client certificate required")?,
        }
        if !client_names.is_empty() {
            write!(f, " for {}", client_names.join(", "))?;
        }
        Ok(())
    }
}

impl Display for Refused {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.alert {
            Some(alert) => write!(f, "refused by alert {}", alert_name(alert))?,
            None => f.write_str("refused by a reset")?,
        }
        write!(f, ", reason {}: {}", self.reason, self.why)
    }
}

impl Display for PoolShown {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let tried = self.candidates.len();
        write!(f, "{}, {}", self.name, self.balance)?;
        if tried < self.backends {
            write!(f, ", at most {tried} of {} backends", self.backends)?;
        }
        if self.tls {
            f.write_str(", in TLS")?;
        }
        Ok(())
    }
}

/// An alert as the standards call it (RFC 8446 §6).
fn alert_name(number: u8) -> String {
    let name = match number {
        10 => "unexpected_message",
        22 => "record_overflow",
        40 => "handshake_failure",
        47 => "illegal_parameter",
        50 => "decode_error",
        70 => "protocol_version",
        80 => "internal_error",
        109 => "missing_extension",
        112 => "unrecognized_name",
        120 => "no_application_protocol",
        _ => return number.to_string(),
    };
    format!("{number} {name}")
}
