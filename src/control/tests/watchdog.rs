//! The service manager's watchdog.

use std::io;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{DEADLINE, surface};
use crate::admin::Reloaded;
use crate::control::keep_alive;

#[test]
fn the_watchdog_is_told_again_after_a_failure() {
    let (sender, mut told) = mpsc::unbounded_channel();
    let tell = move || {
        sender.send(()).unwrap();
        Err(io::ErrorKind::WouldBlock.into())
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let surface = surface(|| Reloaded::Busy);
        tokio::spawn(keep_alive(Duration::from_millis(2), surface, tell));
        for _ in 0..3 {
            assert_eq!(timeout(DEADLINE, told.recv()).await.unwrap(), Some(()));
        }
    });
}
