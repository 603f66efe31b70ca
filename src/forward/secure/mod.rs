//! Sessions in which TLS ends here: with the client, with the backend, or with both.
//!
//! [`handshake`] brings about the TLS session of one side and leaves it with the link; [`relay_secured`]
//! then moves bytes between the sides as [`relay`](super::relay::relay) does between plain ones:
//! the ring tells when, direct calls move the bytes, through buffers of the worker's
//! [`Lane`](crate::io::lane::Lane). A session that waits owns no buffer but what is left of a record.
//!
//! How the ends of both kinds of streams become each other:
//!
//! | one side | the other |
//! |---|---|
//! | close_notify, or FIN of a plain side | all bytes before it, then close_notify and FIN, or FIN to a plain side; the other direction goes on |
//! | FIN without close_notify | reset: nobody knows whether the stream was whole; a fault unless all was said to that side, which has said nothing since |
//! | reset | reset |
//! | a record that breaks the rules, or a fatal alert | all bytes before it, then reset; the side to blame gets the alert that is due, and a FIN |
//! | no room for what it is sent | is not read any more |

mod farewell;
mod flow;
mod handshake;

use std::pin::pin;

use super::link::{Direction, Ending, Link};
use super::pump::Pump;
use super::relay::Loan;
use crate::base::reason::Reason;
use crate::io::join::both;
use crate::io::socket::Socket;
pub(super) use farewell::farewell;
use flow::Flow;
pub use handshake::{Hello, handshake};

/// Relays between the link's client and its `backend`, of which at least one speaks TLS that is
/// established, until both directions are over.
pub async fn relay_secured(link: &Link, backend: &Socket, loan: &Loan<'_>) -> Ending {
    let down = Flow::new(Pump::new(link, backend, loan, Direction::Down));
    let up = Flow::new(Pump::new(link, backend, loan, Direction::Up));
    both(pin!(down.run()), pin!(up.run())).await;
    link.ending().unwrap_or(Ending::ours(Reason::Internal))
}
