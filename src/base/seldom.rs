//! For messages about a state that lasts: said when it begins, and once a minute while it goes on.

use std::time::Duration;

use super::clock::Instant;

const INTERVAL: Duration = Duration::from_secs(60);

/// When something was last said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seldom {
    said: Option<Instant>,
}

impl Seldom {
    /// Whether it is time to say it again; if so, that is noted.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = self.said.is_none_or(|said| now.since(said) >= INTERVAL);
        if due {
            self.said = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_first_and_once_a_minute() {
        let mut seldom = Seldom::default();
        let begin = Instant::from_millis(5_000);
        let said = (0..180).filter(|&second| seldom.is_due(begin + Duration::from_secs(second)));
        assert_eq!(said.collect::<Vec<_>>(), [0, 60, 120]);
    }
}
