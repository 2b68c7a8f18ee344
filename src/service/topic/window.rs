//! What a consumer of topics of several owners takes: one count for all of them, so that it never has more messages than
//! it takes, wherever they come from.
//!
//! An owner asks whether there is room before it looks for a message and takes it when it has one; who finds none is on
//! the list of those that wait. When there is room again, it is the turn of one of these, in order, and until that one has
//! taken some of it or passed no other may: else the owner whose message was acknowledged would take the room each
//! time, and the topics of the others would wait for as long as it has messages.

use serde::{Deserialize, Serialize};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes in flight to one connection before its receipt is awaited: enough to keep a connection busy while a receipt
/// comes, and little beside what a shard's outbox holds.
pub(super) const UNRECEIVED_BYTES_MAX: usize = 256 * 1024;
/// Messages that a pulling consumer may have asked for and not got; Pulsar has no bound, and no client has more use.
pub(super) const PERMITS_MAX: u32 = 1_000_000;
/// Bytes that are on their way before a receipt is waited for: half as many as from one owner, since another may have
/// as many more on their way that come after the receipt.
const SHARED_BYTES_MAX: usize = UNRECEIVED_BYTES_MAX / 2;

/// How messages come to a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Flow {
    /// As long as no more than so many are unacknowledged; at least 1.
    Push(u32),
    /// As many as it has asked for.
    Pull,
}

/// See the module. There is one for each connection that has to do with several owners; for others there is none.
#[derive(Debug)]
pub struct ConsumerWindow(Mutex<WindowState>);

#[derive(Debug)]
struct WindowState {
    /// Messages that may be delivered.
    room: u32,
    /// The most that there may be room for.
    most: u32,
    /// Whether what is acknowledged makes room; else what is asked for does.
    is_push: bool,
    /// Whether the consumer is there: its connection has no use for messages before.
    is_open: bool,
    unreceived_bytes: usize,
    awaits_receipt: bool,
    /// Owners that have found no room since it was last their turn, a bit for each.
    waiting: u32,
    /// Whose turn it is.
    turn: Option<usize>,
    /// Whose it was last.
    last: usize,
    /// Whether it has a topic.
    has_topic: bool,
    /// Topics that its owners would create for it.
    new: usize,
}

impl ConsumerWindow {
    /// One of a consumer that is not there yet.
    #[must_use]
    pub fn new(flow: Flow) -> Self {
        let (room, most, is_push) = match flow {
            Flow::Push(window) => (window.max(1), window.max(1), true),
            Flow::Pull => (0, PERMITS_MAX, false),
        };
        Self(Mutex::new(WindowState {
            room,
            most,
            is_push,
            is_open: false,
            unreceived_bytes: 0,
            awaits_receipt: false,
            waiting: 0,
            turn: None,
            last: 0,
            has_topic: false,
            new: 0,
        }))
    }

    /// The consumer is there. Returns the owner whose turn it is now, as the others that return one do: it is to be told.
    pub(super) fn open(&self) -> Option<usize> {
        let mut state = self.lock();
        state.is_open = true;
        state.next()
    }

    /// It asks for more.
    pub(super) fn permit(&self, count: u32) -> Option<usize> {
        let mut state = self.lock();
        if !state.is_push {
            state.room = state.room.saturating_add(count).min(state.most);
        }
        state.next()
    }

    /// Everything has left for it.
    pub(super) fn took(&self) -> Option<usize> {
        let mut state = self.lock();
        state.unreceived_bytes = 0;
        state.awaits_receipt = false;
        state.next()
    }

    /// So many messages fill it no more.
    pub(super) fn free(&self, count: u32) {
        let mut state = self.lock();
        if state.is_push {
            state.room = state.room.saturating_add(count).min(state.most);
        }
    }

    /// Looks whose turn it is after there may be room again.
    pub(super) fn next(&self) -> Option<usize> {
        self.lock().next()
    }

    /// An owner has had its turn, and may have taken some of it.
    pub(super) fn pass(&self, owner: usize) -> Option<usize> {
        let mut state = self.lock();
        state.turn = state.turn.filter(|turn| *turn != owner);
        state.next()
    }

    /// Whether an owner may take some. One that may not is told when it may.
    pub(super) fn has_room(&self, owner: usize) -> bool {
        let mut state = self.lock();
        let may = state.may_take(owner);
        if !may {
            state.waiting |= 1 << owner;
        }
        may
    }

    /// An owner takes a message of so many bytes. Returns whether a receipt is wanted; nothing when another has taken what
    /// there was, and then it is told as with [`ConsumerWindow::has_room`].
    pub(super) fn take(&self, owner: usize, bytes: usize) -> Option<bool> {
        let mut state = self.lock();
        if !state.may_take(owner) {
            state.waiting |= 1 << owner;
            return None;
        }
        state.room -= 1;
        state.turn = None;
        state.unreceived_bytes += bytes;
        state.awaits_receipt = state.unreceived_bytes >= SHARED_BYTES_MAX;
        Some(state.awaits_receipt)
    }

    /// It has got a topic.
    pub(super) fn has_joined(&self) {
        self.lock().has_topic = true;
    }

    /// Whether it has a topic of any owner.
    pub(super) fn has_topic(&self) -> bool {
        self.lock().has_topic
    }

    /// An owner would create so many topics. Returns how many all of them would.
    pub(super) fn would_create(&self, count: usize) -> usize {
        let mut state = self.lock();
        state.new += count;
        state.new
    }

    fn lock(&self) -> MutexGuard<'_, WindowState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WindowState {
    fn has_room(&self) -> bool {
        self.is_open && !self.awaits_receipt && self.room > 0
    }

    fn may_take(&self, owner: usize) -> bool {
        self.has_room() && self.turn.is_none_or(|turn| turn == owner)
    }

    /// Gives the turn to the next one that waits, if there is room and no owner has the turn.
    fn next(&mut self) -> Option<usize> {
        // The owner that has the turn passes it, and then it is asked again.
        if !self.has_room() || self.turn.is_some() || self.waiting == 0 {
            return None;
        }
        // The next one behind the last, and then from the first on again.
        let behind = self.waiting & !((2u32 << self.last) - 1);
        let next = if behind == 0 { self.waiting } else { behind }.trailing_zeros() as usize;
        self.waiting &= !(1 << next);
        self.turn = Some(next);
        self.last = next;
        self.turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is_room_for_whoever_takes_it() {
        let window = ConsumerWindow::new(Flow::Push(2));
        assert!(!window.has_room(0), "it is not open");
        assert_eq!(window.open(), Some(0));
        assert_eq!(window.take(0, 10), Some(false));
        assert_eq!(window.take(1, 10), Some(false));
        assert_eq!((window.take(0, 10), window.take(1, 10)), (None, None));
        window.free(1);
        assert_eq!(window.next(), Some(1), "the other had the last turn");
        assert_eq!(
            (window.take(0, 10), window.has_room(1)),
            (None, true),
            "it is the turn of the other"
        );
        assert_eq!(window.take(1, 10), Some(false));
        window.free(5);
        assert_eq!(window.next(), Some(0));
        let mut taken = 0;
        while window.take(0, 0).is_some() {
            taken += 1;
        }
        assert_eq!(taken, 2, "never more than its size");
    }

    #[test]
    fn who_has_no_use_for_its_turn_passes_it_on() {
        let window = ConsumerWindow::new(Flow::Pull);
        assert_eq!(window.open(), None);
        assert!(!window.has_room(0) && !window.has_room(2));
        assert_eq!(window.permit(1), Some(2));
        assert!(!window.has_room(0));
        assert_eq!(window.pass(2), Some(0));
        assert_eq!(window.take(0, 1), Some(false));
        assert_eq!(window.pass(0), None);
        window.free(1);
        assert!(!window.has_room(0), "what is pulled is not made room for by what is acknowledged");
        assert_eq!(window.permit(5), Some(0));
        assert!(!window.has_room(2));
        assert_eq!(window.take(0, 1), Some(false));
        assert_eq!(window.pass(0), Some(2), "there is more than it has taken");
    }

    #[test]
    fn nobody_takes_more_until_a_receipt_has_come() {
        let window = ConsumerWindow::new(Flow::Push(1000));
        assert_eq!(window.open(), None);
        assert_eq!(window.take(0, SHARED_BYTES_MAX - 1), Some(false));
        assert_eq!(window.take(3, 1), Some(true));
        assert_eq!((window.take(0, 1), window.has_room(3)), (None, false));
        assert_eq!(window.took(), Some(3));
        assert_eq!((window.take(3, 1), window.take(0, 1)), (Some(false), Some(false)));
    }
}
