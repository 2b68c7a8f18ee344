//! The thread that owns the durable topics: its rounds.
//!
//! A round takes what waits, lets the topics decide, makes everything that was appended safe with one sync of the disk,
//! then tells the producers and delivers. While the disk works, more comes in: that is the next group.

use super::archive::Disk;
use super::handle::{Outside, StoreMessage, StoreRequest};
use super::log::Unsynced;
use super::settings::StoreSettings;
use super::survey::Surveyor;
use super::waiting::{NO_SHARD, Waiting};
use crate::dialect::{self, Kind};
use crate::io::Hub;
use crate::io::clock;
use crate::io::gaps::GapSource;
use crate::io::handoff::Parcel;
use crate::io::pulse::{BEAT, owner_thread};
use crate::service::Answer;
use crate::service::Service as _;
use crate::service::topic::{
    OwnerIndex, TopicAnswer, TopicDelivery, TopicOutgoing, TopicOwner, TopicQuestion, TopicRules,
};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Requests that are decided on before the thread looks whether the disk is ready for the next group.
const ROUND_REQUESTS_MAX: usize = 32;
/// Bytes that are delivered before requests are looked at again.
const ROUND_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long the store waits before it looks again whether a shard has room.
const ROOM_PAUSE: Duration = Duration::from_millis(1);
/// How long a sync of the disk may last before readiness tells of it: a disk that is only slow takes less than a second.
const SYNC_MAX: Duration = Duration::from_secs(10);

/// Starts the threads of the owners of an open store.
///
/// # Errors
/// When a thread cannot be had.
pub(in crate::io) fn start(
    hub: &Arc<Hub>,
    settings: &StoreSettings,
    dialects: &dialect::Settings,
    disks: Vec<Disk>,
) -> io::Result<()> {
    let (now, count) = (clock::now(), Arc::default());
    let owners = OwnerIndex::all(hub.store.owners());
    for (owner, disk) in owners.zip(disks) {
        let metrics = &hub.metrics[hub.mailboxes.len() + 1 + owner.index()];
        let rules = TopicRules { cache_bytes: settings.cache_share(), ..dialects.topic_rules() };
        let topics =
            TopicOwner::new(disk.counting(Arc::clone(metrics)), rules, now).of(owner, &count);
        spawn(hub, owner.index(), topics)?;
    }
    Ok(())
}

/// Starts the thread of the owner with this index, and the one that syncs for it.
///
/// # Errors
/// When a thread cannot be had.
fn spawn(hub: &Arc<Hub>, index: usize, topics: TopicOwner<Disk>) -> io::Result<()> {
    let (syncer, taken) = mpsc::channel::<Unsynced>();
    let for_syncer = Arc::clone(hub);
    std::thread::Builder::new().name(owner_thread("sync", index)).spawn(move || {
        for unsynced in taken {
            let result = unsynced.sync();
            for_syncer.store.posts[index].control.post([StoreMessage::Synced(result)]);
        }
    })?;
    let for_thread = Arc::clone(hub);
    hub.store.posts[index].start();
    let spawned = std::thread::Builder::new().name(owner_thread("store", index)).spawn(move || {
        // Whatever ends the thread, the others notice it.
        let over = Over(for_thread, index);
        over.0.store.posts[index].bind();
        run(&over.0, index, topics, &syncer);
    });
    spawned.map(|_| ()).inspect_err(|_| hub.store.posts[index].end())
}

/// Says at its end that the thread has ended.
struct Over(Arc<Hub>, usize);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store.posts[self.1].end();
        self.0.pulses.store[self.1].end();
    }
}

/// Takes the rules that a reload brings; the cache is shared by all owners.
fn configure(topics: &mut TopicOwner<Disk>, rules: TopicRules) {
    let cache_bytes = topics.archive().settings.cache_share();
    topics.configure(TopicRules { cache_bytes, ..rules });
}

/// Rounds until the daemon is over.
fn run(hub: &Hub, index: usize, mut topics: TopicOwner<Disk>, syncer: &mpsc::Sender<Unsynced>) {
    let (mut waiting, mut surveyor) = (Waiting::default(), Surveyor::new());
    let (mut more, mut syncing) = (false, Syncing::default());
    let (mut requests, mut out) = (VecDeque::new(), Vec::new());
    // A disk that is full already is told before anybody asks.
    topics.archive().look();
    tell((hub, index), topics.archive(), &mut syncing);
    loop {
        let busy = (more, !requests.is_empty());
        let watch = surveyor.due().min(topics.archive().present_due());
        let taken = next((hub, index), &mut topics, &syncing, watch, busy);
        let now = clock::now();
        hub.pulses.store[index].beat(now);
        topics.archive().look();
        if topics.archive().has_healed() {
            topics.recovered(now);
        }
        if let Some(rules) = taken.rules {
            configure(&mut topics, rules);
        }
        requests.extend(taken.requests);
        let count =
            if taken.over { requests.len() } else { requests.len().min(ROUND_REQUESTS_MAX) };
        for (connection, request) in taken.owners.into_iter().chain(requests.drain(..count)) {
            topics.ask(connection, request, now, &mut out);
        }
        for outside in taken.outside {
            for (connection, request) in waiting.requests(outside) {
                topics.ask(connection, request, now, &mut out);
            }
        }
        topics.tick(now, &mut out);
        let has_work = topics.work(now, &mut out);
        if let Some(result) = taken.synced {
            syncing.since = None;
            let result = topics.archive().commit_ended(result);
            conclude(&mut topics, &result, &mut out);
        }
        if syncing.since.is_none() && (topics.has_uncommitted() || topics.archive().wants_commit())
        {
            syncing.since = commit(&mut topics, syncer, &mut out).then(Instant::now);
        }
        topics.archive().settle();
        for sender in waiting.backups.drain(..) {
            topics.save(clock::now());
            // The asker may have gone.
            let _ = sender.send(topics.archive().copier());
        }
        surveyor.watch(topics.archive(), &hub.store.board, index);
        for sender in waiting.surveys.drain(..) {
            let _ = sender.send(surveyor.survey(&mut topics));
        }
        tell((hub, index), topics.archive(), &mut syncing);
        let has_room = hub.all_have_room();
        more = has_room && topics.deliver(ROUND_BYTES_MAX, now, &mut out)
            || has_work
            || surveyor.is_busy()
            || !requests.is_empty();
        post(hub, &mut out, &mut waiting);
        let census = topics.census();
        topics.archive().metrics().store.census(&census);
        if taken.over {
            return finish(hub, topics, &mut waiting);
        }
        if !has_room {
            std::thread::sleep(ROOM_PAUSE);
            more = true;
        }
    }
}

/// Saves everything at the end of the daemon, and tells what comes of it.
fn finish(hub: &Hub, mut topics: TopicOwner<Disk>, waiting: &mut Waiting) {
    topics.save(clock::now());
    let result = topics.archive().save_to_disk();
    if let Err(reason) = &result {
        tracing::error!("the store could not be saved at the stop: {reason}");
    }
    let mut out = Vec::new();
    conclude(&mut topics, &result, &mut out);
    // And what came while the disk worked.
    conclude(&mut topics, &result, &mut out);
    post(hub, &mut out, waiting);
}

/// Begins to make safe what was appended, or makes it safe at once. Returns whether the disk works on it.
fn commit(
    topics: &mut TopicOwner<Disk>,
    syncer: &mpsc::Sender<Unsynced>,
    out: &mut Vec<TopicOutgoing>,
) -> bool {
    topics.seal();
    let result = match topics.archive().commit_begun() {
        Ok(Some(unsynced)) => match syncer.send(unsynced) {
            Ok(()) => return true,
            Err(mpsc::SendError(unsynced)) => {
                let result = unsynced.sync();
                topics.archive().commit_ended(result)
            }
        },
        Ok(None) => Ok(()),
        Err(reason) => Err(reason),
    };
    conclude(topics, &result, out);
    false
}

/// Tells the topics what has become of a commit.
fn conclude(
    topics: &mut TopicOwner<Disk>,
    result: &Result<(), Box<str>>,
    out: &mut Vec<TopicOutgoing>,
) {
    topics.committed(result.as_ref().copied().map_err(|reason| &**reason), clock::now(), out);
}

/// Waits until there is something to do, and takes it; requests only when there are none of those taken before.
fn next(
    (hub, index): (&Hub, usize),
    topics: &mut TopicOwner<Disk>,
    syncing: &Syncing,
    watch: Instant,
    (more, is_busy): (bool, bool),
) -> TakenInboxes {
    let post = &hub.store.posts[index];
    while !more && post.sleep() {
        let now = clock::now();
        hub.pulses.store[index].beat(now);
        let due = topics.next_at_ns().map(|at_ns| at_ns.saturating_sub(now.monotonic_ns));
        let due = due.map_or(Duration::from_secs(3600), Duration::from_nanos);
        let disk = topics.archive().due().map_or(watch, |due| due.min(watch));
        let wait = due.min(disk.saturating_duration_since(Instant::now()));
        if wait.is_zero() || syncing.is_news() {
            break;
        }
        std::thread::park_timeout(wait.min(BEAT));
    }

    let (mut taken, mut messages) = (TakenInboxes::default(), VecDeque::new());
    post.control.take(&mut messages);
    messages.into_iter().for_each(|message| taken.add(message));
    // The last time nothing is left behind.
    if !is_busy || taken.over {
        post.requests.take(&mut taken.requests);
    }
    taken
}

/// What a round takes.
#[derive(Default)]
struct TakenInboxes {
    requests: VecDeque<StoreRequest>,
    /// What other owners ask, before the others: they have bounds of their own.
    owners: Vec<StoreRequest>,
    outside: Vec<Outside>,
    rules: Option<TopicRules>,
    synced: Option<io::Result<()>>,
    over: bool,
}

impl TakenInboxes {
    fn add(&mut self, message: StoreMessage) {
        match message {
            StoreMessage::Owner(connection, request) => self.owners.push((connection, request)),
            StoreMessage::Outside(asked) => self.outside.push(asked),
            StoreMessage::Rules(rules) => self.rules = Some(rules),
            StoreMessage::Synced(result) => self.synced = Some(result),
            StoreMessage::Stop => self.over = true,
        }
    }
}

/// The sync of the disk that is under way.
#[derive(Default)]
struct Syncing {
    since: Option<Instant>,
    /// Whether it was told that it lasts for too long.
    is_told: bool,
}

impl Syncing {
    fn is_late(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() > SYNC_MAX)
    }

    /// Whether something is to be told.
    fn is_news(&self) -> bool {
        self.is_late() != self.is_told
    }
}

/// Tells readiness whether messages are taken, and stored.
fn tell((hub, index): (&Hub, usize), disk: &Disk, syncing: &mut Syncing) {
    let late = "the disk does not answer: a sync of the store lasts for more than 10 s, and producers wait for it";
    if syncing.is_news() {
        syncing.is_told = syncing.is_late();
        if syncing.is_told {
            tracing::error!("{late}");
        } else {
            tracing::warn!("the disk answers again: the sync of the store is over");
        }
    }

    match disk.refusal().or(syncing.is_told.then_some(late)) {
        Some(reason) => {
            let kinds: Vec<Kind> =
                Kind::ALL.iter().copied().filter(|kind| kind.has_topics()).collect();
            hub.gaps.begin(GapSource::Store(index), &kinds, reason);
        }
        None => hub.gaps.end(GapSource::Store(index)),
    }
}

/// Hands to the shards what is for them, each in order.
fn post(hub: &Hub, out: &mut Vec<TopicOutgoing>, waiting: &mut Waiting) {
    let mut parcels: Vec<Vec<Parcel>> = hub.mailboxes.iter().map(|_| Vec::new()).collect();
    for outgoing in out.drain(..) {
        match outgoing {
            TopicOutgoing::Reply(connection, reply) if connection.shard == NO_SHARD => {
                waiting.answer(connection.id, reply)
            }
            TopicOutgoing::Reply(connection, reply)
                if let Some(owner) = OwnerIndex::of_connection(connection) =>
            {
                let is_stored = matches!(reply, TopicAnswer::Stored { .. });
                hub.store.ask_owner(owner, connection, TopicQuestion::Buried { is_stored });
            }
            TopicOutgoing::Ask(owner, connection, request) => {
                hub.store.ask_owner(owner, connection, request)
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
    for (shard, parcels) in
        parcels.into_iter().enumerate().filter(|(_, parcels)| !parcels.is_empty())
    {
        hub.post(shard, parcels);
    }
}
