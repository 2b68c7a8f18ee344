//! Which events are outstanding, when each was published, and which deliveries came, were lost or
//! came twice.
//!
//! Events are numbered 1, 2, 3… A subscriber receives every `stride`-th of them (every one in a
//! fan-out, every N-th when N subscribers have a topic each), so one expected number per subscriber
//! finds each gap and repeat. Time is an argument (nanoseconds since any start), so that nothing
//! here needs a clock.

/// Counts of one measurement.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeliveryTally {
    /// Frames received, each of them once.
    pub(super) delivered: u64,
    /// Frames that never came, seen by a gap in a subscriber's numbers or by silence at the end.
    pub(super) lost: u64,
    /// Frames that came again or out of order.
    pub(super) duplicated: u64,
    /// Frames that are not the published event at all.
    pub(super) unexpected: u64,
}

/// The outstanding events.
#[derive(Debug)]
pub(super) struct InFlight {
    slots: Vec<InFlightSlot>,
    published: u64,
    completed: u64,
    receivers: u32,
    stride: u64,
    tally: DeliveryTally,
}

#[derive(Debug, Clone, Copy, Default)]
struct InFlightSlot {
    published_at_ns: u64,
    remaining: u32,
}

impl InFlight {
    /// Room for `outstanding_max` events, each delivered to `receivers` subscribers, each of whom
    /// gets every `stride`-th event.
    pub(super) fn new(outstanding_max: usize, receivers: u32, stride: u64) -> Self {
        // Twice the larger: a lost event is noticed at latest `stride` events later and must still
        // have its slot.
        let slots = (2 * outstanding_max.max(stride as usize)).next_power_of_two();
        Self {
            slots: vec![InFlightSlot::default(); slots],
            published: 0,
            completed: 0,
            receivers,
            stride,
            tally: DeliveryTally::default(),
        }
    }

    /// A subscriber gets every so-many-th event.
    pub(super) fn stride(&self) -> u64 {
        self.stride
    }

    /// Events published and not yet received by all.
    pub(super) fn outstanding(&self) -> u64 {
        self.published - self.completed
    }

    /// The number of the event to publish next.
    pub(super) fn next_sequence(&self) -> u64 {
        self.published + 1
    }

    /// Notes `count` events as published at `now_ns`.
    pub(super) fn published(&mut self, count: u64, now_ns: u64) {
        for _ in 0..count {
            self.published += 1;
            let slot = self.slot(self.published);
            self.slots[slot] = InFlightSlot { published_at_ns: now_ns, remaining: self.receivers };
        }
    }

    /// Notes a delivery of event `sequence` to a subscriber that expected `*expected`; returns when
    /// the event was published, or `None` when the subscriber should not have received it now.
    #[inline]
    pub(super) fn delivered(&mut self, expected: &mut u64, sequence: u64) -> Option<u64> {
        if sequence < *expected || sequence > self.published || sequence == 0 {
            self.tally.duplicated += 1;
            return None;
        }
        // What was skipped cannot come any more: a connection keeps its order.
        while *expected < sequence {
            self.tally.lost += 1;
            self.complete_one(*expected);
            *expected += self.stride;
        }
        *expected = sequence + self.stride;
        self.tally.delivered += 1;
        self.complete_one(sequence);
        Some(self.slots[self.slot(sequence)].published_at_ns)
    }

    /// Notes a frame that is not a published event.
    pub(super) fn unexpected(&mut self) {
        self.tally.unexpected += 1;
    }

    /// Gives up on what is outstanding: nothing came for too long.
    pub(super) fn abandon(&mut self) {
        // Older events have given their slots to later ones.
        let oldest = self.published.saturating_sub(self.slots.len() as u64) + 1;
        for sequence in oldest..=self.published {
            let slot = self.slot(sequence);
            self.tally.lost += u64::from(self.slots[slot].remaining);
            self.slots[slot].remaining = 0;
        }
        self.completed = self.published;
    }

    /// The counts since the last call.
    pub(super) fn take_tally(&mut self) -> DeliveryTally {
        std::mem::take(&mut self.tally)
    }

    fn complete_one(&mut self, sequence: u64) {
        let slot = self.slot(sequence);
        let slot = &mut self.slots[slot];
        // An abandoned event that arrives late after all finds nothing left to complete.
        if slot.remaining > 0 {
            slot.remaining -= 1;
            if slot.remaining == 0 {
                self.completed += 1;
            }
        }
    }

    fn slot(&self, sequence: u64) -> usize {
        sequence as usize & (self.slots.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_complete_when_every_subscriber_has_it() {
        let mut in_flight = InFlight::new(4, 2, 1);
        let (mut first, mut second) = (1, 1);
        in_flight.published(2, 100);
        assert_eq!(in_flight.delivered(&mut first, 1), Some(100));
        assert_eq!(in_flight.delivered(&mut first, 2), Some(100));
        assert_eq!(in_flight.outstanding(), 2);
        assert_eq!(in_flight.delivered(&mut second, 1), Some(100));
        assert_eq!(in_flight.outstanding(), 1);
        assert_eq!(in_flight.delivered(&mut second, 2), Some(100));
        assert_eq!(in_flight.outstanding(), 0);
        assert_eq!(
            in_flight.take_tally(),
            DeliveryTally { delivered: 4, ..DeliveryTally::default() }
        );
    }

    #[test]
    fn a_gap_is_lost_and_a_repeat_is_duplicated() {
        let mut in_flight = InFlight::new(8, 1, 1);
        let mut expected = 1;
        in_flight.published(5, 0);
        for sequence in [1, 2, 2, 5, 4] {
            in_flight.delivered(&mut expected, sequence);
        }
        assert_eq!(
            in_flight.take_tally(),
            DeliveryTally { delivered: 3, lost: 2, duplicated: 2, unexpected: 0 }
        );
        assert_eq!(in_flight.outstanding(), 0);
    }

    #[test]
    fn a_subscriber_of_its_own_topic_expects_every_nth_event() {
        let mut in_flight = InFlight::new(2, 1, 10);
        let mut expected = 3;
        in_flight.published(23, 5);
        for sequence in [3, 23] {
            in_flight.delivered(&mut expected, sequence);
        }
        assert_eq!(
            in_flight.take_tally(),
            DeliveryTally { delivered: 2, lost: 1, duplicated: 0, unexpected: 0 }
        );
    }

    #[test]
    fn an_event_that_was_never_published_is_not_a_delivery() {
        let mut in_flight = InFlight::new(2, 1, 1);
        in_flight.published(1, 0);
        assert_eq!(in_flight.delivered(&mut 1, 2), None);
        assert_eq!(in_flight.take_tally().duplicated, 1);
    }

    #[test]
    fn silence_at_the_end_counts_what_is_missing_as_lost() {
        let mut in_flight = InFlight::new(4, 3, 1);
        in_flight.published(2, 0);
        in_flight.delivered(&mut 1, 1);
        in_flight.abandon();
        assert_eq!(in_flight.outstanding(), 0);
        assert_eq!(
            in_flight.take_tally(),
            DeliveryTally { delivered: 1, lost: 5, duplicated: 0, unexpected: 0 }
        );
    }
}
