//! The one kind of inbox between threads: many producers, one reader.
//!
//! The mutex guards the flag of a sleeping reader together with the items, so no post can fall
//! between the reader's last look and its sleep. The lock is held for a push or a swap of two
//! queues, never for work.

use super::primitives::{AtomicUsize, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

/// An item whose memory counts against the bounds of a queue.
pub trait Weigh {
    /// Bytes of memory it holds.
    fn weight(&self) -> usize;
}

/// Wakes a thread or task. A wake-up before the sleep must end that sleep at once.
pub trait Wake {
    /// Wakes the reader.
    fn wake(&self);
}

/// The bounds at which an inbox is full.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The number of items.
    pub count: usize,
    /// The bytes of all items together.
    pub bytes: usize,
}

/// The number of full ones among several inboxes: whether all have room is one load, however many
/// there are.
#[derive(Clone, Default)]
pub struct Fill(Arc<AtomicUsize>);

impl Fill {
    /// Whether none is full.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.0.load(Relaxed) == 0
    }
}

/// An inbox with the waker of its reader.
pub struct Inbox<T, W> {
    state: Mutex<InboxState<T>>,
    waker: W,
    bounds: Bounds,
    fill: Fill,
    /// The number of items, to be read without the lock.
    depth: AtomicUsize,
}

struct InboxState<T> {
    items: VecDeque<T>,
    bytes: usize,
    is_full: bool,
    /// Whether posts are dropped.
    is_closed: bool,
    sleeping: bool,
}

impl<T: Weigh, W: Wake> Inbox<T, W> {
    /// An empty inbox, which counts in `fill` while it is full.
    pub fn new(waker: W, bounds: Bounds, fill: &Fill) -> Self {
        let state = InboxState {
            items: VecDeque::new(),
            bytes: 0,
            is_full: false,
            is_closed: false,
            sleeping: false,
        };
        Self {
            state: Mutex::new(state),
            waker,
            bounds,
            fill: fill.clone(),
            depth: AtomicUsize::new(0),
        }
    }

    /// The waker of the reader.
    pub fn waker(&self) -> &W {
        &self.waker
    }

    /// Posts items, and wakes the reader if it sleeps. There is always room: producers of many ask
    /// [`Fill`] before.
    pub fn post(&self, items: impl IntoIterator<Item = T>) {
        self.wake(self.put(items));
    }

    /// Posts without a wake-up: for the reader's own thread, and for producers that
    /// [`Inbox::nudge`] afterwards.
    pub fn post_quietly(&self, items: impl IntoIterator<Item = T>) {
        drop(self.put(items));
    }

    /// Posts items as far as there is room, and hands the others to `lost`.
    pub fn offer(&self, items: impl IntoIterator<Item = T>, mut lost: impl FnMut(T)) {
        let mut state = self.lock();
        for item in items {
            let weight = item.weight();
            // Each for itself: a short one may fit where a long one did not.
            let is_full = state.is_closed || state.items.len() >= self.bounds.count;
            if !is_full && state.bytes + weight <= self.bounds.bytes {
                state.bytes += weight;
                state.items.push_back(item);
            } else {
                lost(item);
            }
        }
        self.settle(&mut state);
        self.wake(state);
    }

    /// Wakes the reader if it sleeps, after a quiet post or for something elsewhere.
    pub fn nudge(&self) {
        self.wake(self.lock());
    }

    /// Takes all items in order. An empty `into` leaves its memory to the next items.
    pub fn take(&self, into: &mut VecDeque<T>) {
        let mut state = self.lock();
        // A swap takes constant time under the lock, and both queues keep their memory.
        if into.is_empty() {
            std::mem::swap(&mut state.items, into);
        } else {
            into.append(&mut state.items);
        }
        state.bytes = 0;
        self.settle(&mut state);
    }

    /// Takes the first items, at most `count`.
    pub fn take_up_to(&self, count: usize) -> Vec<T> {
        let mut state = self.lock();
        let count = count.min(state.items.len());
        let taken: Vec<T> = state.items.drain(..count).collect();
        state.bytes -= taken.iter().map(Weigh::weight).sum::<usize>();
        self.settle(&mut state);
        taken
    }

    /// Opens a closed inbox.
    pub fn open(&self) {
        self.lock().is_closed = false;
    }

    /// Closes the inbox: later posts are dropped. Returns the number of items that are dropped with
    /// it.
    pub fn close(&self) -> usize {
        let mut state = self.lock();
        state.is_closed = true;
        let lost = std::mem::take(&mut state.items);
        state.bytes = 0;
        self.settle(&mut state);
        // Freeing many items takes time that producers would wait for.
        drop(state);
        lost.len()
    }

    /// Whether posts are dropped.
    pub fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Marks the reader as asleep, unless an item waits here, or elsewhere by `is_idle`, which is
    /// asked under the lock: a producer that makes it false and nudges afterwards wakes the reader.
    /// Returns whether the reader may wait for its waker.
    pub fn sleep(&self, is_idle: impl FnOnce() -> bool) -> bool {
        let mut state = self.lock();
        state.sleeping = state.items.is_empty() && is_idle();
        state.sleeping
    }

    /// Marks the reader as awake: posts need no wake-up.
    pub fn mark_awake(&self) {
        self.lock().sleeping = false;
    }

    /// The number of items.
    pub fn depth(&self) -> usize {
        self.depth.load(Relaxed)
    }

    fn put(&self, items: impl IntoIterator<Item = T>) -> MutexGuard<'_, InboxState<T>> {
        let mut state = self.lock();
        if !state.is_closed {
            for item in items {
                state.bytes += item.weight();
                state.items.push_back(item);
            }
            self.settle(&mut state);
        }
        state
    }

    /// Unlocks, and wakes the reader if it sleeps.
    fn wake(&self, mut state: MutexGuard<'_, InboxState<T>>) {
        let was_asleep = std::mem::take(&mut state.sleeping);
        // Outside of the lock: waking is a system call, and the reader takes the lock next.
        drop(state);
        if was_asleep {
            self.waker.wake();
        }
    }

    /// Publishes the number of items, and whether the inbox is full.
    fn settle(&self, state: &mut InboxState<T>) {
        let count = state.items.len();
        let is_full = count >= self.bounds.count || state.bytes >= self.bounds.bytes;
        self.depth.store(count, Relaxed);
        // Counted only when it changes, so that `fill` is the number of full inboxes.
        if is_full != state.is_full {
            state.is_full = is_full;
            if is_full {
                self.fill.0.fetch_add(1, Relaxed);
            } else {
                self.fill.0.fetch_sub(1, Relaxed);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, InboxState<T>> {
        // A panic while the lock is held would have ended the process.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
