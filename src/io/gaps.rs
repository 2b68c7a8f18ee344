//! Missing dependencies of dialects: a lost feed, a store that cannot be written.

use crate::dialect::Kind;
use crate::http::Gap;
use crate::service::topic::OWNERS_MAX;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A dependency that can be missing.
#[derive(Clone, Copy, Debug)]
pub(super) enum GapSource {
    Amqp,
    Redis,
    /// The other nodes.
    Cluster,
    /// The store of the owner of topics with this index.
    Store(usize),
}

/// The dependencies that are missing now.
#[derive(Default)]
pub(super) struct Gaps([Mutex<Option<Gap>>; 3 + OWNERS_MAX]);

impl Gaps {
    /// Notes that dialects lack a dependency, and the reason.
    pub(super) fn begin(&self, source: GapSource, kinds: &[Kind], reason: &str) {
        let mut gap = self.lock(source);
        // Repeated at each attempt to connect, mostly with an equal reason.
        if gap.as_ref().is_none_or(|gap| gap.reason != reason) {
            *gap = Some(Gap { kinds: kinds.to_vec(), reason: reason.to_owned() });
        }
    }

    /// Notes that the dependency is back.
    pub(super) fn end(&self, source: GapSource) {
        *self.lock(source) = None;
    }

    /// All gaps, each once.
    pub(super) fn all(&self) -> Vec<Gap> {
        let mut gaps: Vec<Gap> = Vec::new();
        for gap in self.0.iter().filter_map(|gap| lock(gap).clone()) {
            // Several owners of topics may lack one thing, such as space on the disk.
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
            GapSource::Cluster => &self.0[2],
            GapSource::Store(owner) => &self.0[3 + owner],
        })
    }
}

fn lock(gap: &Mutex<Option<Gap>>) -> MutexGuard<'_, Option<Gap>> {
    gap.lock().unwrap_or_else(PoisonError::into_inner)
}
