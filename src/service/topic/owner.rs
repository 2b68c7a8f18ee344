//! The owner of topics: takes questions, decides, and says what leaves.
//!
//! This file has what its parts share, and the round: questions, work, commit, deliveries. The parts are in the files
//! beside: `load` brings topics into memory, `admission` makes connections producers, consumers and readers, `join` takes
//! them into subscriptions; `publish` appends messages, `dispatch` delivers them, `ack` settles them; `maintenance` does
//! what time brings, `admin` answers operators.

use super::catalog::TopicCatalog;
use super::commits::{Commits, PendingAnswer};
use super::handles::{ConsumerId, SubId, TopicId};
use super::letters::DeadLetters;
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

/// All topics, or those of one of several owners, of which it decides alone.
pub struct TopicOwner<A> {
    pub(super) owner: OwnerIndex,
    pub(super) archive: A,
    pub(super) rules: TopicRules,
    /// The time of the last call. That of the world does not go back here: when its clock does, it goes on from the
    /// highest that was seen.
    pub(super) now: Now,
    /// What the clock of the world says, by which messages expire: none before its time, whatever the clock did.
    pub(super) wall_ms: u64,
    pub(super) catalog: TopicCatalog,
    pub(super) loaded: LoadedTopics,
    pub(super) peers: Peers,
    pub(super) commits: Commits,
    pub(super) works: Works<A>,
    pub(super) counters: Counters,
    pub(super) letters: DeadLetters,
    /// Counts what needs a name of its own.
    pub(super) serial: u64,
    out: Vec<TopicOutgoing>,
}

/// Work in progress.
pub(super) struct Works<A> {
    /// In the order of turns.
    pub(super) queue: VecDeque<TopicWork<A>>,
    /// Whether one has written something since one was done.
    has_written: bool,
}

/// Does a slice of a work that takes longer than others may wait.
pub(super) type TopicWork<A> =
    Box<dyn FnMut(&mut TopicOwner<A>, &mut Slice) -> WorkProgress + Send>;

impl<A: Archive> Service for TopicOwner<A> {
    type Question = TopicQuestion;
    type Out<'a> = Vec<TopicOutgoing>;

    /// Takes a question of a connection. What it appends is in the archive afterwards, and is answered and delivered
    /// after [`TopicOwner::committed`].
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
            // That it has gone is told in its time, or has been.
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

    /// Does what is due by the time: redeliveries, delayed messages, expiry, saving.
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
    /// The topics of an archive.
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
            letters: DeadLetters::default(),
            serial: 0,
            out: Vec::new(),
        };
        owner.arm(IDLE_NS, Timer::Sweep);
        owner
    }

    /// Makes it one of several owners, who count all of their topics together.
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

    /// Does a slice of the work in progress. Returns whether there is more.
    pub fn work(&mut self, now: Now, out: &mut Vec<TopicOutgoing>) -> bool {
        self.set_time(now);
        // Taken out while it runs, because it changes everything else.
        let Some(mut work) = self.works.queue.pop_front() else { return false };
        // What it writes has to be safe only when it is done: a commit for every slice would take longer than the work.
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

    /// Delivers, as far as consumers take more, at most so many bytes. Returns whether there is more to deliver.
    pub fn deliver(&mut self, bytes_max: usize, now: Now, out: &mut Vec<TopicOutgoing>) -> bool {
        self.set_time(now);
        // Connections are told first that they are open.
        self.tell_certain();
        let has_more = self.dispatch(bytes_max);
        for id in std::mem::take(&mut self.peers.turns) {
            self.pass_turn(id);
        }
        self.drain(out);
        has_more
    }

    /// Whether something was appended since the last call of [`TopicOwner::seal`].
    #[must_use]
    pub fn has_uncommitted(&self) -> bool {
        self.commits.is_uncommitted
    }

    /// What was appended since the last call is to be made safe, and the next call of [`TopicOwner::committed`] tells of it.
    /// What comes meanwhile waits for the call after that.
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

    /// Everything that was sealed, or without that everything that was appended, is safe, or could not be made so for
    /// this reason: then it is not delivered and its producers are told.
    pub fn committed(&mut self, result: Result<(), &str>, now: Now, out: &mut Vec<TopicOutgoing>) {
        self.set_time(now);
        if self.commits.sealed.is_none() {
            self.seal();
        }
        let sealed = self.commits.sealed.take().unwrap_or_default();
        if let Err(reason) = result {
            // What a failed sync has left on the disk is not known, so nothing more is appended to it.
            self.commits.broken = Some(reason.into());
        }
        for (id, next) in sealed.topics {
            // It was deleted while the disk worked.
            let Some(topic) = self.loaded.topics.get_mut(id) else { continue };
            topic.seals -= 1;
            // A later commit may be told first, after a failure.
            if result.is_ok() && topic.visible.position < next.position {
                topic.visible = next;
                self.loaded.wake_tail(id);
            }
        }
        self.finish_dying(sealed.dying, result.is_ok());
        for answer in sealed.answers {
            self.tell(answer, result);
        }
        self.loaded.shrink_cache(self.rules.cache_bytes);
        self.drain(out);
    }

    fn tell(&mut self, answer: PendingAnswer, result: Result<(), &str>) {
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
            // It has been ended meanwhile, and is told so.
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
                    consumer.tell();
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

    /// Tells the answers that wait, if nothing that they depend on waits for a commit.
    fn tell_certain(&mut self) {
        // Answers keep their order: what depends on no commit waits behind what does.
        if self.commits.is_idle() {
            for answer in std::mem::take(&mut self.commits.answers) {
                self.tell(answer, Ok(()));
            }
        }
    }

    /// Writing works again after a failure, and everything that was appended before is safe: it is delivered now, although
    /// its producers were told that it might not be stored. What has changed since is saved before long.
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

    /// What there is, and what has become of messages.
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

    fn drain(&mut self, out: &mut Vec<TopicOutgoing>) {
        self.tell_certain();
        out.append(&mut self.out);
    }

    /// Takes note of the time, which does not go back.
    pub(super) fn set_time(&mut self, now: Now) {
        let passed_ms =
            (now.monotonic_ns / 1_000_000).saturating_sub(self.now.monotonic_ns / 1_000_000);
        self.now.monotonic_ns = self.now.monotonic_ns.max(now.monotonic_ns);
        self.now.unix_ms = now.unix_ms.max(self.now.unix_ms.saturating_add(passed_ms));
        self.wall_ms = now.unix_ms;
    }

    /// The monotonic time (ns) after so many nanoseconds.
    pub(super) fn after(&self, ns: u64) -> u64 {
        self.now.monotonic_ns.saturating_add(ns)
    }

    /// Sets a timer.
    pub(super) fn arm(&mut self, after_ns: u64, timer: Timer) {
        self.loaded.timers.insert((self.after(after_ns), timer));
    }

    /// Does a work at once, or in slices between the questions of others, unless too many do.
    pub(super) fn run(
        &mut self,
        at_once: bool,
        mut work: impl FnMut(&mut Self, &mut Slice) -> WorkProgress + Send + 'static,
    ) -> Result<(), TopicRefusal> {
        if at_once {
            while work(self, &mut Slice::whole()) == WorkProgress::More {}
        } else if self.works.queue.len() >= WORKS_MAX {
            let reason = "the store has too much to do at once: try again in some seconds";
            return Err(Cause::TooMany.because(reason));
        } else {
            self.works.queue.push_back(Box::new(work));
        }
        Ok(())
    }

    /// Does a work that no limit holds back: it follows from what is over already.
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

    /// A consumer may take more than before, or another owner has its turn to deliver to it.
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

    /// It is this owner's turn to deliver to a consumer of several; when it has done so it passes.
    pub(super) fn take_turn(&mut self, id: ConsumerId) {
        self.peers.turns.push(id);
        self.unblock(id);
    }

    fn pass_turn(&mut self, id: ConsumerId) {
        let Some(consumer) = self.peers.consumers.get(id) else { return };
        let next = consumer.window().and_then(|window| window.pass(self.owner.index()));
        // Also to itself: what it takes then is of the next round.
        self.out.extend(
            next.map(|owner| TopicOutgoing::Ask(owner, consumer.connection, TopicQuestion::Turn)),
        );
    }

    /// Subscriptions that have waited until a consumer takes more try again.
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

    /// A subscription has changed, and is to be saved before long.
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

    /// A topic's state has changed, and is to be saved before long.
    pub(super) fn touch_topic(&mut self, id: TopicId) {
        let Some(topic) = self.loaded.topics.get_mut(id).filter(|topic| !topic.is_dirty) else {
            return;
        };
        topic.is_dirty = true;
        self.commits.dirty_topics.push_back(id);
        self.commits.save_soon(self.now.monotonic_ns);
    }
}
