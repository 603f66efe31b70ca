//! The kinds of text that name what is said on the wire: names, networks, protocols, rates.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use super::{Expected, POOL, Text, is_number};
use crate::base::name::{NamePattern, host_name};
use crate::config::model::{Action, Rate};
use crate::config::table::Value;
use crate::config::units::{duration, duration_text};

/// A host name or a wildcard.
pub(crate) static PATTERN: Text = Text {
    expected: "a host name in ASCII, \"*.NAME\" or \"**.NAME\"",
    words: &[],
    pattern: r"^(\*{1,2}\.)?[A-Za-z0-9._-]+$",
    parse: |text| match NamePattern::parse(text) {
        Some(pattern) => Ok(Value::Pattern(pattern)),
        None => Err(PATTERN.expected.into()),
    },
};

/// A network, or an address, which is a network of one.
pub(crate) static NETWORK: Text = Text {
    expected: "a network such as \"10.0.0.0/8\" or \"2001:db8::/32\", or an IP address",
    words: &[],
    pattern: r"^[0-9a-fA-F:.]+(/\d+)?$",
    parse: |text| network(text).map(Value::Network),
};

/// An application protocol (RFC 7301 §3.1).
pub(crate) static PROTOCOL: Text = Text {
    expected: "an application protocol of 1 to 255 bytes, such as \"h2\"",
    words: &[],
    pattern: r"^[^\u0000-\u001f\u007f]{1,255}$",
    parse: |text| {
        if !(1..=255).contains(&text.len()) || text.contains(char::is_control) {
            return Err(PROTOCOL.expected.into());
        }
        Ok(Value::Text(Arc::from(text)))
    },
};

/// The fingerprint of a ClientHello that came over TCP.
pub(crate) static JA4: Text = Text {
    expected: "a JA4 fingerprint such as \"t13d1516h2_8daaf6152771_02713d6af862\"",
    words: &[],
    pattern: r"^t[0-9a-z]{2}[di][0-9]{4}[0-9A-Za-z]{2}_[0-9a-f]{12}_[0-9a-f]{12}$",
    parse: |text| {
        if !is_fingerprint(text) {
            return Err(JA4.expected.into());
        }
        Ok(Value::Text(Arc::from(text)))
    },
};

/// The name that is asked for when a backend is connected to.
pub(crate) static POOL_SNI: Text = Text {
    expected: "a host name in ASCII or \"client\"",
    words: &["client"],
    pattern: r"^[A-Za-z0-9._-]+$",
    parse: |text| match host_name(text) {
        Some(name) => Ok(Value::Text(name)),
        None => Err(POOL_SNI.expected.into()),
    },
};

/// Where plain connections go.
pub(crate) static PLAIN: Text = Text {
    expected: "\"reject\" or the NAME of a [pool.NAME] table",
    words: &["reject"],
    pattern: POOL.pattern,
    parse: |text| (POOL.parse)(text).map_err(|_| PLAIN.expected.into()),
};

/// So many within a second, a minute or an hour.
pub(crate) static RATE: Text = Text {
    expected: "\"off\" or a rate up to \"1000000/s\", such as \"50/s\", \"100/m\" or \"1000/h\"",
    words: &["off"],
    pattern: r"^(off|\d+/[smh])$",
    parse: |text| {
        if text == "off" {
            return Ok(Value::Off);
        }
        rate(text)
            .map(Value::Rate)
            .ok_or_else(|| RATE.expected.into())
    },
};

/// What happens to who is over a limit.
pub(crate) static ACTION: Text = Text {
    expected: "\"rst\", \"fin\", \"silent\" or \"tarpit\" with a time up to 10m, such as \"tarpit 10s\"",
    words: &["rst", "fin", "silent", "tarpit 10s"],
    pattern: r"^(rst|fin|silent|tarpit .+)$",
    parse: |text| match action(text) {
        Some(_) => Ok(Value::Text(Arc::from(text))),
        None => Err(ACTION.expected.into()),
    },
};

/// The value of a field of our own in the PROXY protocol's header.
pub(crate) static TLV_VALUE: Text = Text {
    expected: "a text of at most 256 bytes",
    words: &[],
    pattern: r"^[\s\S]{0,256}$",
    parse: |text| {
        if text.len() > TLV_BYTES_MAX {
            return Err(TLV_VALUE.expected.into());
        }
        Ok(Value::Text(Arc::from(text)))
    },
};

/// There may be 24 of them, and all go into one segment with the client's first bytes.
const TLV_BYTES_MAX: usize = 256;

/// More than any worker shakes hands.
const RATE_MAX: u32 = 1_000_000;

/// The units of a rate.
const PERIODS: [(&str, Duration); 3] = [
    ("s", Duration::from_secs(1)),
    ("m", Duration::from_secs(60)),
    ("h", Duration::from_secs(3600)),
];

/// Longer than any program waits that is worth keeping busy.
const TARPIT_MAX: Duration = Duration::from_mins(10);

/// Reads what [`ACTION`] takes.
pub(crate) fn action(text: &str) -> Option<Action> {
    match text {
        "rst" => Some(Action::Reset),
        "fin" => Some(Action::Finish),
        "silent" => Some(Action::Silent),
        text => {
            let time = duration(text.strip_prefix("tarpit ")?.trim())?;
            (!time.is_zero() && time <= TARPIT_MAX).then_some(Action::Tarpit(time))
        }
    }
}

/// The text that reads as the same action.
pub(crate) fn action_text(action: Action) -> String {
    match action {
        Action::Reset => "rst".to_owned(),
        Action::Finish => "fin".to_owned(),
        Action::Silent => "silent".to_owned(),
        Action::Tarpit(time) => format!("tarpit {}", duration_text(time)),
    }
}

/// The text that reads as the same rate.
pub(crate) fn rate_text(rate: Rate) -> String {
    let unit = PERIODS.iter().find(|(_, period)| *period == rate.per);
    format!("{}/{}", rate.count, unit.unwrap_or(&PERIODS[0]).0)
}

fn rate(text: &str) -> Option<Rate> {
    let (count, unit) = text.split_once('/')?;
    let (_, per) = PERIODS.iter().find(|(name, _)| *name == unit)?;
    let count = count.parse().ok().filter(|_| is_number(count))?;
    (1..=RATE_MAX)
        .contains(&count)
        .then_some(Rate { count, per: *per })
}

/// Reads what [`NETWORK`] takes.
pub(crate) fn network(text: &str) -> Result<IpNet, Expected> {
    let one = text.parse::<IpAddr>().map(IpNet::from);
    let net: IpNet = one
        .or_else(|_| text.parse())
        .map_err(|_| NETWORK.expected)?;
    // Whether the address or the length was mistyped cannot be known, and they differ by a lot.
    if net.addr() != net.network() {
        let (whole, one) = (net.trunc(), IpNet::from(net.addr()));
        return Err(format!("\"{whole}\" or \"{one}\": bits of a host are set").into());
    }
    if let Some(v4) = without_mapping(net) {
        let why = "an IPv4 client of an IPv6 socket counts as what it is";
        return Err(format!("\"{v4}\": {why}").into());
    }
    Ok(net)
}

/// The IPv4 network that a network within `::ffff:0:0/96` stands for.
fn without_mapping(net: IpNet) -> Option<Ipv4Net> {
    const MAPPED_BITS: u8 = 96;
    let IpAddr::V6(address) = net.addr() else {
        return None;
    };
    let bits = net.prefix_len().checked_sub(MAPPED_BITS)?;
    Ipv4Net::new(address.to_ipv4_mapped()?, bits).ok()
}

/// The form of a fingerprint: transport, version, whether there is a name, two counts, the first
/// application protocol, two hashes.
const FINGERPRINT: &[u8] = b"tvvn0000aa_xxxxxxxxxxxx_xxxxxxxxxxxx";

fn is_fingerprint(text: &str) -> bool {
    let fits = |(byte, form): (u8, &u8)| match form {
        b'v' => matches!(byte, b'0'..=b'9' | b'a'..=b'z'),
        b'n' => matches!(byte, b'd' | b'i'),
        b'0' => byte.is_ascii_digit(),
        b'a' => byte.is_ascii_alphanumeric(),
        b'x' => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        fixed => byte == *fixed,
    };
    text.len() == FINGERPRINT.len() && text.bytes().zip(FINGERPRINT).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(kind: &Text, text: &str) -> bool {
        (kind.parse)(text).is_ok()
    }

    #[test]
    fn fingerprints_have_one_form() {
        let good = "t13d1516h2_8daaf6152771_02713d6af862";
        assert!(takes(&JA4, good));
        assert!(takes(&JA4, "t00i000000_000000000000_000000000000"));
        for wrong in [
            "",
            "t13d1516h2",
            "q13d1516h2_8daaf6152771_02713d6af862",
            "t13x1516h2_8daaf6152771_02713d6af862",
            "t13d15x6h2_8daaf6152771_02713d6af862",
            "T13d1516h2_8daaf6152771_02713d6af862",
            "t13d1516h2_8DAAF6152771_02713d6af862",
            "t13d1516h2_8daaf615277_02713d6af862",
            "t13d1516h2_8daaf6152771_02713d6af862_",
            "t13d1516h22_8daaf6152771_02713d6af862",
            "t13d1516\u{e9}_8daaf6152771_02713d6af862",
            "t13d1516h\u{e9}8daaf6152771_02713d6af862",
        ] {
            assert!(!takes(&JA4, wrong), "{wrong}");
        }
    }

    #[test]
    fn rates_are_counts_in_a_unit() {
        assert_eq!(rate("50/s").map(rate_text).as_deref(), Some("50/s"));
        assert_eq!(
            rate("1000000/h").map(rate_text).as_deref(),
            Some("1000000/h")
        );
        for wrong in [
            "",
            "50",
            "/s",
            "0/s",
            "+5/s",
            "50/d",
            "50/ s",
            "1000001/s",
            "50/s/s",
        ] {
            assert!(!takes(&RATE, wrong), "{wrong}");
        }
        assert!(takes(&RATE, "off"));
    }

    #[test]
    fn networks_have_no_bits_of_a_host() {
        for good in [
            "10.0.0.0/8",
            "10.1.2.3",
            "10.1.2.3/32",
            "::/0",
            "2001:db8::1",
            "0.0.0.0/0",
        ] {
            assert!(takes(&NETWORK, good), "{good}");
        }
        for wrong in [
            "",
            "10.0.0.0/33",
            "10.1.2.3/8",
            "2001:db8::1/32",
            "10.0.0/8",
            "a/8",
            "10.0.0.0/",
        ] {
            assert!(!takes(&NETWORK, wrong), "{wrong}");
        }
    }

    #[test]
    fn mapped_networks_are_to_be_written_as_what_clients_of_them_count_as() {
        for (text, right) in [
            ("::ffff:10.0.0.0/104", "\"10.0.0.0/8\""),
            ("::ffff:0:0/96", "\"0.0.0.0/0\""),
            ("::ffff:192.0.2.7", "\"192.0.2.7/32\""),
        ] {
            let refused = (NETWORK.parse)(text).unwrap_err();
            assert!(refused.starts_with(right), "{text}: {refused}");
        }
        for good in ["::/0", "::/95", "::192.0.2.7"] {
            assert!(takes(&NETWORK, good), "{good}");
        }
    }

    #[test]
    fn protocols_and_values_end_at_their_limits() {
        assert!(takes(&PROTOCOL, &"x".repeat(255)) && takes(&PROTOCOL, "http/1.1"));
        assert!(!takes(&PROTOCOL, &"x".repeat(256)) && !takes(&PROTOCOL, ""));
        assert!(!takes(&PROTOCOL, "h2\n"));
        assert!(takes(&TLV_VALUE, &"x".repeat(256)) && takes(&TLV_VALUE, ""));
        assert!(!takes(&TLV_VALUE, &"x".repeat(257)));
    }
}
