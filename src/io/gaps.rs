//! What some dialects lack: a feed that is away, a store that cannot be written.

use crate::api::Gap;
use crate::dialect::Kind;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What can be away.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    Amqp,
    Redis,
    Store,
}

/// What is away now.
#[derive(Default)]
pub(super) struct Gaps([Mutex<Option<Gap>>; 3]);

impl Gaps {
    /// From now on these dialects lack something, for this reason.
    pub(super) fn begin(&self, source: Source, kinds: &[Kind], reason: &str) {
        let mut gap = self.lock(source);
        if gap.as_ref().is_none_or(|gap| gap.reason != reason) {
            *gap = Some(Gap { kinds: kinds.to_vec(), reason: reason.to_owned() });
        }
    }

    /// Nothing is lacking any more.
    pub(super) fn end(&self, source: Source) {
        *self.lock(source) = None;
    }

    /// All that is lacking.
    pub(super) fn all(&self) -> Vec<Gap> {
        [Source::Amqp, Source::Redis, Source::Store]
            .into_iter()
            .filter_map(|source| self.lock(source).clone())
            .collect()
    }

    fn lock(&self, source: Source) -> MutexGuard<'_, Option<Gap>> {
        self.0[source as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
