//! Known positions of a topic's messages: the first stored one, and about one for each megabyte
//! published since the topic was loaded. They help to find where to delete, with few reads of the
//! archive or none.

use super::state::LogPlace;
use super::{Position, StoredMessage};
use std::collections::VecDeque;

/// Bytes of messages between two marks: a check without reads keeps at most this much too long.
const MARK_BYTES: u64 = 1024 * 1024;
/// Approximate number of marks over a topic's stored messages: the larger the topic, the wider
/// their spacing.
const MARKS: u64 = 1024;

/// The data of a message that decides whether it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Its place in the topic.
    pub(super) place: LogPlace,
    /// Bytes ever published to the topic, up to and including it.
    pub(super) end_bytes: u64,
    /// When it was published (unix, ms).
    pub(super) published_ms: u64,
}

impl Mark {
    pub(super) fn of(message: &StoredMessage) -> Self {
        Self {
            place: LogPlace::before(message),
            end_bytes: message.bytes_before() + message.len() as u64,
            published_ms: message.published_ms(),
        }
    }
}

/// The marks of a topic, in order.
#[derive(Debug, Default)]
pub(super) struct Marks {
    all: VecDeque<Mark>,
    /// Size of the topic (bytes ever published) at which the next message is marked.
    next_bytes: u64,
}

impl Marks {
    /// Marks an appended message, if enough bytes have come since the last mark.
    pub(super) fn extend(&mut self, message: &StoredMessage) {
        if message.bytes_before() < self.next_bytes {
            return;
        }
        let mark = Mark::of(message);
        let kept =
            self.all.front().map_or(0, |first| mark.place.bytes.saturating_sub(first.place.bytes));
        self.next_bytes = mark.place.bytes.saturating_add(MARK_BYTES.max(kept / MARKS));
        self.all.push_back(mark);
    }

    /// Between two positions: the last mark for which `is_past` does not hold, and the first after
    /// it for which it does. It holds for all after the first for which it holds.
    pub(super) fn around(
        &self,
        from: Position,
        to: Position,
        is_past: impl Fn(&Mark) -> bool,
    ) -> (Option<Mark>, Option<Mark>) {
        let first = self.all.partition_point(|mark| mark.place.position < from);
        let end = self.all.partition_point(|mark| mark.place.position < to);
        let at =
            self.all.partition_point(|mark| mark.place.position < from || !is_past(mark)).min(end);
        let before = at.checked_sub(1).filter(|before| *before >= first);
        (before.map(|before| self.all[before]), self.all.get(at).filter(|_| at < end).copied())
    }

    /// Drops the marks before a position. `first` is the first message from there on, if known.
    pub(super) fn trim(&mut self, below: Position, first: Option<Mark>) {
        while self.all.pop_front_if(|mark| mark.place.position < below).is_some() {}
        // Unless another mark is already there or before it.
        if let Some(first) = first
            && self.all.front().is_none_or(|mark| first.place.position < mark.place.position)
        {
            self.all.push_front(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MessageDraft, TopicMessage};
    use super::*;

    fn stored(entry: u64, bytes: u64) -> StoredMessage {
        let draft =
            MessageDraft::new(&TopicMessage { published_ms: entry, ..TopicMessage::default() });
        draft.store(Position::new(0, entry).unwrap(), entry, bytes)
    }

    #[test]
    fn about_one_message_of_a_megabyte_is_marked_and_fewer_where_much_is_kept() {
        let mut marks = Marks::default();
        (0..100).for_each(|entry| marks.extend(&stored(entry, entry * MARK_BYTES / 4)));
        assert_eq!(marks.all.len(), 25);
        let mut marks = Marks::default();
        (0..100_000).for_each(|entry| marks.extend(&stored(entry, entry * MARK_BYTES)));
        assert!(marks.all.len() < 6 * MARKS as usize, "{}", marks.all.len());
    }

    #[test]
    fn what_is_looked_for_lies_between_two_marks() {
        let mut marks = Marks::default();
        (0..40).for_each(|entry| marks.extend(&stored(entry, entry * MARK_BYTES / 4)));
        let position = |entry| Position::new(0, entry).unwrap();
        let around = |marks: &Marks, from, to, entry| {
            let (before, after) =
                marks.around(position(from), position(to), |mark| mark.published_ms >= entry);
            (before.map(|mark| mark.published_ms), after.map(|mark| mark.published_ms))
        };
        assert_eq!(around(&marks, 0, 40, 10), (Some(8), Some(12)));
        assert_eq!(around(&marks, 0, 40, 12), (Some(8), Some(12)));
        assert_eq!(around(&marks, 0, 40, 0), (None, Some(0)));
        assert_eq!(around(&marks, 0, 40, 99), (Some(36), None));
        assert_eq!(around(&marks, 9, 40, 10), (None, Some(12)), "what comes before does not count");
        assert_eq!(around(&marks, 0, 12, 11), (Some(8), None), "nor what comes after");
        let first = Mark::of(&stored(9, 9 * MARK_BYTES / 4));
        marks.trim(position(9), Some(first));
        assert_eq!(around(&marks, 0, 40, 0), (None, Some(9)));
        marks.trim(position(9), Some(first));
        assert_eq!(marks.all.len(), 8);
    }
}
