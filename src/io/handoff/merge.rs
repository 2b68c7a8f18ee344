//! One thread's reading of log and inbox as one sequence; [`super::log`] says why the order is
//! right.

use super::inbox::{Inbox, Wake, Weigh};
use super::log::{Log, LogReader, Stamped};
use std::collections::VecDeque;

/// A reader of several lanes with an inbox.
pub struct MergedReader<T, M> {
    /// Its number in the log.
    number: usize,
    /// Its place in each lane that it follows.
    readers: Box<[Option<LogReader<T>>]>,
    /// Messages that were taken from the inbox but not read yet.
    waiting: VecDeque<Stamped<M>>,
    /// Batches with a lower stamp are read before more messages are taken.
    stamp: u64,
}

/// The next of the sequence.
#[derive(Debug)]
pub enum NextRead<'a, T, M> {
    /// An item of a lane.
    Item(&'a T),
    /// A message of the inbox.
    Message(M),
}

impl<T: Weigh, M> MergedReader<T, M> {
    /// A reader with its number in the log, which follows none of the lanes yet.
    #[must_use]
    pub fn new(number: usize, lanes: usize) -> Self {
        Self {
            number,
            readers: (0..lanes).map(|_| None).collect(),
            waiting: VecDeque::new(),
            stamp: 0,
        }
    }

    /// Follows a lane from now on, or leaves it once every earlier batch is read.
    pub fn follow(&mut self, log: &Log<T>, lane: usize, is_wanted: bool) {
        let reader = &mut self.readers[lane];
        if is_wanted {
            reader.get_or_insert_with(|| log.follow(lane, self.number));
        } else if let Some(left) = reader.take() {
            *reader = log.leave(lane, self.number, left);
        }
    }

    /// Takes more from the inbox, if everything taken before has been read.
    pub fn take<W: Wake>(&mut self, log: &Log<T>, inbox: &Inbox<Stamped<M>, W>)
    where
        Stamped<M>: Weigh,
    {
        if self.waiting.is_empty() && self.lane_before(self.stamp).is_none() {
            // The clock before the inbox: every message posted before a batch of a lower stamp is
            // in this take.
            self.stamp = log.stamp();
            inbox.take(&mut self.waiting);
        }
    }

    /// Reads the next of the sequence, as far as it was taken.
    pub fn pop(&mut self) -> Option<NextRead<'_, T, M>> {
        // Batches come before the first message that was stamped after them.
        let stamp = self.waiting.front().map_or(self.stamp, |message| message.stamp);
        match self.lane_before(stamp) {
            Some(lane) => self.readers[lane].as_mut()?.read().map(NextRead::Item),
            None => self.waiting.pop_front().map(|message| NextRead::Message(message.message)),
        }
    }

    /// Whether [`MergedReader::pop`] would read a message.
    pub fn is_message_next(&mut self) -> bool {
        let front = self.waiting.front().map(|message| message.stamp);
        front.is_some_and(|stamp| self.lane_before(stamp).is_none())
    }

    /// Whether messages that were taken have not been read.
    #[must_use]
    pub fn has_messages(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether everything has been read: of the inbox, and of the lanes.
    pub fn is_drained<W: Wake>(&mut self, inbox: &Inbox<Stamped<M>, W>) -> bool
    where
        Stamped<M>: Weigh,
    {
        !self.has_messages() && inbox.depth() == 0 && self.lane_before(u64::MAX).is_none()
    }

    /// Marks the thread as asleep, unless an item waits in the inbox or in a lane. Returns whether
    /// it may sleep.
    pub fn sleep<W: Wake>(&mut self, inbox: &Inbox<Stamped<M>, W>) -> bool
    where
        Stamped<M>: Weigh,
    {
        !self.has_messages() && inbox.sleep(|| self.lane_before(u64::MAX).is_none())
    }

    /// The first lane whose next item is stamped lower than `stamp`.
    fn lane_before(&mut self, stamp: u64) -> Option<usize> {
        self.readers.iter_mut().position(|reader| {
            reader.as_mut().and_then(LogReader::next_stamp).is_some_and(|next| next < stamp)
        })
    }
}
