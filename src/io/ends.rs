//! The last ends of sessions on all shards, which operators ask for.
//!
//! One ring for all shards has their order, and answers while a shard hangs. A shard takes its lock
//! once in a turn that had ends; a question holds it for a walk of the ring, less than 0.1 ms.

use crate::inspect::{EndFilter, EndRing, SessionEnd};
use std::sync::{Mutex, PoisonError};

/// The last ends; none are kept where no operator could ask for them.
#[derive(Default)]
pub(super) struct Ends(Option<Mutex<EndRing>>);

impl Ends {
    /// Ends that are kept if they can be asked for.
    pub(super) fn kept(is_kept: bool) -> Self {
        Self(is_kept.then(Mutex::default))
    }

    pub(super) fn are_kept(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn keep(&self, ends: Vec<SessionEnd>) {
        if let (Some(ring), false) = (&self.0, ends.is_empty()) {
            // Whole ends are pushed, so the ring is good after any panic.
            ring.lock().unwrap_or_else(PoisonError::into_inner).keep(ends);
        }
    }

    /// The last ends that a filter means, the newest first.
    pub(super) fn newest(&self, filter: &EndFilter, count: usize) -> Vec<SessionEnd> {
        let Some(ring) = &self.0 else { return Vec::new() };
        ring.lock().unwrap_or_else(PoisonError::into_inner).newest(filter, count)
    }
}
