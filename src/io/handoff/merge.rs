//! How one thread takes what is published and what is posted to it, as one sequence; [`super::log`] says why the order
//! is right.

use super::inbox::{Inbox, Wake, Weigh};
use super::log::{Log, LogReader, Stamped};
use std::collections::VecDeque;

/// A reader of several lanes with an inbox.
pub struct MergedReader<T, M> {
    /// Its number in the log.
    number: usize,
    /// Its place in each lane that it follows.
    readers: Box<[Option<LogReader<T>>]>,
    /// Messages that were taken and are still to be given out.
    waiting: VecDeque<Stamped<M>>,
    /// What is stamped lower is read before more messages are taken.
    stamp: u64,
}

/// What comes next.
#[derive(Debug)]
pub enum NextRead<'a, T, M> {
    /// From a lane.
    Item(&'a T),
    /// From the inbox.
    Message(M),
}

impl<T: Weigh, M> MergedReader<T, M> {
    /// The reader with this number, of so many lanes, of which it follows none yet.
    #[must_use]
    pub fn new(number: usize, lanes: usize) -> Self {
        Self {
            number,
            readers: (0..lanes).map(|_| None).collect(),
            waiting: VecDeque::new(),
            stamp: 0,
        }
    }

    /// Follows a lane from now on, or leaves it once everything that was pushed before is read.
    pub fn follow(&mut self, log: &Log<T>, lane: usize, is_wanted: bool) {
        let reader = &mut self.readers[lane];
        if is_wanted {
            reader.get_or_insert_with(|| log.follow(lane, self.number));
        } else if let Some(left) = reader.take() {
            *reader = log.leave(lane, self.number, left);
        }
    }

    /// Takes more, if everything that was taken before is given out.
    pub fn take<W: Wake>(&mut self, log: &Log<T>, inbox: &Inbox<Stamped<M>, W>)
    where
        Stamped<M>: Weigh,
    {
        if self.waiting.is_empty() && self.lane_before(self.stamp).is_none() {
            // The clock first: what is stamped lower than this stands behind what the inbox already holds.
            self.stamp = log.stamp();
            inbox.take(&mut self.waiting);
        }
    }

    /// The next of what was taken.
    pub fn pop(&mut self) -> Option<NextRead<'_, T, M>> {
        let stamp = self.waiting.front().map_or(self.stamp, |message| message.stamp);
        match self.lane_before(stamp) {
            Some(lane) => self.readers[lane].as_mut()?.read().map(NextRead::Item),
            None => self.waiting.pop_front().map(|message| NextRead::Message(message.message)),
        }
    }

    /// Whether messages that were taken are still to be given out.
    #[must_use]
    pub fn has_messages(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Goes to sleep, unless something waits in the inbox or in a lane. Returns whether it may.
    pub fn sleep<W: Wake>(&mut self, inbox: &Inbox<Stamped<M>, W>) -> bool
    where
        Stamped<M>: Weigh,
    {
        !self.has_messages() && inbox.sleep(|| self.lane_before(u64::MAX).is_none())
    }

    /// The first lane in which something is to be read that is stamped lower than this.
    fn lane_before(&mut self, stamp: u64) -> Option<usize> {
        let is_before = |reader: &mut Option<LogReader<T>>| {
            reader.as_mut().and_then(LogReader::next_stamp).is_some_and(|next| next < stamp)
        };
        self.readers.iter_mut().position(is_before)
    }
}
