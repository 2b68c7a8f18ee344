//! The pauses between attempts to connect to a broker.

use std::time::Duration;

/// The first pause in seconds; each one after it is twice as long. Wazo's own clients use these.
const PAUSE_S_FIRST: u64 = 1;
/// The longest pause in seconds: a broker that is back is found within half a minute.
const PAUSE_S_MAX: u64 = 32;

/// Exponential back-off; the field is the next pause in seconds.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_tried_again_after_twice_the_time_until_half_a_minute() {
        let mut pauses = Pauses::default();
        let seconds: Vec<u64> = (0..8).map(|_| pauses.next().as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 32, 32]);
    }
}
