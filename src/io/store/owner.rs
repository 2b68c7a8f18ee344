//! The thread that owns the durable topics, and its rounds.
//!
//! A round takes the queued requests, lets the topics decide, makes everything appended safe with
//! one sync of the disk, then confirms to producers and delivers. Requests that arrive during the
//! sync form the next group.

use super::archive::Disk;
use super::callers::{Callers, NO_SHARD};
use super::handle::{FrozenReply, OutsideRequest, StoreMessage, StoreRequest};
use super::log::Unsynced;
use super::settings::StoreSettings;
use super::survey::Surveyor;
use crate::dialect::{self, Kind};
use crate::io::Hub;
use crate::io::clock;
use crate::io::gaps::GapSource;
use crate::io::handoff::Parcel;
use crate::io::pulse::{BEAT, owner_thread};
use crate::service::Answer;
use crate::service::NewRefs;
use crate::service::Service as _;
use crate::service::topic::{
    FrozenTopics, OwnerIndex, TopicAnswer, TopicDelivery, TopicOutgoing, TopicOwner, TopicQuestion,
    TopicRules,
};
use crate::wheel::Now;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Requests handled before the thread checks whether the disk is ready for the next group.
const ROUND_REQUESTS_MAX: usize = 32;
/// Bytes delivered before requests are handled again.
const ROUND_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Pause before the store checks again whether a shard has room.
const ROOM_PAUSE: Duration = Duration::from_millis(1);
/// Duration of a sync after which readiness reports it: a merely slow disk takes less than a
/// second.
const SYNC_MAX: Duration = Duration::from_secs(10);

/// What the owners of the process before have passed, by owner, and the connections in it.
#[derive(Debug, Default)]
pub(in crate::io) struct PassedTopics {
    pub(in crate::io) owners: Vec<FrozenTopics>,
    pub(in crate::io) refs: Arc<NewRefs>,
}

/// Starts the threads of the owners of an open store, which take over what was passed.
///
/// # Errors
/// When a thread cannot be started.
pub(in crate::io) fn start(
    hub: &Arc<Hub>,
    settings: &StoreSettings,
    dialects: &dialect::Settings,
    disks: Vec<Disk>,
    passed: PassedTopics,
) -> io::Result<()> {
    let (now, count) = (clock::now(), Arc::default());
    let owners = OwnerIndex::all(hub.store.owners());
    let mut passed_owners = passed.owners.into_iter();
    for (owner, disk) in owners.zip(disks) {
        let metrics = hub.owner_metrics(owner.index());
        let rules = TopicRules { cache_bytes: settings.cache_share(), ..dialects.topic_rules() };
        let mut topics =
            TopicOwner::new(disk.counting(Arc::clone(metrics)), rules, now).of(owner, &count);
        let mut out = Vec::new();
        if let Some(frozen) = passed_owners.next() {
            topics.thaw(frozen, &passed.refs, now, &mut out);
        }
        spawn(hub, owner.index(), topics, out)?;
    }
    Ok(())
}

/// Starts the thread of the owner with this index, and the one that syncs for it.
///
/// # Errors
/// When a thread cannot be started.
fn spawn(
    hub: &Arc<Hub>,
    index: usize,
    topics: TopicOwner<Disk>,
    out: Vec<TopicOutgoing>,
) -> io::Result<()> {
    let (syncer, taken) = mpsc::channel::<Unsynced>();
    let for_syncer = Arc::clone(hub);
    std::thread::Builder::new().name(owner_thread("sync", index)).spawn(move || {
        for unsynced in taken {
            let result = unsynced.sync();
            for_syncer.store.inboxes[index].control.post([StoreMessage::Synced(result)]);
        }
    })?;
    let for_thread = Arc::clone(hub);
    hub.store.inboxes[index].start();
    let spawned = std::thread::Builder::new().name(owner_thread("store", index)).spawn(move || {
        // However the thread ends, other threads have to notice.
        let mark = EndMark(for_thread, index);
        mark.0.store.inboxes[index].bind();
        OwnerThread { out, ..OwnerThread::new(&mark.0, index, topics, &syncer) }.run();
    });
    spawned.map(|_| ()).inspect_err(|_| hub.store.inboxes[index].end())
}

/// Marks the thread as ended when dropped.
struct EndMark(Arc<Hub>, usize);

impl Drop for EndMark {
    fn drop(&mut self) {
        self.0.store.inboxes[self.1].end();
        self.0.pulses.store[self.1].end();
    }
}

/// How far a thread has come to rest for a hand-over.
enum OwnerRest {
    /// It works.
    None,
    /// It delivers nothing more, and answers what it was asked.
    Begun(FrozenReply),
    /// It has told what it knows, and keeps what it is asked from outside for when it goes on: one
    /// request at most of each who asks, as each waits for its answer.
    Frozen(Vec<OutsideRequest>),
}

/// The state of an owner's thread.
struct OwnerThread<'a> {
    hub: &'a Hub,
    index: usize,
    topics: TopicOwner<Disk>,
    syncer: &'a mpsc::Sender<Unsynced>,
    /// Requests of connections taken from the inbox and not handled yet.
    requests: VecDeque<StoreRequest>,
    callers: Callers,
    surveyor: Surveyor,
    /// When the sync in progress began.
    syncing_since: Option<Instant>,
    /// Whether it was reported as too long.
    is_late_reported: bool,
    /// Whether this is the last round.
    is_stopping: bool,
    /// How far it is with a hand-over.
    rest: OwnerRest,
    out: Vec<TopicOutgoing>,
}

impl<'a> OwnerThread<'a> {
    fn new(
        hub: &'a Hub,
        index: usize,
        topics: TopicOwner<Disk>,
        syncer: &'a mpsc::Sender<Unsynced>,
    ) -> Self {
        Self {
            hub,
            index,
            topics,
            syncer,
            requests: VecDeque::new(),
            callers: Callers::default(),
            surveyor: Surveyor::new(),
            syncing_since: None,
            is_late_reported: false,
            is_stopping: false,
            rest: OwnerRest::None,
            out: Vec::new(),
        }
    }

    fn disk(&mut self) -> &mut Disk {
        self.topics.archive()
    }

    /// Runs rounds until the daemon stops.
    fn run(mut self) {
        // A disk that is full at the start is reported before the first request.
        self.disk().look();
        self.report();
        let (mut messages, mut has_more) = (VecDeque::new(), false);
        loop {
            if !has_more {
                self.sleep();
            }
            let now = clock::now();
            self.hub.pulses.store[self.index].beat(now);
            self.disk().look();
            // Before new requests, so that they find the store working again.
            if self.disk().has_healed() {
                self.topics.recovered(now);
            }

            // Control messages first: there are few, and they have limits of their own.
            self.hub.store.inboxes[self.index].control.take(&mut messages);
            messages.drain(..).for_each(|message| self.take(message, now));
            self.decide(now);
            // What is due waits for the end of a hand-over.
            if !self.is_frozen() {
                self.topics.tick(now, &mut self.out);
            }
            let has_work = self.topics.work(now, &mut self.out);

            // One sync at a time: requests that arrive meanwhile form the next group.
            let is_uncommitted = self.topics.has_uncommitted() || self.disk().wants_commit();
            if is_uncommitted && self.syncing_since.is_none() {
                self.commit();
            }
            self.disk().settle();
            self.answer_outside();
            self.report();
            let has_room = self.hub.all_have_room();
            let delivers = has_room && matches!(self.rest, OwnerRest::None);
            has_more = delivers && self.topics.deliver(ROUND_BYTES_MAX, now, &mut self.out)
                || has_work
                || self.surveyor.is_busy()
                || !self.requests.is_empty() && !self.is_frozen();
            self.post();
            self.freeze();
            let census = self.topics.census();
            self.disk().metrics().store.census(&census);
            if self.is_stopping {
                return self.finish();
            }
            // A full shard makes room in its own turn, which does not wake this thread.
            if !has_room {
                std::thread::sleep(ROOM_PAUSE);
                has_more = true;
            }
        }
    }

    /// Waits until there is something to do.
    fn sleep(&mut self) {
        let inboxes = &self.hub.store.inboxes[self.index];
        let watch = self.surveyor.due().min(self.disk().present_due());
        while inboxes.sleep() {
            let now = clock::now();
            self.hub.pulses.store[self.index].beat(now);
            let due = self.topics.next_at_ns().filter(|_| !self.is_frozen());
            let due = due.map(|at_ns| at_ns.saturating_sub(now.monotonic_ns));
            let due = due.map_or(Duration::from_secs(3600), Duration::from_nanos);
            let disk = self.disk().due().map_or(watch, |due| due.min(watch));
            let wait = due.min(disk.saturating_duration_since(Instant::now()));
            if wait.is_zero() || self.is_late() != self.is_late_reported {
                break;
            }
            // At most a beat, so that a waiting thread is distinguished from one that hangs.
            std::thread::park_timeout(wait.min(BEAT));
        }
        // Before the inboxes are read: posts during the round need no system call.
        inboxes.mark_awake();
    }

    fn is_frozen(&self) -> bool {
        matches!(self.rest, OwnerRest::Frozen(_))
    }

    /// Tells what the next process has to know, once nothing is under way.
    fn freeze(&mut self) {
        let OwnerRest::Begun(reply) = &self.rest else { return };
        let inbox = &self.hub.store.inboxes[self.index].requests;
        if self.requests.is_empty()
            && inbox.depth() == 0
            && self.syncing_since.is_none()
            && self.topics.is_at_rest()
        {
            // Who has asked may have given up; then the word to go on follows.
            let _ = reply.send((self.index, self.topics.freeze()));
            self.rest = OwnerRest::Frozen(Vec::new());
        }
    }

    /// Goes on after a freeze.
    fn resume(&mut self, now: Now) {
        if let OwnerRest::Frozen(kept) = std::mem::replace(&mut self.rest, OwnerRest::None) {
            kept.into_iter().for_each(|outside| self.take(StoreMessage::Outside(outside), now));
        }
    }

    /// Handles a control message.
    fn take(&mut self, message: StoreMessage, now: Now) {
        match message {
            StoreMessage::Owner(connection, request) => {
                self.topics.ask(connection, request, now, &mut self.out);
            }
            StoreMessage::Outside(outside) if let OwnerRest::Frozen(kept) = &mut self.rest => {
                kept.push(outside);
            }
            StoreMessage::Outside(outside) => {
                for (connection, request) in self.callers.requests(outside) {
                    self.topics.ask(connection, request, now, &mut self.out);
                }
            }
            StoreMessage::Rules(rules) => {
                let cache_bytes = self.disk().settings.cache_share();
                self.topics.configure(TopicRules { cache_bytes, ..rules });
            }
            StoreMessage::Synced(result) => {
                self.syncing_since = None;
                let result = self.disk().commit_ended(result);
                self.conclude(&result);
            }
            StoreMessage::Freeze(reply) => self.rest = OwnerRest::Begun(reply),
            StoreMessage::Resume => self.resume(now),
            StoreMessage::Stop => self.is_stopping = true,
        }
    }

    /// Lets the topics handle some requests of connections; all of them before a stop, so that none
    /// is lost.
    fn decide(&mut self, now: Now) {
        if self.requests.is_empty() || self.is_stopping || self.is_frozen() {
            self.hub.store.inboxes[self.index].requests.take(&mut self.requests);
        }
        // What another process is told must stay true; that one has the connections then.
        if self.is_frozen() {
            return;
        }
        let most = if self.is_stopping { usize::MAX } else { ROUND_REQUESTS_MAX };
        for (connection, request) in self.requests.drain(..most.min(self.requests.len())) {
            self.topics.ask(connection, request, now, &mut self.out);
        }
    }

    /// Begins to make all writes safe, or does it at once.
    fn commit(&mut self) {
        // Sealed before the sync begins, so that later writes are not announced along with it.
        self.topics.seal();
        let result = match self.disk().begin_commit() {
            Ok(Some(unsynced)) => match self.syncer.send(unsynced) {
                Ok(()) => {
                    self.syncing_since = Some(Instant::now());
                    return;
                }
                // The syncing thread is gone, so this one syncs.
                Err(mpsc::SendError(unsynced)) => {
                    let result = unsynced.sync();
                    self.disk().commit_ended(result)
                }
            },
            Ok(None) => Ok(()),
            Err(reason) => Err(reason),
        };
        self.conclude(&result);
    }

    /// Announces the outcome of a commit to the topics.
    fn conclude(&mut self, result: &Result<(), Box<str>>) {
        let result = result.as_ref().copied().map_err(|reason| &**reason);
        self.topics.committed(result, clock::now(), &mut self.out);
    }

    /// Answers requests for backups and surveys.
    fn answer_outside(&mut self) {
        // After `settle`, so that a backup includes everything decided in this round.
        for sender in self.callers.backups.drain(..) {
            self.topics.save(clock::now());
            // The asker may be gone.
            let _ = sender.send(self.topics.archive().copier());
        }
        self.surveyor.watch(self.topics.archive(), &self.hub.store.largest, self.index);
        for sender in self.callers.surveys.drain(..) {
            let _ = sender.send(self.surveyor.survey(&mut self.topics));
        }
    }

    /// Whether the sync in progress takes too long.
    fn is_late(&self) -> bool {
        self.syncing_since.is_some_and(|since| since.elapsed() > SYNC_MAX)
    }

    /// Reports to readiness whether messages are accepted and stored.
    fn report(&mut self) {
        let late = "the disk does not answer: a sync of the store has taken more than 10 s, and \
                    producers are waiting for it";
        let is_late = self.is_late();
        match (is_late, self.is_late_reported) {
            (true, false) => tracing::error!("{late}"),
            (false, true) => {
                tracing::warn!("the disk answers again: the sync of the store is over");
            }
            _ => {}
        }
        self.is_late_reported = is_late;

        match self.topics.archive().refusal().or(is_late.then_some(late)) {
            Some(reason) => {
                let kinds: Vec<Kind> =
                    Kind::ALL.iter().copied().filter(|kind| kind.has_topics()).collect();
                self.hub.gaps.begin(GapSource::Store(self.index), &kinds, reason);
            }
            None => self.hub.gaps.end(GapSource::Store(self.index)),
        }
    }

    /// Saves everything before the thread ends, and announces the outcome.
    fn finish(mut self) {
        self.topics.save(clock::now());
        let result = self.disk().save_to_disk();
        if let Err(reason) = &result {
            tracing::error!(
                "the store could not be saved on shutdown: {reason}; the next start \
                 recovers from its log"
            );
        }
        // Twice: for the commit in progress, and for the writes made during it.
        self.conclude(&result);
        self.conclude(&result);
        self.post();
    }

    /// Posts the output to the shards, each in order.
    fn post(&mut self) {
        let hub = self.hub;
        let mut parcels: Vec<Vec<Parcel>> = hub.mailboxes.iter().map(|_| Vec::new()).collect();
        for outgoing in self.out.drain(..) {
            match outgoing {
                TopicOutgoing::Reply(connection, reply) if connection.shard == NO_SHARD => {
                    self.callers.answer(connection.id, reply);
                }
                TopicOutgoing::Reply(connection, reply)
                    if let Some(owner) = OwnerIndex::of_connection(connection) =>
                {
                    let is_stored = matches!(reply, TopicAnswer::Stored { .. });
                    hub.store.ask_owner(owner, connection, TopicQuestion::Buried { is_stored });
                }
                TopicOutgoing::Ask(owner, connection, request) => {
                    hub.store.ask_owner(owner, connection, request);
                }
                TopicOutgoing::Reply(connection, reply) => parcels[usize::from(connection.shard)]
                    .push(Parcel::Answer(connection, Answer::Topic(reply))),
                TopicOutgoing::Deliver(message, recipient) => {
                    let parcels = &mut parcels[usize::from(recipient.connection.shard)];
                    match parcels.last_mut() {
                        Some(Parcel::Delivery(last)) if Arc::ptr_eq(&last.message, &message) => {
                            last.recipients.push(recipient);
                        }
                        _ => parcels.push(Parcel::Delivery(TopicDelivery {
                            message,
                            recipients: vec![recipient],
                        })),
                    }
                }
            }
        }
        let filled = parcels.into_iter().enumerate().filter(|(_, parcels)| !parcels.is_empty());
        filled.for_each(|(shard, parcels)| hub.post(shard, parcels));
    }
}
