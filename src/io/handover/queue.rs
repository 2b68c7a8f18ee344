//! The queue of descriptors from a shard of the old process.

use super::channel::{DESCRIPTORS_MAX, HandoverChannel};
use rustix::fd::{BorrowedFd, OwnedFd};
use std::io;

/// The queue of a shard's descriptors.
pub(in crate::io) struct ShardQueue {
    channel: HandoverChannel,
    sent: u32,
}

impl ShardQueue {
    /// Maximum number of descriptors that are put at once.
    pub(in crate::io) const PART: usize = DESCRIPTORS_MAX;

    /// A queue with this end.
    pub(super) fn of(end: OwnedFd) -> io::Result<Self> {
        Ok(Self { channel: HandoverChannel::of(end)?, sent: 0 })
    }

    /// The number of descriptors so far, and thus of the next.
    pub(in crate::io) fn sent(&self) -> u32 {
        self.sent
    }

    /// Puts descriptors behind the others.
    ///
    /// # Errors
    /// When the system takes no more: of bytes, or of descriptors on their way (RLIMIT_NOFILE).
    pub(in crate::io) fn put(&mut self, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if descriptors.is_empty() {
            return Ok(());
        }
        self.channel.send(b"", descriptors)?;
        self.sent += descriptors.len() as u32;
        Ok(())
    }
}
