//! The synchronization primitives of the hand-off: those of `std::sync`. The model check
//! (`tests/handoff_model.rs`) compiles the files that import them with a scheduler's in their
//! place, and so tries every interleaving of threads.

pub(super) use std::sync::atomic::{AtomicU64, AtomicUsize};
pub(super) use std::sync::{Mutex, MutexGuard, OnceLock};
