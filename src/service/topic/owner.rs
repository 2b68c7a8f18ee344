//! The owner of topics: handles questions, makes all decisions, and produces the output.
//!
//! This file contains the shared state and the round: questions, work, commit, deliveries. The map
//! of the other files, by task:
//!
//! - Memory: `load` loads and unloads topics (`loaded_topic`, `subscription`, `catalog`, `state`,
//!   `handles`); `window`, `backlog` and `stats` account for them.
//! - Connections: `admission` makes them producers, consumers and readers, in the stages of
//!   `opening`; `join` adds them to subscriptions, `matching` to topics of their patterns;
//!   `probing` checks holders that are in the way; `narrowing` applies new rights; `peers` lists
//!   them all.
//! - Messages: `publish` appends them (`producer` routes and deduplicates), `dispatch` delivers
//!   them, `ack` settles them, redelivers them or sends them to the dead-letter topic
//!   (`foreign_letters` for those of other owners); `commits` holds what waits for the disk.
//! - Upkeep: `maintenance` handles timers, expiry and saving; `deletion`, `purge` and `survey` work
//!   in the slices of `work`.
//! - Operators: `admin` and `proxy` answer them, `merge` combines the answers of several owners.
//! - Another process: `handover` passes connections to it with what they hold.
//! - Several owners: `owner_index` decides which owner a topic has, `routes` is the shards' side.

use super::catalog::TopicCatalog;
use super::commits::{Commits, PendingAnswer};
use super::foreign_letters::ForeignLetters;
use super::handles::{ConsumerId, SubId, TopicId};
use super::loaded_topic::LoadedTopics;
use super::owner_index::OwnerIndex;
use super::peers::{ConnectionRole, Peers};
use super::stats::{Counters, TopicCensus};
use super::timers::{IDLE_NS, Timer};
use super::work::{SLICE_STEPS, Slice, WORKS_MAX, WorkProgress};
use super::{Archive, Cause, TopicAnswer, TopicOutgoing, TopicQuestion, TopicRefusal, TopicRules};
use crate::service::{ConnectionRef, Service};
use crate::wheel::Now;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// The owner of all topics, or of a part of them; it alone decides about these.
pub struct TopicOwner<A> {
    pub(super) owner: OwnerIndex,
    pub(super) archive: A,
    pub(super) rules: TopicRules,
    /// The time of the last call. The unix time here never goes back: when the wall clock does, it
    /// continues from the highest value seen.
    pub(super) now: Now,
    /// The wall clock, by which messages expire: never early, whatever the clock did before.
    pub(super) wall_ms: u64,
    pub(super) catalog: TopicCatalog,
    pub(super) loaded: LoadedTopics,
    pub(super) peers: Peers,
    pub(super) commits: Commits,
    pub(super) works: Works<A>,
    pub(super) counters: Counters,
    pub(super) foreign_letters: ForeignLetters,
    /// The number of the last generated name.
    pub(super) serial: u64,
    out: Vec<TopicOutgoing>,
}

/// Work in progress.
pub(super) struct Works<A> {
    /// In the order of their turns.
    pub(super) queue: VecDeque<TopicWork<A>>,
    /// Whether any work item has written something since the last one finished.
    has_written: bool,
}

/// One slice of a work item that takes longer than other requests may wait.
pub(super) type TopicWork<A> =
    Box<dyn FnMut(&mut TopicOwner<A>, &mut Slice) -> WorkProgress + Send>;

impl<A: Archive> Service for TopicOwner<A> {
    type Question = TopicQuestion;
    type Out<'a> = Vec<TopicOutgoing>;

    /// Handles a question of a connection. Messages it appends are in the archive on return, and
    /// are confirmed and delivered after [`TopicOwner::committed`].
    fn ask(
        &mut self,
        from: ConnectionRef,
        question: TopicQuestion,
        now: Now,
        out: &mut Vec<TopicOutgoing>,
    ) {
        self.set_time(now);
        match question {
            TopicQuestion::Produce(_) | TopicQuestion::Consume(_) | TopicQuestion::Read(_)
                if self.peers.roles.contains_key(&from) =>
            {
                let reason = "the connection is a producer, consumer or reader already";
                self.refuse(from, Cause::Invalid.because(reason));
            }
            TopicQuestion::Produce(_) | TopicQuestion::Consume(_) | TopicQuestion::Read(_) => {
                self.open(from, question);
            }
            TopicQuestion::Send { draft, context } => self.send(from, draft, context),
            TopicQuestion::Append(name, draft) => self.append(from, &name, draft),
            TopicQuestion::Inquire(inquiry) => self.inquire(from, *inquiry),
            TopicQuestion::Renew(rights) => self.renew_rights(from, rights),
            // A closing connection is reported gone separately.
            TopicQuestion::Probed { is_closing: true } => {}
            TopicQuestion::Probed { is_closing: false } => self.confirm(from),
            TopicQuestion::Gone => self.leave(from),
            TopicQuestion::Join => self.join_admitted(from),
            TopicQuestion::Buried { is_stored } => self.finish_letter(from, is_stored),
            TopicQuestion::Turn
            | TopicQuestion::Ack(_)
            | TopicQuestion::Nack(_)
            | TopicQuestion::Permit(_)
            | TopicQuestion::Unsubscribe
            | TopicQuestion::AskEnd
            | TopicQuestion::Took => self.take_of_consumer(from, &question),
        }
        self.drain(out);
    }

    /// Handles due timers: redeliveries, delayed messages, expiry, saving.
    fn tick(&mut self, now: Now, out: &mut Vec<TopicOutgoing>) {
        self.set_time(now);
        self.fire_timers();
        self.counters.roll(self.now.monotonic_ns);
        self.save_due();
        self.drain(out);
    }

    fn next_at_ns(&self) -> Option<u64> {
        let timer = self.loaded.timers.first().map(|(at_ns, _)| *at_ns);
        [timer, self.commits.save_due_ns].into_iter().flatten().min()
    }
}

impl<A: Archive> TopicOwner<A> {
    /// An owner of all topics of an archive.
    #[must_use]
    pub fn new(mut archive: A, rules: TopicRules, now: Now) -> Self {
        let mut owner = Self {
            owner: OwnerIndex::ONLY,
            catalog: TopicCatalog::new(&rules, &mut archive),
            archive,
            rules,
            now,
            wall_ms: now.unix_ms,
            loaded: LoadedTopics::default(),
            peers: Peers::default(),
            commits: Commits::default(),
            works: Works { queue: VecDeque::new(), has_written: false },
            counters: Counters::default(),
            foreign_letters: ForeignLetters::default(),
            serial: 0,
            out: Vec::new(),
        };
        owner.arm(IDLE_NS, Timer::Sweep);
        owner
    }

    /// Makes it one of several owners, whose topics are counted together.
    #[must_use]
    pub fn of(mut self, owner: OwnerIndex, all_count: &Arc<AtomicUsize>) -> Self {
        self.catalog.share(all_count);
        self.owner = owner;
        self
    }

    /// Replaces the rules.
    pub fn configure(&mut self, rules: TopicRules) {
        self.rules = rules;
        self.catalog.configure(&self.rules);
        for (_, topic) in &mut self.loaded.topics {
            topic.quota_check_bytes = 0;
        }
    }

    /// The archive.
    pub fn archive(&mut self) -> &mut A {
        &mut self.archive
    }

    /// Does one slice of the work in progress. Returns whether there is more.
    pub fn work(&mut self, now: Now, out: &mut Vec<TopicOutgoing>) -> bool {
        self.set_time(now);
        // Taken out while it runs, because it changes the owner itself.
        let Some(mut work) = self.works.queue.pop_front() else { return false };
        // Its writes need to be safe only when it is done: a commit for every slice would take
        // longer than the work.
        let is_uncommitted = std::mem::take(&mut self.commits.is_uncommitted);
        let progress = work(self, &mut Slice::of(SLICE_STEPS));
        self.works.has_written |=
            std::mem::replace(&mut self.commits.is_uncommitted, is_uncommitted);
        match progress {
            WorkProgress::More => self.works.queue.push_back(work),
            WorkProgress::Done => {
                self.commits.is_uncommitted |= std::mem::take(&mut self.works.has_written);
            }
        }
        self.drain(out);
        !self.works.queue.is_empty()
    }

    /// Delivers about `bytes_max` bytes to consumers with room. Returns whether there is more to
    /// deliver.
    pub fn deliver(&mut self, bytes_max: usize, now: Now, out: &mut Vec<TopicOutgoing>) -> bool {
        self.set_time(now);
        // Confirmations go first: a connection discards messages before its own.
        self.send_certain();
        let has_more = self.dispatch(bytes_max);
        for id in std::mem::take(&mut self.peers.turns) {
            self.pass_turn(id);
        }
        self.drain(out);
        has_more
    }

    /// Whether anything was written since the last call of [`TopicOwner::seal`].
    #[must_use]
    pub fn has_uncommitted(&self) -> bool {
        self.commits.is_uncommitted
    }

    /// Closes the set of writes that the next commit makes safe and [`TopicOwner::committed`]
    /// announces. Later writes belong to the next set.
    pub fn seal(&mut self) {
        let mut sealed = self.commits.sealed.take().unwrap_or_default();
        for id in std::mem::take(&mut self.commits.appended) {
            if let Some(topic) = self.loaded.topics.get_mut(id) {
                topic.is_appended = false;
                topic.seals += 1;
                sealed.topics.push((id, topic.state.next));
            }
        }
        sealed.answers.append(&mut self.commits.answers);
        sealed.dying.append(&mut self.commits.dying);
        self.commits.sealed = Some(sealed);
        self.commits.is_uncommitted = false;
    }

    /// Announces the outcome of a commit of everything sealed, or written if nothing was sealed. On
    /// an error nothing is delivered and producers receive the reason.
    pub fn committed(&mut self, result: Result<(), &str>, now: Now, out: &mut Vec<TopicOutgoing>) {
        self.set_time(now);
        if self.commits.sealed.is_none() {
            self.seal();
        }
        let sealed = self.commits.sealed.take().unwrap_or_default();
        if let Err(reason) = result {
            // A failed sync leaves unknown data on the disk, so nothing more is appended to it.
            self.commits.broken = Some(reason.into());
        }
        for (id, next) in sealed.topics {
            // The topic was deleted during the commit.
            let Some(topic) = self.loaded.topics.get_mut(id) else { continue };
            topic.seals -= 1;
            // After a failure, a later commit may be announced first.
            if result.is_ok() && topic.visible.position < next.position {
                topic.visible = next;
                self.loaded.wake_tail(id);
            }
        }
        self.finish_dying(sealed.dying, result.is_ok());
        for answer in sealed.answers {
            self.announce_outcome(answer, result);
        }
        self.loaded.shrink_cache(self.rules.cache_bytes);
        self.drain(out);
    }

    fn announce_outcome(&mut self, answer: PendingAnswer, result: Result<(), &str>) {
        let (connection, reply) = match (answer, result) {
            (PendingAnswer::Stored { connection, id, context, namespace, since_ns }, Ok(())) => {
                let lasted_ns = self.now.monotonic_ns.saturating_sub(since_ns);
                self.counters.stored(namespace, lasted_ns / 1000);
                (connection, TopicAnswer::Stored { id, context })
            }
            (PendingAnswer::Stored { connection, context, .. }, Err(reason)) => {
                (connection, TopicAnswer::NotStored { reason: reason.into(), context })
            }
            (PendingAnswer::Certain(connection, answer), _) => (connection, answer),
            // The connection was ended meanwhile, and has been notified.
            (PendingAnswer::Opened(connection), _)
                if !self.peers.roles.contains_key(&connection) =>
            {
                return;
            }
            (PendingAnswer::Opened(connection), Ok(())) => {
                if let Some(ConnectionRole::Consumer(id)) =
                    self.peers.roles.get(&connection).copied()
                    && let Some(consumer) = self.peers.consumers.get_mut(id)
                {
                    consumer.confirm();
                    self.unblock(id);
                    self.wake(id);
                }
                (connection, TopicAnswer::Opened)
            }
            (PendingAnswer::Opened(connection), Err(reason)) => {
                self.leave(connection);
                (connection, TopicAnswer::Refused(Cause::Broken.because(reason)))
            }
            (PendingAnswer::Done(connection), Ok(())) => {
                (connection, TopicAnswer::Answer(200, b"{}"[..].into()))
            }
            (PendingAnswer::Done(connection), Err(reason)) => {
                (connection, TopicAnswer::Answer(503, reason.as_bytes().into()))
            }
        };
        self.reply(connection, reply);
    }

    /// Sends the waiting answers, if no commit is pending.
    fn send_certain(&mut self) {
        // Answers keep their order: those independent of a commit wait behind the others.
        if self.commits.is_idle() {
            for answer in std::mem::take(&mut self.commits.answers) {
                self.announce_outcome(answer, Ok(()));
            }
        }
    }

    /// Resumes after a failure, once everything appended before is safe: it is delivered now,
    /// although its producers were notified that it might not be stored. Changed states are saved
    /// soon.
    pub fn recovered(&mut self, now: Now) {
        self.set_time(now);
        self.commits.broken = None;
        let topics: Vec<TopicId> = self.loaded.topics.iter().map(|(id, _)| id).collect();
        for id in topics {
            let topic = &mut self.loaded.topics[id];
            topic.visible = topic.state.next;
            let subs: Vec<SubId> = topic.subs.values().copied().collect();
            self.loaded.wake_tail(id);
            self.touch_topic(id);
            subs.into_iter().for_each(|sub| self.touch(sub));
        }
    }

    /// The current numbers and the totals.
    #[must_use]
    pub fn census(&self) -> TopicCensus {
        TopicCensus {
            topics: self.catalog.count as u64,
            loaded: self.loaded.topics.len() as u64,
            producers: self.peers.producers.len() as u64,
            consumers: self.peers.consumers.len() as u64,
            ..self.counters.total
        }
    }

    pub(super) fn drain(&mut self, out: &mut Vec<TopicOutgoing>) {
        self.send_certain();
        out.append(&mut self.out);
    }

    /// Advances the time, which does not go back.
    pub(super) fn set_time(&mut self, now: Now) {
        // The unix time advances at least as far as the monotonic clock, so that delayed messages
        // keep their order when the wall clock is set back.
        let passed_ms =
            (now.monotonic_ns / 1_000_000).saturating_sub(self.now.monotonic_ns / 1_000_000);
        self.now.monotonic_ns = self.now.monotonic_ns.max(now.monotonic_ns);
        self.now.unix_ms = now.unix_ms.max(self.now.unix_ms.saturating_add(passed_ms));
        self.wall_ms = now.unix_ms;
    }

    /// The monotonic time (ns) in `ns` nanoseconds.
    pub(super) fn after(&self, ns: u64) -> u64 {
        self.now.monotonic_ns.saturating_add(ns)
    }

    /// Sets a timer.
    pub(super) fn arm(&mut self, after_ns: u64, timer: Timer) {
        self.loaded.timers.insert((self.after(after_ns), timer));
    }

    /// Runs a work item at once, or queues it to run in slices between other requests.
    pub(super) fn run(
        &mut self,
        at_once: bool,
        mut work: impl FnMut(&mut Self, &mut Slice) -> WorkProgress + Send + 'static,
    ) -> Result<(), TopicRefusal> {
        if at_once {
            while work(self, &mut Slice::whole()) == WorkProgress::More {}
        } else if self.works.queue.len() >= WORKS_MAX {
            let reason = "the store is busy with too many large requests: retry in a few seconds";
            return Err(Cause::TooMany.because(reason));
        } else {
            self.works.queue.push_back(Box::new(work));
        }
        Ok(())
    }

    /// Like [`TopicOwner::run`], without the limit: the work follows from something already done.
    pub(super) fn run_always(
        &mut self,
        at_once: bool,
        mut work: impl FnMut(&mut Self, &mut Slice) -> WorkProgress + Send + 'static,
    ) {
        if !at_once || work(self, &mut Slice::whole()) == WorkProgress::More {
            self.works.queue.push_back(Box::new(work));
        }
    }

    pub(super) fn send_out(&mut self, outgoing: TopicOutgoing) {
        self.out.push(outgoing);
    }

    pub(super) fn reply(&mut self, connection: ConnectionRef, reply: TopicAnswer) {
        self.out.push(TopicOutgoing::Reply(connection, reply));
    }

    pub(super) fn reply_all(&mut self, replies: Vec<(ConnectionRef, TopicAnswer)>) {
        self.out.extend(
            replies.into_iter().map(|(connection, reply)| TopicOutgoing::Reply(connection, reply)),
        );
    }

    pub(super) fn refuse(&mut self, connection: ConnectionRef, refusal: TopicRefusal) {
        self.reply(connection, TopicAnswer::Refused(refusal));
    }

    /// Handles that a consumer may have room again, for this owner or for the one whose turn it is.
    pub(super) fn wake(&mut self, id: ConsumerId) {
        let Some(consumer) = self.peers.consumers.get(id) else { return };
        let Some(window) = consumer.window() else {
            if consumer.has_room() {
                self.unblock(id);
            }
            return;
        };
        let (connection, next) = (consumer.connection, window.next());
        match next {
            Some(owner) if owner == self.owner.index() => self.take_turn(id),
            Some(owner) => {
                self.out.push(TopicOutgoing::Ask(owner, connection, TopicQuestion::Turn))
            }
            None => {}
        }
    }

    /// Takes this owner's turn to deliver to a consumer of several owners, and passes it on after
    /// the next deliveries.
    pub(super) fn take_turn(&mut self, id: ConsumerId) {
        self.peers.turns.push(id);
        self.unblock(id);
    }

    fn pass_turn(&mut self, id: ConsumerId) {
        let Some(consumer) = self.peers.consumers.get(id) else { return };
        let next = consumer.window().and_then(|window| window.pass(self.owner.index()));
        // Possibly to itself: what it delivers then belongs to the next round.
        self.out.extend(
            next.map(|owner| TopicOutgoing::Ask(owner, consumer.connection, TopicQuestion::Turn)),
        );
    }

    /// Resumes the subscriptions that were waiting for a consumer's room.
    fn unblock(&mut self, id: ConsumerId) {
        let Some(consumer) = self.peers.consumers.get_mut(id) else { return };
        for sub_id in std::mem::take(&mut consumer.blocked) {
            let Some(sub) = self.loaded.subs.get_mut(sub_id) else { continue };
            if let Some(member) = sub.members.iter_mut().find(|member| member.consumer == id) {
                member.is_blocked = false;
                self.loaded.ready(sub_id);
            }
        }
    }

    /// Schedules a save of a changed subscription.
    pub(super) fn touch(&mut self, id: SubId) {
        let Some(sub) = self.loaded.subs.get_mut(id).filter(|sub| sub.durable && !sub.is_dirty)
        else {
            return;
        };
        sub.is_dirty = true;
        let topic = sub.topic;
        self.commits.dirty_subs.push_back(id);
        self.commits.save_soon(self.now.monotonic_ns);
        self.arm_tend(topic);
    }

    /// Schedules a save of a changed topic.
    pub(super) fn touch_topic(&mut self, id: TopicId) {
        let Some(topic) = self.loaded.topics.get_mut(id).filter(|topic| !topic.is_dirty) else {
            return;
        };
        topic.is_dirty = true;
        self.commits.dirty_topics.push_back(id);
        self.commits.save_soon(self.now.monotonic_ns);
    }
}
