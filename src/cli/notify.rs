//! What the service manager is told.

use sd_notify::NotifyState;

/// Tells the service manager something, if there is one.
pub(super) fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("the service manager could not be notified: {error}");
    }
}
