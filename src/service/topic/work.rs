//! Long work: what one question would do for longer than others may wait is done in slices, each between the questions of
//! others, and the works in turns.

/// Steps of a slice. A step is about a microsecond, the reading of a name from the archive's memory; a slice is what
/// everything else waits for.
pub(super) const SLICE_STEPS: usize = 256;
/// The cost of taking a consumer into a topic, or out of one: to find or load the topic, and to write its subscription.
pub(super) const TOPIC_STEPS: usize = 8;
/// Topics that are opened or left at once, as part of a question.
pub(super) const AT_ONCE_MAX: usize = 4;
/// Maximum number of works in progress: with so many each has a turn every half second, and a handshake has half a minute.
pub(super) const WORKS_MAX: usize = 1000;

/// Whether a work goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkProgress {
    More,
    Done,
}

/// What is left of a slice.
#[derive(Debug)]
pub(super) struct Slice(usize);

impl Slice {
    /// A slice without end, for what is little.
    pub(super) const fn whole() -> Self {
        Self(usize::MAX)
    }

    pub(super) const fn of(steps: usize) -> Self {
        Self(steps)
    }

    /// So many steps are done.
    pub(super) fn spend(&mut self, steps: usize) {
        self.0 = self.0.saturating_sub(steps);
    }

    /// Takes so many steps, unless it is over. The last ones may go beyond its end.
    pub(super) fn take(&mut self, steps: usize) -> bool {
        let is_over = self.is_over();
        self.spend(steps);
        !is_over
    }

    pub(super) fn is_over(&self) -> bool {
        self.0 == 0
    }
}
