//! The last ends of sessions on all shards: those that operators ask for, and those that an exporter
//! has not sent yet.
//!
//! One list for all shards has their order, and answers while a shard hangs. A shard takes each lock
//! once in a turn that had ends; a question holds it for a walk of the ring, less than 0.1 ms.

use crate::http::ExportFacts;
use crate::inspect::{ENDS_MAX, EndFilter, EndRing, SessionEnd};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Ends that wait for an export, as many as operators are told of. Of more, the oldest are dropped
/// and counted.
const UNSENT_MAX: usize = ENDS_MAX;

/// The last ends; none are kept where no operator could ask for them, and none is exported.
#[derive(Default)]
pub(super) struct Ends {
    ring: Option<Mutex<EndRing>>,
    unsent: Option<Mutex<VecDeque<SessionEnd>>>,
    /// What the exporter has counted, with one.
    exports: Option<ExportCounts>,
}

#[derive(Default)]
struct ExportCounts {
    sent: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl Ends {
    /// Ends that are kept if they can be asked for, or are exported; without an exporter `exports` is
    /// `None`.
    pub(super) fn kept(are_asked_for: bool, exports: Option<bool>) -> Self {
        Self {
            ring: are_asked_for.then(Mutex::default),
            unsent: (exports == Some(true)).then(Mutex::default),
            exports: exports.map(|_| ExportCounts::default()),
        }
    }

    pub(super) fn are_kept(&self) -> bool {
        self.ring.is_some() || self.unsent.is_some()
    }

    pub(super) fn keep(&self, ends: Vec<SessionEnd>) {
        if ends.is_empty() {
            return;
        }
        if let Some(unsent) = &self.unsent {
            let mut unsent = whole(unsent);
            unsent.extend(ends.iter().cloned());
            let excess = unsent.len().saturating_sub(UNSENT_MAX);
            unsent.drain(..excess);
            self.count_dropped(excess);
        }
        if let Some(ring) = &self.ring {
            whole(ring).keep(ends);
        }
    }

    /// The last ends that a filter means, the newest first.
    pub(super) fn newest(&self, filter: &EndFilter, count: usize) -> Vec<SessionEnd> {
        let Some(ring) = &self.ring else { return Vec::new() };
        whole(ring).newest(filter, count)
    }

    /// Takes the oldest that have not been exported.
    pub(super) fn take_unsent(&self, count: usize) -> Vec<SessionEnd> {
        let Some(unsent) = &self.unsent else { return Vec::new() };
        let mut unsent = whole(unsent);
        let count = unsent.len().min(count);
        unsent.drain(..count).collect()
    }

    /// Puts back what could not be exported, as far as there is room.
    pub(super) fn put_back(&self, ends: Vec<SessionEnd>) {
        let Some(unsent) = &self.unsent else { return };
        let mut unsent = whole(unsent);
        let room = UNSENT_MAX - unsent.len();
        self.count_dropped(ends.len().saturating_sub(room));
        ends.into_iter().rev().take(room).for_each(|end| unsent.push_front(end));
    }

    /// Counts ends that are never exported.
    pub(super) fn count_dropped(&self, count: usize) {
        if let Some(exports) = &self.exports {
            exports.dropped.fetch_add(count as u64, Relaxed);
        }
    }

    /// Counts an export.
    pub(super) fn count_export(&self, is_taken: bool) {
        if let Some(exports) = &self.exports {
            let count = if is_taken { &exports.sent } else { &exports.failed };
            count.fetch_add(1, Relaxed);
        }
    }

    /// What metrics say of exports.
    pub(super) fn export_facts(&self) -> Option<ExportFacts> {
        let ExportCounts { sent, failed, dropped } = self.exports.as_ref()?;
        Some(ExportFacts {
            sent: sent.load(Relaxed),
            failed: failed.load(Relaxed),
            dropped: dropped.load(Relaxed),
        })
    }
}

/// The list behind a lock. Whole ends are moved, so it is good after any panic.
fn whole<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;

    fn end(at_ms: u64) -> SessionEnd {
        SessionEnd {
            id: None,
            at_ms,
            kind: None,
            remote: None,
            subject: "".into(),
            reason: Reason::Slow,
            detail: "".into(),
            code: None,
            age_s: 0,
            bytes_out: 0,
            is_refusal: false,
        }
    }

    #[test]
    fn what_is_not_taken_waits_in_its_place_and_the_oldest_give_way() {
        let ends = Ends::kept(false, Some(true));
        ends.keep((0..4).map(end).collect());
        let first = ends.take_unsent(3);
        assert_eq!(first.len(), 3);
        ends.put_back(first);
        let times = |ends: Vec<SessionEnd>| ends.iter().map(|end| end.at_ms).collect::<Vec<_>>();
        assert_eq!(times(ends.take_unsent(9)), [0, 1, 2, 3]);

        let most = UNSENT_MAX as u64;
        ends.keep((0..most).map(end).collect());
        let first = ends.take_unsent(10);
        ends.keep((most..most + 7).map(end).collect());
        // Three have room: the newest of those that were taken.
        ends.put_back(first);
        assert_eq!(ends.export_facts().unwrap().dropped, 7);
        assert_eq!(times(ends.take_unsent(4)), [7, 8, 9, 10]);
        ends.keep((0..most).map(end).collect());
        assert_eq!(ends.export_facts().unwrap().dropped, 7 + most - 4);
    }
}
