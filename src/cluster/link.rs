//! What a node and the owner of a partition tell each other, and how each notices that something is
//! missing.
//!
//! A node opens a link with all its state of the partition, and goes on with changes; the owner
//! answers with news. Each direction is numbered from 1. When something is missing, nothing is sent
//! again: the node opens another *generation* of the link with its whole state. All that is said is
//! state, so that saying it again does no harm.

use super::channel_name::ChannelName;
use super::partition_number::PartitionNumber;
use crate::service::DialectId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A link, as both ends name it in messages to each other: a list of three numbers, because every
/// node tells every other of 32 of them each second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(PartitionNumber, u64, u32)", into = "(PartitionNumber, u64, u32)")]
pub(super) struct LinkId {
    pub(super) partition: PartitionNumber,
    /// The owner's epoch.
    pub(super) epoch: u64,
    /// Counted by the node, over all its links.
    pub(super) generation: u32,
}

impl From<(PartitionNumber, u64, u32)> for LinkId {
    fn from((partition, epoch, generation): (PartitionNumber, u64, u32)) -> Self {
        Self { partition, epoch, generation }
    }
}

impl From<LinkId> for (PartitionNumber, u64, u32) {
    fn from(id: LinkId) -> Self {
        (id.partition, id.epoch, id.generation)
    }
}

/// Consecutive items of one direction of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LinkBatch<T> {
    pub(super) link: LinkId,
    /// The number of the first item; those of a direction begin with 1.
    pub(super) first: u64,
    pub(super) items: Vec<T>,
}

/// The number of the last item of one direction of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LinkTail {
    pub(super) link: LinkId,
    pub(super) last: u64,
}

/// What a node tells the owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PresenceNote {
    /// A user has its first connection here in a presence channel. Answered by
    /// [`PresenceNews::Joined`] or [`PresenceNews::Refused`] with the number of this note.
    Join {
        dialect: DialectId,
        app: Arc<str>,
        channel: Arc<str>,
        user: Arc<str>,
        info: Arc<str>,
        /// Whether connections here were already told that they are in.
        is_in: bool,
    },
    /// A user has no connection here any more.
    Leave { app: Arc<str>, channel: Arc<str>, user: Arc<str> },
    /// The connections here that are in a channel.
    Count {
        dialect: DialectId,
        app: Arc<str>,
        channel: Arc<str>,
        count: u32,
        /// Whether the channel has members.
        members: bool,
    },
    /// All that is here has been told: what the owner knows beside is gone.
    Whole,
}

/// What an owner tells a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PresenceNews {
    /// A part of the list of a channel's members; changes follow from here on.
    List {
        app: Arc<str>,
        channel: Arc<str>,
        members: Vec<(Arc<str>, Arc<str>)>,
        is_first: bool,
        is_last: bool,
    },
    /// A user is a member, by the note of this number.
    Joined { app: Arc<str>, channel: Arc<str>, user: Arc<str>, asked: u64 },
    /// A user is not let in, by the note of this number.
    Refused {
        app: Arc<str>,
        channel: Arc<str>,
        user: Arc<str>,
        asked: u64,
        /// Whether the channel has reached its limit of members; else its list is too long.
        is_full: bool,
    },
    /// A user has joined.
    Added { app: Arc<str>, channel: Arc<str>, user: Arc<str>, info: Arc<str> },
    /// A user has left.
    Removed { app: Arc<str>, channel: Arc<str>, user: Arc<str> },
    /// The number of a channel's subscriptions over all nodes.
    Count { app: Arc<str>, channel: Arc<str>, count: u32 },
}

impl PresenceNews {
    /// The channel that it is about.
    pub(super) fn name(&self) -> ChannelName {
        let (Self::List { app, channel, .. }
        | Self::Joined { app, channel, .. }
        | Self::Refused { app, channel, .. }
        | Self::Added { app, channel, .. }
        | Self::Removed { app, channel, .. }
        | Self::Count { app, channel, .. }) = self;
        ChannelName { app: Arc::clone(app), channel: Arc::clone(channel) }
    }
}

/// Estimated bytes of an item's JSON, for cutting batches.
pub(super) trait LinkItem {
    fn bytes(&self) -> usize;
}

/// Estimated bytes of an item apart from its texts.
const ITEM_BYTES: usize = 100;

impl LinkItem for PresenceNote {
    fn bytes(&self) -> usize {
        ITEM_BYTES
            + match self {
                Self::Join { channel, user, info, .. } => channel.len() + user.len() + info.len(),
                Self::Leave { channel, user, .. } => channel.len() + user.len(),
                Self::Count { channel, .. } => channel.len(),
                Self::Whole => 0,
            }
    }
}

impl LinkItem for PresenceNews {
    fn bytes(&self) -> usize {
        ITEM_BYTES
            + match self {
                Self::List { members, .. } => {
                    members.iter().map(|(user, info)| user.len() + info.len() + 8).sum()
                }
                Self::Added { channel, user, info, .. } => channel.len() + user.len() + info.len(),
                Self::Joined { channel, user, .. }
                | Self::Refused { channel, user, .. }
                | Self::Removed { channel, user, .. } => channel.len() + user.len(),
                Self::Count { channel, .. } => channel.len(),
            }
    }
}

/// What one end sends, until it is put into batches.
#[derive(Debug)]
pub(super) struct LinkSender<T> {
    /// Items that have left.
    sent: u64,
    queue: Vec<T>,
}

impl<T: LinkItem> LinkSender<T> {
    pub(super) fn new() -> Self {
        Self { sent: 0, queue: Vec::new() }
    }

    /// Queues an item. Returns its number.
    pub(super) fn push(&mut self, item: T) -> u64 {
        self.queue.push(item);
        self.last()
    }

    /// The number of the last item.
    pub(super) fn last(&self) -> u64 {
        self.sent + self.queue.len() as u64
    }

    /// The next batch of at most some `bytes_max`; `None` when all has left.
    pub(super) fn batch(&mut self, link: LinkId, bytes_max: usize) -> Option<LinkBatch<T>> {
        let mut bytes = 0;
        let fits = |item: &&T| {
            let has_room = bytes < bytes_max;
            bytes += item.bytes();
            has_room
        };
        let count = self.queue.iter().take_while(fits).count();
        if count == 0 {
            return None;
        }
        // A queue that is sent whole keeps its memory.
        let items = if count == self.queue.len() {
            std::mem::take(&mut self.queue)
        } else {
            self.queue.drain(..count).collect()
        };
        let first = self.sent + 1;
        self.sent += count as u64;
        Some(LinkBatch { link, first, items })
    }
}

/// What one end has received.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LinkReceiver {
    /// The number of the last item.
    last: u64,
    /// Whether something is missing: nothing more is taken.
    is_broken: bool,
}

impl LinkReceiver {
    /// Whether items numbered from `first` are to be taken, one by one with [`Self::next`]. What is
    /// missing before them breaks the link.
    pub(super) fn takes(&mut self, first: u64) -> bool {
        self.is_broken |= first != self.last + 1;
        !self.is_broken
    }

    /// The number of the next item.
    pub(super) fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Notes the last number that the other end has sent.
    pub(super) fn tail(&mut self, last: u64) {
        self.is_broken |= last > self.last;
    }

    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }
}
