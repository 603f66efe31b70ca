//! A panic in one session must not end its worker: the runtime does not catch it, so this does.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

/// A future panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panicked;

/// Runs `future` and turns a panic inside it into an error.
///
/// # Errors
/// [`Panicked`], after the panic hook has reported it.
pub async fn caught<F: Future>(mut future: Pin<&mut F>) -> Result<F::Output, Panicked> {
    poll_fn(|context| {
        // What the future shares with others is counters and queues that are whole between calls.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_panic_becomes_an_error_and_all_else_passes() {
        let panicking = pin!(async { panic!("on purpose") });
        let outcome: Poll<Result<(), Panicked>> = poll_once(pin!(caught(panicking)));
        assert_eq!(outcome, Poll::Ready(Err(Panicked)));
        assert_eq!(
            poll_once(pin!(caught(pin!(async { 7 })))),
            Poll::Ready(Ok(7))
        );
        let pending = pin!(std::future::pending::<()>());
        assert_eq!(poll_once(pin!(caught(pending))), Poll::Pending);
    }
}
