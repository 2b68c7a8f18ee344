//! Resetting and purging subscriptions, which drops all their pending messages.
//!
//! A subscription may have tens of thousands of pending messages, and a topic as many
//! subscriptions: what can wait is done in slices.

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

/// Timers removed at once.
const TIMERS_AT_ONCE: usize = 256;

/// An iteration over a topic's subscriptions, valid as long as the topic exists.
pub(super) struct Walk {
    pub(super) topic: TopicId,
    number: TopicNumber,
    after: Option<Arc<str>>,
}

impl<A: Archive> TopicOwner<A> {
    /// Starts an iteration over the subscriptions of a topic.
    pub(super) fn walk(&self, topic: TopicId) -> Walk {
        let number = self.loaded.topics.get(topic).map_or(0, |topic| topic.number);
        Walk { topic, number, after: None }
    }

    /// The next subscription; an error when the topic no longer exists.
    pub(super) fn next_sub(&self, walk: &mut Walk) -> Result<Option<SubId>, InquiryError> {
        // The topic's slot may have been reused since the last slice.
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

    /// Deletes the backlog of a subscription, or of all and then the stored messages; answered once
    /// that is committed.
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

    /// Empties the next subscriptions of a topic, and after the last the topic.
    fn purge_some(&mut self, walk: &mut Walk, end: LogPlace, slice: &mut Slice) -> InquiryProgress {
        while let Some(sub) = self.next_sub(walk)? {
            slice.spend(TOPIC_STEPS);
            if self.loaded.subs[sub].state.read.position <= end.position {
                self.reset(sub, end, false);
            } else {
                // The subscription has advanced meanwhile, and keeps the newer messages.
                while self.give_up(sub, &end) {}
            }
            self.save_sub(sub)?;
            if slice.is_over() {
                return Ok(None);
            }
        }
        let id = walk.topic;
        let topic = &mut self.loaded.topics[id];
        // The topic may have been trimmed further meanwhile.
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

    /// Moves a subscription's cursor to a place, with nothing pending.
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

    /// Drops all pending messages, except those on their way to the dead-letter topic, which are
    /// settled on arrival.
    pub(super) fn give_up_pending(&mut self, id: SubId) {
        let Some(sub) = self.loaded.subs.get_mut(id) else { return };
        // Taken out as a whole: removing tens of thousands one by one would take longer.
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
                    // The timeout would have freed a place in the holder's window.
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

    /// Removes timers: some at once, the others in slices. Those that fire meanwhile have no
    /// effect.
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
