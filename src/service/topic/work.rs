//! Long work: what would hold up other requests for too long runs in slices between them, and work
//! items take turns.

/// Steps in a slice. A step takes about a microsecond, like reading a name from the archive's
/// memory; all other requests wait for a slice.
pub(super) const SLICE_STEPS: usize = 256;
/// The cost of joining or leaving a topic, in steps: finding or loading it, and writing the
/// subscription.
pub(super) const TOPIC_STEPS: usize = 8;
/// Topics joined or left within the request itself.
pub(super) const AT_ONCE_MAX: usize = 4;
/// Limit on work items in progress: at this number each has a turn every half second, and a
/// handshake has half a minute.
pub(super) const WORKS_MAX: usize = 1000;

/// Whether a work item has more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkProgress {
    More,
    Done,
}

/// The rest of a slice.
#[derive(Debug)]
pub(super) struct Slice(usize);

impl Slice {
    /// A slice without an end, for small work.
    pub(super) const fn whole() -> Self {
        Self(usize::MAX)
    }

    pub(super) const fn of(steps: usize) -> Self {
        Self(steps)
    }

    /// Spends steps.
    pub(super) fn spend(&mut self, steps: usize) {
        self.0 = self.0.saturating_sub(steps);
    }

    /// Spends steps unless the slice is over; returns whether it did. The last ones may overdraw
    /// it.
    pub(super) fn take(&mut self, steps: usize) -> bool {
        let is_over = self.is_over();
        self.spend(steps);
        !is_over
    }

    pub(super) fn is_over(&self) -> bool {
        self.0 == 0
    }
}
