//! The clocks, which are read once per turn.

use crate::wheel::Now;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Reads both clocks.
#[must_use]
pub fn now() -> Now {
    let monotonic = clock_gettime(ClockId::Monotonic);
    let unix = clock_gettime(ClockId::Realtime);
    Now { monotonic_ns: nanoseconds(monotonic), unix_ms: nanoseconds(unix) / 1_000_000 }
}

/// The boot of the machine that [`now`]'s monotonic clock is of; empty where it is hidden.
#[must_use]
pub(super) fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

fn nanoseconds(time: Timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
