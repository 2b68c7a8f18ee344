//! Limits of the apps, where 0 is none.

/// Longest message where an app has no limit: what the ranges of actions can point into.
pub(super) const MESSAGE_BYTES_MAX: usize = i32::MAX as usize;

/// Whether a limit is passed; 0 is none.
pub(super) fn is_over(value: usize, max: usize) -> bool {
    max > 0 && value > max
}
