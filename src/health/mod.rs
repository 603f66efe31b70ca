//! Which backends are to be probed when, and what the answers make of them: no waiting, no clock, no
//! socket. The control thread does what it says.
//!
//! The one way from here to a choice is the [`State`](crate::backend::State) in the facts of a backend:
//! [`Schedule`] writes it, balancers read it, and neither knows of the other.

mod failure;
pub mod http;
mod schedule;
mod target;
mod verdict;

pub use failure::Failure;
pub use schedule::{Change, Due, Schedule, Ticket};
pub use target::{Plan, Target, targets};

use crate::config::model::Expect;

/// The most of an answer that is looked at, bytes.
pub const ANSWER_BYTES_MAX: usize = 4 * 1024;

/// Probes that may be under way at once; those that are due beyond wait.
pub const PROBES_MAX: usize = 256;

/// What an answer so far comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It is good, whatever follows.
    Good,
    /// It is bad, whatever follows.
    Bad,
    /// That depends on what follows.
    Open,
}

/// Judges the first bytes of an answer to an exchange.
pub fn judge(expect: &Expect, answer: &[u8]) -> Judged {
    match expect {
        Expect::Prefix(prefix) if answer.starts_with(prefix) => Judged::Good,
        Expect::Prefix(prefix) if prefix.starts_with(answer) => Judged::Open,
        Expect::Prefix(_) => Judged::Bad,
        Expect::Regex(pattern) if pattern.is_in(answer) => Judged::Good,
        Expect::Regex(_) if answer.len() < ANSWER_BYTES_MAX => Judged::Open,
        Expect::Regex(_) => Judged::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::BytesPattern;

    #[test]
    fn prefix_is_judged_as_soon_as_it_can_be() {
        let expect = Expect::Prefix(b"+PONG\xff".as_slice().into());
        assert_eq!(judge(&expect, b""), Judged::Open);
        assert_eq!(judge(&expect, b"+PO"), Judged::Open);
        assert_eq!(judge(&expect, b"+PONG\xff and more"), Judged::Good);
        assert_eq!(judge(&expect, b"-"), Judged::Bad);
    }

    #[test]
    fn expression_may_be_found_until_the_answer_is_too_long() {
        let expect = Expect::Regex(BytesPattern::new("role:(primary|leader)").unwrap());
        assert_eq!(judge(&expect, b"role:"), Judged::Open);
        assert_eq!(judge(&expect, b"x role:leader"), Judged::Good);
        assert_eq!(judge(&expect, &[b'x'; ANSWER_BYTES_MAX - 1]), Judged::Open);
        assert_eq!(judge(&expect, &[b'x'; ANSWER_BYTES_MAX]), Judged::Bad);
    }
}
