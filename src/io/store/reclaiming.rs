//! The state of freeing space; see `reclaim`.

use std::sync::Arc;
use std::time::Instant;

/// The state of freeing space.
#[derive(Debug)]
pub(super) struct Reclaim {
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) compaction: Option<Compaction>,
    /// The segment in which the last complete checkpoint began.
    pub(super) began: u32,
    /// Bytes written up to its end, and its size.
    pub(super) written: u64,
    pub(super) took: u64,
    /// When work was last looked for, and the newest segment then.
    pub(super) looked: Instant,
    pub(super) active: u32,
    /// Bytes of messages copied since the start.
    pub(super) copied: u64,
    /// Segments to remove whose records are written, and those whose records are being synced.
    pub(super) going: Vec<u32>,
    pub(super) gone: Vec<u32>,
    /// A reference is held by each backup that reads segments.
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

    /// Records that everything written so far is being synced.
    pub(super) fn note_sync(&mut self) {
        self.gone.append(&mut self.going);
    }

    /// Whether segments wait for a sync to be removed.
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

/// A checkpoint in progress.
#[derive(Debug)]
pub(super) struct Checkpoint {
    pub(super) from: u32,
    /// The last topic written.
    pub(super) after: Option<Arc<str>>,
    pub(super) bytes: u64,
}

/// A compaction in progress.
#[derive(Debug)]
pub(super) struct Compaction {
    pub(super) segment: u32,
    /// The segment's bytes, once they are read.
    pub(super) bytes: Option<Vec<u8>>,
    pub(super) next: usize,
}
