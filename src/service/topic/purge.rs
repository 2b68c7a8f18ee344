//! What is pending in a subscription is given up as a whole, and subscriptions are moved and emptied.
//!
//! There may be tens of thousands of messages pending, and as many subscriptions of a topic: what can wait is done in
//! slices.

use super::consumer::ConsumerId;
use super::inquiry::{InquiryError, broken, no_topic};
use super::loaded::TopicId;
use super::owner::{PendingAnswer, Timer, TopicOwner};
use super::pending::PendingState;
use super::state::LogPlace;
use super::subscription::SubId;
use super::work::{Slice, TOPIC_STEPS, TopicWork, WorkProgress};
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

/// A topic that is being purged.
pub(super) struct Purging {
    connection: ConnectionRef,
    walk: Walk,
    /// Where it ended when it was asked for.
    end: LogPlace,
}

impl<A: Archive> TopicOwner<A> {
    /// The subscriptions of a topic.
    pub(super) fn walk(&self, topic: TopicId) -> Walk {
        let number = self.topics.get(topic).map_or(0, |topic| topic.number);
        Walk { topic, number, after: None }
    }

    /// The next of them; an error when the topic is not there any more.
    pub(super) fn next_sub(&self, walk: &mut Walk) -> Result<Option<SubId>, ()> {
        let topic = self.topics.get(walk.topic).filter(|topic| topic.number == walk.number && !topic.is_gone);
        let Some(topic) = topic else { return Err(()) };
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
    ) -> Result<(), InquiryError> {
        let id = self.known(name)?;
        let end = self.topics[id].state.next;
        if let Some(subscription) = subscription {
            let sub = self.known_sub(id, subscription)?;
            self.reset(sub, end, false);
            self.save_sub(sub).map_err(broken)?;
            self.answers.push(PendingAnswer::Done(connection));
            return Ok(());
        }
        let purging = Purging { connection, walk: self.walk(id), end };
        self.take_on(TopicWork::Purge(Box::new(purging))).map_err(|refusal| (503, refusal.reason))
    }

    /// Empties some subscriptions of a topic, and after the last the topic.
    pub(super) fn go_on_purging(&mut self, purging: &mut Purging, slice: &mut Slice) -> WorkProgress {
        let connection = purging.connection;
        match self.purge_some(purging, slice) {
            Ok(WorkProgress::More) => return WorkProgress::More,
            Ok(WorkProgress::Done) => self.answers.push(PendingAnswer::Done(connection)),
            Err((status, reason)) => self.answer(connection, status, reason.as_bytes()),
        }
        WorkProgress::Done
    }

    fn purge_some(&mut self, purging: &mut Purging, slice: &mut Slice) -> Result<WorkProgress, InquiryError> {
        let Purging { walk, end, .. } = purging;
        while let Some(sub) = self.next_sub(walk).map_err(|()| no_topic())? {
            slice.spend(TOPIC_STEPS);
            if self.subs[sub].state.read.position <= end.position {
                self.reset(sub, *end, false);
            } else {
                // It has gone on meanwhile, and keeps what came after.
                while self.give_up(sub, end) {}
            }
            self.save_sub(sub).map_err(broken)?;
            if slice.is_over() {
                return Ok(WorkProgress::More);
            }
        }
        let id = walk.topic;
        let topic = &mut self.topics[id];
        if topic.state.first < end.position {
            topic.state.first = end.position;
            topic.is_untrimmed = true;
            topic.marks.trim(end.position, None);
            topic.forget_read();
        }
        self.tend_now(id);
        self.save_topic(id).map_err(broken)?;
        Ok(WorkProgress::Done)
    }

    /// A subscription goes on at a place, with nothing pending.
    pub(super) fn reset(&mut self, id: SubId, place: LogPlace, is_back: bool) {
        self.give_up_pending(id);
        let now_ms = self.now.unix_ms;
        let sub = &mut self.subs[id];
        sub.state.read = place;
        sub.state.start = place.position;
        sub.state.skipped = 0;
        sub.state.delayed = if is_back { (0, Position::FIRST) } else { (now_ms, Position::END) };
        sub.due.clear();
        sub.due_ms = 0;
        let topic = sub.topic;
        self.topics[topic].quota_check_bytes = 0;
        self.touch(id);
        self.tend_now(topic);
        self.ready(id);
    }

    /// Everything that is pending is dealt with, but for what is on its way to the dead letters: that is when it is there.
    pub(super) fn give_up_pending(&mut self, id: SubId) {
        let Some(sub) = self.subs.get_mut(id) else { return };
        let all = std::mem::take(&mut sub.pending);
        sub.pending_bytes = 0;
        sub.pending_delayed.clear();
        sub.replay.clear();
        sub.keys = super::pending::PendingKeys::default();
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
        for holder in &freed {
            if let Some(consumer) = self.consumers.get_mut(*holder) {
                consumer.free(1);
            }
        }
        freed.sort_unstable();
        freed.dedup();
        freed.into_iter().for_each(|holder| self.wake(holder));
        self.discard(timers);
    }

    /// Removes timers: some at once, others in slices. What is left of them meanwhile comes to nothing.
    pub(super) fn discard(&mut self, mut timers: Vec<(u64, Timer)>) {
        self.discard_some(&mut timers);
        if !timers.is_empty() {
            self.works.push_back(TopicWork::Discard(timers));
        }
    }

    /// Removes some of them.
    pub(super) fn discard_some(&mut self, timers: &mut Vec<(u64, Timer)>) -> WorkProgress {
        let from = timers.len().saturating_sub(TIMERS_AT_ONCE);
        for timer in timers.drain(from..) {
            self.timers.remove(&timer);
        }
        if timers.is_empty() { WorkProgress::Done } else { WorkProgress::More }
    }
}
