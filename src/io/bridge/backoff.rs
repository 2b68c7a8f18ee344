//! The back-off between attempts to connect to a broker.

use std::time::Duration;

/// The first pause in seconds; each one after it is twice as long. Wazo's own clients use these.
const PAUSE_S_FIRST: u64 = 1;
/// The longest pause in seconds: a broker that is back is found within half a minute.
const PAUSE_S_MAX: u64 = 32;

/// Exponential; the field is the next pause in seconds.
pub(super) struct Backoff(u64);

impl Default for Backoff {
    fn default() -> Self {
        Self(PAUSE_S_FIRST)
    }
}

impl Backoff {
    /// The pause before the next attempt.
    pub(super) fn next(&mut self) -> Duration {
        let pause_s = self.0;
        self.0 = (pause_s * 2).min(PAUSE_S_MAX);
        Duration::from_secs(pause_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_tried_again_after_twice_the_time_until_half_a_minute() {
        let mut backoff = Backoff::default();
        let seconds: Vec<u64> = (0..8).map(|_| backoff.next().as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 32, 32]);
    }
}
