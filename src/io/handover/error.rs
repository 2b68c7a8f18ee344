//! Why a hand-over is not made.

use super::channel::DESCRIPTORS_MAX;
use crate::handover::{BadState, FORMAT};
use std::io;

/// Maximum number of shards: the descriptor of the state and the queue of each come in one message.
pub(super) const SHARDS_MAX: usize = DESCRIPTORS_MAX - 1;

/// Why the old process goes on instead.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The new process has said so.
    #[error("the new process cannot take over: {0}")]
    Refused(String),
    /// The new process reads other states than this one writes.
    #[error(
        "the new process ({release}) reads states of format {oldest} to {newest}, and this one \
         writes {FORMAT}: restart the service"
    )]
    Format {
        /// Its release.
        release: String,
        /// The oldest format.
        oldest: u32,
        /// The newest format.
        newest: u32,
    },
    /// The new process said nothing in time, ended, or spoke of something else.
    #[error("the new process has not {0}: {1} (the log of the service says why)")]
    Silent(&'static str, io::Error),
    /// The state cannot be read.
    #[error("the state: {0}")]
    State(#[from] BadState),
    /// A thread of this process did not do its part.
    #[error("a shard does not answer: /healthz tells whether it hangs")]
    Shard,
    /// The thread of verifiers and webhooks did not do its part.
    #[error("the thread \"bridge\" does not answer: /healthz tells whether it hangs")]
    Bridge,
    /// The store has not written what it was asked in time.
    #[error("the store is busy, or its disk is: try again when less is published")]
    Store,
    /// Shards lag too far behind.
    #[error("too much is on its way to clients: try again when less is published")]
    Busy,
    /// There are more shards than can be handed over.
    #[error("a hand-over takes at most {SHARDS_MAX} threads")]
    Shards,
    /// The system refused something.
    #[error("{0}")]
    Io(#[from] io::Error),
}
