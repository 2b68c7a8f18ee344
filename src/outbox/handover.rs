//! What an outbox still has to send, as data for another process.

use super::{CHUNK_OVERHEAD_BYTES, Chunk, EMPTY, Outbox, OutboxBacklog};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// What is still to be sent to one connection, as data.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrozenOutbox {
    /// Bytes of the first frame that have left.
    #[serde(default)]
    offset: usize,
    /// The lengths of the frames.
    #[serde(default)]
    lengths: Vec<usize>,
    /// The frames, whole.
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
    /// What is still to be sent; `None` within a turn that has queued more.
    #[must_use]
    pub fn freeze(&self) -> Option<FrozenOutbox> {
        if self.list != EMPTY {
            return None;
        }
        let mut frozen = FrozenOutbox::default();
        let Some(backlog) = &self.backlog else { return Some(frozen) };
        frozen.offset = backlog.offset;
        for chunk in &backlog.chunks {
            frozen.lengths.push(chunk.bytes().len());
            frozen.bytes.extend_from_slice(chunk.bytes());
        }
        Some(frozen)
    }

    /// The outbox again, which the next flush offers to its socket; `None` when the lengths are not
    /// those of the bytes.
    #[must_use]
    pub fn thaw(frozen: &FrozenOutbox) -> Option<Self> {
        let FrozenOutbox { offset, lengths, bytes } = frozen;
        let mut chunks = VecDeque::with_capacity(lengths.len());
        let mut rest = &bytes[..];
        for &length in lengths {
            // An empty chunk would never be taken, and never leave.
            let (frame, behind) = rest.split_at_checked(length).filter(|_| length > 0)?;
            chunks.push_back(Chunk::Own(frame.into()));
            rest = behind;
        }
        if !rest.is_empty() || *offset >= lengths.first().copied().unwrap_or(1) {
            return None;
        }
        if chunks.is_empty() {
            return Some(Self::default());
        }
        let bytes = bytes.len() + chunks.len() * CHUNK_OVERHEAD_BYTES;
        let backlog = OutboxBacklog { chunks, offset: *offset, bytes, blocked: false };
        Some(Self { list: EMPTY, backlog: Some(Box::new(backlog)) })
    }
}
