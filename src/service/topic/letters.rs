//! Messages on their way to the dead letters of another owner.

use super::Position;
use super::handles::SubId;
use std::collections::HashMap;
use std::sync::Arc;

/// Messages that may be on their way to the dead letters of another owner; one more comes to its consumer again. Another
/// owner answers within a round of its own.
const LETTERS_MAX: usize = 1000;
/// Bytes of them; one message alone may have more.
const LETTERS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Messages on their way to the dead letters of another owner, by a number that comes back with its answer.
#[derive(Debug, Default)]
pub(super) struct DeadLetters {
    sent: HashMap<u32, DeadLetter, ahash::RandomState>,
    bytes: usize,
    serial: u32,
}

/// One of them.
#[derive(Debug)]
struct DeadLetter {
    of: (SubId, Position),
    /// The subscription.
    name: Arc<str>,
    bytes: usize,
}

impl DeadLetters {
    /// Takes note of a message of so many bytes. Returns the number of its answer; nothing when too many are on their way.
    pub(super) fn add(
        &mut self,
        of: (SubId, Position),
        name: Arc<str>,
        bytes: usize,
    ) -> Option<u32> {
        // The message comes again instead, and is buried later.
        if self.sent.len() >= LETTERS_MAX || self.bytes + bytes > LETTERS_BYTES_MAX.max(bytes) {
            return None;
        }
        self.serial = self.serial.wrapping_add(1);
        self.bytes += bytes;
        self.sent.insert(self.serial, DeadLetter { of, name, bytes });
        Some(self.serial)
    }

    /// The message whose answer has come, with the name of its subscription.
    pub(super) fn take(&mut self, number: u32) -> Option<((SubId, Position), Arc<str>)> {
        let letter = self.sent.remove(&number)?;
        self.bytes = self.bytes.saturating_sub(letter.bytes);
        Some((letter.of, letter.name))
    }
}
