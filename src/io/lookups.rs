//! What the threads with a tokio client share: a runtime that looks up host names on threads of its
//! own, and an end that does not wait for those, since the resolver may block for a minute.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

/// A runtime for one thread, with at most `lookups_max` more for look-ups, each of which the
/// resolver may block.
///
/// # Errors
/// When it cannot be made.
pub(super) fn runtime(lookups_max: usize) -> io::Result<Runtime> {
    let mut runtime = Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(lookups_max).thread_name("lookup").build()
}

/// Waits until a thread no longer runs, but not beyond `latest`. Polled, not joined: a resolver that
/// blocks must not hold up the stop.
pub(super) fn await_end(running: &AtomicBool, latest: Instant) {
    while running.load(Relaxed) && Instant::now() < latest {
        std::thread::sleep(Duration::from_millis(1));
    }
}
