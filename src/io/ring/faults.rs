//! What a kernel may do and seldom does: take a part of a send, and tell of completions in another
//! order. That it has no buffer and that it ends an order are had for real, by few buffers and by
//! cancelling.

use super::Completion;
use std::collections::VecDeque;

/// Faults by a small random generator; none by default.
#[derive(Default)]
pub(in crate::io) struct Faults {
    state: u64,
}

impl Faults {
    pub(in crate::io) fn new(seed: u64) -> Self {
        Self { state: seed | 1 }
    }

    /// The next random number; 0 without faults.
    fn next(&mut self) -> u64 {
        // xorshift, which keeps 0.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    /// How many bytes of a send are offered, if not all.
    pub(super) fn shortened(&mut self, length: usize) -> Option<u32> {
        let drawn = self.next() as usize;
        (drawn % 4 == 1 && length > 1).then(|| (1 + drawn / 4 % (length - 1)) as u32)
    }

    /// Swaps neighbours that belong to different orders: those of one keep their order.
    pub(super) fn reorder(&mut self, completions: &mut VecDeque<Completion>) {
        for place in 1..completions.len() {
            if self.next() % 2 == 1 && completions[place - 1].tag != completions[place].tag {
                completions.swap(place - 1, place);
            }
        }
    }
}
