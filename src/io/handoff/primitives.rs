//! The synchronization primitives of the hand-off (`std::sync` here). The model check
//! (`tests/handoff_model.rs`) compiles these files with a scheduler's primitives in place of them,
//! and so tries every interleaving of threads.

pub(super) use std::sync::atomic::{AtomicU64, AtomicUsize};
pub(super) use std::sync::{Mutex, MutexGuard, OnceLock};
