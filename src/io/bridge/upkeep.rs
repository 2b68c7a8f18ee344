//! What the feeds from a server share: when to try again, and how often to complain.

use std::time::{Duration, Instant};

/// Seconds before a server is tried again, the first time; each time after that is twice as long. These
/// are Wazo's own.
const PAUSE_S_FIRST: u64 = 1;
/// The longest of them: a server that is back is found within half a minute.
const PAUSE_S_MAX: u64 = 32;
/// Between two complaints of one kind.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// The seconds between attempts.
pub(super) struct Pauses(u64);

impl Default for Pauses {
    fn default() -> Self {
        Self(PAUSE_S_FIRST)
    }
}

impl Pauses {
    /// The pause before the next attempt.
    pub(super) fn next(&mut self) -> Duration {
        let pause_s = self.0;
        self.0 = (pause_s * 2).min(PAUSE_S_MAX);
        Duration::from_secs(pause_s)
    }
}

/// Keeps the log from being flooded by what each of many messages could be blamed for.
#[derive(Default)]
pub(super) struct Complaints {
    last: Option<Instant>,
    silenced: u64,
}

impl Complaints {
    /// One more reason to complain. When it is time to do so, the number of those that were kept silent about.
    pub(super) fn due(&mut self) -> Option<u64> {
        if self.last.is_some_and(|last| last.elapsed() < COMPLAINT_INTERVAL) {
            self.silenced += 1;
            return None;
        }
        self.last = Some(Instant::now());
        Some(std::mem::take(&mut self.silenced))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_tried_again_after_twice_the_time_until_half_a_minute() {
        let mut pauses = Pauses::default();
        let seconds: Vec<u64> = (0..8).map(|_| pauses.next().as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 32, 32]);
    }

    #[test]
    fn the_first_complaint_is_heard_and_the_next_are_counted() {
        let mut complaints = Complaints::default();
        assert_eq!([complaints.due(), complaints.due(), complaints.due()], [Some(0), None, None]);
        complaints.last = Instant::now().checked_sub(COMPLAINT_INTERVAL);
        assert_eq!([complaints.due(), complaints.due()], [Some(2), None]);
    }
}
