//! A subscription's pending messages: read from the log and not acknowledged.

use super::Position;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A message between its reading and its acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    /// Where it stands there.
    pub(super) state: PendingState,
    /// The consumer that holds it, or sent it back.
    pub(super) holder: u32,
    /// How often it was redelivered.
    pub(super) redeliveries: u32,
    /// Its size.
    pub(super) bytes: u32,
    /// The hash of its key, in a Key_Shared subscription.
    pub(super) key: u32,
    /// Its time in the index of delayed messages; 0 for a message from the log.
    pub(super) deliver_ms: u64,
    /// When its timer fires (monotonic, ns); 0 for never.
    pub(super) due_ns: u64,
}

/// The states of a pending message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum PendingState {
    /// To be delivered as soon as possible.
    #[default]
    Waiting,
    /// Held by a consumer.
    Held,
    /// Negatively acknowledged, to be redelivered after a delay.
    Resting,
    /// On its way to the dead-letter topic.
    Dying,
}

/// The keys with pending messages, in a Key_Shared subscription.
#[derive(Debug, Default)]
pub(super) struct PendingKeys {
    keys: HashMap<u32, PendingKey, ahash::RandomState>,
    /// Number of waiting messages.
    waiting: usize,
}

/// The state of one key. Its messages are held by one consumer at a time, in order.
#[derive(Debug, Default)]
struct PendingKey {
    holder: u32,
    held: u32,
    waiting: BTreeSet<Position>,
}

impl PendingKeys {
    /// Whether no key has pending messages.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Number of waiting messages.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The consumer that holds messages of a key.
    pub(super) fn holder(&self, key: u32) -> Option<u32> {
        self.keys.get(&key).filter(|key| key.held > 0).map(|key| key.holder)
    }

    /// The first waiting message of a key.
    pub(super) fn first_waiting(&self, key: u32) -> Option<Position> {
        self.keys.get(&key)?.waiting.first().copied()
    }

    /// Keys with their first waiting messages.
    pub(super) fn all_waiting(&self) -> impl Iterator<Item = (u32, Position)> {
        self.keys.iter().filter_map(|(key, state)| Some((*key, *state.waiting.first()?)))
    }

    /// Adds a waiting message.
    pub(super) fn wait(&mut self, key: u32, position: Position) {
        if self.keys.entry(key).or_default().waiting.insert(position) {
            self.waiting += 1;
        }
    }

    /// Removes a waiting message.
    pub(super) fn unwait(&mut self, key: u32, position: Position) {
        if let Some(state) = self.keys.get_mut(&key)
            && state.waiting.remove(&position)
        {
            self.waiting -= 1;
            self.forget(key);
        }
    }

    /// Records that a consumer holds a message.
    pub(super) fn hold(&mut self, key: u32, holder: u32) {
        let state = self.keys.entry(key).or_default();
        debug_assert!(state.held == 0 || state.holder == holder, "two consumers have a key");
        state.holder = holder;
        state.held += 1;
    }

    /// Records that it no longer does.
    pub(super) fn release(&mut self, key: u32) {
        if let Some(state) = self.keys.get_mut(&key) {
            state.held = state.held.saturating_sub(1);
            self.forget(key);
        }
    }

    fn forget(&mut self, key: u32) {
        // Producers may use any number of keys: only those with pending messages are kept.
        if self.keys.get(&key).is_some_and(|state| state.held == 0 && state.waiting.is_empty()) {
            self.keys.remove(&key);
        }
    }
}

/// A subscription's pending messages, by position.
pub(super) type PendingMessages = BTreeMap<Position, Pending>;
