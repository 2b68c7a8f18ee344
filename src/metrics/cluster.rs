//! The counters of the cluster's thread.

use crate::counter::Counter;

/// Why an event does not reach another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LossReason {
    /// It did not arrive here: counted by the receiver, to the event.
    Gap,
    /// It arrived, and the shards had no room: counted by the receiver.
    Full,
    /// It was not sent, because the engine was away: counted by the sender, and as a gap by each
    /// receiver.
    Away,
    /// It was not sent, because the engine takes no message of its length; counted as such a one.
    TooLong,
}

impl LossReason {
    /// All, with the names that metrics use.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Gap, "gap"),
        (Self::Full, "full"),
        (Self::Away, "away"),
        (Self::TooLong, "too_long"),
    ];
}

/// The counters of the cluster's thread.
#[derive(Debug, Default)]
pub struct ClusterMetrics {
    /// 1 while the engine is connected and will do.
    pub connected: Counter,
    /// Other nodes that live.
    pub peers: Counter,
    /// Those of them whose settings differ.
    pub settings_differ: Counter,
    /// Microseconds of a message to the slowest of them and back.
    pub round_trip_us: Counter,
    /// Connections to the engine that were lost.
    pub reconnects: Counter,
    /// Live events handed to the engine.
    pub events_out: Counter,
    /// Live events of other nodes handed to the shards.
    pub events_in: Counter,
    /// Bytes of messages handed to the engine.
    pub bytes_out: Counter,
    /// Bytes of messages from it.
    pub bytes_in: Counter,
    /// Live events lost, by [`LossReason`].
    pub lost: [Counter; LossReason::ALL.len()],
    /// Messages and events that this release cannot read.
    pub ignored: Counter,
    /// Control messages that it cannot read.
    pub unreadable: Counter,
    /// Partitions of presence that this node owns.
    pub partitions_owned: Counter,
    /// Partitions that no node is known to own.
    pub partitions_orphaned: Counter,
    /// 1 while JetStream does not do what a journal asks of it.
    pub journal_failing: Counter,
    /// Partitions taken.
    pub takeovers: Counter,
    /// Partitions lost to another node.
    pub fenced: Counter,
    /// Links between nodes and owners that began anew.
    pub link_resets: Counter,
    /// Joins and inquiries that no owner answered in time.
    pub unanswered: Counter,
}

impl ClusterMetrics {
    /// Counts lost events.
    pub fn lose(&self, why: LossReason, events: u64) {
        self.lost[why as usize].add(events);
    }
}
