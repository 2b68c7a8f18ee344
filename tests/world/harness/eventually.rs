//! Waiting for a condition: the only way in which tests wait for what other threads and processes do.

use std::time::{Duration, Instant};

/// How long anything may take that should happen at once. Long, because the machine may be busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until the condition holds.
#[track_caller]
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    eventually_within(DEADLINE, what, condition);
}

/// Waits so long until the condition holds.
#[track_caller]
pub(crate) fn eventually_within(time: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    eventually_well(time, || if condition() { Ok(()) } else { Err(what.to_owned()) });
}

/// Waits so long until nothing is wrong any more, and else says what is.
#[track_caller]
pub(crate) fn eventually_well(time: Duration, mut look: impl FnMut() -> Result<(), String>) {
    let start = Instant::now();
    while let Err(wrong) = look() {
        assert!(start.elapsed() < time, "still not so after {time:?}: {wrong}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
