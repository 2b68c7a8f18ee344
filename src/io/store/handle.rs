//! The other threads' end of the store: an inbox for each owner of topics.

use super::backup::{self, Backup, Copier};
use super::survey::{Board, Survey};
use crate::dialect;
use crate::io::handoff::inbox::{Bounds, Fill, Inbox, Wake, Weigh};
use crate::service::ConnectionRef;
use crate::service::topic::{
    Merge, MessageDraft, OwnerIndex, TopicInquiry, TopicName, TopicQuestion, TopicRules,
};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};
use tokio::sync::OwnedMutexGuard;
use tokio::sync::oneshot::{self, error::RecvError};

/// Requests that wait for the store before the shards read no more from clients.
const REQUESTS_MAX: usize = 50_000;
/// Bytes of them.
const REQUESTS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long a stop waits at least for the last save.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// A status, and JSON or a sentence.
pub(in crate::io) type InquiryAnswer = (u16, Box<[u8]>);
/// What has become of each of some messages.
pub(in crate::io) type Receipts = Vec<Result<(), Box<str>>>;

/// The other threads' end of the store.
pub(in crate::io) struct Store {
    /// One for each owner of topics.
    pub(super) posts: Box<[Post]>,
    /// How many of them have more requests than they take.
    fill: Fill,
    /// Locked while a backup is being made.
    copying: Arc<tokio::sync::Mutex<()>>,
    /// What the owners say when the volume is nearly full.
    pub(super) board: Board,
}

/// Where one owner is asked.
pub(super) struct Post {
    /// What connections ask. Closed while no thread runs.
    pub(super) requests: Inbox<StoreRequest, Unpark>,
    /// What others want, before the connections: they are few, and wait for their answers.
    pub(super) control: Inbox<StoreMessage, Unpark>,
    pub(super) running: AtomicBool,
}

/// What a connection asks.
pub(super) type StoreRequest = (ConnectionRef, TopicQuestion);

/// What an owner is told beside the requests of connections.
pub(super) enum StoreMessage {
    /// Another owner's request for a connection.
    Owner(ConnectionRef, TopicQuestion),
    Outside(Outside),
    Rules(TopicRules),
    /// What has become of the sync that was under way.
    Synced(io::Result<()>),
    /// Save everything, and end.
    Stop,
}

impl Weigh for StoreRequest {
    fn weight(&self) -> usize {
        self.1.weight()
    }
}

impl Weigh for StoreMessage {
    /// Nothing: each of those who send them has a bound of its own.
    fn weight(&self) -> usize {
        0
    }
}

/// What wakes an owner's thread, once it runs.
#[derive(Default)]
pub(super) struct Unpark(OnceLock<Thread>);

impl Unpark {
    /// Wakes the thread that calls from now on.
    fn bind(&self) {
        self.0.get_or_init(std::thread::current);
    }
}

impl Wake for Unpark {
    fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

/// A question from outside of any connection.
pub(super) enum Outside {
    /// A feed's messages; one result for each.
    Append(Vec<(TopicName, MessageDraft)>, oneshot::Sender<Receipts>),
    /// The admin listener's question: a status, and JSON or a sentence.
    Inquire(TopicInquiry, oneshot::Sender<InquiryAnswer>),
    /// The metrics' question.
    Survey(oneshot::Sender<Survey>),
    /// A backup is to be made.
    Backup(oneshot::Sender<Result<Copier, String>>),
}

impl Store {
    /// One with so many owners, of which none runs.
    pub(in crate::io) fn new(owners: usize) -> Self {
        let fill = Fill::default();
        Self {
            posts: OwnerIndex::all(owners).map(|_| Post::new(&fill)).collect(),
            fill,
            copying: Arc::default(),
            board: Board::new(owners),
        }
    }

    /// How many owners there are.
    pub(in crate::io) fn owners(&self) -> usize {
        self.posts.len()
    }

    /// Whether shards may ask more.
    pub(in crate::io) fn has_room(&self) -> bool {
        self.fill.has_room()
    }

    /// Asks an owner for connections of a shard. Without a store nothing is asked: no dialect of it is spoken.
    pub(in crate::io) fn ask(&self, owner: usize, requests: Vec<(ConnectionRef, TopicQuestion)>) {
        let post = &self.posts[owner];
        // Without a thread it would never be taken.
        if !requests.is_empty() && post.runs() {
            post.requests.post(requests);
        }
    }

    /// Asks an owner for another one.
    pub(super) fn ask_owner(
        &self,
        owner: usize,
        connection: ConnectionRef,
        request: TopicQuestion,
    ) {
        if self.posts[owner].runs() {
            self.posts[owner].control.post([StoreMessage::Owner(connection, request)]);
        }
    }

    /// Appends what a feed has. What comes back is in the order of the messages; nothing comes back without a store.
    pub(in crate::io) async fn append(
        &self,
        messages: Vec<(TopicName, MessageDraft)>,
    ) -> Result<Receipts, RecvError> {
        if messages.is_empty() {
            return Ok(Receipts::new());
        }
        let owners: Vec<usize> =
            messages.iter().map(|(topic, _)| OwnerIndex::of_topic(topic, self.owners())).collect();
        let mut parts: Vec<Vec<(TopicName, MessageDraft)>> =
            self.posts.iter().map(|_| Vec::new()).collect();
        for (owner, message) in owners.iter().zip(messages) {
            parts[*owner].push(message);
        }
        // All are asked before one is waited for.
        let parts = parts.into_iter().enumerate().filter(|(_, part)| !part.is_empty());
        let asked: Vec<_> = parts
            .map(|(owner, part)| {
                (owner, self.outside(owner, |sender| Outside::Append(part, sender)))
            })
            .collect();
        let mut receipts = vec![Receipts::new().into_iter(); self.owners()];
        for (owner, asked) in asked {
            receipts[owner] = asked.await?.into_iter();
        }
        Ok(owners.iter().filter_map(|owner| receipts[*owner].next()).collect())
    }

    /// Asks for the admin listener; nothing comes back without a store.
    pub(in crate::io) async fn inquire(
        &self,
        inquiry: TopicInquiry,
    ) -> Result<InquiryAnswer, RecvError> {
        let merge = Merge::of(&inquiry).filter(|_| self.owners() > 1);
        let Some(merge) = merge else {
            let owner = inquiry.owner(self.owners());
            return self.outside(owner, |sender| Outside::Inquire(inquiry, sender)).await;
        };
        let answers = self.of_each(|sender| Outside::Inquire(inquiry.clone(), sender)).await?;
        Ok(merge.all(answers))
    }

    /// What the metrics tell beside the counters; nothing comes back without a store.
    pub(in crate::io) async fn survey(&self) -> Result<Survey, RecvError> {
        Ok(Survey::of_all(self.of_each(Outside::Survey).await?))
    }

    /// Makes a backup while everything goes on, one at a time, after which no more than so many are kept; nothing comes
    /// back without a store.
    pub(in crate::io) async fn backup(
        &self,
        kept: Option<usize>,
    ) -> Result<Result<Backup, String>, RecvError> {
        let Ok(copying) = Arc::clone(&self.copying).try_lock_owned() else {
            return Ok(Err("a backup is being made already".into()));
        };
        match self.of_each(Outside::Backup).await?.into_iter().collect() {
            Ok(copiers) => back_up(copiers, kept, copying).await,
            Err(reason) => Ok(Err(reason)),
        }
    }

    /// Replaces the rules of the topics by those of new settings.
    pub(in crate::io) fn configure(&self, settings: &dialect::Settings) {
        for post in self.posts.iter().filter(|post| post.runs()) {
            post.control.post([StoreMessage::Rules(settings.topic_rules())]);
        }
    }

    /// Ends the threads, which save everything before; waits for them, but not much longer than this.
    pub(in crate::io) fn stop(&self, time: Duration) {
        let start = Instant::now();
        self.posts.iter().for_each(|post| post.control.post([StoreMessage::Stop]));
        while self.posts.iter().any(Post::runs) {
            // A disk that hangs is not to keep the daemon from ending.
            if start.elapsed() > time.max(STOP_GRACE) {
                tracing::warn!(
                    "the store could not be saved in time; the next start goes on from its log"
                );
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Asks an owner from outside of any connection, if it runs; the answer is lost without.
    fn outside<T>(
        &self,
        owner: usize,
        ask: impl FnOnce(oneshot::Sender<T>) -> Outside,
    ) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        if self.posts[owner].runs() {
            self.posts[owner].control.post([StoreMessage::Outside(ask(sender))]);
        }
        receiver
    }

    /// Asks each owner the same, and waits for all.
    async fn of_each<T>(
        &self,
        ask: impl Fn(oneshot::Sender<T>) -> Outside,
    ) -> Result<Vec<T>, RecvError> {
        let asked: Vec<_> = (0..self.owners()).map(|owner| self.outside(owner, &ask)).collect();
        let mut answers = Vec::with_capacity(asked.len());
        for asked in asked {
            answers.push(asked.await?);
        }
        Ok(answers)
    }
}

impl Post {
    fn new(fill: &Fill) -> Self {
        let bounds = Bounds { count: REQUESTS_MAX, bytes: REQUESTS_BYTES_MAX };
        let unbounded = Bounds { count: usize::MAX, bytes: usize::MAX };
        let post = Self {
            requests: Inbox::new(Unpark::default(), bounds, fill),
            control: Inbox::new(Unpark::default(), unbounded, &Fill::default()),
            running: AtomicBool::new(false),
        };
        post.end();
        post
    }

    fn runs(&self) -> bool {
        self.running.load(Relaxed)
    }

    /// A thread is about to take what is posted.
    pub(super) fn start(&self) {
        self.requests.open();
        self.control.open();
        self.running.store(true, Relaxed);
    }

    /// No thread takes anything any more: what waits is lost, and with it the askers' ends of their channels.
    pub(super) fn end(&self) {
        self.running.store(false, Relaxed);
        self.requests.close();
        self.control.close();
    }

    /// Has this thread woken by what is posted.
    pub(super) fn bind(&self) {
        self.requests.waker().bind();
        self.control.waker().bind();
    }

    /// Goes to sleep, unless something waits. Returns whether this thread may park.
    pub(super) fn sleep(&self) -> bool {
        self.requests.sleep(|| true) && self.control.sleep(|| true)
    }
}

#[cfg(test)]
impl Store {
    /// Takes requests from now on, although no thread runs.
    pub(in crate::io) fn pretend(&self) {
        self.posts[0].start();
    }

    /// What the thread would take.
    pub(in crate::io) fn take(&self) -> Vec<(ConnectionRef, TopicQuestion)> {
        self.posts[0].requests.take_up_to(usize::MAX)
    }
}

/// Makes a backup on a thread of its own, of what each owner has.
async fn back_up(
    copiers: Vec<Copier>,
    kept: Option<usize>,
    copying: OwnedMutexGuard<()>,
) -> Result<Result<Backup, String>, RecvError> {
    let (sender, receiver) = oneshot::channel();
    // When there is no thread to be had, the sender is gone, which is an answer too.
    let spawned = std::thread::Builder::new().name("backup".into()).spawn(move || {
        let result = backup::copy_all(&copiers, kept);
        drop(copying);
        match &result {
            Ok(Backup { path, messages, bytes, new_bytes, removed }) => {
                let (path, removed) = (path.display(), removed.len());
                tracing::info!(
                    messages,
                    bytes,
                    new_bytes,
                    "a backup of the store was made: {path}, {messages} messages, {bytes} bytes, \
                     of which {new_bytes} are new; {removed} older ones were removed"
                );
            }
            Err(reason) => tracing::error!("{reason}"),
        }
        let _ = sender.send(result);
    });
    if let Err(error) = spawned {
        tracing::error!("a backup has got no thread: {error}");
    }
    receiver.await
}
