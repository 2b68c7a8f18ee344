//! Answers waiting for a commit, and changed states waiting for a save. Lists only:
//! `TopicOwner::seal` and `committed` move them, and `io::store::owner` calls those around the
//! fsync.

use super::handles::{SubId, TopicId};
use super::state::LogPlace;
use super::{MessageId, Position, TopicAnswer};
use crate::service::ConnectionRef;
use std::collections::VecDeque;

/// Delay from a change to its save (ns); with the commit that follows, the change is safe within a
/// second.
const SAVE_LAG_NS: u64 = 500_000_000;

/// Pending answers and unsaved changes.
#[derive(Debug, Default)]
pub(super) struct Commits {
    /// Answers to send once everything written so far is committed.
    pub(super) answers: Vec<PendingAnswer>,
    /// Topics with messages appended since the last commit.
    pub(super) appended: Vec<TopicId>,
    /// Messages appended to a dead-letter topic since the last commit.
    pub(super) dying: Vec<(SubId, Position)>,
    /// Whether anything was written since the last commit.
    pub(super) is_uncommitted: bool,
    /// The commit in progress.
    pub(super) sealed: Option<Sealed>,
    /// Why the store accepts no more writes; `None` while it does.
    pub(super) broken: Option<Box<str>>,
    /// Subscriptions with unsaved changes.
    pub(super) dirty_subs: VecDeque<SubId>,
    /// Topics with unsaved changes.
    pub(super) dirty_topics: VecDeque<TopicId>,
    /// When to save them (monotonic, ns).
    pub(super) save_due_ns: Option<u64>,
}

/// An answer waiting for a commit.
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
    /// A consumer is ready; its new subscription must be safe first.
    Opened(ConnectionRef),
    /// An answer independent of the commit, kept here to preserve the order of answers.
    Certain(ConnectionRef, TopicAnswer),
    /// A change was made.
    Done(ConnectionRef),
}

/// What one commit makes safe, to be announced after it.
#[derive(Debug, Default)]
pub(super) struct Sealed {
    /// Topics, with their new ends.
    pub(super) topics: Vec<(TopicId, LogPlace)>,
    pub(super) answers: Vec<PendingAnswer>,
    pub(super) dying: Vec<(SubId, Position)>,
}

impl Commits {
    /// Whether there is nothing to commit, and no commit in progress.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_uncommitted && self.sealed.is_none()
    }

    /// Drops a deleted topic; the answers for its messages still go out.
    pub(super) fn forget_topic(&mut self, id: TopicId) {
        self.appended.retain(|appended| *appended != id);
        if let Some(sealed) = &mut self.sealed {
            sealed.topics.retain(|(sealed, _)| *sealed != id);
        }
    }

    /// Drops a deleted subscription, whose slot may be reused.
    pub(super) fn forget_sub(&mut self, id: SubId) {
        self.dying.retain(|(dying, _)| *dying != id);
        if let Some(sealed) = &mut self.sealed {
            sealed.dying.retain(|(dying, _)| *dying != id);
        }
    }

    /// Schedules a save of the changes.
    pub(super) fn save_soon(&mut self, now_ns: u64) {
        self.save_due_ns.get_or_insert(now_ns.saturating_add(SAVE_LAG_NS));
    }
}
