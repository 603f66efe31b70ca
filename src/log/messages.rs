//! The program's own messages: one line each on standard error, from a level that a reload may
//! change.

use std::io::{self, IsTerminal, Write};

use tracing::Subscriber;
use tracing::subscriber::{SetGlobalDefaultError, set_global_default};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;

use crate::config::model::Level;
use crate::sys::file::has_room;

/// The messages of the process, once they are being written.
#[derive(Clone, Debug)]
pub struct Messages {
    filter: reload::Handle<Targets, Registry>,
}

impl Messages {
    /// Writes `tracing` events of all threads to standard error from now on, in colour if that is a
    /// terminal. An error if somebody else already takes them.
    pub fn install(level: Level) -> Result<Self, SetGlobalDefaultError> {
        let color = if io::stderr().is_terminal() {
            Color::On
        } else {
            Color::Off
        };
        let (subscriber, messages) = subscriber(level, color, || StandardError);
        set_global_default(subscriber)?;
        Ok(messages)
    }

    /// Writes messages of this level and above from now on.
    pub fn set_level(&self, level: Level) {
        // An error would mean that the subscriber is gone; then nobody misses the level.
        let _ = self.filter.reload(filter(level));
    }
}

/// Standard error, unless writing to it would wait: a pipe that nobody reads must not stop the
/// thread that has something to say. What does not fit is lost.
struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        const PIECE: usize = 4096;
        let mut stream = io::stderr().lock();
        if !has_room(&stream) {
            return Ok(bytes.len());
        }
        stream.write(bytes.get(..PIECE).unwrap_or(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Color {
    On,
    Off,
}

fn subscriber<W>(level: Level, color: Color, writer: W) -> (impl Subscriber + Send + Sync, Messages)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter(level));
    // The time is RFC 3339 in UTC with microseconds, the default.
    let lines = fmt::layer()
        .with_writer(writer)
        .with_target(false)
        .with_ansi(color == Color::On);
    let subscriber = Registry::default().with(filter).with(lines);
    (subscriber, Messages { filter: handle })
}

/// Ringlane's own messages by level; of the libraries only errors.
fn filter(level: Level) -> Targets {
    let own = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    Targets::new()
        .with_target(env!("CARGO_PKG_NAME"), own)
        .with_default(LevelFilter::ERROR)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing::subscriber::with_default;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Memory {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).unwrap()
        }
    }

    #[test]
    fn only_messages_of_the_level_are_written_and_the_level_can_change() {
        let memory = Memory::default();
        let writer = memory.clone();
        let (subscriber, messages) = subscriber(Level::Warn, Color::Off, move || writer.clone());
        with_default(subscriber, || {
            tracing::info!("one");
            tracing::warn!("two");
            messages.set_level(Level::Info);
            tracing::info!("three");
            tracing::debug!("four");
            messages.set_level(Level::Error);
            tracing::warn!("five");
        });
        let text = memory.text();
        let said = |word: &str| text.contains(word);
        assert!(said("two") && said("three"), "{text}");
        assert!(!said("one") && !said("four") && !said("five"), "{text}");
    }

    #[test]
    fn a_line_begins_with_an_rfc_3339_time_and_has_no_target() {
        let memory = Memory::default();
        let writer = memory.clone();
        let (subscriber, _messages) = subscriber(Level::Info, Color::Off, move || writer.clone());
        with_default(subscriber, || tracing::info!(answer = 42, "hello"));
        let text = memory.text();
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(humantime::parse_rfc3339(time).is_ok(), "{text}");
        assert_eq!(rest.trim_start(), "INFO hello answer=42\n");
    }
}
