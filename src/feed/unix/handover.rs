//! A publisher's connection as data, for another process.

use super::{Publisher, UnixCounts};
use serde::{Deserialize, Serialize};

/// A publisher's connection, as data.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrozenPublisher {
    /// The number of the shard that it was on.
    pub shard: u16,
    /// The number of its descriptor, among those of the shard.
    pub fd: u32,
    /// Whether the rest of an overlong line is being skipped.
    #[serde(default)]
    pub skipping: bool,
    /// Sessions reached so far, if it wants to know.
    #[serde(default)]
    pub reached: Option<u64>,
    /// The number of lines so far.
    #[serde(default)]
    pub lines: u64,
    /// Of these, handed on.
    #[serde(default)]
    pub accepted: u64,
    /// Of these, valid, but for a dialect that no listener speaks.
    #[serde(default)]
    pub no_listener: u64,
    /// Of these, answered with an error.
    #[serde(default)]
    pub rejected: u64,
    /// What has been read of it and not been handed on.
    #[serde(skip)]
    pub unread: Vec<u8>,
    /// Replies that it has not taken.
    #[serde(skip)]
    pub replies: Vec<u8>,
}

impl Publisher {
    /// The publisher as data; `None` while replies wait for the outcome of its lines.
    #[must_use]
    pub fn freeze(&self) -> Option<FrozenPublisher> {
        if self.owes() || !self.appends.is_empty() {
            return None;
        }
        let UnixCounts { accepted, no_listener, rejected } = self.total;
        Some(FrozenPublisher {
            skipping: self.skipping,
            reached: self.reached,
            lines: self.lines,
            accepted,
            no_listener,
            rejected,
            unread: [&self.partial[..], &self.unread[self.unread_at.min(self.unread.len())..]]
                .concat(),
            ..FrozenPublisher::default()
        })
    }

    /// The publisher again.
    #[must_use]
    pub fn thaw(frozen: &FrozenPublisher) -> Self {
        let &FrozenPublisher { accepted, no_listener, rejected, .. } = frozen;
        // Only whole lines are unread; the start of one is kept elsewhere.
        let is_line = memchr::memchr(b'\n', &frozen.unread).is_some();
        let (unread, partial) = if is_line {
            (frozen.unread.clone(), Vec::new())
        } else {
            (Vec::new(), frozen.unread.clone())
        };
        Self {
            partial,
            skipping: frozen.skipping,
            unread,
            reached: frozen.reached,
            lines: frozen.lines,
            total: UnixCounts { accepted, no_listener, rejected },
            ..Self::default()
        }
    }

    /// The number of sessions reached so far, if it is counted.
    #[must_use]
    pub fn reached(&self) -> Option<u64> {
        self.reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Kind;
    use crate::feed::Intake;
    use crate::wheel::Now;

    const LINE: &str = "event/c {\"Type\":\"t\",\"Object\":\"o\",\"Info\":\"i\"}\n";

    fn read(publisher: &mut Publisher, bytes: &str) -> (usize, String) {
        let spoken = vec![Kind::named("personium-event").unwrap()];
        let mut intake = Intake::new(spoken, std::sync::Arc::default());
        let (mut count, mut replies) = (0, Vec::new());
        let publish = |_| count += 1;
        publisher.read(bytes.as_bytes(), 90, &mut intake, Now::default(), publish, &mut replies);
        (count, String::from_utf8(replies).unwrap())
    }

    fn passed(publisher: &Publisher) -> Publisher {
        let frozen = publisher.freeze().unwrap();
        let text = serde_json::to_string(&frozen).unwrap();
        let read: FrozenPublisher = serde_json::from_str(&text).unwrap();
        Publisher::thaw(&FrozenPublisher { unread: frozen.unread, ..read })
    }

    #[test]
    fn lines_may_be_cut_anywhere_by_a_hand_over() {
        let lines = LINE.repeat(40) + &"x".repeat(200) + "\n\n";
        for cut in [1, LINE.len() - 1, LINE.len(), 39 * LINE.len() + 5, lines.len() - 100] {
            let mut publisher = Publisher::default();
            let (mut count, mut replies) = read(&mut publisher, &lines[..cut]);
            publisher = passed(&publisher);
            let mut rest = &lines[cut..];
            while publisher.has_more() || !rest.is_empty() {
                let bytes = if publisher.has_more() { "" } else { std::mem::take(&mut rest) };
                let (more, said) = read(&mut publisher, bytes);
                (count, replies) = (count + more, replies + &said);
                publisher = passed(&publisher);
            }
            assert_eq!(count, 40, "cut at {cut}");
            assert!(replies.contains("\"line\":41"), "{replies}");
            assert!(replies.ends_with("{\"accepted\":40,\"rejected\":1}\n"), "{replies}");
        }
    }
}
