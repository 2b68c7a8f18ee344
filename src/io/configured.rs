//! What the last start or reload has left, for the metrics.

use super::clock;
use crate::shard::Limits;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the last start or reload has left.
#[derive(Default)]
pub(super) struct Configured(Mutex<LastConfiguration>);

#[derive(Clone, Default)]
pub(super) struct LastConfiguration {
    pub(super) is_good: bool,
    pub(super) taken_s: u64,
    pub(super) limits: Limits,
    pub(super) certificates: Vec<(String, u64)>,
}

impl Configured {
    /// A configuration was taken, with these limits, and certificates that end then (unix time, s).
    pub(super) fn taken(&self, limits: Limits, certificates: Vec<(String, u64)>) {
        let taken_s = clock::now().unix_ms / 1000;
        *self.lock() = LastConfiguration { is_good: true, taken_s, limits, certificates };
    }

    /// One was refused, and everything stays as it was.
    pub(super) fn refused(&self) {
        self.lock().is_good = false;
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, LastConfiguration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
