//! What is worth a line in the log: that a verifier fails, and that it works again.

use crate::wheel::Now;

/// Least time between two lines that say that a verifier fails; one that answers every other time would fill the
/// log.
const QUIET_NS: u64 = 10_000_000_000;

/// A change that an operator wants to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Asking has failed, for this reason.
    Fails(String),
    /// The verifier answers again.
    Works,
}

/// Whether the verifier works, as far as has been told.
#[derive(Default)]
pub(super) struct Health {
    told: bool,
    quiet_until_ns: u64,
}

impl Health {
    pub(super) fn fails(&mut self, reason: String, now: Now) -> Option<News> {
        if self.told || now.monotonic_ns < self.quiet_until_ns {
            return None;
        }
        self.told = true;
        self.quiet_until_ns = now.monotonic_ns + QUIET_NS;
        Some(News::Fails(reason))
    }

    pub(super) fn works(&mut self) -> Option<News> {
        std::mem::take(&mut self.told).then_some(News::Works)
    }
}
