//! The one kind of inbox between threads: many post, one takes.
//!
//! Whether the reader sleeps is part of what the mutex guards, so there is no moment in which something is posted and
//! nothing wakes the reader. The lock is held for a push or a swap of two queues, never for work.

use super::sync::{AtomicUsize, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

/// Something whose memory counts in the bounds of a queue.
pub trait Weigh {
    /// Bytes that it holds.
    fn weight(&self) -> usize;
}

/// Ends the sleep of a thread or task. A wake-up before the sleep ends that sleep at once.
pub trait Wake {
    /// Wakes the reader.
    fn wake(&self);
}

/// What an inbox holds before it is full.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Items.
    pub count: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// How many of several inboxes are full: whether all have room is one load, however many they are.
#[derive(Clone, Default)]
pub struct Fill(Arc<AtomicUsize>);

impl Fill {
    /// Whether none is full.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.0.load(Relaxed) == 0
    }
}

/// See the module.
pub struct Inbox<T, W> {
    state: Mutex<InboxState<T>>,
    waker: W,
    bounds: Bounds,
    fill: Fill,
    /// Items posted and not yet taken, for those who only want to know.
    depth: AtomicUsize,
}

struct InboxState<T> {
    items: VecDeque<T>,
    bytes: usize,
    is_full: bool,
    /// Nothing more is taken in.
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

    /// What wakes the reader.
    pub fn waker(&self) -> &W {
        &self.waker
    }

    /// Posts, and wakes the reader if it sleeps. Takes everything: a poster that causes many asks for room before.
    pub fn post(&self, items: impl IntoIterator<Item = T>) {
        self.wake(self.put(items));
    }

    /// Posts without a wake-up: for the reader's own thread, and for posters that [`Inbox::nudge`] afterwards.
    pub fn post_quietly(&self, items: impl IntoIterator<Item = T>) {
        drop(self.put(items));
    }

    /// Posts as far as there is room, and hands the others to `lost`.
    pub fn offer(&self, items: impl IntoIterator<Item = T>, mut lost: impl FnMut(T)) {
        let mut state = self.lock();
        for item in items {
            let weight = item.weight();
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

    /// Wakes the reader if it sleeps: there is something for it, here or elsewhere.
    pub fn nudge(&self) {
        self.wake(self.lock());
    }

    /// Takes everything, in the order in which it was posted. An empty `into` lends its memory to the next items.
    pub fn take(&self, into: &mut VecDeque<T>) {
        let mut state = self.lock();
        if into.is_empty() {
            std::mem::swap(&mut state.items, into);
        } else {
            into.append(&mut state.items);
        }
        state.bytes = 0;
        self.settle(&mut state);
    }

    /// Takes the first, so many at most.
    pub fn take_up_to(&self, count: usize) -> Vec<T> {
        let mut state = self.lock();
        let count = count.min(state.items.len());
        let taken: Vec<T> = state.items.drain(..count).collect();
        state.bytes -= taken.iter().map(Weigh::weight).sum::<usize>();
        self.settle(&mut state);
        taken
    }

    /// Opens it again.
    pub fn open(&self) {
        self.lock().is_closed = false;
    }

    /// Closes it: what comes from now on is lost. Returns how many items are lost that were waiting.
    pub fn close(&self) -> usize {
        let mut state = self.lock();
        state.is_closed = true;
        let lost = std::mem::take(&mut state.items);
        state.bytes = 0;
        self.settle(&mut state);
        lost.len()
    }

    /// Falls asleep, unless something waits here, or elsewhere by `is_idle`, which is asked under the lock: whoever
    /// makes it false and nudges afterwards wakes the reader. Returns whether the reader may wait for its waker.
    pub fn sleep(&self, is_idle: impl FnOnce() -> bool) -> bool {
        let mut state = self.lock();
        state.sleeping = state.items.is_empty() && is_idle();
        state.sleeping
    }

    /// The reader is awake, for whatever reason: no wake-up is needed.
    pub fn mark_awake(&self) {
        self.lock().sleeping = false;
    }

    /// Items that wait.
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
        drop(state);
        if was_asleep {
            self.waker.wake();
        }
    }

    /// Tells those who only want to know how much there is.
    fn settle(&self, state: &mut InboxState<T>) {
        let count = state.items.len();
        let is_full = count >= self.bounds.count || state.bytes >= self.bounds.bytes;
        self.depth.store(count, Relaxed);
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
