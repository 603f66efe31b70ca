//! `[global.overload]`.

use std::time::Duration;

use super::{Check, section, word};
use crate::config::choices::{OVERLOAD_ACTIONS, OVERLOAD_READYS, meaning};
use crate::config::model::{Memory, Overload};
use crate::config::report::Finding;
use crate::config::table::{Table, Value};
use crate::config::units::{bytes_text, duration_text};

/// What ringlane takes by itself and with some thousand sessions; less is always passed.
const MEMORY_MIN: u64 = 64 << 20;

/// Above so much of its memory a cgroup is about to be killed.
const PERCENT_MAX: u8 = 95;

/// Timers and other threads alone make a worker so late at times.
const LAG_MIN: Duration = Duration::from_millis(10);

/// A worker that is so late passes for stuck.
const LAG_MAX: Duration = Duration::from_secs(1);

impl Check<'_> {
    /// When the process takes no more clients; `None`: never.
    pub(super) fn overload(&mut self, global: &Table) -> Option<Overload> {
        let table = section(global, "overload");
        let memory = match table.entry("memory").map(|entry| &entry.value) {
            Some(Value::Memory(memory)) => Some(*memory),
            _ => None,
        };
        let loop_lag = match table.entry("loop_lag").map(|entry| &entry.value) {
            Some(Value::Time(lag)) => Some(*lag),
            _ => None,
        };
        if memory.is_none() && loop_lag.is_none() {
            for name in ["resume", "action", "ready"] {
                self.idle_setting(table, name, "neither `memory` nor `loop_lag` is set");
            }
            return None;
        }
        if let Some(memory) = memory {
            self.memory(table, memory);
        }
        if let Some(lag) = loop_lag {
            self.lag(table, lag);
        }
        Some(Overload {
            memory,
            loop_lag,
            resume: u8::try_from(table.number("resume")).unwrap_or(80),
            action: meaning(&OVERLOAD_ACTIONS, word(table, "action")),
            ready: meaning(&OVERLOAD_READYS, word(table, "ready")),
        })
    }

    /// Warns about thresholds that are always or never passed.
    fn memory(&mut self, table: &Table, memory: Memory) {
        let all = self.machine.memory;
        let (bytes, what) = match memory {
            Memory::Percent(percent) => (
                all / 100 * u64::from(percent),
                format!("{percent}% of {}", bytes_text(all)),
            ),
            Memory::Bytes(bytes) => (bytes, bytes_text(bytes)),
        };
        let warning = if all > 0 && bytes < MEMORY_MIN {
            let least = bytes_text(MEMORY_MIN);
            format!("`memory` is passed by an idle process, got {what}, expected at least {least}")
        } else if matches!(memory, Memory::Bytes(bytes) if all > 0 && bytes > all) {
            let all = bytes_text(all);
            format!("`memory` is never reached, got {what}, expected less than the {all} there are")
        } else if matches!(memory, Memory::Percent(percent) if percent > PERCENT_MAX) {
            format!(
                "`memory` leaves no room for the sessions there are, got {what}, \
                 expected at most {PERCENT_MAX}%"
            )
        } else {
            return;
        };
        self.warn_at(table, "memory", warning);
    }

    fn lag(&mut self, table: &Table, lag: Duration) {
        let got = duration_text(lag);
        let warning = if lag < LAG_MIN {
            let least = duration_text(LAG_MIN);
            format!(
                "`loop_lag` is passed by an idle machine at times, got {got}, expected at least {least}"
            )
        } else if lag > LAG_MAX {
            let most = duration_text(LAG_MAX);
            format!(
                "`loop_lag` is longer than a worker may be silent, got {got}, expected at most {most}"
            )
        } else {
            return;
        };
        self.warn_at(table, "loop_lag", warning);
    }

    fn warn_at(&mut self, table: &Table, name: &str, message: String) {
        let place = table.entry(name).map_or(table.place, |entry| entry.place);
        self.warnings.push(Finding::at(place, message));
    }
}
