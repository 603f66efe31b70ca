//! Where tasks that accept wait while the process takes no clients.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Those that wait. A socket has one task that accepts from it, so there are no more than sockets.
#[derive(Default)]
pub(super) struct Pause {
    waiting: RefCell<Vec<Waker>>,
}

impl Pause {
    /// Waits until `is_over`, which is asked now and at each [`look`](Self::look).
    pub(super) async fn wait(&self, is_over: impl Fn() -> bool) {
        poll_fn(|context| {
            if is_over() {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// Has everybody ask again whether it is over.
    pub(super) fn look(&self) {
        let waiting = self.waiting.take();
        waiting.into_iter().for_each(Waker::wake);
    }
}
