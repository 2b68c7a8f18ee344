//! The log of publications: broadcasting is one push, and each reader goes through it at its own
//! pace.
//!
//! A *lane* holds the publications of one dialect: between those of different dialects there is no
//! order that a client could see. A lane is a chain of slots. The last one is empty; a push fills
//! it with a batch and the next empty slot. A reader holds the slot that it reads next, so the
//! memory of a batch is freed when the slowest reader has passed it, and of a batch without a
//! reader at once. A batch that is freed gives back its room: whether there is room is one load,
//! and what is held is the distance from the head to the slowest reader.
//!
//! Readers come and go ([`Log::follow`], [`Log::leave`]). A push says who reads the lane: the
//! others are not woken and pay nothing.
//!
//! # Order
//!
//! What goes to one shard only (a *message*) stands in its inbox and not in the log, and must keep
//! its place between the publications: the answer to a join, which lists the members, stands
//! exactly between the `member_added` before and after it. For this the log has a clock: each batch
//! is stamped with the next number, and each message with the number that the next batch will have
//! ([`Log::stamped`]), read before it is posted. A reader then
//!
//! 1. reads the clock, *then* takes its inbox;
//! 2. before each message reads every batch that is stamped lower than the message;
//! 3. after the last message reads the batches that are stamped lower than what it has read of the
//!    clock in 1.
//!
//! Let A be linked or posted before B is stamped; then a reader that is to see both sees A first:
//!
//! - Two batches of a lane: stamps grow along the chain, and the chain is read in order.
//! - A batch and then a message: A's stamp is lower than B's, and A was linked before B was posted,
//!   so a reader that has taken B finds A, and reads it before by rule 2.
//! - A message and then a batch: B's stamp is at least A's, so rule 2 does not put it before A. It
//!   could come before A only while A is not taken yet. By rule 3 B was stamped before the clock
//!   was read, hence A was posted before the inbox was taken. By rule 2 B is stamped lower than a
//!   message that was taken, which was posted after A: one take got both.
//! - Two messages: the inbox is first in, first out.

use super::inbox::Weigh;
use super::primitives::{AtomicU64, Mutex, MutexGuard, OnceLock};
use smallvec::SmallVec;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::{Arc, PoisonError};

/// Events between the head and the slowest reader at which feeds wait. A shard takes 64 a turn;
/// this is half a second of them at a hundred thousand a second.
pub const EVENTS_MAX: u64 = 50_000;
/// Bytes of these events at which feeds wait.
pub const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The position of the number of events in [`LogHeld`]: 40 bits are for the bytes and 24 for the
/// events, far more than the bounds and the feeds' buffers come to.
const EVENTS_SHIFT: u32 = 40;

/// A message for one reader, and its place among the batches.
pub struct Stamped<M> {
    /// Batches with a lower stamp come before it.
    pub(super) stamp: u64,
    /// The message itself.
    pub(super) message: M,
}

/// The log of publications.
pub struct Log<T> {
    lanes: Box<[Mutex<Lane<T>>]>,
    /// The stamp of the next batch.
    clock: AtomicU64,
    held: Arc<LogHeld>,
}

struct Lane<T> {
    /// The empty slot at the end.
    end: Arc<LogSlot<T>>,
    readers: Readers,
}

/// A set of readers, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readers(SmallVec<[u64; 4]>);

impl Readers {
    /// Adds a reader.
    pub fn insert(&mut self, number: usize) {
        if self.0.len() <= number / 64 {
            self.0.resize(number / 64 + 1, 0);
        }
        self.0[number / 64] |= 1 << (number % 64);
    }

    fn remove(&mut self, number: usize) {
        self.0[number / 64] &= !(1 << (number % 64));
    }

    /// Adds the readers of another set.
    pub fn extend(&mut self, others: &Self) {
        if self.0.len() < others.0.len() {
            self.0.resize(others.0.len(), 0);
        }
        for (word, other) in self.0.iter_mut().zip(&others.0) {
            *word |= other;
        }
    }

    /// Whether a reader is in the set.
    #[must_use]
    pub fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// The number of readers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Their numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        let words = self.0.iter().enumerate();
        words.flat_map(|(index, &word)| {
            // `left & (left - 1)` clears the lowest bit.
            std::iter::successors(Some(word).filter(|word| *word != 0), |left| {
                Some(left & (left - 1)).filter(|left| *left != 0)
            })
            .map(move |left| index * 64 + left.trailing_zeros() as usize)
        })
    }
}

/// A place in a lane: empty at the end, filled once.
struct LogSlot<T>(OnceLock<LogBatch<T>>);

struct LogBatch<T> {
    stamp: u64,
    items: Box<[T]>,
    /// The next slot; taken out only when this one is dropped.
    next: Option<Arc<LogSlot<T>>>,
    _charge: Charge,
}

impl<T> LogSlot<T> {
    fn empty() -> Arc<Self> {
        Arc::new(Self(OnceLock::new()))
    }

    fn take_next(&mut self) -> Option<Arc<Self>> {
        self.0.get_mut()?.next.take()
    }
}

impl<T> Drop for LogSlot<T> {
    /// Frees the chain as far as nothing else holds it, in a loop: recursion would be as deep as
    /// the chain is long.
    fn drop(&mut self) {
        let mut next = self.take_next();
        while let Some(mut slot) = next.and_then(Arc::into_inner) {
            next = slot.take_next();
        }
    }
}

/// Events and bytes of the batches that some reader has not passed.
struct LogHeld(AtomicU64);

/// A batch's share of these, given back with the batch.
struct Charge {
    held: Arc<LogHeld>,
    amount: u64,
}

impl Charge {
    fn new<T: Weigh>(held: &Arc<LogHeld>, items: &[T]) -> Self {
        let bytes: usize = items.iter().map(Weigh::weight).sum();
        let amount = (items.len() as u64) << EVENTS_SHIFT | bytes as u64;
        held.0.fetch_add(amount, Relaxed);
        Self { held: Arc::clone(held), amount }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.amount, Relaxed);
    }
}

impl<T: Weigh> Log<T> {
    /// A log with this number of lanes, and no readers.
    #[must_use]
    pub fn new(lanes: usize) -> Self {
        Self {
            lanes: (0..lanes)
                .map(|_| Mutex::new(Lane { end: LogSlot::empty(), readers: Readers::default() }))
                .collect(),
            clock: AtomicU64::new(0),
            held: Arc::new(LogHeld(AtomicU64::new(0))),
        }
    }

    /// Links a batch at the end of a lane. Returns its readers, for the caller to nudge. `announce`
    /// gets them before any of them can see the batch, and while no reader can come or go.
    pub fn push(
        &self,
        lane: usize,
        items: Vec<T>,
        announce: impl FnOnce(&[T], &Readers),
    ) -> Readers {
        let mut lane = self.lock(lane);
        // Before `announce`, whose messages must stand behind this batch.
        let stamp = self.clock.fetch_add(1, AcqRel);
        announce(&items, &lane.readers);
        let readers = lane.readers.clone();
        if readers.is_empty() {
            drop(lane);
            return readers;
        }

        let charge = Charge::new(&self.held, &items);
        let end = LogSlot::empty();
        let next = Some(Arc::clone(&end));
        let filled = std::mem::replace(&mut lane.end, end);
        // The slot is filled last: from here on readers see the batch, and the next slot with it.
        let batch = LogBatch { stamp, items: items.into(), next, _charge: charge };
        assert!(filled.0.set(batch).is_ok(), "the slot at the end is empty");
        readers
    }

    /// Adds a reader to a lane: it sees every batch from now on.
    pub fn follow(&self, lane: usize, number: usize) -> LogReader<T> {
        let mut lane = self.lock(lane);
        lane.readers.insert(number);
        LogReader { slot: Arc::clone(&lane.end), passed: 0 }
    }

    /// Removes a reader from a lane; one that still has something to read is given back instead.
    pub fn leave(
        &self,
        lane: usize,
        number: usize,
        mut reader: LogReader<T>,
    ) -> Option<LogReader<T>> {
        // Under the lock, so that no batch slips in between the look and the leaving.
        let mut lane = self.lock(lane);
        if reader.next_stamp().is_some() {
            return Some(reader);
        }
        lane.readers.remove(number);
        None
    }

    /// Stamps messages before they are posted: they stand behind all batches that were pushed
    /// before.
    pub fn stamped<M>(
        &self,
        messages: impl IntoIterator<Item = M>,
    ) -> impl Iterator<Item = Stamped<M>> {
        let stamp = self.stamp();
        messages.into_iter().map(move |message| Stamped { stamp, message })
    }

    /// The stamp of the next batch.
    #[must_use]
    pub fn stamp(&self) -> u64 {
        self.clock.load(Acquire)
    }

    /// Whether feeds may push more. A feed asks before it reads, so the bounds are exceeded by no
    /// more than the feeds' read buffers.
    #[must_use]
    pub fn has_room(&self) -> bool {
        // Relaxed: a bound that is seen late costs one more buffer, never an event.
        let held = self.held.0.load(Relaxed);
        held >> EVENTS_SHIFT < EVENTS_MAX && held & ((1 << EVENTS_SHIFT) - 1) < BYTES_MAX
    }

    /// Events from the head to the slowest reader.
    #[must_use]
    pub fn depth(&self) -> u64 {
        self.held.0.load(Relaxed) >> EVENTS_SHIFT
    }

    fn lock(&self, lane: usize) -> MutexGuard<'_, Lane<T>> {
        // A panic while the lock is held would have ended the process.
        self.lanes[lane].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One reader's place in a lane.
pub struct LogReader<T> {
    slot: Arc<LogSlot<T>>,
    /// Items of the slot's batch that are read.
    passed: usize,
}

impl<T> LogReader<T> {
    /// The stamp of the next item, if there is one.
    pub fn next_stamp(&mut self) -> Option<u64> {
        loop {
            let batch = self.slot.0.get()?;
            if self.passed < batch.items.len() {
                return Some(batch.stamp);
            }
            // Moving on lets go of the batch, which is freed if this was its slowest reader.
            let next = batch.next.clone()?;
            (self.slot, self.passed) = (next, 0);
        }
    }

    /// Reads the next item.
    pub fn read(&mut self) -> Option<&T> {
        self.next_stamp()?;
        let item = self.slot.0.get()?.items.get(self.passed);
        self.passed += 1;
        item
    }
}
