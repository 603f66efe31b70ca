//! Times and sizes with a unit: `"1h30m"` to a duration, `"64k"` to bytes, and back.

use std::time::Duration;

/// Units from the largest to the smallest, in milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// What [`duration`] takes, for the schema.
pub(crate) const DURATION_PATTERN: &str = r"^(?=.)(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$";

/// Reads parts such as `1h` and `30m`, larger units first, each at most once.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut sum = 0_u64;
    loop {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.len()
            - rest
                .trim_start_matches(|c: char| c.is_ascii_lowercase())
                .len();
        let (_, scale) = units.find(|(unit, _)| *unit == &rest[..letters])?;
        sum = sum.checked_add(number.checked_mul(*scale)?)?;
        rest = &rest[letters..];
        if rest.is_empty() {
            return Some(Duration::from_millis(sum));
        }
    }
}

/// The shortest text that [`duration`] reads as the same time.
pub(crate) fn duration_text(time: Duration) -> String {
    let mut rest = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, scale) in UNITS {
        if rest >= scale {
            text.push_str(&format!("{}{unit}", rest / scale));
            rest %= scale;
        }
    }
    text
}

/// Units from the largest to the smallest, in bytes.
const SIZES: [(&str, u64); 4] = [("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10), ("", 1)];

/// What [`size`] takes, for the schema.
pub(crate) const SIZE_PATTERN: &str = r"^\d+[kmg]?$";

/// Reads a number of bytes such as `64k`; the units go by 1024.
pub(crate) fn size(text: &str) -> Option<u32> {
    u32::try_from(bytes(text)?).ok()
}

/// The same, for numbers that may be larger.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let (_, scale) = SIZES
        .iter()
        .find(|(unit, _)| *unit == &text[digits.len()..])?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(*scale)
}

/// The shortest text that [`size`] reads as the same number.
pub(crate) fn size_text(bytes: u32) -> String {
    bytes_text(bytes.into())
}

/// The shortest text that [`bytes`] reads as the same number.
pub(crate) fn bytes_text(bytes: u64) -> String {
    let fitting = SIZES
        .iter()
        .find(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale));
    let (unit, scale) = fitting.unwrap_or(&("", 1));
    format!("{}{unit}", bytes / scale)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_need_units_in_falling_order() {
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("0s"), Some(Duration::ZERO));
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("1m1ms"), Some(Duration::from_millis(60_001)));
        for wrong in [
            "", "5", "s", "5 s", "1.5s", "-1s", "1m1h", "1s1s", "5sec", "5S", "1h30",
        ] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
        assert_eq!(duration("99999999999999999999d"), None);
        assert_eq!(duration("18446744073709551615d"), None);
    }

    #[test]
    fn sizes_may_have_a_unit() {
        assert_eq!(size("64k"), Some(65_536));
        assert_eq!(size("3m"), Some(3 << 20));
        assert_eq!(size("3g"), Some(3 << 30));
        assert_eq!(size("1500"), Some(1500));
        assert_eq!(size_text(0), "0");
        assert_eq!(size_text(1500), "1500");
        assert_eq!(size_text(65_536), "64k");
        for wrong in [
            "", "k", "64 k", "64K", "64kb", "+1", "-1", "1.5k", "4g", "\u{e4}k",
        ] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn sizes_come_back_from_their_text(bytes: u32) {
            prop_assert_eq!(size(&size_text(bytes)), Some(bytes));
        }

        #[test]
        fn large_sizes_do_too(number: u64) {
            prop_assert_eq!(bytes(&bytes_text(number)), Some(number));
        }

        #[test]
        fn times_come_back_from_their_text(milliseconds: u64) {
            let time = Duration::from_millis(milliseconds);
            prop_assert_eq!(duration(&duration_text(time)), Some(time));
        }
    }
}
