//! How many are in: one count for all workers, exact.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Connections that are in now. Workers write and read it; it guards no other memory, so relaxed.
#[derive(Debug, Default)]
pub struct Crowd(AtomicU32);

/// One of them, for as long as it lives.
#[derive(Debug)]
pub struct Member(Arc<Crowd>);

impl Crowd {
    /// Lets one more in, unless there are `most`.
    pub fn enter(self: &Arc<Self>, most: u32) -> Option<Member> {
        let entered = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < most).then_some(count + 1)
            });
        entered.ok().map(|_| Member(Arc::clone(self)))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_in_as_may_be() {
        let crowd = Arc::new(Crowd::default());
        let mut members: Vec<_> = (0..3).map(|_| crowd.enter(3).unwrap()).collect();
        assert!(crowd.enter(3).is_none());
        members.pop();
        assert!(crowd.enter(3).is_some());
        // A lower limit lets nobody in until enough have left.
        assert!(crowd.enter(2).is_none());
    }

    #[test]
    fn threads_never_let_too_many_in() {
        let crowd = Arc::new(Crowd::default());
        let members: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1_000).filter_map(|_| crowd.enter(777)).collect()))
                .collect();
            threads
                .into_iter()
                .flat_map(|it| -> Vec<Member> { it.join().unwrap() })
                .collect()
        });
        assert_eq!(members.len(), 777);
        drop(members);
        assert!(crowd.enter(1).is_some());
    }
}
