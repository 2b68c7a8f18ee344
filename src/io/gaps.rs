//! What some dialects lack: a feed that is away, a store that cannot be written.

use crate::dialect::Kind;
use crate::http::Gap;
use crate::service::topic::OWNERS_MAX;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What can be away.
#[derive(Clone, Copy, Debug)]
pub(super) enum GapSource {
    Amqp,
    Redis,
    /// What the owner of topics with this index stores.
    Store(usize),
}

/// What is away now.
#[derive(Default)]
pub(super) struct Gaps([Mutex<Option<Gap>>; 2 + OWNERS_MAX]);

impl Gaps {
    /// From now on these dialects lack something, for this reason.
    pub(super) fn begin(&self, source: GapSource, kinds: &[Kind], reason: &str) {
        let mut gap = self.lock(source);
        if gap.as_ref().is_none_or(|gap| gap.reason != reason) {
            *gap = Some(Gap { kinds: kinds.to_vec(), reason: reason.to_owned() });
        }
    }

    /// Nothing is lacking any more.
    pub(super) fn end(&self, source: GapSource) {
        *self.lock(source) = None;
    }

    /// All that is lacking.
    pub(super) fn all(&self) -> Vec<Gap> {
        let mut gaps: Vec<Gap> = Vec::new();
        for gap in self.0.iter().filter_map(|gap| lock(gap).clone()) {
            // Several owners that lack the same, as room on the disk, lack it once.
            if !gaps.iter().any(|other| other.reason == gap.reason) {
                gaps.push(gap);
            }
        }
        gaps
    }

    fn lock(&self, source: GapSource) -> MutexGuard<'_, Option<Gap>> {
        lock(match source {
            GapSource::Amqp => &self.0[0],
            GapSource::Redis => &self.0[1],
            GapSource::Store(owner) => &self.0[2 + owner],
        })
    }
}

fn lock(gap: &Mutex<Option<Gap>>) -> MutexGuard<'_, Option<Gap>> {
    gap.lock().unwrap_or_else(PoisonError::into_inner)
}
