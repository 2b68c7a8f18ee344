//! When a channel's number of subscriptions is told: at once while it is low, else now and then.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Above this many subscriptions, a channel's count is told only every [`COUNT_INTERVAL_MS`], as
/// Pusher does.
const COUNTED_AT_ONCE_MAX: u32 = 100;
/// Minimum time between two tellings of such a count (ms).
const COUNT_INTERVAL_MS: u64 = 5000;

/// The pace of one channel's count.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct CountPace {
    /// When the count was last told (ms), and whether it has changed since.
    counted_ms: u64,
    is_untold: bool,
    /// Whether the channel is queued in [`WaitingCounts`].
    is_waiting: bool,
}

/// What to do about a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountStep {
    /// Tell it now.
    Tell,
    /// Queue the channel until this moment (ms).
    Wait(u64),
    /// Nothing.
    Rest,
}

impl CountPace {
    /// Whether the count has changed since it was told.
    pub(super) fn is_untold(self) -> bool {
        self.is_untold
    }

    /// The pace of a channel that is in no queue.
    pub(super) fn afresh(self) -> Self {
        Self { counted_ms: self.counted_ms, ..Self::default() }
    }

    /// The count has changed.
    pub fn changed(&mut self, count: u32, now_ms: u64) -> CountStep {
        let at_ms = self.counted_ms.saturating_add(COUNT_INTERVAL_MS);
        if count <= COUNTED_AT_ONCE_MAX || now_ms >= at_ms {
            (self.is_untold, self.counted_ms) = (false, now_ms);
            return CountStep::Tell;
        }
        self.is_untold = true;
        if std::mem::replace(&mut self.is_waiting, true) {
            CountStep::Rest
        } else {
            CountStep::Wait(at_ms)
        }
    }

    /// The channel is taken out of the queue.
    pub fn due(&mut self, now_ms: u64) -> CountStep {
        self.is_waiting = false;
        let at_ms = self.counted_ms.saturating_add(COUNT_INTERVAL_MS);
        if !self.is_untold {
            CountStep::Rest
        } else if at_ms <= now_ms {
            (self.is_untold, self.counted_ms) = (false, now_ms);
            CountStep::Tell
        } else {
            // The count was told in between, while it was low enough for that.
            self.is_waiting = true;
            CountStep::Wait(at_ms)
        }
    }
}

/// Channels whose count waits, with the earliest moment (ms), in order. A channel is in here at most
/// once.
#[derive(Debug)]
pub struct WaitingCounts<C>(VecDeque<(u64, C)>);

impl<C> Default for WaitingCounts<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> WaitingCounts<C> {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self(VecDeque::new())
    }

    /// Queues a channel until a moment (ms).
    pub fn wait(&mut self, at_ms: u64, channel: C) {
        let place = self.0.partition_point(|(other_ms, _)| *other_ms <= at_ms);
        self.0.insert(place, (at_ms, channel));
    }

    /// The next channel that is due.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<C> {
        self.0.pop_front_if(|(at_ms, _)| *at_ms <= now_ms).map(|(_, channel)| channel)
    }

    /// When (ms) the next is due.
    #[must_use]
    pub fn due_at_ms(&self) -> Option<u64> {
        self.0.front().map(|(at_ms, _)| *at_ms)
    }
}
