//! Times with a unit: `"1h30m"` to a duration and back.

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

    proptest! {
        #[test]
        fn times_come_back_from_their_text(milliseconds: u64) {
            let time = Duration::from_millis(milliseconds);
            prop_assert_eq!(duration(&duration_text(time)), Some(time));
        }
    }
}
