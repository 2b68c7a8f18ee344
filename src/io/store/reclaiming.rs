//! How far the work of giving room back is; see `reclaim`.

use std::sync::Arc;
use std::time::Instant;

/// How far the work is.
#[derive(Debug)]
pub(super) struct Reclaim {
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) compaction: Option<Compaction>,
    /// In which segment the last complete checkpoint began.
    pub(super) began: u32,
    /// Bytes that were written by its end, and that it took.
    pub(super) written: u64,
    pub(super) took: u64,
    /// When it was last looked for something to do, and the newest segment then.
    pub(super) looked: Instant,
    pub(super) active: u32,
    /// Bytes of messages that were copied since the start.
    pub(super) copied: u64,
    /// Segments that are to go, whose records are written; and those whose records are being synced.
    pub(super) going: Vec<u32>,
    pub(super) gone: Vec<u32>,
    /// Held by each backup that reads segments.
    pub(super) pin: Arc<()>,
}

impl Reclaim {
    pub(super) fn new(began: u32) -> Self {
        let now = Instant::now();
        Self {
            checkpoint: None,
            compaction: None,
            began,
            written: 0,
            took: 0,
            looked: now,
            active: 0,
            copied: 0,
            going: Vec::new(),
            gone: Vec::new(),
            pin: Arc::default(),
        }
    }

    /// What was written so far is being made safe.
    pub(super) fn sync_begun(&mut self) {
        self.gone.append(&mut self.going);
    }

    /// Whether segments are to go when the disk has what was written.
    pub(super) fn waits_for_sync(&self) -> bool {
        !self.going.is_empty()
    }

    pub(super) fn is_busy(&self) -> bool {
        self.checkpoint.is_some() || self.compaction.as_ref().is_some_and(|it| it.bytes.is_some())
    }

    pub(super) fn is_pinned(&self) -> bool {
        Arc::strong_count(&self.pin) > 1
    }
}

/// A checkpoint that is being made.
#[derive(Debug)]
pub(super) struct Checkpoint {
    pub(super) from: u32,
    /// The last topic that was told.
    pub(super) after: Option<Arc<str>>,
    pub(super) bytes: u64,
}

/// A segment that is being compacted.
#[derive(Debug)]
pub(super) struct Compaction {
    pub(super) segment: u32,
    /// Its bytes, once they are read.
    pub(super) bytes: Option<Vec<u8>>,
    pub(super) next: usize,
}
