//! The other threads' end of the store: an inbox for each owner of topics.

use super::backup::{self, Backup, Copier};
use super::survey::{Board, Survey};
use crate::dialect;
use crate::service::ConnectionRef;
use crate::service::topic::{
    Merge, MessageDraft, OwnerIndex, TopicInquiry, TopicName, TopicQuestion, TopicRules,
};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
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
    /// Whether a backup is being made.
    copying: Arc<AtomicBool>,
    /// What the owners say when the volume is nearly full.
    pub(super) board: Board,
}

/// Where one owner is asked.
#[derive(Default)]
pub(super) struct Post {
    inbox: Mutex<Inbox>,
    pub(super) posted: Condvar,
    pub(super) running: AtomicBool,
}

/// What its thread has not taken yet.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) requests: Vec<(ConnectionRef, TopicQuestion)>,
    pub(super) bytes: usize,
    /// What other owners ask, before the others: they have bounds of their own.
    pub(super) owners: Vec<(ConnectionRef, TopicQuestion)>,
    pub(super) outside: Vec<Outside>,
    pub(super) rules: Option<TopicRules>,
    /// What has become of the sync that was under way.
    pub(super) synced: Option<io::Result<()>>,
    pub(super) over: bool,
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
        Self {
            posts: OwnerIndex::all(owners).map(|_| Post::default()).collect(),
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
        self.posts.iter().all(Post::has_room)
    }

    /// Asks an owner for connections of a shard. Without a store nothing is asked: no dialect of it is spoken.
    pub(in crate::io) fn ask(&self, owner: usize, requests: Vec<(ConnectionRef, TopicQuestion)>) {
        let post = &self.posts[owner];
        if !requests.is_empty() && post.runs() {
            post.put(|inbox| {
                inbox.bytes += requests.iter().map(|(_, request)| request.weight()).sum::<usize>();
                inbox.requests.extend(requests);
            });
        }
    }

    /// Asks an owner for another one.
    pub(super) fn ask_owner(&self, owner: usize, connection: ConnectionRef, request: TopicQuestion) {
        if self.posts[owner].runs() {
            self.posts[owner].put(|inbox| inbox.owners.push((connection, request)));
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
        if self.owners() == 1 {
            return self.outside(0, |sender| Outside::Append(messages, sender)).await;
        }
        let owners: Vec<usize> =
            messages.iter().map(|(topic, _)| OwnerIndex::of_topic(topic, self.owners())).collect();
        let mut parts: Vec<Vec<(TopicName, MessageDraft)>> = self.posts.iter().map(|_| Vec::new()).collect();
        for (owner, message) in owners.iter().zip(messages) {
            parts[*owner].push(message);
        }
        let asked: Vec<_> = parts
            .into_iter()
            .enumerate()
            .map(|(owner, part)| {
                (!part.is_empty()).then(|| self.outside(owner, |sender| Outside::Append(part, sender)))
            })
            .collect();
        let mut receipts = Vec::with_capacity(asked.len());
        for asked in asked {
            receipts.push(match asked {
                Some(asked) => asked.await?.into_iter(),
                None => Receipts::new().into_iter(),
            });
        }
        Ok(owners.iter().filter_map(|owner| receipts[*owner].next()).collect())
    }

    /// Asks for the admin listener; nothing comes back without a store.
    pub(in crate::io) async fn inquire(&self, inquiry: TopicInquiry) -> Result<InquiryAnswer, RecvError> {
        let merge = Merge::of(&inquiry).filter(|_| self.owners() > 1);
        let Some(merge) = merge else {
            let owner = inquiry.topic().map_or(0, |topic| OwnerIndex::of_topic(topic, self.owners()));
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
        if self.copying.swap(true, Relaxed) {
            return Ok(Err("a backup is being made already".into()));
        }
        let copying = Copying(Arc::clone(&self.copying));
        match self.of_each(Outside::Backup).await?.into_iter().collect() {
            Ok(copiers) => back_up(copiers, kept, copying).await,
            Err(reason) => Ok(Err(reason)),
        }
    }

    /// Replaces the rules of the topics by those of new settings.
    pub(in crate::io) fn configure(&self, settings: &dialect::Settings) {
        for post in self.posts.iter().filter(|post| post.runs()) {
            post.put(|inbox| inbox.rules = Some(settings.topic_rules()));
        }
    }

    /// Ends the threads, which save everything before; waits for them, but not much longer than this.
    pub(in crate::io) fn stop(&self, time: Duration) {
        let start = Instant::now();
        self.posts.iter().for_each(|post| post.put(|inbox| inbox.over = true));
        while self.posts.iter().any(Post::runs) {
            if start.elapsed() > time.max(STOP_GRACE) {
                tracing::warn!("the store could not be saved in time; the next start goes on from its log");
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
            let asked = ask(sender);
            self.posts[owner].put(|inbox| inbox.outside.push(asked));
        }
        receiver
    }

    /// Asks each owner the same, and waits for all.
    async fn of_each<T>(&self, ask: impl Fn(oneshot::Sender<T>) -> Outside) -> Result<Vec<T>, RecvError> {
        let asked: Vec<_> = (0..self.owners()).map(|owner| self.outside(owner, &ask)).collect();
        let mut answers = Vec::with_capacity(asked.len());
        for asked in asked {
            answers.push(asked.await?);
        }
        Ok(answers)
    }
}

impl Post {
    fn runs(&self) -> bool {
        self.running.load(Relaxed)
    }

    fn has_room(&self) -> bool {
        if !self.runs() {
            return true;
        }
        let inbox = self.lock();
        inbox.requests.len() < REQUESTS_MAX && inbox.bytes < REQUESTS_BYTES_MAX
    }

    pub(super) fn put(&self, put: impl FnOnce(&mut Inbox)) {
        put(&mut self.lock());
        self.posted.notify_one();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Store {
    /// Takes requests from now on, although no thread runs.
    pub(in crate::io) fn pretend(&self) {
        self.posts[0].running.store(true, Relaxed);
    }

    /// What the thread would take.
    pub(in crate::io) fn take(&self) -> Vec<(ConnectionRef, TopicQuestion)> {
        let inbox = std::mem::take(&mut *self.posts[0].lock());
        inbox.requests
    }
}

/// Makes a backup on a thread of its own, of what each owner has.
async fn back_up(
    copiers: Vec<Copier>,
    kept: Option<usize>,
    copying: Copying,
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
                    "a backup of the store was made: {path}, {messages} messages, {bytes} bytes, of which {new_bytes} are \
                     new; {removed} older ones were removed"
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

/// A backup that is being made.
struct Copying(Arc<AtomicBool>);

impl Drop for Copying {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}
