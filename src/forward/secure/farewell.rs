//! The end of a connection whose TLS has failed: the peer is to read why.

use std::os::fd::AsFd;
use std::pin::pin;
use std::time::Duration;

use rustix::io::Errno;

use crate::base::reason::Side;
use crate::forward::link::Link;
use crate::io::deadline::ended_after;
use crate::io::lane::Lane;
use crate::io::socket::Socket;
use crate::sys::socket::{finish, finish_sending, receive};

/// How long a peer may take to read its alert and to close.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

/// What a peer may have on its way meanwhile, bytes.
pub(super) const FAREWELL_BYTES: usize = 256 * 1024;

/// Sends the alert that is due and ends our half, then takes in what is on its way: closing a socket
/// with bytes unread would reset the connection, and take the alert along.
pub(in crate::forward) async fn farewell(link: &Link, side: Side, lane: &Lane) {
    let Some(socket) = link.socket(side) else {
        return;
    };
    let end = || finish(socket.as_fd());
    ended_after(pin!(say(link, side, socket, lane)), FAREWELL, end).await;
}

async fn say(link: &Link, side: Side, socket: &Socket, lane: &Lane) {
    loop {
        match link.flush(side) {
            Ok(flushed) if flushed.done => break,
            Ok(_) => socket.writable().await,
            Err(_) => return,
        }
    }
    finish_sending(socket.as_fd());
    let mut left = FAREWELL_BYTES;
    while left > 0 {
        socket.readable().await;
        let buffer = &mut *lane.secured.borrow_mut();
        match receive(socket.as_fd(), buffer) {
            Ok(0) => return,
            Ok(received) => left = left.saturating_sub(received),
            Err(Errno::AGAIN) => {}
            Err(_) => return,
        }
    }
}
