//! What the hand-off is built of. The model check (`tests/handoff_model.rs`) compiles the same files with a scheduler's
//! primitives in place of these, and so sees every order in which threads may meet.

pub(super) use std::sync::atomic::{AtomicU64, AtomicUsize};
pub(super) use std::sync::{Mutex, MutexGuard, OnceLock};
