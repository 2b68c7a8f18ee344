//! Deletion of topics, by operators or after too long idle, and of subscriptions too long without
//! consumers.
//!
//! A topic is gone at once: the archive has forgotten it, and its name refers to a new topic from
//! then on. Its connections are removed in slices, and notified after the answers that wait for the
//! same commit.

use super::commits::PendingAnswer;
use super::handles::{ProducerId, SubId, TopicId};
use super::inquiry::{InquiryError, InquiryOutcome, InquiryProgress};
use super::owner::TopicOwner;
use super::purge::Walk;
use super::source::ConsumerSource;
use super::subscription::Subscription;
use super::timers::IDLE_NS;
use super::work::{AT_ONCE_MAX, Slice, TOPIC_STEPS, WorkProgress};
use super::{
    Archive, ArchiveError, Cause, Position, TopicAnswer, TopicDomain, TopicName, TopicRefusal,
};
use crate::service::ConnectionRef;

/// Names of partitions read from the archive in one step.
const NAMES_AT_ONCE: usize = 256;
/// Connections and subscriptions removed within the request itself.
const PARTS_AT_ONCE: usize = 64;

/// The deletion of a topic and its partitions.
struct Deleting {
    force: bool,
    stage: DeletionStage,
    names: Vec<TopicName>,
    at: usize,
    /// Topics deleted so far.
    deleted: usize,
}

/// The stages of a deletion. All topics are checked for connections before any is deleted.
enum DeletionStage {
    /// Looking up the partitions of a topic, after the given name.
    Listing(TopicName, Box<str>),
    Checking,
    Deleting,
}

/// The reason given to connections of a deleted topic.
fn gone() -> TopicRefusal {
    Cause::NotFound.because("the topic was deleted")
}

impl<A: Archive> TopicOwner<A> {
    /// Deletes a topic; answered once that is committed.
    pub(super) fn delete(
        &mut self,
        connection: ConnectionRef,
        name: TopicName,
        force: bool,
    ) -> InquiryProgress {
        if name.domain() == TopicDomain::NonPersistent {
            return Err(InquiryError::no_topic());
        }
        let stage = match self.catalog.partitions(&name) {
            Some(_) => DeletionStage::Listing(name.clone(), "".into()),
            None => DeletionStage::Checking,
        };
        let is_one = matches!(stage, DeletionStage::Checking);
        let mut deleting = Deleting { force, stage, names: vec![name], at: 0, deleted: 0 };
        // One topic is little work, and need not wait for a slice.
        if is_one {
            return self.delete_some(&mut deleting, &mut Slice::whole());
        }
        self.answer_in_slices(connection, move |owner, slice| {
            owner.delete_some(&mut deleting, slice)
        })
    }

    /// Lists, checks or deletes the next partitions.
    fn delete_some(&mut self, deleting: &mut Deleting, slice: &mut Slice) -> InquiryProgress {
        if let Some(reason) = &self.commits.broken {
            return Err(InquiryError(503, reason.clone()));
        }
        let Deleting { force, stage, names, at, deleted, .. } = deleting;
        if let DeletionStage::Listing(whole, after) = stage {
            let prefix = format!("{}-partition-", whole.as_str());
            loop {
                if !slice.take(NAMES_AT_ONCE) {
                    return Ok(None);
                }
                let found = self.archive.names(&prefix, after, NAMES_AT_ONCE)?;
                let Some(last) = found.last() else { break };
                *after = last.clone();
                let found = found.iter().filter_map(|name| TopicName::read(name).ok());
                names.extend(found.filter(|name| self.catalog.whole(name) == Some(whole.as_str())));
            }
            *stage = DeletionStage::Checking;
        }
        loop {
            let is_checking = matches!(stage, DeletionStage::Checking);
            while let Some(name) = names.get(*at) {
                if !slice.take(TOPIC_STEPS) {
                    return Ok(None);
                }
                // Another request may have deleted it meanwhile.
                if let Some(id) = self.find_topic(name)? {
                    if !*force {
                        self.check_unused(id, *deleted)?;
                    }
                    if !is_checking {
                        self.delete_topic(id)?;
                        *deleted += 1;
                    }
                }
                *at += 1;
            }
            if !is_checking {
                return if *deleted > 0 {
                    Ok(Some(InquiryOutcome::Changed))
                } else {
                    Err(InquiryError::no_topic())
                };
            }
            (*stage, *at) = (DeletionStage::Deleting, 0);
        }
    }

    /// Refuses to delete a topic with connections.
    fn check_unused(&mut self, id: TopicId, deleted: usize) -> Result<(), InquiryError> {
        // Subscriptions without connections do not prevent deletion.
        if self.loaded.topics[id].users == 0 {
            return Ok(());
        }
        let subs: Vec<SubId> = self.loaded.topics[id].subs.values().copied().collect();
        let there: Vec<SubId> = subs.into_iter().filter(|sub| self.part_leaving(*sub)).collect();
        let consumers: usize = there.iter().map(|sub| self.loaded.subs[*sub].members.len()).sum();
        let producers = self.loaded.topics[id].producers.len();
        if producers + consumers == 0 {
            return Ok(());
        }
        let name = self.loaded.topics[id].name.as_str();
        let before = if deleted > 0 { "; other partitions are deleted already" } else { "" };
        let reason = format!(
            "{name} is in use, by {producers} producers and {consumers} consumers or readers: \
             delete it once they have disconnected, or use force to close them{before}"
        );
        Err(InquiryError(409, reason.into()))
    }

    /// Deletes a topic and ends its connections.
    fn delete_topic(&mut self, id: TopicId) -> Result<(), ArchiveError> {
        self.archive.delete(self.loaded.topics[id].number)?;
        self.commits.is_uncommitted = true;
        self.commits.forget_topic(id);
        // Out of the queues first: while its members are removed in slices, nothing of it is
        // delivered.
        let topic = &mut self.loaded.topics[id];
        topic.is_gone = true;
        topic.is_active = false;
        topic.ready.clear();
        topic.tail_waiters.clear();
        // The ids of its messages must never refer to messages of a new topic with its name.
        self.catalog.fresh = self.catalog.fresh.max(topic.state.next.position);
        self.catalog.remove(&topic.name);
        let mut producers: Vec<ProducerId> = topic.producers.values().copied().collect();
        self.loaded.active.retain(|active| *active != id);
        // Consumers with a pattern must not be joined to it any more.
        self.peers.created.retain(|created| created.name != topic.name);
        if self.go_on_dismantling(id, &mut producers, &mut Slice::of(PARTS_AT_ONCE))
            == WorkProgress::More
        {
            self.run_always(false, move |owner, slice| {
                owner.go_on_dismantling(id, &mut producers, slice)
            });
        }
        Ok(())
    }

    /// Removes the next connections and subscriptions of a deleted topic, and finally the topic
    /// from memory.
    fn go_on_dismantling(
        &mut self,
        id: TopicId,
        producers: &mut Vec<ProducerId>,
        slice: &mut Slice,
    ) -> WorkProgress {
        while let Some(producer) = producers.last().copied() {
            if !slice.take(1) {
                return WorkProgress::More;
            }
            producers.pop();
            // The producer may have left, and its slot been reused.
            let producer = self.peers.producers.get(producer);
            let its = producer.filter(|it| it.targets.iter().any(|(topic, _)| *topic == id));
            if let Some(connection) = its.map(|producer| producer.connection) {
                self.end(connection);
            }
        }
        while let Some(sub) =
            self.loaded.topics.get(id).and_then(|topic| topic.subs.values().next()).copied()
        {
            // On the first visit only, so that consumers that stay have room again.
            self.give_up_pending(sub);
            // The subscription's slot may be reused as soon as it is gone.
            let its = |it: &&Subscription| it.topic == id;
            while let Some(member) =
                self.loaded.subs.get(sub).filter(its).and_then(|sub| sub.members.last())
            {
                if !slice.take(1) {
                    return WorkProgress::More;
                }
                let (consumer, label) = (member.consumer, member.label);
                self.part(consumer, ConsumerSource { topic: id, sub, label });
                // A consumer with a pattern keeps its other topics; one whose connection is gone
                // needs no notice.
                let consumer = self.peers.consumers.get(consumer);
                let ends = consumer.filter(|it| it.pattern().is_none() && !it.is_over());
                if let Some(connection) = ends.map(|consumer| consumer.connection) {
                    self.end(connection);
                }
            }
            if !slice.take(1) {
                return WorkProgress::More;
            }
            if self.loaded.subs.get(sub).is_some_and(|it| its(&it)) {
                self.delete_sub(sub);
            }
        }
        self.loaded.topics.try_remove(id);
        WorkProgress::Done
    }

    /// Ends a connection whose topic is deleted: it holds nothing from now on, and is notified
    /// after its pending answers.
    fn end(&mut self, connection: ConnectionRef) {
        self.commits.answers.push(PendingAnswer::Certain(connection, TopicAnswer::Refused(gone())));
        self.leave(connection);
    }

    /// Deletes an unused topic that has been idle long enough. Returns whether it did, or after how
    /// many nanoseconds it may.
    pub(super) fn delete_idle(&mut self, id: TopicId) -> Result<bool, u64> {
        let idle_ms = self.rules.idle_delete_s.saturating_mul(1000);
        let Some(topic) = self.loaded.topics.get(id) else { return Ok(false) };
        let is_useless = topic.users == 0
            && topic.subs.is_empty()
            && topic.is_empty()
            && !topic.state.terminated
            && !topic.is_untrimmed;
        // A broken store could not record the deletion.
        if idle_ms == 0 || !is_useless || self.commits.broken.is_some() {
            return Ok(false);
        }
        let since_ms = self.now.unix_ms.saturating_sub(self.used_ms(id));
        if since_ms < idle_ms {
            return Err((idle_ms - since_ms).saturating_mul(1_000_000));
        }
        // A delayed message in the index is a message too.
        let delayed = self.archive.delayed(topic.number, (0, Position::FIRST), u64::MAX, 1);
        let is_deleted =
            delayed.is_ok_and(|delayed| delayed.is_empty()) && self.delete_topic(id).is_ok();
        self.counters.total.idle += u64::from(is_deleted);
        Ok(is_deleted)
    }

    /// When a topic was last used (unix, ms), in this run or before it was loaded.
    pub(super) fn used_ms(&self, id: TopicId) -> u64 {
        let Some(topic) = self.loaded.topics.get(id) else { return self.now.unix_ms };
        if topic.state.used_ms > 0 {
            return topic.state.used_ms;
        }
        let idle_ms = self.now.monotonic_ns.saturating_sub(topic.used_ns) / 1_000_000;
        self.now.unix_ms.saturating_sub(idle_ms)
    }

    /// How long an unused topic stays in memory before it is checked.
    pub(super) fn idle_ns(&self) -> u64 {
        match self.rules.idle_delete_s {
            0 => IDLE_NS,
            seconds => seconds.saturating_mul(1_000_000_000).min(IDLE_NS),
        }
    }

    /// Deletes a topic's subscriptions that had no consumer for too long; many of them in slices.
    pub(super) fn expire_subs(&mut self, id: TopicId) {
        let Some(topic) = self.loaded.topics.get_mut(id) else { return };
        if self.rules.subscription_expiry_s == 0
            || topic.subs.is_empty()
            || self.commits.broken.is_some()
        {
            return;
        }
        let is_short = topic.subs.len() <= AT_ONCE_MAX;
        // One walk at a time: the next sweep comes long before a walk through very many is over.
        if std::mem::replace(&mut topic.is_expiring, true) {
            return;
        }
        let mut walk = self.walk(id);
        let begun = self.run(is_short, move |owner, slice| {
            let progress = owner.go_on_expiring(&mut walk, slice);
            if progress == WorkProgress::Done
                && let Some(topic) = owner.loaded.topics.get_mut(id)
            {
                topic.is_expiring = false;
            }
            progress
        });
        if begun.is_err() {
            // Too much work is in progress: the next sweep tries again.
            self.loaded.topics[id].is_expiring = false;
        }
    }

    /// Checks the next subscriptions.
    fn go_on_expiring(&mut self, walk: &mut Walk, slice: &mut Slice) -> WorkProgress {
        let expiry_ms = self.rules.subscription_expiry_s.saturating_mul(1000);
        while let Ok(Some(id)) = self.next_sub(walk) {
            slice.spend(1);
            let sub = &self.loaded.subs[id];
            let used_ms = sub.state.used_ms;
            let is_unused = sub.durable && sub.members.is_empty() && expiry_ms > 0;
            if is_unused && used_ms == 0 {
                // It was unused before expiry was configured, or had a consumer when the daemon
                // stopped: its time starts now.
                self.mark_used(id, false);
            } else if is_unused && self.now.unix_ms.saturating_sub(used_ms) >= expiry_ms {
                slice.spend(TOPIC_STEPS);
                // The archive has logged the error; the next sweep retries.
                if self.erase_sub(id).is_err() {
                    return WorkProgress::Done;
                }
                self.counters.total.expired += 1;
            }
            if slice.is_over() {
                return WorkProgress::More;
            }
        }
        WorkProgress::Done
    }

    /// Records that a subscription is in use, or was until now. The record is saved: after a crash
    /// it must not look unused for longer than it was. Without an expiry it counts as used.
    pub(super) fn mark_used(&mut self, id: SubId, is_used: bool) {
        let is_used = is_used || self.rules.subscription_expiry_s == 0;
        let now_ms = self.now.unix_ms.max(1);
        let Some(sub) = self.loaded.subs.get_mut(id).filter(|sub| sub.durable) else { return };
        let used_ms = if is_used { 0 } else { now_ms };
        if std::mem::replace(&mut sub.state.used_ms, used_ms) != used_ms {
            self.touch(id);
        }
    }
}
