//! Dead letters whose topic belongs to another owner, until that owner has answered. `ack` decides
//! what becomes a dead letter.

use super::Position;
use super::handles::SubId;
use std::collections::HashMap;
use std::sync::Arc;

/// Limit on the dead letters awaiting another owner's answer; beyond it, messages are redelivered
/// instead. Other owners answer within a round of theirs.
const LETTERS_MAX: usize = 1000;
/// Limit on their bytes, unless one message alone is larger.
const LETTERS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The dead letters awaiting an answer, by the number that the answer returns.
#[derive(Debug, Default)]
pub(super) struct ForeignLetters {
    sent: HashMap<u32, ForeignLetter, ahash::RandomState>,
    bytes: usize,
    serial: u32,
}

/// One dead letter.
#[derive(Debug)]
struct ForeignLetter {
    of: (SubId, Position),
    /// The subscription.
    name: Arc<str>,
    bytes: usize,
}

impl ForeignLetters {
    /// Records a message of `bytes`. Returns the number for its answer; `None` when the limits are
    /// reached.
    pub(super) fn add(
        &mut self,
        of: (SubId, Position),
        name: Arc<str>,
        bytes: usize,
    ) -> Option<u32> {
        // The message is redelivered instead, and buried later.
        if self.sent.len() >= LETTERS_MAX || self.bytes + bytes > LETTERS_BYTES_MAX.max(bytes) {
            return None;
        }
        self.serial = self.serial.wrapping_add(1);
        self.bytes += bytes;
        self.sent.insert(self.serial, ForeignLetter { of, name, bytes });
        Some(self.serial)
    }

    /// Whether no answer is awaited.
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Removes the message that an answer belongs to; returns it with the name of its subscription.
    pub(super) fn take(&mut self, number: u32) -> Option<((SubId, Position), Arc<str>)> {
        let letter = self.sent.remove(&number)?;
        self.bytes = self.bytes.saturating_sub(letter.bytes);
        Some((letter.of, letter.name))
    }
}
