//! The store: one thread that owns the durable topics and writes what they decide.
//!
//! Shards and feeds put what they want into an inbox and are answered through the shards' mailboxes, feeds and the
//! admin listener by a channel of their own. What the thread does is in `owner`, who waits for it outside in `waiting`.

mod archive;
mod backup;
mod base;
mod format;
mod health;
mod journal;
mod owner;
mod repair;
mod settings;
mod survey;
mod tables;
mod waiting;
mod walk;

pub use self::archive::Disk;
pub use self::backup::{Backup, Report, check};
pub use self::format::OpenError;
pub use self::settings::{Durability, Settings};

use self::survey::Survey;
use super::Shared;
use super::clock;
use crate::dialect;
use crate::roster::Seat;
use crate::topic::{Draft, Inquiry, Request, Rules, TopicName, Topics};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Requests that wait for the store before the shards read no more from clients.
const REQUESTS_MAX: usize = 50_000;
/// Bytes of them.
const REQUESTS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long a stop waits at least for what is to be saved.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// A status, and JSON or a sentence.
pub(super) type Answer = (u16, Box<[u8]>);
/// What has become of each of some messages.
pub(super) type Receipts = Vec<Result<(), Box<str>>>;

/// The other threads' end of the store.
#[derive(Default)]
pub(super) struct Store {
    inbox: Mutex<Inbox>,
    posted: Condvar,
    running: AtomicBool,
    /// Whether a backup is being made.
    copying: Arc<AtomicBool>,
}

/// What the thread has not taken yet.
#[derive(Default)]
struct Inbox {
    requests: Vec<(Seat, Request)>,
    bytes: usize,
    outside: Vec<Outside>,
    rules: Option<Rules>,
    /// What has become of the sync that was under way.
    synced: Option<io::Result<()>>,
    over: bool,
}

/// What is asked by somebody who is no connection.
enum Outside {
    /// A feed's messages; one result for each.
    Append(Vec<(TopicName, Draft)>, oneshot::Sender<Receipts>),
    /// The admin listener's question: a status, and JSON or a sentence.
    Inquire(Inquiry, oneshot::Sender<Answer>),
    /// The metrics' question.
    Survey(oneshot::Sender<Survey>),
    /// A backup is to be made.
    Backup(oneshot::Sender<Result<Backup, String>>),
}

impl Store {
    /// Whether shards may ask more.
    pub(super) fn has_room(&self) -> bool {
        if !self.running.load(Relaxed) {
            return true;
        }
        let inbox = self.lock();
        inbox.requests.len() < REQUESTS_MAX && inbox.bytes < REQUESTS_BYTES_MAX
    }

    /// Asks for connections of a shard. Without a store there is nobody to ask, and no dialect that does.
    pub(super) fn ask(&self, requests: Vec<(Seat, Request)>) {
        if !requests.is_empty() && self.running.load(Relaxed) {
            self.post(|inbox| {
                inbox.bytes += requests.iter().map(|(_, request)| request.weight()).sum::<usize>();
                inbox.requests.extend(requests);
            });
        }
    }

    /// Appends what a feed has. What comes back is in the order of the messages; nothing comes back without a store.
    pub(super) fn append(&self, messages: Vec<(TopicName, Draft)>) -> oneshot::Receiver<Receipts> {
        let (sender, receiver) = oneshot::channel();
        if messages.is_empty() {
            let _ = sender.send(Receipts::new());
        } else if self.running.load(Relaxed) {
            self.post(|inbox| inbox.outside.push(Outside::Append(messages, sender)));
        }
        receiver
    }

    /// Asks for the admin listener; nothing comes back without a store.
    pub(super) fn inquire(&self, inquiry: Inquiry) -> oneshot::Receiver<Answer> {
        let (sender, receiver) = oneshot::channel();
        if self.running.load(Relaxed) {
            self.post(|inbox| inbox.outside.push(Outside::Inquire(inquiry, sender)));
        }
        receiver
    }

    /// What the metrics tell beside the counters; nothing comes back without a store.
    pub(super) fn survey(&self) -> oneshot::Receiver<Survey> {
        let (sender, receiver) = oneshot::channel();
        if self.running.load(Relaxed) {
            self.post(|inbox| inbox.outside.push(Outside::Survey(sender)));
        }
        receiver
    }

    /// Makes a backup while everything goes on; nothing comes back without a store.
    pub(super) fn backup(&self) -> oneshot::Receiver<Result<Backup, String>> {
        let (sender, receiver) = oneshot::channel();
        if self.running.load(Relaxed) {
            self.post(|inbox| inbox.outside.push(Outside::Backup(sender)));
        }
        receiver
    }

    /// Replaces the rules of the topics by those of new settings.
    pub(super) fn configure(&self, settings: &dialect::Settings) {
        if self.running.load(Relaxed) {
            self.post(|inbox| inbox.rules = Some(rules(settings)));
        }
    }

    /// Ends the thread, which saves everything before; waits for it, but not much longer than this.
    pub(super) fn stop(&self, time: Duration) {
        let start = Instant::now();
        self.post(|inbox| inbox.over = true);
        while self.running.load(Relaxed) {
            if start.elapsed() > time.max(STOP_GRACE) {
                tracing::warn!(
                    "the store could not be saved in time; the next start goes on from its journal"
                );
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn post(&self, put: impl FnOnce(&mut Inbox)) {
        put(&mut self.lock());
        self.posted.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Store {
    /// Takes requests from now on, although no thread runs.
    pub(super) fn pretend(&self) {
        self.running.store(true, Relaxed);
    }

    /// What the thread would take.
    pub(super) fn take(&self) -> Vec<(Seat, Request)> {
        let inbox = std::mem::take(&mut *self.lock());
        inbox.requests
    }
}

/// The rules of the topics that settings come to.
fn rules(settings: &dialect::Settings) -> Rules {
    settings.pulsar.rules()
}

/// Opens the store and starts its thread.
///
/// # Errors
/// When the store cannot be used, with what to do, or the thread cannot be had.
pub(super) fn start(
    shared: &Arc<Shared>,
    settings: &Settings,
    dialects: &dialect::Settings,
) -> Result<(), super::StartError> {
    let disk = Disk::open(settings)?.counting(Arc::clone(&shared.metrics[shared.mailboxes.len() + 1]));
    owner::spawn(shared, Topics::new(disk, rules(dialects), clock::now()))?;
    Ok(())
}
