//! Whether a node is able to take partitions, as far as it knows: one that may not use the journals,
//! or cannot read them, leaves them to others.

use crate::wheel::{Now, SECOND_NS};

/// A node whose takes have failed for so long says that it is not able to: an election of JetStream
/// takes less.
const UNABLE_NS: u64 = 12 * SECOND_NS;
/// A node that is not able to take looks again after this, and after twice the time whenever it has
/// been wrong.
const PROBE_NS: u64 = 10 * SECOND_NS;
/// It looks at least every ten minutes.
const PROBES_DOUBLED_MAX: u32 = 6;

/// How this node's takes go.
#[derive(Debug, Default)]
pub(super) struct TakeRecord {
    /// Since when they have failed, and when the last has.
    failing_ns: Option<(u64, u64)>,
    /// When to look again; `None` while the node is able to take.
    probe_ns: Option<u64>,
    /// How often a look went well, and takes failed again.
    relapses: u32,
    /// Whether a journal is of another release.
    pub(super) is_outdated: bool,
}

impl TakeRecord {
    /// Whether the node is able to take, as far as it knows.
    pub(super) fn is_able(&self) -> bool {
        self.probe_ns.is_none() && !self.is_outdated
    }

    /// A take, or what belongs to it, has failed.
    pub(super) fn failed(&mut self, now: Now) {
        let now_ns = now.monotonic_ns;
        // A failure long ago has nothing to do with this one.
        let is_recent = |(_, last_ns): &(u64, u64)| now_ns < last_ns + UNABLE_NS;
        let since_ns = self.failing_ns.filter(is_recent).map_or(now_ns, |(since_ns, _)| since_ns);
        self.failing_ns = Some((since_ns, now_ns));
        let is_due = self.probe_ns.is_none_or(|probe_ns| now_ns >= probe_ns);
        if now_ns >= since_ns + UNABLE_NS && is_due {
            self.probe_ns = Some(now_ns + (PROBE_NS << self.relapses.min(PROBES_DOUBLED_MAX)));
        }
    }

    /// A look went well.
    pub(super) fn looked(&mut self) {
        if self.probe_ns.take().is_some() {
            self.relapses += 1;
            self.failing_ns = None;
        }
    }

    /// A partition is taken.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Whether to look again now whether the node is able to.
    pub(super) fn is_probe_due(&mut self, now: Now) -> bool {
        let is_due = self.probe_ns.is_some_and(|probe_ns| now.monotonic_ns >= probe_ns);
        if is_due {
            self.probe_ns = Some(now.monotonic_ns + PROBE_NS);
        }
        is_due
    }
}
