//! The owner of all topics: takes requests, decides, and says what leaves.
//!
//! What it does is in the files beside: topics are loaded in `open`, connections become something in `opening` and get into
//! subscriptions in `join`; messages are appended in `producer`, acknowledged in `ack`, delivered in `dispatch`; `maintenance` does
//! what time brings, `inquiry` answers questions, and `work` does in slices what takes long. This file has what they share,
//! and the round: requests, work, commit, deliveries.

use super::ack::Letters;
use super::backlog::Asleep;
use super::consumer::{ConsumerId, TopicConsumer};
use super::loaded::{LoadedTopic, MessageCache, TopicId};
use super::matching::Created;
use super::opening::TopicOpening;
use super::owner_index::OwnerIndex;
use super::probe::Probes;
use super::producer::{ProducerId, SendRoute, TopicProducer};
use super::state::LogPlace;
use super::stats::{Counters, TopicCensus};
use super::subscription::{SubId, Subscription};
use super::transient::{Transient, TransientId};
use super::work::TopicWork;
use super::{
    Archive, ArchiveError, Cause, MessageId, Position, TopicAnswer, TopicOutgoing, TopicQuestion,
    TopicRefusal, TopicRules,
};
use crate::service::ConnectionRef;
use crate::wheel::Now;
use slab::Slab;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Milliseconds after a change within which it is saved; with the commit that follows it stays below a second.
const SAVE_LAG_NS: u64 = 500_000_000;

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
    pub(super) names: HashMap<Box<str>, TopicId, ahash::RandomState>,
    pub(super) topics: Slab<LoadedTopic>,
    pub(super) subs: Slab<Subscription>,
    pub(super) consumers: Slab<TopicConsumer>,
    pub(super) producers: Slab<TopicProducer>,
    pub(super) transient: Transient,
    pub(super) connections: HashMap<ConnectionRef, ConnectionRole, ahash::RandomState>,
    /// Connections that are in others' way, and are being looked at.
    pub(super) probes: Probes,
    pub(super) timers: Timers,
    pub(super) cache: MessageCache,
    pub(super) counters: Counters,
    /// Topics that are stored, loaded or not.
    pub(super) count: usize,
    /// Those of all owners.
    all_count: Arc<AtomicUsize>,
    /// After all positions of topics that were deleted in this run.
    pub(super) fresh: Position,
    /// Topics with subscriptions that are ready.
    pub(super) active: VecDeque<TopicId>,
    /// Subscriptions and topics to be saved.
    pub(super) dirty_subs: VecDeque<SubId>,
    pub(super) dirty_topics: VecDeque<TopicId>,
    pub(super) save_due_ns: Option<u64>,
    /// The partitioned topics of the rules, with their number of partitions.
    pub(super) partitioned: HashMap<Box<str>, u32, ahash::RandomState>,
    /// Topics that were created, as long as not all consumers of patterns have been looked at for them: no more than
    /// there may be topics.
    pub(super) created: VecDeque<Created>,
    /// Consumers of everything that matches.
    pub(super) matching: BTreeSet<ConsumerId>,
    /// Consumers of several owners in whose way nothing is here.
    pub(super) parked: HashMap<ConnectionRef, TopicOpening, ahash::RandomState>,
    /// Those whose turn it was to take of what they take of several owners.
    turns: Vec<ConsumerId>,
    /// What another owner stores for the dead letters.
    pub(super) letters: Letters,
    /// Readers of topics that are not there yet, by those.
    pub(super) awaited: HashMap<Box<str>, BTreeSet<ConsumerId>, ahash::RandomState>,
    /// What takes longer than others may wait, in the order of turns.
    pub(super) works: VecDeque<TopicWork>,
    /// Whether one of them has written something since one was done.
    pub(super) has_worked: bool,
    /// Consumers that are over and still have topics to leave.
    pub(super) leaving: usize,
    /// What is told when everything is committed.
    pub(super) answers: Vec<PendingAnswer>,
    /// Topics to which something was appended since the last commit.
    pub(super) appended: Vec<TopicId>,
    /// Messages that have gone to the dead letters since then.
    pub(super) dying: Vec<(SubId, Position)>,
    pub(super) is_uncommitted: bool,
    /// What is being made safe.
    sealed: Option<Sealed>,
    /// Why nothing more is stored.
    pub(super) broken: Option<Box<str>>,
    /// Counts what needs a name of its own.
    pub(super) serial: u64,
    /// What waits in topics that are not in memory.
    pub(super) asleep: Asleep,
    /// The last topic that the sweep has looked at.
    pub(super) swept: Box<str>,
    pub(super) out: Vec<TopicOutgoing>,
}

/// What a connection is.
#[derive(Clone, Copy, Debug)]
pub(super) enum ConnectionRole {
    Producer(ProducerId),
    Consumer(ConsumerId),
    Transient(TransientId),
    /// It waits for what becomes of this connection, whose place it wants.
    Waiting(ConnectionRef),
    /// Its topics are being looked at.
    Opening,
}

/// What time brings, and when (monotonic, ns).
pub(super) type Timers = BTreeSet<(u64, Timer)>;

/// What time brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Something happens to a pending message.
    Pending(SubId, Position),
    /// A delayed message is due, or what went wrong is tried again.
    Wake(SubId),
    /// A topic may have been idle for long enough.
    Idle(TopicId),
    /// A topic may have something to be given up.
    Tend(TopicId),
    /// Topics that are not loaded may have something to be given up.
    Sweep,
    /// A shard has not said in time whether this connection lives.
    Probe(ConnectionRef),
}

/// An answer that waits for the commit.
#[derive(Debug)]
pub(super) enum PendingAnswer {
    /// A message is stored.
    Stored {
        connection: ConnectionRef,
        id: MessageId,
        context: Option<Box<str>>,
        namespace: usize,
        since_ns: u64,
    },
    /// A message is not stored; only its place in the order of answers is kept.
    NotStored { connection: ConnectionRef, reason: Box<str>, context: Option<Box<str>> },
    /// A consumer is there, and its new subscription is to be safe.
    Opened(ConnectionRef),
    /// A connection can be none any more; it is told in the order of its other answers.
    Refused(ConnectionRef, TopicRefusal),
    /// Something was changed.
    Done(ConnectionRef),
}

/// What one commit makes safe, and what then leaves.
#[derive(Debug, Default)]
struct Sealed {
    /// Topics, with where they end.
    topics: Vec<(TopicId, LogPlace)>,
    answers: Vec<PendingAnswer>,
    dying: Vec<(SubId, Position)>,
}

impl<A: Archive> TopicOwner<A> {
    /// The topics of an archive.
    #[must_use]
    pub fn new(archive: A, rules: TopicRules, now: Now) -> Self {
        let mut topics = Self {
            owner: OwnerIndex::ONLY,
            archive,
            rules,
            now,
            wall_ms: now.unix_ms,
            names: HashMap::default(),
            topics: Slab::new(),
            subs: Slab::new(),
            consumers: Slab::new(),
            producers: Slab::new(),
            transient: Transient::default(),
            connections: HashMap::default(),
            probes: Probes::default(),
            timers: BTreeSet::new(),
            cache: MessageCache::default(),
            counters: Counters::default(),
            count: 0,
            all_count: Arc::default(),
            fresh: Position::FIRST,
            active: VecDeque::new(),
            dirty_subs: VecDeque::new(),
            dirty_topics: VecDeque::new(),
            save_due_ns: None,
            partitioned: HashMap::default(),
            created: VecDeque::new(),
            matching: BTreeSet::new(),
            parked: HashMap::default(),
            turns: Vec::new(),
            letters: Letters::default(),
            works: VecDeque::new(),
            has_worked: false,
            leaving: 0,
            awaited: HashMap::default(),
            answers: Vec::new(),
            appended: Vec::new(),
            dying: Vec::new(),
            is_uncommitted: false,
            sealed: None,
            broken: None,
            serial: 0,
            asleep: Asleep::default(),
            swept: "".into(),
            out: Vec::new(),
        };
        topics.know_partitioned();
        topics.begin();
        topics.all_count.store(topics.count, Relaxed);
        topics
    }

    /// The same, as one of several owners, who count all of their topics together.
    #[must_use]
    pub fn of(mut self, owner: OwnerIndex, all_count: &Arc<AtomicUsize>) -> Self {
        all_count.fetch_add(self.count, Relaxed);
        self.all_count = Arc::clone(all_count);
        self.owner = owner;
        self
    }

    /// Topics of all owners. Two that create some at the same time may each not know of the other's yet.
    pub(super) fn count_of_all(&self) -> usize {
        self.all_count.load(Relaxed)
    }

    /// There is one more.
    pub(super) fn count_one(&mut self) {
        self.count += 1;
        self.all_count.fetch_add(1, Relaxed);
    }

    /// There is one less.
    pub(super) fn count_one_less(&mut self) {
        self.count = self.count.saturating_sub(1);
        self.all_count.fetch_sub(1, Relaxed);
    }

    fn know_partitioned(&mut self) {
        let partitioned = self.rules.partitioned.iter();
        self.partitioned = partitioned.map(|(name, count)| (name.as_str().into(), *count)).collect();
    }

    /// Replaces the rules.
    pub fn configure(&mut self, rules: TopicRules) {
        self.rules = rules;
        self.know_partitioned();
        for (_, topic) in &mut self.topics {
            topic.quota_check_bytes = 0;
        }
    }

    /// The archive.
    pub fn archive(&mut self) -> &mut A {
        &mut self.archive
    }

    /// Takes a request of a connection. What it appends is in the archive afterwards, and is answered and delivered
    /// after [`TopicOwner::committed`].
    pub fn take(&mut self, connection: ConnectionRef, request: TopicQuestion, now: Now) {
        self.set_time(now);
        match request {
            TopicQuestion::Produce(_) | TopicQuestion::Consume(_) | TopicQuestion::Read(_)
                if self.connections.contains_key(&connection) =>
            {
                let reason = "the connection is a producer, consumer or reader already";
                self.refuse(connection, refusal(Cause::Invalid, reason));
            }
            TopicQuestion::Produce(_) | TopicQuestion::Consume(_) | TopicQuestion::Read(_) => {
                self.open(connection, request)
            }
            TopicQuestion::Send { draft, context } => self.send(connection, draft, context),
            TopicQuestion::Append(name, draft) => {
                self.append(
                    SendRoute { connection, context: None, label: None, producer: None },
                    &name,
                    draft,
                );
            }
            TopicQuestion::Inquire(inquiry) => self.inquire(connection, *inquiry),
            TopicQuestion::Renew(rights) => self.renew_rights(connection, rights),
            // That it has gone is told in its time, or has been.
            TopicQuestion::Probed { is_closing: true } => {}
            TopicQuestion::Probed { is_closing: false } => self.confirm(connection),
            TopicQuestion::Gone => self.leave(connection),
            TopicQuestion::Join => self.join_parked(connection),
            TopicQuestion::Buried { is_stored } => self.finish_letter(connection, is_stored),
            TopicQuestion::Turn
            | TopicQuestion::Ack(_)
            | TopicQuestion::Nack(_)
            | TopicQuestion::Permit(_)
            | TopicQuestion::Unsubscribe
            | TopicQuestion::AskEnd
            | TopicQuestion::Took => self.take_of_consumer(connection, &request),
        }
    }

    /// Whether something was appended since the last call of [`TopicOwner::seal`].
    #[must_use]
    pub fn has_uncommitted(&self) -> bool {
        self.is_uncommitted
    }

    /// What was appended since the last call is to be made safe, and the next call of [`TopicOwner::committed`] tells of it.
    /// What comes meanwhile waits for the call after that.
    pub fn seal(&mut self) {
        let mut sealed = self.sealed.take().unwrap_or_default();
        for id in std::mem::take(&mut self.appended) {
            if let Some(topic) = self.topics.get_mut(id) {
                topic.is_appended = false;
                topic.seals += 1;
                sealed.topics.push((id, topic.state.next));
            }
        }
        sealed.answers.append(&mut self.answers);
        sealed.dying.append(&mut self.dying);
        self.sealed = Some(sealed);
        self.is_uncommitted = false;
    }

    /// Everything that was sealed, or without that everything that was appended, is safe, or could not be made so for
    /// this reason: then it is not delivered and its producers are told.
    pub fn committed(&mut self, result: Result<(), &str>, now: Now) {
        self.set_time(now);
        if self.sealed.is_none() {
            self.seal();
        }
        let sealed = self.sealed.take().unwrap_or_default();
        if let Err(reason) = result {
            // What a failed sync has left on the disk is not known, so nothing more is appended to it.
            self.broken = Some(reason.into());
        }
        for (id, next) in sealed.topics {
            let Some(topic) = self.topics.get_mut(id) else { continue };
            topic.seals -= 1;
            if result.is_ok() && topic.visible.position < next.position {
                topic.visible = next;
                for sub in std::mem::take(&mut topic.tail_waiters) {
                    if let Some(waiter) = self.subs.get_mut(sub).filter(|waiter| waiter.topic == id) {
                        waiter.is_at_tail = false;
                        self.ready(sub);
                    }
                }
            }
        }
        self.finish_dying(sealed.dying, result.is_ok());
        for answer in sealed.answers {
            self.tell(answer, result);
        }
        self.cache.shrink(&mut self.topics, self.rules.cache_bytes);
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
            (PendingAnswer::NotStored { connection, reason, context }, _) => {
                (connection, TopicAnswer::NotStored { reason, context })
            }
            (PendingAnswer::Refused(connection, refusal), _) => (connection, TopicAnswer::Refused(refusal)),
            // It has been ended meanwhile, and is told so.
            (PendingAnswer::Opened(connection), _) if !self.connections.contains_key(&connection) => return,
            (PendingAnswer::Opened(connection), Ok(())) => {
                if let Some(ConnectionRole::Consumer(id)) = self.connections.get(&connection).copied()
                    && let Some(consumer) = self.consumers.get_mut(id)
                {
                    consumer.tell();
                    self.unblock(id);
                    self.wake(id);
                }
                (connection, TopicAnswer::Opened)
            }
            (PendingAnswer::Opened(connection), Err(reason)) => {
                self.leave(connection);
                (connection, TopicAnswer::Refused(refusal(Cause::Broken, reason)))
            }
            (PendingAnswer::Done(connection), Ok(())) => {
                (connection, TopicAnswer::Answer(200, b"{}"[..].into()))
            }
            (PendingAnswer::Done(connection), Err(reason)) => {
                (connection, TopicAnswer::Answer(503, reason.as_bytes().into()))
            }
        };
        self.out.push(TopicOutgoing::Reply(connection, reply));
    }

    /// Writing works again after a failure, and everything that was appended before is safe: it is delivered now, although
    /// its producers were told that it might not be stored. What has changed since is saved before long.
    pub fn recovered(&mut self, now: Now) {
        self.set_time(now);
        self.broken = None;
        let topics: Vec<TopicId> = self.topics.iter().map(|(id, _)| id).collect();
        for id in topics {
            let Some(topic) = self.topics.get_mut(id) else { continue };
            topic.visible = topic.state.next;
            let subs: Vec<SubId> = topic.subs.values().copied().collect();
            for sub in std::mem::take(&mut topic.tail_waiters) {
                if let Some(waiter) = self.subs.get_mut(sub).filter(|waiter| waiter.topic == id) {
                    waiter.is_at_tail = false;
                    self.ready(sub);
                }
            }
            self.touch_topic(id);
            subs.into_iter().for_each(|sub| self.touch(sub));
        }
    }

    /// A topic is deleted: nothing more is to come of what was appended to it but the answers.
    pub(super) fn forget_uncommitted(&mut self, id: TopicId) {
        self.appended.retain(|appended| *appended != id);
        if let Some(sealed) = &mut self.sealed {
            sealed.topics.retain(|(sealed, _)| *sealed != id);
        }
    }

    /// A subscription is no more, and its number may be another's.
    pub(super) fn forget_dying(&mut self, id: SubId) {
        self.dying.retain(|(dying, _)| *dying != id);
        if let Some(sealed) = &mut self.sealed {
            sealed.dying.retain(|(dying, _)| *dying != id);
        }
    }

    /// What there is, and what has become of messages.
    #[must_use]
    pub fn census(&self) -> TopicCensus {
        TopicCensus {
            topics: self.count as u64,
            loaded: self.topics.len() as u64,
            producers: self.producers.len() as u64,
            consumers: self.consumers.len() as u64,
            ..self.counters.total
        }
    }

    /// When [`TopicOwner::tick`] is to be called next, on the monotonic clock (ns).
    #[must_use]
    pub fn next_tick_ns(&self) -> Option<u64> {
        let timer = self.timers.first().map(|(at_ns, _)| *at_ns);
        [timer, self.save_due_ns].into_iter().flatten().min()
    }

    /// What leaves since the last call, in order.
    pub fn take_outgoing(&mut self) -> Vec<TopicOutgoing> {
        self.tell_certain();
        for id in std::mem::take(&mut self.turns) {
            self.pass(id);
        }
        std::mem::take(&mut self.out)
    }

    /// Tells the answers that wait, if nothing that they depend on waits for a commit.
    pub(super) fn tell_certain(&mut self) {
        if !self.is_uncommitted && self.sealed.is_none() {
            for answer in std::mem::take(&mut self.answers) {
                self.tell(answer, Ok(()));
            }
        }
    }

    /// Takes note of the time, which does not go back.
    pub(super) fn set_time(&mut self, now: Now) {
        let passed_ms = (now.monotonic_ns / 1_000_000).saturating_sub(self.now.monotonic_ns / 1_000_000);
        self.now.monotonic_ns = self.now.monotonic_ns.max(now.monotonic_ns);
        self.now.unix_ms = now.unix_ms.max(self.now.unix_ms.saturating_add(passed_ms));
        self.wall_ms = now.unix_ms;
    }

    /// Has a timer go off after so many nanoseconds.
    pub(super) fn arm(&mut self, after_ns: u64, timer: Timer) {
        self.timers.insert((self.now.monotonic_ns.saturating_add(after_ns), timer));
    }

    /// Has a subscription woken after so many nanoseconds, or sooner.
    pub(super) fn arm_wake(&mut self, after_ns: u64, id: SubId) {
        let at_ns = self.now.monotonic_ns.saturating_add(after_ns);
        if let Some(sub) = self.subs.get_mut(id) {
            sub.wake_at(id, at_ns, &mut self.timers);
        }
    }

    pub(super) fn reply(&mut self, connection: ConnectionRef, reply: TopicAnswer) {
        self.out.push(TopicOutgoing::Reply(connection, reply));
    }

    /// Answers a question, or says why not.
    pub(super) fn answer(&mut self, connection: ConnectionRef, status: u16, body: &[u8]) {
        self.reply(connection, TopicAnswer::Answer(status, body.into()));
    }

    pub(super) fn refuse(&mut self, connection: ConnectionRef, refusal: TopicRefusal) {
        self.reply(connection, TopicAnswer::Refused(refusal));
    }

    /// A subscription has perhaps something to deliver.
    pub(super) fn ready(&mut self, id: SubId) {
        let Some(sub) = self.subs.get_mut(id) else { return };
        let Some(topic) = self.topics.get_mut(sub.topic) else { return };
        if sub.is_ready || sub.members.is_empty() || topic.is_gone {
            return;
        }
        sub.is_ready = true;
        topic.ready.push_back(id);
        if !topic.is_active {
            topic.is_active = true;
            self.active.push_back(sub.topic);
        }
    }

    /// A consumer may take more than before, or another owner has its turn to deliver to it.
    pub(super) fn wake(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.get(id) else { return };
        let Some(window) = consumer.window() else {
            if consumer.has_room() {
                self.unblock(id);
            }
            return;
        };
        let (connection, next) = (consumer.connection, window.next());
        match next {
            Some(owner) if owner == self.owner.index() => self.take_turn(id),
            Some(owner) => self.out.push(TopicOutgoing::Ask(owner, connection, TopicQuestion::Turn)),
            None => {}
        }
    }

    /// It is this owner's turn to deliver to a consumer of several; when it has done so it passes.
    pub(super) fn take_turn(&mut self, id: ConsumerId) {
        self.turns.push(id);
        self.unblock(id);
    }

    fn pass(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.get(id) else { return };
        let next = consumer.window().and_then(|window| window.pass(self.owner.index()));
        // Also to itself: what it takes then is of the next round.
        self.out
            .extend(next.map(|owner| TopicOutgoing::Ask(owner, consumer.connection, TopicQuestion::Turn)));
    }

    /// Subscriptions that have waited until a consumer takes more try again.
    fn unblock(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.get_mut(id) else { return };
        for sub_id in std::mem::take(&mut consumer.blocked) {
            let Some(sub) = self.subs.get_mut(sub_id) else { continue };
            if let Some(member) = sub.members.iter_mut().find(|member| member.consumer == id) {
                member.is_blocked = false;
                self.ready(sub_id);
            }
        }
    }

    /// A subscription has changed, and is to be saved before long.
    pub(super) fn touch(&mut self, id: SubId) {
        let Some(sub) = self.subs.get_mut(id).filter(|sub| sub.durable && !sub.is_dirty) else { return };
        sub.is_dirty = true;
        let topic = sub.topic;
        self.dirty_subs.push_back(id);
        self.save_soon();
        self.arm_tend(topic);
    }

    /// A topic's state has changed, and is to be saved before long.
    pub(super) fn touch_topic(&mut self, id: TopicId) {
        let Some(topic) = self.topics.get_mut(id).filter(|topic| !topic.is_dirty) else { return };
        topic.is_dirty = true;
        self.dirty_topics.push_back(id);
        self.save_soon();
    }

    pub(super) fn save_soon(&mut self) {
        self.save_due_ns.get_or_insert(self.now.monotonic_ns.saturating_add(SAVE_LAG_NS));
    }
}

/// Why not.
pub(super) fn refusal(cause: Cause, reason: &str) -> TopicRefusal {
    TopicRefusal { cause, reason: reason.into() }
}

impl From<ArchiveError> for TopicRefusal {
    fn from(fault: ArchiveError) -> Self {
        Self { cause: Cause::Broken, reason: fault.0 }
    }
}
