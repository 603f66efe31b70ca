//! The one place where a wait and a deadline meet.
//!
//! On io_uring an operation that is dropped may already have happened in the kernel, so nothing is
//! dropped here: when the time is up, the caller's `end` makes the wait complete by itself.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

/// Waits for `wait`; if it is still pending after `limit`, runs `end` once and waits on.
///
/// `end` must make `wait` complete, as resetting or finishing its socket does.
pub async fn ended_after<W: Future>(
    mut wait: Pin<&mut W>,
    limit: Duration,
    end: impl FnOnce(),
) -> W::Output {
    let mut sleep = pin!(monoio::time::sleep(limit));
    let mut end = Some(end);
    poll_fn(|context| {
        if let Poll::Ready(output) = wait.as_mut().poll(context) {
            return Poll::Ready(output);
        }
        if end.is_some()
            && sleep.as_mut().poll(context).is_ready()
            && let Some(end) = end.take()
        {
            end();
        }
        Poll::Pending
    })
    .await
}
