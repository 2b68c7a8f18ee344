//! What the shards of the old process are told, and what they answer.

use rustix::fd::OwnedFd;
use std::io;
use std::sync::mpsc::Sender;

/// Where the answer of a shard goes, with the shard's number.
pub(in crate::io) type ShardReply<T> = Sender<(usize, T)>;

/// An order to a shard.
pub enum HandoverOrder {
    /// Tell the listeners that are accepted from, by number.
    Listeners(ShardReply<Vec<(usize, io::Result<OwnedFd>)>>),
    /// Accept no client more, and count those who can go on in no other process.
    Bound(ShardReply<usize>),
    /// Tell a part of those to come back: one in `parts`, the one that has this number. The answer
    /// is the number of those who are still there.
    Dismiss {
        /// The number of the part; none has one of `parts`.
        part: u32,
        /// The number of parts.
        parts: u32,
        /// The answer.
        reply: ShardReply<usize>,
    },
    /// Read nothing more of clients, and accept none.
    Pause,
    /// Tell whether anything is still on its way.
    Look(ShardReply<ShardRest>),
    /// Freeze what can be, send its descriptors to this end of a queue, and do nothing more.
    Freeze(OwnedFd, ShardReply<FrozenShard>),
    /// Forget what was frozen, but for those of these numbers in the queue: the new process has it.
    Release(Box<[u32]>, ShardReply<()>),
    /// Go on as if nothing had been.
    Resume,
}

/// How far a shard has come to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardRest {
    /// Whether everything that has come to it is done: nothing of it can be lost.
    pub is_drained: bool,
    /// Whether no session awaits an answer either.
    pub is_settled: bool,
    /// Whether no publisher awaits an answer.
    pub has_answered: bool,
    /// The number of publications and messages that it has read so far.
    pub read: u64,
}

/// What a shard has frozen.
#[derive(Debug, Default)]
pub struct FrozenShard {
    /// The records, as bytes.
    pub records: Vec<u8>,
    /// The number of connections of clients in them.
    pub connections: usize,
    /// The number of connections of clients that are told to come back.
    pub told: usize,
}
