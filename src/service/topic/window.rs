//! The flow control of a consumer whose topics belong to several owners: one window for all of
//! them, so that it never holds more messages than it allows, whichever owners they come from.
//!
//! An owner checks for room before it looks for a message, and takes the room once it has one; an
//! owner that finds none is recorded as waiting. When there is room again, one of these gets its
//! turn, in order, and until it has used or passed it no other may take room. Otherwise the owner
//! whose message was acknowledged would take the room each time, and the topics of the others would
//! starve.

use serde::{Deserialize, Serialize};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes in flight to one connection before a receipt is awaited: enough to keep a connection busy
/// for the duration of a receipt, and little compared with a shard's outbox.
pub(super) const UNRECEIVED_BYTES_MAX: usize = 256 * 1024;
/// Limit on the open permits of a pulling consumer; Pulsar has no limit, and no client has use for
/// more.
pub(super) const PERMITS_MAX: u32 = 1_000_000;
/// The same limit for a consumer of several owners: half, since another owner may have as much in
/// flight, which arrives after the receipt.
const SHARED_BYTES_MAX: usize = UNRECEIVED_BYTES_MAX / 2;

/// The flow control of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Flow {
    /// Push while fewer than this many messages are unacknowledged; at least 1.
    Push(u32),
    /// Deliver as many as the client has requested.
    Pull,
}

/// The shared window of one consumer with several owners; other consumers have none.
#[derive(Debug)]
pub struct ConsumerWindow(Mutex<WindowState>);

#[derive(Debug)]
struct WindowState {
    /// Number of messages that may be delivered.
    room: u32,
    /// Maximum of `room`.
    most: u32,
    /// Whether acknowledgements make room (push); otherwise permits do.
    is_push: bool,
    /// Whether the connection is a consumer yet: earlier messages would be discarded there.
    is_open: bool,
    unreceived_bytes: usize,
    awaits_receipt: bool,
    /// Owners that found no room since their last turn, one bit each.
    waiting: u32,
    /// The owner that has the turn.
    turn: Option<usize>,
    /// The owner that had the last turn.
    last: usize,
    /// Whether it has joined any topic.
    has_topic: bool,
    /// Number of topics that its owners would create for it.
    new: usize,
}

impl ConsumerWindow {
    /// The window of a consumer that is not open yet.
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

    /// Opens the window. Like the other methods that return an owner: the one whose turn it is now,
    /// to be notified.
    pub(super) fn open(&self) -> Option<usize> {
        let mut state = self.lock();
        state.is_open = true;
        state.next()
    }

    /// Adds permits that the client sent.
    pub(super) fn permit(&self, count: u32) -> Option<usize> {
        let mut state = self.lock();
        if !state.is_push {
            state.room = state.room.saturating_add(count).min(state.most);
        }
        state.next()
    }

    /// Records that the shard has sent everything to the client.
    pub(super) fn took(&self) -> Option<usize> {
        let mut state = self.lock();
        state.unreceived_bytes = 0;
        state.awaits_receipt = false;
        state.next()
    }

    /// Frees `count` places.
    pub(super) fn free(&self, count: u32) {
        let mut state = self.lock();
        if state.is_push {
            state.room = state.room.saturating_add(count).min(state.most);
        }
    }

    /// Determines the next turn when there may be room again.
    pub(super) fn next(&self) -> Option<usize> {
        self.lock().next()
    }

    /// Ends an owner's turn, used or not.
    pub(super) fn pass(&self, owner: usize) -> Option<usize> {
        let mut state = self.lock();
        state.turn = state.turn.filter(|turn| *turn != owner);
        state.next()
    }

    /// Whether an owner may deliver. If not, it is notified of its next turn.
    pub(super) fn has_room(&self, owner: usize) -> bool {
        let mut state = self.lock();
        let may = state.may_take(owner);
        if !may {
            state.waiting |= 1 << owner;
        }
        may
    }

    /// Takes room for a message of `bytes`. Returns whether a receipt is wanted; `None` when
    /// another owner took the last room, and then as for [`ConsumerWindow::has_room`].
    pub(super) fn take(&self, owner: usize, bytes: usize) -> Option<bool> {
        let mut state = self.lock();
        if !state.may_take(owner) {
            state.waiting |= 1 << owner;
            return None;
        }
        state.room -= 1;
        // A turn is one message, so that owners alternate.
        state.turn = None;
        state.unreceived_bytes += bytes;
        state.awaits_receipt = state.unreceived_bytes >= SHARED_BYTES_MAX;
        Some(state.awaits_receipt)
    }

    /// Records that the consumer has joined a topic.
    pub(super) fn has_joined(&self) {
        self.lock().has_topic = true;
    }

    /// Whether it has joined a topic of any owner.
    pub(super) fn has_topic(&self) -> bool {
        self.lock().has_topic
    }

    /// Adds the number of topics that an owner would create. Returns the total of all owners.
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

    /// Gives the turn to the next waiting owner, if there is room and no owner has the turn.
    fn next(&mut self) -> Option<usize> {
        // The owner with the turn passes it on, which determines the next.
        if !self.has_room() || self.turn.is_some() || self.waiting == 0 {
            return None;
        }
        // The next one after the last, wrapping around.
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
