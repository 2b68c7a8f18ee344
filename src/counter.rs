//! A number that one thread writes and any may read.
//!
//! A single writer needs no locked instruction: a counter is loaded and stored relaxed, which costs
//! what an ordinary addition costs.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that its one writer raises, lowers or sets.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; the caller is the only writer.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// Subtracts; the caller is the only writer.
    #[inline]
    pub fn sub(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(amount), Relaxed);
    }

    /// Sets; the caller is the only writer.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Reads, from any thread.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
