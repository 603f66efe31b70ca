//! What it costs to hold a snapshot and to find a listener in it.

use std::cell::RefCell;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ringlane::snapshot::Snapshot;

use super::Case;
use super::config::{Shape, model, registries, snapshot as build};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("snapshot/arc_swap_load", arc_swap_load),
        Case::new("snapshot/rc_clone", rc_clone),
        Case::new("snapshot/listener", listener),
    ]
}

/// What a request for metrics does; `ArcSwap` spares it the shared count.
fn arc_swap_load() -> impl FnMut() -> u64 {
    let current = ArcSwap::from_pointee(snapshot());
    move || black_box(&current).load().version
}

/// What a session does: the worker's own count, behind the cell that a reload writes to.
fn rc_clone() -> impl FnMut() -> u64 {
    let current = RefCell::new(Rc::new(Arc::new(snapshot())));
    move || {
        let pinned = Rc::clone(&black_box(&current).borrow());
        black_box(&pinned).version
    }
}

/// What a session does with it first.
fn listener() -> impl FnMut() -> u8 {
    let snapshot = snapshot();
    let id = snapshot
        .listener_id("listener-7")
        .expect("the model has this listener");
    move || {
        let listener = black_box(&snapshot).listener(black_box(id));
        let pool = listener.and_then(|listener| listener.pool());
        pool.map_or(0, |pool| pool.retry_budget)
    }
}

fn snapshot() -> Snapshot {
    let model = model(&Shape {
        listeners: 16,
        backends: 3,
        balance: "round_robin",
    });
    build(&registries(), &Arc::new(model), 1)
}
