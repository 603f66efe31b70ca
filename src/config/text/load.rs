//! Texts of how much memory, how much of something, how many bytes in a second.

use super::Text;
use crate::config::model::Memory;
use crate::config::table::Value;
use crate::config::units::{bytes, bytes_text, duration, size, size_text};

/// Memory from which on the process is overloaded.
pub(crate) static MEMORY: Text = Text {
    expected: "\"off\", a percentage from \"1%\" to \"100%\" or a size such as \"2g\"",
    words: &["off"],
    pattern: r"^(off|\d+%|\d+[kmg]?)$",
    parse: |text| {
        if text == "off" {
            return Ok(Value::Off);
        }
        memory(text)
            .map(Value::Memory)
            .ok_or_else(|| MEMORY.expected.into())
    },
};

/// A time that has to be passed to be too much.
pub(crate) static LAG: Text = Text {
    expected: "\"off\" or a time from \"1ms\" to \"1m\", such as \"100ms\"",
    words: &["off"],
    pattern: r"^(off|(?=.)(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?)$",
    parse: |text| {
        if text == "off" {
            return Ok(Value::Off);
        }
        match duration(text) {
            Some(time) if !time.is_zero() && time.as_secs() <= LAG_SECONDS_MAX => {
                Ok(Value::Time(time))
            }
            _ => Err(LAG.expected.into()),
        }
    },
};

/// A part that is neither nothing nor all.
pub(crate) static PART: Text = Text {
    expected: "a percentage from \"1%\" to \"99%\"",
    words: &[],
    pattern: r"^\d+%$",
    parse: |text| match (super::PERCENT.parse)(text) {
        Ok(Value::Number(percent @ 1..=99)) => Ok(Value::Number(percent)),
        _ => Err(PART.expected.into()),
    },
};

/// Bytes in a second.
pub(crate) static BYTE_RATE: Text = Text {
    expected: "\"off\" or a size from \"1k\" a second, such as \"10m/s\"",
    words: &["off"],
    pattern: r"^(off|\d+[kmg]?/s)$",
    parse: |text| {
        if text == "off" {
            return Ok(Value::Off);
        }
        let rate = text.strip_suffix("/s").and_then(size);
        match rate.filter(|&rate| rate >= BYTE_RATE_MIN) {
            Some(rate) => Ok(Value::Number(rate)),
            None => Err(BYTE_RATE.expected.into()),
        }
    },
};

/// Less is no way to serve anybody.
const BYTE_RATE_MIN: u32 = 1024;

/// The text that reads as the same rate of bytes.
pub(crate) fn byte_rate_text(rate: u32) -> String {
    format!("{}/s", size_text(rate))
}

/// A worker that stands still for so long is stuck, whatever its load.
const LAG_SECONDS_MAX: u64 = 60;

fn memory(text: &str) -> Option<Memory> {
    match text.strip_suffix('%') {
        Some(_) => match (super::PERCENT.parse)(text) {
            Ok(Value::Number(percent @ 1..)) => u8::try_from(percent).ok().map(Memory::Percent),
            _ => None,
        },
        None => bytes(text).filter(|&bytes| bytes > 0).map(Memory::Bytes),
    }
}

/// The text that reads as the same memory.
pub(crate) fn memory_text(memory: Memory) -> String {
    match memory {
        Memory::Percent(percent) => format!("{percent}%"),
        Memory::Bytes(bytes) => bytes_text(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_a_part_or_a_size() {
        for text in ["1%", "90%", "100%", "1", "512m", "64g"] {
            let read = memory(text).unwrap();
            assert_eq!(memory_text(read), text);
        }
        assert_eq!(memory("1024m"), Some(Memory::Bytes(1 << 30)));
        for wrong in [
            "", "0", "0%", "101%", "%", "-1", "1.5g", "2G", "90 %", "+5%",
        ] {
            assert!((MEMORY.parse)(wrong).is_err(), "{wrong}");
        }
        assert_eq!((MEMORY.parse)("off").unwrap(), Value::Off);
    }

    #[test]
    fn rates_of_bytes_are_sizes_a_second() {
        for text in ["1k/s", "10m/s", "3g/s", "1025/s"] {
            let Ok(Value::Number(rate)) = (BYTE_RATE.parse)(text) else {
                panic!("{text} is refused");
            };
            assert_eq!(byte_rate_text(rate), text);
        }
        for wrong in ["", "10m", "1023/s", "0/s", "4g/s", "10m/m", "10 m/s", "/s"] {
            assert!((BYTE_RATE.parse)(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_and_parts_end_at_their_limits() {
        for good in ["off", "1ms", "100ms", "1m"] {
            assert!((LAG.parse)(good).is_ok(), "{good}");
        }
        for wrong in ["", "0s", "0ms", "5", "61s", "1h"] {
            assert!((LAG.parse)(wrong).is_err(), "{wrong}");
        }
        for good in ["1%", "99%"] {
            assert!((PART.parse)(good).is_ok(), "{good}");
        }
        for wrong in ["0%", "100%", "80", ""] {
            assert!((PART.parse)(wrong).is_err(), "{wrong}");
        }
    }
}
