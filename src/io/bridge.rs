//! The bridge: one thread with a tokio runtime, for what has a good tokio client only.
//!
//! It asks remote judges and listens to brokers. What it has to say to a shard goes through the shard's
//! mailbox like everything else; what the shards ask waits in [`Bridge`] until the thread takes it. Nothing
//! of it runs when nothing of it is configured.

pub(super) mod amqp;
mod judges;

use self::judges::Judges;
use super::Shared;
use super::handoff::Parcel;
use crate::dialect::Settings;
use crate::shard::{Answer, Question};
use crate::token::{Refusal, Verdict};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::Notify;

/// Questions that wait for the bridge before the shards read no more from clients.
const QUESTIONS_MAX: usize = 10_000;

/// The shards' end of the bridge.
#[derive(Default)]
pub(super) struct Bridge {
    questions: Mutex<Vec<(usize, Question)>>,
    asked: Notify,
    running: AtomicBool,
    /// The daemon stops: whatever is fed from here comes to its end.
    draining: Notify,
}

impl Bridge {
    /// Whether shards may ask more.
    pub(super) fn has_room(&self) -> bool {
        self.lock().len() < QUESTIONS_MAX
    }

    /// Lets the feed finish what it has taken.
    pub(super) fn drain(&self) {
        self.draining.notify_one();
    }

    /// Waits for a time. Returns whether the daemon has been told to stop meanwhile.
    async fn drains_within(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.draining.notified()).await.is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(usize, Question)>> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Asks the remote judges for a shard. Without a bridge there is nobody to ask.
    pub(super) fn ask(&self, shard: usize, questions: Vec<Question>) {
        if questions.is_empty() {
            return;
        }
        if self.bridge.running.load(Relaxed) {
            self.bridge.lock().extend(questions.into_iter().map(|question| (shard, question)));
            return self.bridge.asked.notify_one();
        }
        let refused = questions.into_iter().filter_map(|question| match question {
            Question::Judge(ticket, ..) => {
                let verdict = Verdict::Refused(Refusal::Unavailable);
                Some(Parcel::Answer(ticket, Answer::Judged(verdict)))
            }
            Question::Forget(_) => None,
        });
        self.mailboxes[shard].post(refused);
    }
}

/// Starts the thread.
///
/// # Errors
/// When the thread or its runtime cannot be had.
pub(super) fn start(
    shared: &Arc<Shared>,
    settings: &Arc<Settings>,
    feed: Option<amqp::Feed>,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (shared, settings) = (Arc::clone(shared), Arc::clone(settings));
    shared.bridge.running.store(true, Relaxed);
    std::thread::Builder::new()
        .name("bridge".into())
        .spawn(move || runtime.block_on(run(&shared, settings, feed)))
}

async fn run(shared: &Arc<Shared>, settings: Arc<Settings>, feed: Option<amqp::Feed>) {
    if let Some(feed) = feed {
        tokio::spawn(feed.run());
    }
    let mut judges = Judges::new(Arc::clone(shared), settings);
    loop {
        shared.bridge.asked.notified().await;
        let questions = std::mem::take(&mut *shared.bridge.lock());
        for (shard, question) in questions {
            judges.take(shard, question);
        }
    }
}
