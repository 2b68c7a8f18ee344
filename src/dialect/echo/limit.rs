//! Limits of the apps, where 0 means none.

/// Longest message where an app has no limit, in bytes: what the ranges of actions can address.
pub(super) const MESSAGE_BYTES_MAX: usize = i32::MAX as usize;

/// Whether a limit is exceeded; 0 means none.
pub(super) fn is_over(value: usize, max: usize) -> bool {
    max > 0 && value > max
}
