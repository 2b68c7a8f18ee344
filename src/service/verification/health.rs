//! Which failures and recoveries of a verifier are logged.

use crate::wheel::Now;

/// Minimum time between two log lines about failures; a verifier that fails every other request
/// would fill the log.
const QUIET_NS: u64 = 10_000_000_000;

/// A change worth logging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifierChange {
    /// A request failed, for this reason.
    Fails(String),
    /// The verifier answers again.
    Works,
}

/// The last logged state of the verifier.
#[derive(Default)]
pub(super) struct VerifierHealth {
    reported: bool,
    quiet_until_ns: u64,
}

impl VerifierHealth {
    pub(super) fn fails(&mut self, reason: String, now: Now) -> Option<VerifierChange> {
        if self.reported || now.monotonic_ns < self.quiet_until_ns {
            return None;
        }
        self.reported = true;
        self.quiet_until_ns = now.monotonic_ns + QUIET_NS;
        Some(VerifierChange::Fails(reason))
    }

    pub(super) fn works(&mut self) -> Option<VerifierChange> {
        std::mem::take(&mut self.reported).then_some(VerifierChange::Works)
    }
}
