//! Pending messages of a subscription: read from the log and not acknowledged.

use super::Position;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A message between the log and its acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pending {
    /// Where it stands there.
    pub(super) state: PendingState,
    /// The consumer that has it, or has sent it back.
    pub(super) holder: u32,
    /// How often it has come again.
    pub(super) redeliveries: u32,
    /// Its size.
    pub(super) bytes: u32,
    /// What stands for its key, where keys choose consumers.
    pub(super) key: u32,
    /// Its time in the index of delayed messages; 0 when it came by the log.
    pub(super) deliver_ms: u64,
    /// When something happens to it on the monotonic clock (ns); 0 for never.
    pub(super) due_ns: u64,
}

/// Where such a message stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum PendingState {
    /// It is to be delivered as soon as may be.
    #[default]
    Waiting,
    /// A consumer has it.
    Held,
    /// It has been sent back and is to come again later.
    Resting,
    /// It is on its way to the dead letters.
    Dying,
}

/// The keys of a subscription whose keys choose consumers, as long as something of them is pending.
#[derive(Debug, Default)]
pub(super) struct PendingKeys {
    keys: HashMap<u32, PendingKey, ahash::RandomState>,
    /// Messages that wait.
    waiting: usize,
}

/// One of them. One consumer has its messages at a time, and they come in order.
#[derive(Debug, Default)]
struct PendingKey {
    holder: u32,
    held: u32,
    waiting: BTreeSet<Position>,
}

impl PendingKeys {
    /// Whether nothing of them is pending.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many messages wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The consumer that has messages of a key.
    pub(super) fn holder(&self, key: u32) -> Option<u32> {
        self.keys.get(&key).filter(|key| key.held > 0).map(|key| key.holder)
    }

    /// The first message of a key that waits.
    pub(super) fn first_waiting(&self, key: u32) -> Option<Position> {
        self.keys.get(&key)?.waiting.first().copied()
    }

    /// Keys with their first messages that wait.
    pub(super) fn all_waiting(&self) -> impl Iterator<Item = (u32, Position)> {
        self.keys.iter().filter_map(|(key, state)| Some((*key, *state.waiting.first()?)))
    }

    /// A message waits.
    pub(super) fn wait(&mut self, key: u32, position: Position) {
        if self.keys.entry(key).or_default().waiting.insert(position) {
            self.waiting += 1;
        }
    }

    /// A message that waits does so no longer.
    pub(super) fn unwait(&mut self, key: u32, position: Position) {
        if let Some(state) = self.keys.get_mut(&key)
            && state.waiting.remove(&position)
        {
            self.waiting -= 1;
            self.forget(key);
        }
    }

    /// A consumer has got a message.
    pub(super) fn hold(&mut self, key: u32, holder: u32) {
        let state = self.keys.entry(key).or_default();
        debug_assert!(state.held == 0 || state.holder == holder, "two consumers have a key");
        state.holder = holder;
        state.held += 1;
    }

    /// It has it no longer.
    pub(super) fn release(&mut self, key: u32) {
        if let Some(state) = self.keys.get_mut(&key) {
            state.held = state.held.saturating_sub(1);
            self.forget(key);
        }
    }

    fn forget(&mut self, key: u32) {
        // Keys are as many as producers like: only those with something pending are kept.
        if self.keys.get(&key).is_some_and(|state| state.held == 0 && state.waiting.is_empty()) {
            self.keys.remove(&key);
        }
    }
}

/// What is pending in a subscription, by position.
pub(super) type PendingMessages = BTreeMap<Position, Pending>;
