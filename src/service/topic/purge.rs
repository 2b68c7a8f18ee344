//! Resetting and purging subscriptions: all of their pending messages are dropped.
//!
//! There may be tens of thousands of messages pending, and as many subscriptions of a topic: what can wait is done in
//! slices.

use super::handles::{ConsumerId, SubId, TopicId};
use super::inquiry::{InquiryError, InquiryOutcome, InquiryProgress};
use super::owner::TopicOwner;
use super::pending::{PendingKeys, PendingState};
use super::state::LogPlace;
use super::timers::Timer;
use super::work::{Slice, TOPIC_STEPS, WorkProgress};
use super::{Archive, Position, TopicName, TopicNumber};
use crate::service::ConnectionRef;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

/// Timers that are removed at once.
const TIMERS_AT_ONCE: usize = 256;

/// Subscriptions of a topic, one after the other, as long as it is there.
pub(super) struct Walk {
    pub(super) topic: TopicId,
    number: TopicNumber,
    after: Option<Arc<str>>,
}

impl<A: Archive> TopicOwner<A> {
    /// The subscriptions of a topic.
    pub(super) fn walk(&self, topic: TopicId) -> Walk {
        let number = self.loaded.topics.get(topic).map_or(0, |topic| topic.number);
        Walk { topic, number, after: None }
    }

    /// The next of them; an error when the topic is not there any more.
    pub(super) fn next_sub(&self, walk: &mut Walk) -> Result<Option<SubId>, InquiryError> {
        // Its number in memory may be another's since the last slice.
        let topic = self
            .loaded
            .topics
            .get(walk.topic)
            .filter(|topic| topic.number == walk.number && !topic.is_gone);
        let Some(topic) = topic else { return Err(InquiryError::no_topic()) };
        let after = walk.after.take().map_or(Unbounded, Excluded);
        let next = topic.subs.range::<Arc<str>, _>((after, Unbounded)).next();
        Ok(next.map(|(name, sub)| {
            walk.after = Some(name.clone());
            *sub
        }))
    }

    /// Deletes what waits in a subscription, or in all, and then what is stored, and answers when it is safe.
    pub(super) fn purge(
        &mut self,
        connection: ConnectionRef,
        name: &TopicName,
        subscription: Option<&str>,
    ) -> InquiryProgress {
        let id = self.known(name)?;
        let end = self.loaded.topics[id].state.next;
        if let Some(subscription) = subscription {
            let sub = self.known_sub(id, subscription)?;
            self.reset(sub, end, false);
            self.save_sub(sub)?;
            return Ok(Some(InquiryOutcome::Changed));
        }
        let mut walk = self.walk(id);
        self.answer_in_slices(connection, move |owner, slice| {
            owner.purge_some(&mut walk, end, slice)
        })
    }

    /// Empties some subscriptions of a topic, and after the last the topic.
    fn purge_some(&mut self, walk: &mut Walk, end: LogPlace, slice: &mut Slice) -> InquiryProgress {
        while let Some(sub) = self.next_sub(walk)? {
            slice.spend(TOPIC_STEPS);
            if self.loaded.subs[sub].state.read.position <= end.position {
                self.reset(sub, end, false);
            } else {
                // It has gone on meanwhile, and keeps what came after.
                while self.give_up(sub, &end) {}
            }
            self.save_sub(sub)?;
            if slice.is_over() {
                return Ok(None);
            }
        }
        let id = walk.topic;
        let topic = &mut self.loaded.topics[id];
        // It may have been trimmed further meanwhile.
        if topic.state.first < end.position {
            topic.state.first = end.position;
            topic.is_untrimmed = true;
            topic.marks.trim(end.position, None);
            topic.forget_read();
        }
        self.tend_now(id);
        self.save_topic(id)?;
        Ok(Some(InquiryOutcome::Changed))
    }

    /// A subscription goes on at a place, with nothing pending.
    pub(super) fn reset(&mut self, id: SubId, place: LogPlace, is_back: bool) {
        self.give_up_pending(id);
        let now_ms = self.now.unix_ms;
        let sub = &mut self.loaded.subs[id];
        sub.state.read = place;
        sub.state.start = place.position;
        sub.state.skipped = 0;
        sub.state.delayed = if is_back { (0, Position::FIRST) } else { (now_ms, Position::END) };
        sub.due.clear();
        sub.due_ms = 0;
        let topic = sub.topic;
        self.loaded.topics[topic].quota_check_bytes = 0;
        self.touch(id);
        self.tend_now(topic);
        self.loaded.ready(id);
    }

    /// Everything that is pending is dealt with, but for what is on its way to the dead letters: that is when it is there.
    pub(super) fn give_up_pending(&mut self, id: SubId) {
        let Some(sub) = self.loaded.subs.get_mut(id) else { return };
        let all = std::mem::take(&mut sub.pending);
        sub.pending_bytes = 0;
        sub.pending_delayed.clear();
        sub.replay.clear();
        sub.keys = PendingKeys::default();
        sub.members.iter_mut().for_each(|member| member.keys.clear());
        sub.is_full = false;
        let (mut timers, mut freed) = (Vec::new(), Vec::<ConsumerId>::new());
        for (position, pending) in all {
            if pending.state == PendingState::Dying {
                sub.hold(position, pending);
                continue;
            }
            if pending.due_ns > 0 {
                timers.push((pending.due_ns, Timer::Pending(id, position)));
                if pending.state == PendingState::Held {
                    // Its time would have made room for another.
                    freed.push(pending.holder as usize);
                }
            }
        }
        freed.iter().for_each(|holder| self.peers.free_one(*holder));
        freed.sort_unstable();
        freed.dedup();
        freed.into_iter().for_each(|holder| self.wake(holder));
        self.discard(timers);
    }

    /// Removes timers: some at once, others in slices. What is left of them meanwhile comes to nothing.
    pub(super) fn discard(&mut self, mut timers: Vec<(u64, Timer)>) {
        self.run_always(true, move |owner, _| {
            let from = timers.len().saturating_sub(TIMERS_AT_ONCE);
            for timer in timers.drain(from..) {
                owner.loaded.timers.remove(&timer);
            }
            if timers.is_empty() { WorkProgress::Done } else { WorkProgress::More }
        });
    }
}
