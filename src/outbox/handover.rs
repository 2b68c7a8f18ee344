//! What an outbox still has to send, as data for another process.

use super::{CHUNK_OVERHEAD_BYTES, Chunk, EMPTY, Outbox, OutboxBacklog};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// The bytes that are still to be sent to one connection, as data.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrozenOutbox {
    /// Whether the first bytes are the rest of a frame that has left in part.
    #[serde(default)]
    is_begun: bool,
    /// The lengths of the frames.
    #[serde(default)]
    lengths: Vec<usize>,
    /// The frames.
    #[serde(skip)]
    pub(crate) bytes: Vec<u8>,
}

impl FrozenOutbox {
    /// Whether nothing is still to be sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }
}

impl Outbox {
    /// What is still to be sent, from the first byte that has not left; `None` within a turn that
    /// has queued more.
    #[must_use]
    pub fn freeze(&self) -> Option<FrozenOutbox> {
        if self.list != EMPTY {
            return None;
        }
        let mut frozen = FrozenOutbox::default();
        let Some(backlog) = &self.backlog else { return Some(frozen) };

        frozen.is_begun = backlog.offset > 0;
        let mut offset = backlog.offset;
        for chunk in &backlog.chunks {
            let left = &chunk.bytes()[std::mem::take(&mut offset)..];
            frozen.lengths.push(left.len());
            frozen.bytes.extend_from_slice(left);
        }
        Some(frozen)
    }

    /// The outbox again, which the next flush offers to its socket; `None` when the lengths are not
    /// those of the bytes.
    #[must_use]
    pub fn thaw(frozen: &FrozenOutbox) -> Option<Self> {
        let FrozenOutbox { is_begun, lengths, bytes } = frozen;
        let mut backlog =
            OutboxBacklog { chunks: VecDeque::new(), offset: 0, bytes: 0, blocked: false };
        let mut rest = &bytes[..];
        for &length in lengths {
            // An empty chunk would never be taken, and never leave.
            let (frame, behind) = rest.split_at_checked(length).filter(|_| length > 0)?;
            let mut chunk = Vec::with_capacity(frame.len() + 1);
            if *is_begun && backlog.chunks.is_empty() {
                // In place of what has left: a frame that has begun to leave has to be finished,
                // even if everything behind it is dropped.
                chunk.push(0);
                backlog.offset = 1;
            }
            chunk.extend_from_slice(frame);
            backlog.bytes += chunk.len() + CHUNK_OVERHEAD_BYTES;
            backlog.chunks.push_back(Chunk::Own(chunk.into()));
            rest = behind;
        }
        if !rest.is_empty() {
            return None;
        }
        let backlog = (!backlog.chunks.is_empty()).then(|| Box::new(backlog));
        Some(Self { list: EMPTY, backlog })
    }
}
