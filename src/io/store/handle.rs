//! The other threads' side of the store: an inbox for each owner of topics.

use super::backup::{self, Backup, Copier};
use super::survey::{LargestTopics, Survey};
use crate::dialect;
use crate::io::handoff::inbox::{Bounds, Fill, Inbox, Wake, Weigh};
use crate::service::ConnectionRef;
use crate::service::topic::{
    FrozenTopics, Merge, MessageDraft, OwnerIndex, TopicInquiry, TopicName, TopicQuestion,
    TopicRules,
};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::Thread;
use std::time::{Duration, Instant};
use tokio::sync::OwnedMutexGuard;
use tokio::sync::oneshot::{self, error::RecvError};

/// Requests queued for the store at which the shards stop reading from clients.
const REQUESTS_MAX: usize = 50_000;
/// The same limit in bytes.
const REQUESTS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Messages from outside of connections queued for an owner at which more are refused. A round takes
/// them all, so that many wait only for a disk that hangs. In the worst case of a sound one, 1,024
/// publishers on each of 16 shards wait for one answer each, and 15 other owners for 1,000 dead
/// letters each. Their bytes have no limit of their own, which would refuse what a sound disk is
/// about to store: their senders have one, as each waits for its answer before it reads on.
const CONTROL_MAX: usize = 50_000;
/// The answer to a message of a feed beyond these limits.
const FULL: &str = "too much waits for the store: this was not stored; send it again later";
/// Minimum time that a stop waits for the last save.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// A status, and JSON or a sentence.
pub(in crate::io) type InquiryAnswer = (u16, Box<[u8]>);
/// The outcomes of several messages, in order.
pub(in crate::io) type Receipts = Vec<Result<(), Box<str>>>;

/// Why the store gives no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::io) enum Unanswered {
    /// No thread runs, or it ended before its answer.
    Ended,
    /// Too much waits for it; nothing was done.
    Full,
}

impl From<RecvError> for Unanswered {
    fn from(_: RecvError) -> Self {
        Self::Ended
    }
}

/// The other threads' side of the store.
pub(in crate::io) struct Store {
    /// One for each owner of topics.
    pub(super) inboxes: Box<[OwnerInboxes]>,
    /// The number of inboxes over their limit.
    fill: Fill,
    /// Locked while a backup is made.
    copying: Arc<tokio::sync::Mutex<()>>,
    /// The owners' largest topics, gathered when the volume is nearly full.
    pub(super) largest: LargestTopics,
}

/// The inboxes of one owner. Both are closed while no thread runs: what is posted then is dropped,
/// and with it the sender of the answer.
pub(super) struct OwnerInboxes {
    /// Requests of connections.
    pub(super) requests: Inbox<StoreRequest, Unpark>,
    /// Requests of others, served before the connections': there are few, and each waits for its
    /// answer. Those from outside are refused when it is full.
    pub(super) control: Inbox<StoreMessage, Unpark>,
}

/// Where an owner that rests tells what it knows of connections, with its index.
pub(super) type FrozenReply = mpsc::Sender<(usize, FrozenTopics)>;

/// A request of a connection.
pub(super) type StoreRequest = (ConnectionRef, TopicQuestion);

/// A message to an owner other than requests of connections.
pub(super) enum StoreMessage {
    /// Another owner's request on behalf of a connection.
    Owner(ConnectionRef, TopicQuestion),
    Outside(OutsideRequest),
    Rules(TopicRules),
    /// The result of the sync in progress.
    Synced(io::Result<()>),
    /// Come to rest, tell what another process has to know, and do nothing more.
    Freeze(FrozenReply),
    /// Go on as if nothing had been.
    Resume,
    /// Save everything, and end.
    Stop,
}

impl Weigh for StoreRequest {
    fn weight(&self) -> usize {
        self.1.weight()
    }
}

impl Weigh for StoreMessage {
    /// Their number is what is limited.
    fn weight(&self) -> usize {
        0
    }
}

/// Wakes an owner's thread, once it runs.
#[derive(Default)]
pub(super) struct Unpark(OnceLock<Thread>);

impl Unpark {
    /// Wakes the calling thread from now on.
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

/// A request from outside of any connection.
pub(super) enum OutsideRequest {
    /// A feed's messages; answered with one result each.
    Append(Vec<(TopicName, MessageDraft)>, oneshot::Sender<Receipts>),
    /// A query of the admin listener; answered with a status, and JSON or a sentence.
    Inquire(TopicInquiry, oneshot::Sender<InquiryAnswer>),
    /// A query for metrics.
    Survey(oneshot::Sender<Survey>),
    /// A request for a backup.
    Backup(oneshot::Sender<Result<Copier, String>>),
}

impl Store {
    /// A store with this many owners, none of which runs.
    pub(in crate::io) fn new(owners: usize) -> Self {
        let fill = Fill::default();
        Self {
            inboxes: OwnerIndex::all(owners).map(|_| OwnerInboxes::new(&fill)).collect(),
            fill,
            copying: Arc::default(),
            largest: LargestTopics::new(owners),
        }
    }

    /// Number of owners.
    pub(in crate::io) fn owners(&self) -> usize {
        self.inboxes.len()
    }

    /// Number of owners with a thread that runs, or is about to start.
    pub(in crate::io) fn running(&self) -> usize {
        self.inboxes.iter().filter(|each| each.runs()).count()
    }

    /// Whether shards may send more requests.
    pub(in crate::io) fn has_room(&self) -> bool {
        self.fill.has_room()
    }

    /// Sends requests of a shard's connections to an owner. Without a store there are none: no
    /// dialect that needs it is configured.
    pub(in crate::io) fn ask(&self, owner: usize, requests: Vec<(ConnectionRef, TopicQuestion)>) {
        if !requests.is_empty() {
            self.inboxes[owner].requests.post(requests);
        }
    }

    /// Sends an owner's request to another owner. There is always room: an owner limits its dead
    /// letters without an answer, and sends a consumer's turn once.
    pub(super) fn ask_owner(
        &self,
        owner: usize,
        connection: ConnectionRef,
        request: TopicQuestion,
    ) {
        self.inboxes[owner].control.post([StoreMessage::Owner(connection, request)]);
    }

    /// Appends messages of a feed. The results are in the order of the messages, and those for a
    /// full inbox are errors; without a store the whole is one.
    pub(in crate::io) async fn append(
        &self,
        messages: Vec<(TopicName, MessageDraft)>,
    ) -> Result<Receipts, Unanswered> {
        if messages.is_empty() {
            return Ok(Receipts::new());
        }
        let owners: Vec<usize> =
            messages.iter().map(|(topic, _)| OwnerIndex::of_topic(topic, self.owners())).collect();
        let mut parts: Vec<Vec<(TopicName, MessageDraft)>> =
            self.inboxes.iter().map(|_| Vec::new()).collect();
        for (owner, message) in owners.iter().zip(messages) {
            parts[*owner].push(message);
        }
        // All owners are asked before the first is awaited.
        let parts = parts.into_iter().enumerate().filter(|(_, part)| !part.is_empty());
        let asked: Vec<_> = parts
            .map(|(owner, part)| {
                let count = part.len();
                (owner, count, self.outside(owner, |sender| OutsideRequest::Append(part, sender)))
            })
            .collect();
        let mut receipts = vec![Receipts::new().into_iter(); self.owners()];
        for (owner, count, asked) in asked {
            receipts[owner] = match asked {
                Ok(asked) => asked.await?,
                // The other owners' parts are stored.
                Err(Unanswered::Full) => vec![Err(FULL.into()); count],
                Err(Unanswered::Ended) => return Err(Unanswered::Ended),
            }
            .into_iter();
        }
        Ok(owners.iter().filter_map(|owner| receipts[*owner].next()).collect())
    }

    /// Sends a query of the admin listener.
    pub(in crate::io) async fn inquire(
        &self,
        inquiry: TopicInquiry,
    ) -> Result<InquiryAnswer, Unanswered> {
        let merge = Merge::of(&inquiry).filter(|_| self.owners() > 1);
        let Some(merge) = merge else {
            let owner = inquiry.owner(self.owners());
            return Ok(self
                .outside(owner, |sender| OutsideRequest::Inquire(inquiry, sender))?
                .await?);
        };
        let answers =
            self.of_each(|sender| OutsideRequest::Inquire(inquiry.clone(), sender)).await?;
        Ok(merge.all(answers))
    }

    /// The metrics beyond the counters.
    pub(in crate::io) async fn survey(&self) -> Result<Survey, Unanswered> {
        Ok(Survey::of_all(self.of_each(OutsideRequest::Survey).await?))
    }

    /// Makes a backup while the daemon runs, one at a time, and removes all but the newest `kept`.
    pub(in crate::io) async fn backup(
        &self,
        kept: Option<usize>,
    ) -> Result<Result<Backup, String>, Unanswered> {
        let Ok(copying) = Arc::clone(&self.copying).try_lock_owned() else {
            return Ok(Err("a backup is in progress already: retry when it is done".into()));
        };
        match self.of_each(OutsideRequest::Backup).await?.into_iter().collect() {
            Ok(copiers) => Ok(back_up(copiers, kept, copying).await?),
            Err(reason) => Ok(Err(reason)),
        }
    }

    /// Replaces the rules of the topics with those of new settings.
    pub(in crate::io) fn configure(&self, settings: &dialect::Settings) {
        // There is always room: an operator's reloads are few, and owners must not differ in rules.
        for each in self.inboxes.iter().filter(|each| each.runs()) {
            each.control.post([StoreMessage::Rules(settings.topic_rules())]);
        }
    }

    /// Has requests wait for the threads, which are about to start.
    pub(in crate::io) fn await_start(&self) {
        self.inboxes.iter().for_each(OwnerInboxes::start);
    }

    /// Has every owner rest, which answers what it was asked before. Returns what the next process
    /// has to know of their connections, by owner; nothing without a store.
    ///
    /// # Errors
    /// When one does not come to rest within `time`.
    pub(in crate::io) fn freeze(
        &self,
        time: Duration,
    ) -> Result<Vec<FrozenTopics>, mpsc::RecvTimeoutError> {
        let start = Instant::now();
        let (reply, frozen) = mpsc::channel();
        let running: Vec<&OwnerInboxes> = self.inboxes.iter().filter(|each| each.runs()).collect();
        for each in &running {
            each.control.post([StoreMessage::Freeze(reply.clone())]);
        }
        drop(reply);
        let mut by_owner = BTreeMap::new();
        for _ in &running {
            by_owner.extend([frozen.recv_timeout(time.saturating_sub(start.elapsed()))?]);
        }
        Ok(by_owner.into_values().collect())
    }

    /// Has the owners go on after a freeze.
    pub(in crate::io) fn resume(&self) {
        self.inboxes.iter().for_each(|each| each.control.post([StoreMessage::Resume]));
    }

    /// Stops the threads, which save everything first; waits for them up to `time`, or a minimum.
    pub(in crate::io) fn stop(&self, time: Duration) {
        let start = Instant::now();
        self.inboxes.iter().for_each(|each| each.control.post([StoreMessage::Stop]));
        while self.inboxes.iter().any(OwnerInboxes::runs) {
            // A hanging disk must not keep the daemon from stopping.
            if start.elapsed() > time.max(STOP_GRACE) {
                tracing::warn!(
                    "the store could not be saved in time; the next start recovers from its log"
                );
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sends a request from outside of any connection. The receiver fails if the thread ends before
    /// its answer.
    fn outside<T>(
        &self,
        owner: usize,
        ask: impl FnOnce(oneshot::Sender<T>) -> OutsideRequest,
    ) -> Result<oneshot::Receiver<T>, Unanswered> {
        let inboxes = &self.inboxes[owner];
        let (sender, receiver) = oneshot::channel();
        let mut lost = None;
        inboxes.control.offer([StoreMessage::Outside(ask(sender))], |message| lost = Some(message));
        match lost {
            None => Ok(receiver),
            // An inbox that closes in between is no longer full.
            Some(_) if inboxes.runs() => Err(Unanswered::Full),
            Some(_) => Err(Unanswered::Ended),
        }
    }

    /// Sends each owner the same request, and awaits all answers.
    async fn of_each<T>(
        &self,
        ask: impl Fn(oneshot::Sender<T>) -> OutsideRequest,
    ) -> Result<Vec<T>, Unanswered> {
        let asked = (0..self.owners()).map(|owner| self.outside(owner, &ask));
        let asked = asked.collect::<Result<Vec<_>, Unanswered>>()?;
        let mut answers = Vec::with_capacity(asked.len());
        for asked in asked {
            answers.push(asked.await?);
        }
        Ok(answers)
    }
}

impl OwnerInboxes {
    fn new(fill: &Fill) -> Self {
        let bounds = Bounds { count: REQUESTS_MAX, bytes: REQUESTS_BYTES_MAX };
        let control_bounds = Bounds { count: CONTROL_MAX, bytes: usize::MAX };
        let inboxes = Self {
            requests: Inbox::new(Unpark::default(), bounds, fill),
            control: Inbox::new(Unpark::default(), control_bounds, &Fill::default()),
        };
        inboxes.end();
        inboxes
    }

    /// Whether a thread runs, or is about to start.
    fn runs(&self) -> bool {
        !self.control.is_closed()
    }

    /// Opens the inboxes, for a thread about to start.
    pub(super) fn start(&self) {
        self.requests.open();
        self.control.open();
    }

    /// Closes the inboxes: what they hold is dropped.
    pub(super) fn end(&self) {
        self.requests.close();
        self.control.close();
    }

    /// Makes posts wake this thread.
    pub(super) fn bind(&self) {
        self.requests.waker().bind();
        self.control.waker().bind();
    }

    /// Prepares to park, unless something is queued. Returns whether this thread may park.
    pub(super) fn sleep(&self) -> bool {
        self.requests.sleep(|| true) && self.control.sleep(|| true)
    }

    /// Ends the sleep: posts need no wake-up. A post to one inbox leaves the other marked as asleep.
    pub(super) fn mark_awake(&self) {
        self.requests.mark_awake();
        self.control.mark_awake();
    }
}

#[cfg(test)]
impl Store {
    /// Accepts requests from now on, although no thread runs.
    pub(in crate::io) fn pretend(&self) {
        self.inboxes[0].start();
    }

    /// Takes the requests that a thread would handle.
    pub(in crate::io) fn take(&self) -> Vec<(ConnectionRef, TopicQuestion)> {
        self.inboxes[0].requests.take_up_to(usize::MAX)
    }
}

/// Copies the owners' logs on a thread of its own.
async fn back_up(
    copiers: Vec<Copier>,
    kept: Option<usize>,
    copying: OwnedMutexGuard<()>,
) -> Result<Result<Backup, String>, RecvError> {
    let (sender, receiver) = oneshot::channel();
    // If the thread cannot be started, the sender is dropped, which is an answer too.
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
        tracing::error!("cannot start a thread for the backup: {error}");
    }
    receiver.await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::topic::{TopicDomain, TopicMessage};
    use crate::setting::LONGEST_MESSAGE_BYTES;
    use tokio::sync::oneshot::error::TryRecvError::{Closed, Empty};

    #[test]
    fn what_is_asked_while_no_thread_runs_fails_at_once_and_so_does_what_waits_when_it_ends() {
        let store = Store::new(1);
        assert_eq!(store.outside(0, OutsideRequest::Survey).unwrap_err(), Unanswered::Ended);
        store.pretend();
        let mut waiting = store.outside(0, OutsideRequest::Survey).unwrap();
        assert!(waiting.try_recv().is_err_and(|it| it == Empty));
        store.inboxes[0].end();
        assert!(waiting.try_recv().is_err_and(|it| it == Closed));
        store.stop(Duration::MAX);
    }

    /// A message of this many bytes, and some.
    fn message(bytes: usize) -> Vec<(TopicName, MessageDraft)> {
        let payload = vec![b'x'; bytes];
        let draft = MessageDraft::new(&TopicMessage { payload: &payload, ..Default::default() });
        vec![(TopicName::of(TopicDomain::Persistent, &["t", "n", "x"]).unwrap(), draft)]
    }

    #[tokio::test]
    async fn what_is_asked_of_a_full_inbox_is_refused_with_advice() {
        let store = Store::new(1);
        store.pretend();
        // However long they are, no message is refused before there are too many.
        for _ in 0..3 {
            let long = message(LONGEST_MESSAGE_BYTES);
            store.outside(0, |sender| OutsideRequest::Append(long, sender)).unwrap();
        }

        (3..CONTROL_MAX).for_each(|_| drop(store.outside(0, OutsideRequest::Survey).unwrap()));
        assert_eq!(store.survey().await.map(|_| ()), Err(Unanswered::Full));
        assert_eq!(store.append(message(1)).await, Ok(vec![Err(FULL.into())]));

        // An owner's requests, new rules and the end have room.
        store.configure(&dialect::Settings::default());
        store.inboxes[0].control.post([StoreMessage::Stop]);
        assert_eq!(store.inboxes[0].control.depth(), CONTROL_MAX + 2);
    }
}
