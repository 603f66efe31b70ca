//! How the values of a session line are spelt, appended to a buffer.
//!
//! Everything here appends and cannot fail. Values are written byte by byte and not through `write!`
//! or serde, because lines are made on the data path: a JSON line of 23 fields costs 0.4 µs of the
//! worker's time, both the clock and the hand-over included (a million lines to `/dev/null`).

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `value` in decimal.
pub(super) fn number(out: &mut Vec<u8>, mut value: u64) {
    // u64::MAX has 20 digits.
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = digit(value % 10);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// `value` as 16 hexadecimal digits.
pub(super) fn hex(out: &mut Vec<u8>, value: u64) {
    let digits: [u8; 16] = std::array::from_fn(|place| {
        let nibble = (value >> (60 - 4 * place)) & 15;
        b"0123456789abcdef"[nibble as usize]
    });
    out.extend_from_slice(&digits);
}

/// `duration` in milliseconds with three decimals, rounded down.
pub(super) fn millis(out: &mut Vec<u8>, duration: Duration) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    number(out, micros / 1_000);
    out.push(b'.');
    fixed::<3>(out, micros % 1_000);
}

/// `time` as RFC 3339 in UTC with milliseconds: `2026-01-02T03:04:05.678Z`, which never needs
/// escaping. Years past 9999 and times before 1970 are shown as the nearest time that is neither.
pub(super) fn time(out: &mut Vec<u8>, time: SystemTime) {
    const LAST_MILLI: u64 = 253_402_300_799_999;
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(since.as_millis())
        .unwrap_or(LAST_MILLI)
        .min(LAST_MILLI);
    let seconds = millis / 1_000;
    let (year, month, day) = date(seconds / 86_400);
    fixed::<4>(out, year);
    out.push(b'-');
    fixed::<2>(out, month);
    out.push(b'-');
    fixed::<2>(out, day);
    out.push(b'T');
    fixed::<2>(out, seconds / 3_600 % 24);
    out.push(b':');
    fixed::<2>(out, seconds / 60 % 60);
    out.push(b':');
    fixed::<2>(out, seconds % 60);
    out.push(b'.');
    fixed::<3>(out, millis % 1_000);
    out.push(b'Z');
}

/// `address` as its `Display` has it.
pub(super) fn address(out: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            for (place, octet) in ip.octets().into_iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                number(out, u64::from(octet));
            }
            out.push(b':');
            number(out, u64::from(address.port()));
        }
        // Writing to a vector cannot fail.
        IpAddr::V6(_) => drop(write!(out, "{address}")),
    }
}

/// `value` in double quotes with JSON's escapes, which logfmt readers share.
pub(super) fn quoted(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    // Nearly every value: one look at each byte instead of decoding characters.
    if value.bytes().all(is_printable) {
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
        return;
    }
    let mut rest = value;
    while let Some(place) = rest.find(must_escape) {
        let (plain, odd) = rest.split_at(place);
        out.extend_from_slice(plain.as_bytes());
        let mut characters = odd.chars();
        if let Some(odd) = characters.next() {
            escape(out, odd);
        }
        rest = characters.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
    out.push(b'"');
}

/// Characters that JSON does not allow in a string (RFC 8259 §7), and those that a terminal or a
/// reader of lines could obey: DEL, the C1 controls, the line and paragraph separators.
pub(super) const fn must_escape(character: char) -> bool {
    matches!(
        character,
        '"' | '\\' | '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}' | '\u{2029}'
    )
}

/// Whether `byte` is a printable ASCII character that never needs escaping.
const fn is_printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

fn escape(out: &mut Vec<u8>, character: char) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        // Writing to a vector cannot fail.
        _ => drop(write!(out, "\\u{:04x}", u32::from(character))),
    }
}

/// The last `DIGITS` decimal digits of `value`, with leading zeros.
fn fixed<const DIGITS: usize>(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; DIGITS];
    for place in digits.iter_mut().rev() {
        *place = digit(value % 10);
        value /= 10;
    }
    out.extend_from_slice(&digits);
}

#[expect(clippy::cast_possible_truncation, reason = "the value is below ten")]
const fn digit(value: u64) -> u8 {
    b'0' + value as u8
}

/// Year, month and day of a day counted from 1970-01-01, by shifting the year's start to March
/// (Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
const fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year + (month <= 2) as u64;
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn times_are_those_of_humantime(millis in 0_u64..=253_402_300_799_999) {
            let at = UNIX_EPOCH + Duration::from_millis(millis);
            let expected = humantime::format_rfc3339_millis(at).to_string();
            prop_assert_eq!(written(|out| time(out, at)), expected);
        }

        #[test]
        fn quoted_strings_are_json_that_reads_back(value in any::<String>()) {
            let text = written(|out| quoted(out, &value));
            prop_assert!(!text.contains(char::is_control));
            prop_assert_eq!(serde_json::from_str::<String>(&text).unwrap(), value);
        }

        #[test]
        fn numbers_and_addresses_are_those_of_display(value in any::<u64>(), at in any::<SocketAddr>()) {
            prop_assert_eq!(written(|out| number(out, value)), value.to_string());
            prop_assert_eq!(written(|out| hex(out, value)), format!("{value:016x}"));
            prop_assert_eq!(written(|out| address(out, at)), at.to_string());
        }
    }

    #[test]
    fn milliseconds_have_three_decimals() {
        let shown = |nanos| written(|out| millis(out, Duration::from_nanos(nanos)));
        assert_eq!(shown(0), "0.000");
        assert_eq!(shown(1_999), "0.001");
        assert_eq!(shown(12_034_567), "12.034");
        assert_eq!(written(|out| millis(out, Duration::MAX)).len(), 21);
    }

    #[test]
    fn times_out_of_range_are_shown_as_the_nearest() {
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(written(|out| time(out, before)), "1970-01-01T00:00:00.000Z");
        let after = UNIX_EPOCH + Duration::from_secs(300_000_000_000);
        assert_eq!(written(|out| time(out, after)), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(
            written(|out| quoted(out, "a\n\r\t\u{1}\u{1b}[31m\"\\\u{7f}\u{9b}\u{2028}é")),
            r#""a\n\r\t\u0001\u001b[31m\"\\\u007f\u009b\u2028é""#
        );
    }
}
