//! The events that operators see pass, on their way from whatever thread broadcasts them to the
//! admin thread.
//!
//! While nothing is open, a broadcast reads one flag. While something is, it compares addresses
//! under the lock of the dialect's lane, so that a reader sees the order that sessions see.

use crate::dialect::Kind;
use crate::frame::Publication;
use crate::inspect::{TapFilter, TapQueue};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Maximum number of readers at a time: each costs every broadcast of its dialect a comparison, and
/// may hold [`TAP_BYTES_MAX`](crate::inspect::tap::TAP_BYTES_MAX).
const TAPS_MAX: usize = 8;

/// The open taps.
#[derive(Default)]
pub(super) struct Taps {
    is_any_open: AtomicBool,
    open: Mutex<Vec<Arc<Tap>>>,
}

/// A tap.
struct Tap {
    filter: TapFilter,
    queue: Mutex<TapQueue>,
    /// Tells the reader of something in the queue.
    more: Notify,
}

impl Taps {
    /// Opens a tap; `None` when there are too many.
    pub(super) fn open(self: &Arc<Self>, filter: TapFilter) -> Option<OpenTap> {
        let mut open = lock(&self.open);
        if open.len() == TAPS_MAX {
            return None;
        }
        let tap = Arc::new(Tap { filter, queue: Mutex::default(), more: Notify::new() });
        open.push(Arc::clone(&tap));
        self.is_any_open.store(true, Relaxed);
        Some(OpenTap { tap, taps: Arc::clone(self) })
    }

    /// Shows publications of a dialect to the readers that want them.
    pub(super) fn offer(&self, kind: Kind, publications: &[Arc<Publication>]) {
        if !self.is_any_open.load(Relaxed) {
            return;
        }
        let open = lock(&self.open);
        let wanting: Vec<&Arc<Tap>> = open.iter().filter(|tap| tap.filter.means(kind)).collect();
        if wanting.is_empty() {
            return;
        }
        for publication in publications {
            let address = kind.address_of(publication);
            for tap in wanting.iter().filter(|tap| tap.filter.matches(&address)) {
                lock(&tap.queue).offer(publication);
                tap.more.notify_one();
            }
        }
    }
}

/// The reader's end of a tap, which is closed when this is dropped.
pub(super) struct OpenTap {
    tap: Arc<Tap>,
    taps: Arc<Taps>,
}

impl OpenTap {
    /// The next events, once there are some, and the number of those that were missed behind them.
    pub(super) async fn next(&self) -> (VecDeque<Arc<Publication>>, u64) {
        loop {
            let (events, missed) = lock(&self.tap.queue).take();
            if !events.is_empty() || missed > 0 {
                return (events, missed);
            }
            self.tap.more.notified().await;
        }
    }
}

impl Drop for OpenTap {
    fn drop(&mut self) {
        let mut open = lock(&self.taps.open);
        open.retain(|tap| !Arc::ptr_eq(tap, &self.tap));
        self.taps.is_any_open.store(!open.is_empty(), Relaxed);
    }
}

/// Lists and queues are good after any panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
