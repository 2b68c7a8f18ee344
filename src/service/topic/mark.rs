//! Where some of a topic's messages stand: the first that is kept, and about one of every megabyte that came since the
//! topic is in memory. Messages to drop are found by them, with few reads of the archive or none.

use super::state::LogPlace;
use super::{Position, StoredMessage};
use std::collections::VecDeque;

/// Bytes of messages between two marks: what a look that reads nothing keeps beside what it should.
const MARK_BYTES: u64 = 1024 * 1024;
/// Marks of what a topic keeps, about: with more kept, they stand farther apart.
const MARKS: u64 = 1024;

/// A message, as far as it matters to whether it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Where it stands.
    pub(super) place: LogPlace,
    /// Bytes that the topic had with it, ever.
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

/// Those of a topic, in order.
#[derive(Debug, Default)]
pub(super) struct Marks {
    all: VecDeque<Mark>,
    /// When the topic has so many bytes, the next message is marked.
    next_bytes: u64,
}

impl Marks {
    /// Takes note of a message that was appended.
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

    /// Of the messages from one position up to another: the last mark of which something is not true, and the first
    /// mark behind it of which it is. It is true of all after one of which it is.
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

    /// Forgets those below a position. `first` is the first message from there on, if that is known.
    pub(super) fn trim(&mut self, below: Position, first: Option<Mark>) {
        while self.all.pop_front_if(|mark| mark.place.position < below).is_some() {}
        // Unless another mark says it already.
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
