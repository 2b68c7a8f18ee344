//! The state that all threads share: mailboxes, the log, the queues of bridge and store, and the
//! daemon's flags.

use super::bridge::Bridge;
use super::clients::Addresses;
use super::clock;
use super::cluster::ClusterHandle;
use super::configured::Configured;
use super::ends::Ends;
use super::gaps::Gaps;
use super::handoff::inbox::Fill;
use super::handoff::log::{Log, Readers};
use super::handoff::{self, Mailbox, Parcel};
use super::pulse::Pulses;
use super::store::Store;
use super::taps::Taps;
use crate::dialect::{Kind, Settings};
use crate::feed::unix;
use crate::frame::Publication;
use crate::http::{DaemonStart, DaemonStatus};
use crate::metrics::Metrics;
use crate::service::presence::PresenceQuestion;
use crate::service::verification::TokenQuestion;
use crate::service::webhook::{Webhook, WebhookReceipt};
use crate::service::{Answers, ConnectionRef};
use crate::shard::Outgoing;
use std::io;
use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Interval between a publisher's checks that the shards have room.
pub(super) const ROOM_PAUSE: Duration = Duration::from_millis(1);

/// The asker of the cluster's own questions, such as webhooks, which belong to no connection.
const NO_CONNECTION: ConnectionRef = ConnectionRef { shard: u16::MAX, id: u32::MAX, serial: 0 };

/// The state that all threads share.
pub(super) struct Hub {
    pub(super) mailboxes: Box<[Mailbox]>,
    /// The number of full mailboxes.
    fill: Fill,
    /// The log of publications, with a lane for each dialect.
    pub(super) log: Log<Arc<Publication>>,
    pub(super) bridge: Bridge,
    pub(super) store: Store,
    /// The other nodes, if this daemon is one of several.
    pub(super) cluster: Option<Arc<ClusterHandle>>,
    /// The unix feed's own settings, which it looks up for new publishers and after a reload.
    pub(super) feed: Mutex<Arc<unix::UnixFeedSettings>>,
    /// The dialects' settings for the feeds. Shards read them more often, so each has its own copy
    /// of the pointer.
    pub(super) settings: Mutex<Arc<Settings>>,
    /// One set per shard, then the bridge's, one per owner of topics, and the admin listener's.
    pub(super) metrics: Vec<Arc<Metrics>>,
    pub(super) connections: Arc<AtomicUsize>,
    /// Publishers of the unix feed on all shards.
    pub(super) publishers: AtomicUsize,
    pub(super) addresses: Arc<Addresses>,
    pub(super) ready: AtomicBool,
    /// Whether the daemon is stopping and accepts no more connections and publishers.
    pub(super) draining: AtomicBool,
    /// When the process before began the pause of its hand-over to this one, if it did.
    pub(super) paused_at: OnceLock<Instant>,
    /// Whether feeds wait, because what they bring is for the next process.
    pub(super) held: AtomicBool,
    /// Notified when the admin listener is the next process's.
    pub(super) admin_end: Notify,
    /// Whether all its requests were answered after that.
    pub(super) admin_ended: AtomicBool,
    /// The number of batches of feeds on other threads than the shards' that are being handed on.
    feeding: Arc<AtomicUsize>,
    /// Whether the next process has taken over.
    pub(super) handed_over: AtomicBool,
    /// Whether the time of a stop is running out, so that nothing more is delivered.
    pub(super) hurrying: AtomicBool,
    /// The missing dependencies of dialects.
    pub(super) gaps: Gaps,
    /// The last ends of sessions.
    pub(super) ends: Ends,
    /// The operators who see events pass.
    pub(super) taps: Arc<Taps>,
    /// The last turn of each thread.
    pub(super) pulses: Pulses,
    /// The dialects that listeners speak.
    pub(super) spoken: Vec<Kind>,
    /// The configuration in force, and when it was applied.
    pub(super) configured: Configured,
    /// The start of the daemon, in milliseconds of unix time.
    pub(super) started_ms: u64,
    /// What the shards wait, receive and send with, once they run.
    pub(super) driver: OnceLock<&'static str>,
}

impl Hub {
    pub(super) fn new(
        shards: usize,
        owners: usize,
        spoken: &[Kind],
        settings: &Arc<Settings>,
    ) -> io::Result<Self> {
        let store = Store::new(owners);
        // The mailboxes share one count of full ones, so that `all_have_room` visits none of them.
        let (owners, fill) = (store.owners(), Fill::default());
        Ok(Self {
            mailboxes: (0..shards).map(|_| handoff::mailbox(&fill)).collect::<io::Result<_>>()?,
            fill,
            log: Log::new(Kind::ALL.len()),
            bridge: Bridge::default(),
            store,
            cluster: None,
            settings: Mutex::new(Arc::clone(settings)),
            feed: Mutex::default(),
            metrics: (0..shards + owners + 2).map(|_| Arc::default()).collect(),
            connections: Arc::default(),
            publishers: AtomicUsize::new(0),
            addresses: Arc::default(),
            ready: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            paused_at: OnceLock::new(),
            held: AtomicBool::new(false),
            admin_end: Notify::new(),
            admin_ended: AtomicBool::new(false),
            feeding: Arc::default(),
            handed_over: AtomicBool::new(false),
            hurrying: AtomicBool::new(false),
            gaps: Gaps::default(),
            ends: Ends::default(),
            taps: Arc::default(),
            pulses: Pulses::new(shards, owners),
            spoken: spoken.to_vec(),
            configured: Configured::default(),
            started_ms: clock::now().unix_ms,
            driver: OnceLock::new(),
        })
    }

    /// The dialects' current settings.
    pub(super) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The bridge's counters.
    pub(super) fn bridge_metrics(&self) -> &Arc<Metrics> {
        &self.metrics[self.mailboxes.len()]
    }

    /// The counters of an owner of topics.
    pub(super) fn owner_metrics(&self, owner: usize) -> &Arc<Metrics> {
        &self.metrics[self.mailboxes.len() + 1 + owner]
    }

    /// The admin listener's counters.
    pub(super) fn admin_metrics(&self) -> &Arc<Metrics> {
        &self.metrics[self.metrics.len() - 1]
    }

    /// Whether every shard has room for more, and the way to other nodes.
    pub(super) fn all_have_room(&self) -> bool {
        self.shards_have_room() && self.cluster.as_ref().is_none_or(|it| it.has_room())
    }

    /// Whether feeds may hand on more.
    pub(super) fn feeds_have_room(&self) -> bool {
        !self.holds_feeds() && self.all_have_room()
    }

    /// Whether feeds wait until it is clear which process goes on.
    pub(super) fn holds_feeds(&self) -> bool {
        self.held.load(SeqCst)
    }

    /// Room for a batch of a feed that is on another thread than the shards, until it is dropped;
    /// `None` when there is none.
    pub(super) fn feeding(&self) -> Option<Feeding> {
        // Counted before it is asked: whoever holds the feeds waits for those that are counted.
        self.feeding.fetch_add(1, SeqCst);
        let feeding = Feeding(Arc::clone(&self.feeding));
        self.feeds_have_room().then_some(feeding)
    }

    /// The number of batches that are being handed on.
    pub(super) fn batches(&self) -> usize {
        self.feeding.load(SeqCst)
    }

    /// Whether the next process has taken over.
    pub(super) fn has_handed_over(&self) -> bool {
        self.handed_over.load(Relaxed)
    }

    /// Whether every shard has room for more.
    pub(super) fn shards_have_room(&self) -> bool {
        self.log.has_room() && self.fill.has_room()
    }

    /// Publishes to every shard that has sessions of the dialects, waking all but the caller. All
    /// shards see the publications of a dialect in one order.
    pub(super) fn broadcast(&self, publications: Vec<Publication>, caller: Option<usize>) {
        let mut lanes = Lanes::default();
        publications.into_iter().for_each(|publication| self.gather(publication, &mut lanes));
        // One batch per lane: a push takes a lock, and its order is that of the lane only.
        let mut readers = Readers::default();
        self.push(&mut lanes, &mut readers);
        self.nudge(&readers, caller);
    }

    /// Publishes what the cluster's thread has ordered or heard.
    pub(super) fn broadcast_shared(&self, publications: Vec<Arc<Publication>>) {
        let (mut lanes, mut readers) = (Lanes::default(), Readers::default());
        publications.into_iter().for_each(|publication| lanes.add(publication));
        self.push(&mut lanes, &mut readers);
        self.nudge(&readers, None);
    }

    /// Routes publications and answers of a shard or of the cluster's thread, in order, waking all
    /// but that shard.
    pub(super) fn route(&self, outgoing: Vec<Outgoing>, caller: Option<usize>) {
        let (mut lanes, mut readers) = (Lanes::default(), Readers::default());
        for outgoing in outgoing {
            match outgoing {
                Outgoing::Publication(publication) => self.gather(publication, &mut lanes),
                Outgoing::Answer(connection, answer) => {
                    // A session must see what was published before its answer before the answer.
                    self.push(&mut lanes, &mut readers);
                    let shard = usize::from(connection.shard);
                    self.post_quietly(shard, [Parcel::Answer(connection, answer)]);
                    readers.insert(shard);
                }
            }
        }
        self.push(&mut lanes, &mut readers);
        self.nudge(&readers, caller);
    }

    /// Adds a publication to its lane. One that every node retains goes to the cluster's thread
    /// first, because all nodes must agree on which is the last.
    fn gather(&self, publication: Publication, lanes: &mut Lanes) {
        match &self.cluster {
            Some(cluster) if ClusterHandle::orders(&publication) => cluster.divert(publication),
            _ => lanes.add(Arc::new(publication)),
        }
    }

    /// Takes a question to the owner of its channel, or to all shards when it is about many
    /// channels. In a cluster the owners may be on other nodes, and its thread takes all questions.
    pub(super) fn ask_presence(
        &self,
        from: ConnectionRef,
        question: Box<PresenceQuestion>,
        caller: usize,
    ) {
        if let Some(cluster) = &self.cluster {
            return cluster.ask(from, question);
        }
        let shards = self.mailboxes.len();
        if let Some(owner) = question.owner(shards) {
            return self.post_from(caller, owner, Parcel::Presence(from, question));
        }
        for owner in 0..shards {
            self.post_from(caller, owner, Parcel::Presence(from, question.clone()));
        }
    }

    /// Hands webhooks of the cluster to the bridge: those that its journals know, and others, which
    /// are dropped where there is no room.
    pub(super) fn notify_for_cluster(&self, webhooks: Vec<Webhook>) {
        let (journaled, others): (Vec<_>, Vec<_>) =
            webhooks.into_iter().partition(|webhook| webhook.receipt().is_some());
        if !journaled.is_empty() {
            self.settle(self.bridge.notify_journaled(NO_CONNECTION, journaled));
        }
        self.bridge.notify(others.into_iter().map(|webhook| (NO_CONNECTION, webhook)).collect());
    }

    /// Tells the cluster which of its webhooks need no more care.
    pub(super) fn settle(&self, receipts: Vec<WebhookReceipt>) {
        if let Some(cluster) = self.cluster.as_ref().filter(|_| !receipts.is_empty()) {
            cluster.settle(receipts);
        }
    }

    /// Asks the remote verifiers.
    pub(super) fn ask_verifiers(&self, questions: Vec<(ConnectionRef, TokenQuestion)>) {
        if !questions.is_empty() {
            self.answer(self.bridge.ask_verifiers(questions));
        }
    }

    /// Relays messages of a shard's clients to other daemons. Fire and forget.
    pub(super) fn relay(&self, shard: usize, texts: Vec<Box<str>>) {
        if !texts.is_empty() {
            let lost = self.bridge.relay(texts);
            self.metrics[shard].relays_lost.add(lost as u64);
        }
    }

    /// Posts answers of a service to the shards of their connections.
    pub(super) fn answer(&self, answers: Answers) {
        for (connection, answer) in answers {
            self.post(usize::from(connection.shard), [Parcel::Answer(connection, answer)]);
        }
    }

    /// Posts from one shard to another, or to itself.
    fn post_from(&self, caller: usize, shard: usize, parcel: Parcel) {
        if shard == caller {
            // It looks into its mailbox before it sleeps.
            self.post_quietly(shard, [parcel])
        } else {
            self.post(shard, [parcel])
        }
    }

    /// Posts to one shard; the stamps keep parcels behind publications that came before.
    pub(super) fn post(&self, shard: usize, parcels: impl IntoIterator<Item = Parcel>) {
        self.mailboxes[shard].post(self.log.stamped(parcels));
    }

    fn post_quietly(&self, shard: usize, parcels: impl IntoIterator<Item = Parcel>) {
        self.mailboxes[shard].post_quietly(self.log.stamped(parcels));
    }

    /// Posts a parcel to every shard.
    pub(super) fn post_to_all(&self, parcel: impl Fn() -> Parcel) {
        (0..self.mailboxes.len()).for_each(|shard| self.post(shard, [parcel()]));
    }

    /// Pushes the gathered publications to the log, and adds their shards to `readers`.
    fn push(&self, lanes: &mut Lanes, readers: &mut Readers) {
        for (lane, publications) in
            lanes.0.iter_mut().enumerate().filter(|(_, lane)| !lane.is_empty())
        {
            let publications = std::mem::take(publications);
            let following = self.log.push(lane, publications, |publications, following| {
                self.announce(publications, following, readers);
                self.taps.offer(Kind::ALL[lane], publications);
                // Under the lane's lock, so that other nodes see this node's events in its order.
                if let Some(cluster) = &self.cluster {
                    cluster.announce(publications);
                }
            });
            readers.extend(&following);
        }
    }

    /// Prepares publications that followers are about to see: announces the parts of their tallies,
    /// and posts retained ones to the shards that do not follow, because every shard retains them.
    fn announce(
        &self,
        publications: &[Arc<Publication>],
        following: &Readers,
        readers: &mut Readers,
    ) {
        for publication in publications {
            let is_kept = publication.retain_s > 0;
            // Announced before any shard can add its part.
            if let Some(tally) = &publication.tally {
                tally.expect(if is_kept { self.mailboxes.len() } else { following.len() });
            }
            if is_kept {
                let others = (0..self.mailboxes.len()).filter(|shard| !following.contains(*shard));
                for shard in others {
                    self.post_quietly(shard, [Parcel::Publication(Arc::clone(publication))]);
                    readers.insert(shard);
                }
            }
        }
    }

    fn nudge(&self, readers: &Readers, caller: Option<usize>) {
        // Once per shard, however much was posted, and not the caller, which is awake.
        let others = readers.iter().filter(|shard| Some(*shard) != caller);
        others.for_each(|shard| self.mailboxes[shard].nudge());
        if let Some(cluster) = &self.cluster {
            cluster.nudge();
        }
    }

    pub(super) fn status(&self) -> DaemonStatus {
        let now = clock::now();
        DaemonStatus {
            threads: self.metrics.clone(),
            shards: self.mailboxes.len(),
            start: DaemonStart {
                at_ms: self.started_ms,
                pid: std::process::id(),
                driver: self.driver.get().copied().unwrap_or_default(),
            },
            now_ms: now.unix_ms,
            waiting: self.log.depth()
                + self.mailboxes.iter().map(|mailbox| mailbox.depth() as u64).sum::<u64>(),
            ready: self.ready.load(Relaxed),
            draining: self.draining.load(Relaxed),
            hung: self.pulses.hung(now),
            gaps: self.gaps.all(),
            spoken: self.spoken.clone(),
            cluster: self.cluster.as_ref().map(|cluster| Arc::clone(&cluster.metrics)),
        }
    }
}

/// A batch of a feed that is being handed on.
pub(super) struct Feeding(Arc<AtomicUsize>);

impl Drop for Feeding {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Publications by the lane that they go to, each lane's in order.
#[derive(Default)]
struct Lanes([Vec<Arc<Publication>>; Kind::ALL.len()]);

impl Lanes {
    fn add(&mut self, publication: Arc<Publication>) {
        let kind = Kind::of_topic(publication.topic());
        debug_assert!(kind.is_some(), "a topic begins with its dialect's byte");
        if let Some(kind) = kind {
            self.0[kind as usize].push(publication);
        }
    }
}
