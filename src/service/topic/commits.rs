//! What waits to be made safe: answers until a commit, changed states until a save.

use super::handles::{SubId, TopicId};
use super::state::LogPlace;
use super::{MessageId, Position, TopicAnswer};
use crate::service::ConnectionRef;
use std::collections::VecDeque;

/// Nanoseconds after a change within which it is saved; with the commit that follows it stays below a second.
const SAVE_LAG_NS: u64 = 500_000_000;

/// What waits for a commit or a save.
#[derive(Debug, Default)]
pub(super) struct Commits {
    /// What is answered when everything is committed.
    pub(super) answers: Vec<PendingAnswer>,
    /// Topics to which something was appended since the last commit.
    pub(super) appended: Vec<TopicId>,
    /// Messages that have gone to the dead letters since then.
    pub(super) dying: Vec<(SubId, Position)>,
    /// Whether something was written that is to be committed.
    pub(super) is_uncommitted: bool,
    /// The commit under way.
    pub(super) sealed: Option<Sealed>,
    /// Why nothing more is stored.
    pub(super) broken: Option<Box<str>>,
    /// Subscriptions to be saved.
    pub(super) dirty_subs: VecDeque<SubId>,
    /// Topics to be saved.
    pub(super) dirty_topics: VecDeque<TopicId>,
    /// When they are saved (monotonic, ns).
    pub(super) save_due_ns: Option<u64>,
}

/// An answer that waits for the commit.
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
    /// A consumer is there, and its new subscription is to be safe.
    Opened(ConnectionRef),
    /// What the commit does not change; it only keeps its place in the order of answers.
    Certain(ConnectionRef, TopicAnswer),
    /// Something was changed.
    Done(ConnectionRef),
}

/// What one commit makes safe, and what then leaves.
#[derive(Debug, Default)]
pub(super) struct Sealed {
    /// Topics, with where they end.
    pub(super) topics: Vec<(TopicId, LogPlace)>,
    pub(super) answers: Vec<PendingAnswer>,
    pub(super) dying: Vec<(SubId, Position)>,
}

impl Commits {
    /// Whether nothing waits for a commit, begun or not.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_uncommitted && self.sealed.is_none()
    }

    /// A topic is deleted: of what was appended to it only the answers leave.
    pub(super) fn forget_topic(&mut self, id: TopicId) {
        self.appended.retain(|appended| *appended != id);
        if let Some(sealed) = &mut self.sealed {
            sealed.topics.retain(|(sealed, _)| *sealed != id);
        }
    }

    /// A subscription is deleted, and its number may be another's.
    pub(super) fn forget_sub(&mut self, id: SubId) {
        self.dying.retain(|(dying, _)| *dying != id);
        if let Some(sealed) = &mut self.sealed {
            sealed.dying.retain(|(dying, _)| *dying != id);
        }
    }

    /// Has what has changed saved before long.
    pub(super) fn save_soon(&mut self, now_ns: u64) {
        self.save_due_ns.get_or_insert(now_ns.saturating_add(SAVE_LAG_NS));
    }
}
