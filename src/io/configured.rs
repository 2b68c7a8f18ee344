//! The outcome of the last start or reload, for the metrics.

use super::clock;
use crate::shard::Limits;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The outcome of the last start or reload.
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
    /// Notes that a configuration was applied, with its limits and the ends of its certificates
    /// (unix time, s).
    pub(super) fn taken(&self, limits: Limits, certificates: Vec<(String, u64)>) {
        let taken_s = clock::now().unix_ms / 1000;
        *self.lock() = LastConfiguration { is_good: true, taken_s, limits, certificates };
    }

    /// Notes that a configuration was refused; the limits in force stay those of the last one.
    pub(super) fn refused(&self) {
        self.lock().is_good = false;
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, LastConfiguration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
