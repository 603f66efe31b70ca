//! Up or down: how many results in a row it takes.

use crate::backend::State;
use crate::config::model::Health;

/// What the probes of one backend have come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    state: State,
    /// Results in a row that speak against the state.
    streak: u32,
}

impl Verdict {
    pub(super) const fn new(state: State) -> Self {
        Self { state, streak: 0 }
    }

    /// Takes in a good probe; the state, if it changes.
    pub(super) const fn passed(&mut self, health: &Health) -> Option<State> {
        match self.state {
            State::Up => self.agree(),
            State::Down => self.object(health.rise, State::Up),
            State::Unchecked => self.object(1, State::Up),
        }
    }

    /// Takes in a bad one.
    pub(super) const fn failed(&mut self, health: &Health) -> Option<State> {
        match self.state {
            State::Up => self.object(health.fall, State::Down),
            State::Down => self.agree(),
            State::Unchecked => self.object(1, State::Down),
        }
    }

    const fn agree(&mut self) -> Option<State> {
        self.streak = 0;
        None
    }

    const fn object(&mut self, needed: u32, other: State) -> Option<State> {
        self.streak += 1;
        if self.streak < needed {
            return None;
        }
        *self = Self::new(other);
        Some(other)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::model::{Initial, Probe};

    fn health(rise: u32, fall: u32) -> Health {
        Health {
            probe: Probe::Tcp,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            rise,
            fall,
            address: None,
            port: None,
            initial: Initial::Up,
        }
    }

    /// The state after each result: `+` is a good probe, `-` a bad one.
    fn states(begin: State, health: &Health, results: &str) -> String {
        let mut verdict = Verdict::new(begin);
        let mut state = begin;
        let after = |result| {
            let changed = match result {
                '+' => verdict.passed(health),
                _ => verdict.failed(health),
            };
            assert_ne!(changed, Some(state), "no change is no change");
            state = changed.unwrap_or(state);
            match state {
                State::Up => 'u',
                State::Down => 'd',
                State::Unchecked => '?',
            }
        };
        results.chars().map(after).collect()
    }

    #[test]
    fn it_takes_fall_failures_in_a_row_to_go_down() {
        assert_eq!(states(State::Up, &health(2, 3), "--+--+---"), "uuuuuuuud");
    }

    #[test]
    fn it_takes_rise_successes_in_a_row_to_come_up() {
        assert_eq!(
            states(State::Down, &health(2, 3), "+-+-++-"),
            "dddddu".to_owned() + "u"
        );
    }

    #[test]
    fn one_is_enough_where_one_is_asked_for() {
        assert_eq!(states(State::Up, &health(1, 1), "-+-+"), "dudu");
    }

    #[test]
    fn first_probe_alone_decides_where_nothing_is_known() {
        assert_eq!(states(State::Unchecked, &health(5, 5), "+-----"), "uuuuud");
        assert_eq!(states(State::Unchecked, &health(5, 5), "-+++++"), "dddddu");
    }

    #[test]
    fn streak_begins_anew_after_a_change() {
        assert_eq!(states(State::Up, &health(2, 2), "--+-++-+--"), "udddduuuud");
    }
}
