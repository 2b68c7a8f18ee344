//! The owner of all topics: takes requests, decides, and says what leaves.

use super::{Archive, Outgoing, Request, Rules};
use crate::roster::Seat;
use crate::wheel::Now;

/// All topics, of which it decides alone.
pub struct Topics<A> {
    archive: A,
    rules: Rules,
    out: Vec<Outgoing>,
}

impl<A: Archive> Topics<A> {
    /// The topics of an archive.
    #[must_use]
    pub fn new(archive: A, rules: Rules, _now: Now) -> Self {
        Self { archive, rules, out: Vec::new() }
    }

    /// Replaces the rules.
    pub fn configure(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// The archive.
    pub fn archive(&mut self) -> &mut A {
        &mut self.archive
    }

    /// Takes a request of a connection. What it appends is in the archive afterwards, and is answered and delivered
    /// after [`Topics::committed`].
    pub fn take(&mut self, _seat: Seat, _request: Request, _now: Now) {}

    /// Whether something was appended since the last call of [`Topics::committed`].
    #[must_use]
    pub fn has_uncommitted(&self) -> bool {
        false
    }

    /// Everything that was appended is safe, or could not be made so for this reason: then it is not delivered and
    /// its producers are told.
    pub fn committed(&mut self, _result: Result<(), &str>, _now: Now) {}

    /// Does what is due by the time: redeliveries, delayed messages, what expires, what is to be saved.
    pub fn tick(&mut self, _now: Now) {}

    /// When [`Topics::tick`] is to be called next, on the monotonic clock (ns).
    #[must_use]
    pub fn next_tick_ns(&self) -> Option<u64> {
        None
    }

    /// Saves all that has changed and is not saved yet.
    pub fn save(&mut self, _now: Now) {}

    /// Delivers, as far as consumers take more, at most so many bytes. Returns whether there is more to deliver.
    pub fn deliver(&mut self, _bytes_max: usize, _now: Now) -> bool {
        false
    }

    /// What leaves since the last call, in order.
    pub fn take_outgoing(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.out)
    }
}
