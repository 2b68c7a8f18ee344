//! Messages from Redis that wait until the shards have room.

use redis::Msg;
use std::collections::VecDeque;

/// Waiting messages before newer ones are dropped: about as many as wait for a shard.
const MESSAGES_MAX: usize = 50_000;
/// Their bytes, likewise.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// Overhead of a message, besides its payload and channel.
const MESSAGE_BYTES: usize = 128;

/// Messages in the order of their arrival.
#[derive(Default)]
pub(super) struct RedisBacklog {
    messages: VecDeque<Msg>,
    bytes: usize,
    dropped: u64,
}

impl RedisBacklog {
    /// Adds a message, or drops it when there is no room.
    pub(super) fn push(&mut self, message: Msg) {
        // The new one rather than the oldest, which would break the order of what was already
        // taken.
        if self.messages.len() >= MESSAGES_MAX || self.bytes + weight(&message) > BYTES_MAX {
            self.dropped += 1;
            return;
        }
        self.bytes += weight(&message);
        self.messages.push_back(message);
    }

    /// Takes the oldest, up to a count and until the bytes are reached; at least one if there is
    /// one.
    pub(super) fn take(&mut self, count_max: usize, bytes_max: usize) -> impl Iterator<Item = Msg> {
        let mut bytes = 0;
        let mut count = 0;
        for message in self.messages.iter().take(count_max) {
            // Checked before each message, so that one longer than the limit is taken alone.
            if bytes >= bytes_max {
                break;
            }
            bytes += weight(message);
            count += 1;
        }

        self.bytes -= bytes;
        // Collected, because a drain that is dropped half-way would lose the rest uncounted.
        self.messages.drain(..count).collect::<Vec<_>>().into_iter()
    }

    /// The number of messages dropped since the last call.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }
}

fn weight(message: &Msg) -> usize {
    message.get_payload_bytes().len() + message.get_channel_name().len() + MESSAGE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::Value;

    fn message(payload: &[u8]) -> Msg {
        let parts =
            [&b"message"[..], b"channel", payload].map(|part| Value::BulkString(part.to_vec()));
        Msg::from_owned_value(Value::Array(parts.into())).unwrap()
    }

    #[test]
    fn the_oldest_are_kept_and_what_has_no_room_is_counted() {
        let mut backlog = RedisBacklog::default();
        for number in 0..MESSAGES_MAX + 3 {
            backlog.push(message(number.to_string().as_bytes()));
        }
        assert_eq!(
            (backlog.len(), backlog.take_dropped(), backlog.take_dropped()),
            (MESSAGES_MAX, 3, 0)
        );
        let payloads =
            backlog.take(2, usize::MAX).map(|message| message.get_payload_bytes().to_vec());
        assert_eq!(payloads.collect::<Vec<_>>(), [b"0", b"1"]);
        backlog.push(message(b"more"));
        assert_eq!((backlog.len(), backlog.take_dropped()), (MESSAGES_MAX - 1, 0));
        assert_eq!(backlog.take(usize::MAX, usize::MAX).count(), MESSAGES_MAX - 1);
        assert_eq!((backlog.bytes, backlog.is_empty()), (0, true));
    }

    #[test]
    fn bytes_have_a_limit_too() {
        let mut backlog = RedisBacklog::default();
        let large = vec![b'x'; BYTES_MAX / 4];
        (0..5).for_each(|_| backlog.push(message(&large)));
        backlog.push(message(b"small"));
        assert_eq!((backlog.len(), backlog.take_dropped()), (4, 2));
    }
}
