//! The bridge: one thread with a tokio runtime, for what has a good tokio client only.
//!
//! It asks remote judges and listens to a broker. What it has to say to a shard goes through the shard's mailbox
//! like everything else; what the shards ask, and what a reload brings, waits in [`Bridge`] until the thread
//! takes it. Nothing of it runs when nothing of it is configured.

pub(super) mod amqp;
mod judges;
mod upkeep;

use self::judges::{Judges, Panel};
use super::Shared;
use super::handoff::Parcel;
use crate::dialect::Settings;
use crate::shard::{Answer, Question};
use crate::token::{Refusal, Verdict};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Questions that wait for the bridge before the shards read no more from clients. It takes them all at once,
/// so they wait only while the machine has no time for it.
const QUESTIONS_MAX: usize = 10_000;

/// Threads of the runtime beside its own. They look host names up, and the resolver may keep one for a minute.
const LOOKUPS_MAX: usize = 16;

/// The other threads' end of the bridge.
#[derive(Default)]
pub(super) struct Bridge {
    inbox: Mutex<Inbox>,
    posted: Notify,
    running: AtomicBool,
    /// The daemon stops: whatever is fed from here comes to its end.
    draining: Notify,
}

/// What the thread has not taken yet.
#[derive(Default)]
struct Inbox {
    questions: Vec<(usize, Question)>,
    panel: Option<Panel>,
    over: bool,
}

impl Bridge {
    /// Whether shards may ask more.
    pub(super) fn has_room(&self) -> bool {
        !self.running.load(Relaxed) || self.lock().questions.len() < QUESTIONS_MAX
    }

    /// Lets the feed finish what it has taken.
    pub(super) fn drain(&self) {
        self.draining.notify_one();
    }

    /// Waits until the daemon is told to stop, for which there may be several feeds.
    async fn drained(&self) {
        self.draining.notified().await;
        self.draining.notify_one();
    }

    /// Waits for a time. Returns whether the daemon has been told to stop meanwhile.
    async fn drains_within(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.drained()).await.is_ok()
    }

    /// Ends the thread, which nobody waits for.
    pub(super) fn stop(&self) {
        self.post(|inbox| inbox.over = true);
    }

    fn post(&self, put: impl FnOnce(&mut Inbox)) {
        put(&mut self.lock());
        self.posted.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Asks the remote judges for a shard. Without a bridge there is nobody to ask.
    pub(super) fn ask(&self, shard: usize, questions: Vec<Question>) {
        if questions.is_empty() {
            return;
        }
        if self.bridge.running.load(Relaxed) {
            let questions = questions.into_iter().map(|question| (shard, question));
            return self.bridge.post(|inbox| inbox.questions.extend(questions));
        }
        let refused = questions.into_iter().filter_map(|question| match question {
            Question::Judge(ticket, ..) => {
                let verdict = Verdict::Refused(Refusal::Unavailable);
                Some(Parcel::Answer(ticket, Answer::Judged(verdict)))
            }
            Question::Doubt(_) | Question::Forget(_) => None,
        });
        self.mailboxes[shard].post(refused);
    }
}

/// Gives the bridge these settings, and starts it when they are the first that need it. The shards are to get
/// them afterwards, so that nobody asks a judge that the bridge does not know.
///
/// # Errors
/// When the thread cannot be had, or a judge cannot be asked over TLS for want of certificates.
pub(super) fn configure(
    shared: &Arc<Shared>,
    settings: &Settings,
    feed: Option<amqp::Feed>,
) -> io::Result<()> {
    let panel = Panel::new(settings)?;
    if shared.bridge.running.load(Relaxed) {
        shared.bridge.post(|inbox| inbox.panel = Some(panel));
    } else if !panel.is_empty() || feed.is_some() {
        start(shared, panel, feed)?;
    }
    Ok(())
}

fn start(shared: &Arc<Shared>, panel: Panel, feed: Option<amqp::Feed>) -> io::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(LOOKUPS_MAX).thread_name("lookup").build()?;
    let judges = Judges::new(Arc::clone(shared), panel);
    let for_thread = Arc::clone(shared);
    std::thread::Builder::new().name("bridge".into()).spawn(move || {
        runtime.block_on(run(&for_thread, judges, feed));
        // A host name that is being looked up is not waited for.
        runtime.shutdown_background();
    })?;
    shared.bridge.running.store(true, Relaxed);
    Ok(())
}

async fn run(shared: &Shared, mut judges: Judges, feed: Option<amqp::Feed>) {
    if let Some(feed) = feed {
        tokio::spawn(feed.run());
    }
    loop {
        tokio::select! {
            () = shared.bridge.posted.notified() => {
                let inbox = std::mem::take(&mut *shared.bridge.lock());
                if inbox.over {
                    return;
                }
                if let Some(panel) = inbox.panel {
                    judges.configure(panel);
                }
                judges.take(inbox.questions);
            }
            () = judges.step() => {}
        }
    }
}
