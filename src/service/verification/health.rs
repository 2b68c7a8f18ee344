//! What is worth a line in the log: that a verifier fails, and that it works again.

use crate::wheel::Now;

/// Least time between two lines that say that a verifier fails; one that answers every other time would fill the
/// log.
const QUIET_NS: u64 = 10_000_000_000;

/// A change that an operator wants to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifierChange {
    /// Asking has failed, for this reason.
    Fails(String),
    /// The verifier answers again.
    Works,
}

/// Whether the verifier works, as far as has been told.
#[derive(Default)]
pub(super) struct VerifierHealth {
    told: bool,
    quiet_until_ns: u64,
}

impl VerifierHealth {
    pub(super) fn fails(&mut self, reason: String, now: Now) -> Option<VerifierChange> {
        if self.told || now.monotonic_ns < self.quiet_until_ns {
            return None;
        }
        self.told = true;
        self.quiet_until_ns = now.monotonic_ns + QUIET_NS;
        Some(VerifierChange::Fails(reason))
    }

    pub(super) fn works(&mut self) -> Option<VerifierChange> {
        std::mem::take(&mut self.told).then_some(VerifierChange::Works)
    }
}
